//! What a buffer holds of an answer's body (RFC 9112 section 7.1). Trailers end here.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};

use crate::upstream::response_head::BodyFraming;

/// A line with the size of a chunk, or a trailer, and its end.
const LONGEST_LINE: usize = 8 << 10;

/// What is still to come of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyDecoder {
    Length(u64),
    UntilClose,
    Chunk(u64),
    /// the line end behind a chunk's data
    ChunkEnd,
    ChunkSize,
    Trailers,
}

/// What came of a look into the buffer.
#[derive(Debug, Eq, PartialEq)]
pub enum DecodedPiece {
    Piece(Bytes),
    /// more has to be read first
    Nothing,
    End,
}

impl From<BodyFraming> for BodyDecoder {
    fn from(framing: BodyFraming) -> Self {
        match framing {
            BodyFraming::Length(length) => Self::Length(length),
            BodyFraming::Chunked => Self::ChunkSize,
            BodyFraming::UntilClose => Self::UntilClose,
        }
    }
}

impl BodyDecoder {
    /// Takes the next piece from the front of `buffer`.
    pub fn take(&mut self, buffer: &mut BytesMut) -> io::Result<DecodedPiece> {
        loop {
            match *self {
                Self::Length(0) => return Ok(DecodedPiece::End),
                Self::Length(_) | Self::UntilClose | Self::Chunk(1..) if buffer.is_empty() => {
                    return Ok(DecodedPiece::Nothing);
                }
                Self::UntilClose => return Ok(DecodedPiece::Piece(buffer.split().freeze())),
                Self::Length(left) => {
                    let (piece, left) = at_most(buffer, left);
                    *self = Self::Length(left);
                    return Ok(DecodedPiece::Piece(piece));
                }
                Self::Chunk(left @ 1..) => {
                    let (piece, left) = at_most(buffer, left);
                    *self = Self::Chunk(left);
                    return Ok(DecodedPiece::Piece(piece));
                }
                Self::Chunk(0) => *self = Self::ChunkEnd,
                Self::ChunkEnd => {
                    let Some(line) = line(buffer)? else { return Ok(DecodedPiece::Nothing) };
                    if line > 0 {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    buffer.advance(2);
                    *self = Self::ChunkSize;
                }
                Self::ChunkSize => {
                    let Some(line) = line(buffer)? else { return Ok(DecodedPiece::Nothing) };
                    let size = httparse::parse_chunk_size(buffer).map_err(|_| io::ErrorKind::InvalidData)?;
                    let httparse::Status::Complete((_, size)) = size else {
                        return Ok(DecodedPiece::Nothing);
                    };
                    buffer.advance(line + 2);
                    *self = if size == 0 { Self::Trailers } else { Self::Chunk(size) };
                }
                Self::Trailers => {
                    let Some(line) = line(buffer)? else { return Ok(DecodedPiece::Nothing) };
                    buffer.advance(line + 2);
                    if line == 0 {
                        return Ok(DecodedPiece::End);
                    }
                }
            }
        }
    }
}

/// As much of the buffer as is wanted, and how much is wanted then.
fn at_most(buffer: &mut BytesMut, wanted: u64) -> (Bytes, u64) {
    let size = usize::try_from(wanted).unwrap_or(usize::MAX).min(buffer.len());
    let left = wanted - u64::try_from(size).unwrap_or(wanted);
    (buffer.split_to(size).freeze(), left)
}

/// The length of the line at the front, its end not counted; `None` while that has not come.
fn line(buffer: &[u8]) -> io::Result<Option<usize>> {
    match buffer.windows(2).position(|end| end == b"\r\n") {
        None if buffer.len() > LONGEST_LINE => Err(io::ErrorKind::InvalidData.into()),
        found => Ok(found),
    }
}
