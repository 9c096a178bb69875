//! Responses of a daemon or of another node.

use bytes::BytesMut;
use nodegate::testing::upstream::ResponseHead;
use nodegate::testing::upstream::response_head;
use nodegate::testing::upstream::{BodyDecoder, DecodedPiece};

/// How an answer was read: status, body, whether it came to its end, and what was left unread.
#[derive(Debug, Eq, PartialEq)]
enum Outcome {
    Malformed,
    Incomplete,
    /// the body as far as it came; whether that was all; what is behind it
    Whole {
        status: u16,
        body: Vec<u8>,
        ended: bool,
        behind: Vec<u8>,
    },
    BadBody {
        status: u16,
    },
}

/// The same bytes are the same answer, however they arrive. The first byte says in what pieces.
pub(crate) fn answer(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let at_once = read(bytes, bytes.len().max(1));
    let in_pieces = read(bytes, usize::from(*size).max(1));
    match (at_once, in_pieces) {
        // A head, or a line of the body, that is too long is noticed when there is enough of it.
        (Outcome::Malformed, _)
        | (_, Outcome::Malformed)
        | (Outcome::Whole { ended: false, .. }, Outcome::BadBody { .. })
        | (Outcome::BadBody { .. }, Outcome::Whole { ended: false, .. }) => (),
        (one, other) => assert_eq!(one, other),
    }
}

fn read(bytes: &[u8], size: usize) -> Outcome {
    let mut buffer = BytesMut::new();
    let mut head: Option<ResponseHead> = None;
    let mut rest = BodyDecoder::UntilClose;
    let mut body = Vec::new();
    let mut pieces = bytes.chunks(size);
    loop {
        let Some(known) = &head else {
            let before = buffer.len();
            match response_head::take(&mut buffer) {
                Err(_) => return Outcome::Malformed,
                Ok(Some(taken)) => {
                    assert!(buffer.len() < before);
                    rest = taken.framing.into();
                    head = Some(taken);
                }
                Ok(None) => match pieces.next() {
                    None => return Outcome::Incomplete,
                    Some(piece) => buffer.extend_from_slice(piece),
                },
            }
            continue;
        };
        let status = known.response.status().as_u16();
        let more = match rest.take(&mut buffer) {
            Err(_) => return Outcome::BadBody { status },
            Ok(DecodedPiece::Piece(piece)) => {
                assert!(!piece.is_empty());
                body.extend_from_slice(&piece);
                continue;
            }
            Ok(DecodedPiece::Nothing) => pieces.next(),
            Ok(DecodedPiece::End) => {
                let behind = [&buffer[..], &pieces.collect::<Vec<_>>().concat()].concat();
                return Outcome::Whole { status, body, ended: true, behind };
            }
        };
        match more {
            None => return Outcome::Whole { status, body, ended: false, behind: Vec::new() },
            Some(piece) => buffer.extend_from_slice(piece),
        }
    }
}
