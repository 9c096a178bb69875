//! Decodes the body of a response from a buffer (RFC 9112 section 7.1). Trailers are dropped.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};

use crate::upstream::response_head::BodyFraming;

/// Longest line with a chunk size or a trailer, without its end.
const MAX_LINE_BYTES: usize = 8 << 10;

/// The part of a body that has not been read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyDecoder {
    /// bytes that are left
    Length(u64),
    /// the end of the connection is the end of the body
    UntilClose,
    /// bytes that are left of a chunk
    Chunk(u64),
    /// the line end after the data of a chunk
    ChunkEnd,
    /// the line before a chunk
    ChunkSize,
    /// the lines after the last chunk
    Trailers,
}

/// The next part of a body.
#[derive(Debug, Eq, PartialEq)]
pub enum DecodedPiece {
    /// bytes of the body
    Piece(Bytes),
    /// the buffer needs more bytes
    Nothing,
    /// the body is complete
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

/// Takes up to `wanted` bytes. Returns them and the rest of `wanted`.
fn at_most(buffer: &mut BytesMut, wanted: u64) -> (Bytes, u64) {
    let size = usize::try_from(wanted).unwrap_or(usize::MAX).min(buffer.len());
    let left = wanted - u64::try_from(size).unwrap_or(wanted);
    (buffer.split_to(size).freeze(), left)
}

/// The length of the first line without its end; `None` if the end has not arrived.
fn line(buffer: &[u8]) -> io::Result<Option<usize>> {
    match buffer.windows(2).position(|end| end == b"\r\n") {
        None if buffer.len() > MAX_LINE_BYTES => Err(io::ErrorKind::InvalidData.into()),
        found => Ok(found),
    }
}
