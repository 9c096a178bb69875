use super::super::frame::encode_header;
use super::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame with a length in its shortest form.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(MASK_BIT | u8::try_from(short).unwrap()),
        middle @ 126..65_536 => {
            bytes.push(MASK_BIT | LENGTH_IS_U16);
            bytes.extend(u16::try_from(middle).unwrap().to_be_bytes());
        }
        long => {
            bytes.push(MASK_BIT | LENGTH_IS_U64);
            bytes.extend(u64::try_from(long).unwrap().to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn content(length: usize) -> Vec<u8> {
    (0..251).cycle().take(length).collect()
}

/// Decodes one more piece and moves its payload to `payload`.
fn decode(decoder: &mut FrameDecoder, bytes: &[u8], payload: &mut Vec<u8>) -> DecodedFrames {
    let mut bytes = bytes.to_vec();
    let mut found = decoder.decode(&mut bytes);
    payload.extend_from_slice(&bytes[std::mem::take(&mut found.payload)]);
    found
}

/// Decodes all bytes in one piece.
fn decoded(bytes: &[u8]) -> (Vec<u8>, DecodedFrames) {
    let mut payload = Vec::new();
    let found = decode(&mut FrameDecoder::default(), bytes, &mut payload);
    (payload, found)
}

fn end(bytes: &[u8]) -> Option<StreamEnd> {
    decoded(bytes).1.end
}

fn protocol_error(bytes: &[u8]) -> bool {
    matches!(end(bytes), Some(StreamEnd::Invalid(ProtocolError::Violation(_))))
}

#[test]
fn the_example_of_the_rfc_is_read() {
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decoded(&hello), (b"Hello".to_vec(), DecodedFrames::default()));
}

#[test]
fn every_length_arrives_in_pieces_of_any_size() {
    for length in [0, 1, 3, 4, 7, 8, 9, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537, 100_000] {
        let bytes = frame(0x82, &content(length));
        for piece in [1, 2, 3, 5, 7, 13, 16_384, usize::MAX] {
            let mut payload = Vec::new();
            let mut decoder = FrameDecoder::default();
            for part in bytes.chunks(piece) {
                assert_eq!(decode(&mut decoder, part, &mut payload), DecodedFrames::default());
            }
            assert!(payload == content(length), "{length} bytes in pieces of {piece}");
            assert!(matches!(decoder.state, DecoderState::Head) && !decoder.in_message);
        }
    }
}

#[test]
fn control_frames_may_stand_between_fragments() {
    let parts = [
        frame(0x01, b"one "),
        frame(0x89, b"are you there"),
        frame(0x00, b""),
        frame(0x00, b"two "),
        frame(0x8a, b"unasked"),
        frame(0x80, b"three "),
        frame(0x82, b"four"),
        frame(0x89, b"latest"),
    ];
    let (payload, found) = decoded(&parts.concat());
    assert_eq!(payload, b"one two three four");
    assert_eq!(found.ping.unwrap().as_slice(), b"latest");
    assert_eq!(found.end, None);
}

#[test]
fn an_endless_message_is_not_buffered() {
    let mut decoder = FrameDecoder::default();
    let mut payload = Vec::with_capacity(1 << 16);
    let (mut total, mut first) = (0, 0x02);
    for _ in 0..50 {
        for part in frame(first, &content(70_000)).chunks(16_384) {
            assert_eq!(decode(&mut decoder, part, &mut payload).end, None);
            total += payload.len();
            payload.clear();
        }
        first = 0x00;
    }
    assert_eq!(total, 3_500_000);
    assert!(payload.capacity() <= 1 << 16);
}

#[test]
fn every_first_byte_is_accepted_or_rejected() {
    for first in 0..=u8::MAX {
        let fine = matches!(first, 0x01 | 0x02 | 0x81 | 0x82 | 0x88 | 0x89 | 0x8a);
        assert_eq!(protocol_error(&frame(first, b"")), !fine, "{first:#x} outside of a message");
        let fine = matches!(first, 0x00 | 0x80 | 0x88 | 0x89 | 0x8a);
        let within = [frame(0x02, b"x"), frame(first, b"")].concat();
        assert_eq!(protocol_error(&within), !fine, "{first:#x} within a message");
    }
}

#[test]
fn unmasked_frames_are_rejected_before_their_payload() {
    assert!(protocol_error(&[0x82, 0x05]));
    assert!(protocol_error(&[0x82, 0x00]));
    assert!(protocol_error(&[0x88, 0x00]));
    assert_eq!(end(&[0x82, 0x80, 0, 0, 0, 0]), None);
}

#[test]
fn a_null_mask_is_a_mask() {
    let mut bytes = vec![0x82, 0x83, 0, 0, 0, 0];
    bytes.extend(b"abc");
    assert_eq!(decoded(&bytes).0, b"abc");
}

#[test]
fn lengths_have_their_shortest_form() {
    let head = |marker: u8, length: &[u8]| [&[0x82, MASK_BIT | marker], length, &MASK].concat();
    assert!(protocol_error(&head(126, &125_u16.to_be_bytes())));
    assert_eq!(end(&head(126, &126_u16.to_be_bytes())), None);
    assert!(protocol_error(&head(127, &65_535_u64.to_be_bytes())));
    assert_eq!(end(&head(127, &65_536_u64.to_be_bytes())), None);
    assert_eq!(end(&head(127, &(u64::MAX >> 1).to_be_bytes())), None);
    assert!(protocol_error(&head(127, &u64::MAX.to_be_bytes())));
    assert_eq!(UNKNOWN_OPCODE.close_code(), 1002);
}

/// Fragments may cut a character, and control frames may stand within it.
#[test]
fn text_messages_are_utf8_across_frames() {
    let not_text = Some(StreamEnd::Invalid(ProtocolError::NotText));
    let euro = [frame(0x01, b"\xe2"), frame(0x89, b"\xff"), frame(0x80, b"\x82\xac")].concat();
    assert_eq!(decoded(&euro).0, "€".as_bytes());
    assert_eq!(end(&[euro.clone(), euro].concat()), None);
    assert_eq!(end(&frame(0x81, b"\xe2\x82")), not_text, "the message cuts a character");
    assert_eq!(end(&[frame(0x01, b"\xe2\x82"), frame(0x80, b"")].concat()), not_text, "an empty end");
    assert_eq!(end(&[frame(0x01, b"\xe2"), frame(0x00, b"(")].concat()), not_text, "a wrong second byte");
    assert_eq!(end(&frame(0x81, b"")), None);
    assert_eq!(end(&frame(0x82, b"\xff\xe2")), None, "binary is any bytes");
    let after_text = [frame(0x81, b"a"), frame(0x02, b"\xff"), frame(0x80, b"\xff")].concat();
    assert_eq!(end(&after_text), None, "fragments of a binary message");
    let begun = &frame(0x81, b"abc\xff and more, which has not arrived")[..10];
    assert_eq!(end(begun), not_text, "before the frame is complete");
}

#[test]
fn control_frames_are_short() {
    assert_eq!(decoded(&frame(0x89, &content(125))).1.ping.unwrap().as_slice(), content(125));
    for first in [0x88, 0x89, 0x8a] {
        assert!(protocol_error(&frame(first, &content(126))));
        assert!(protocol_error(&[first, MASK_BIT | LENGTH_IS_U64]));
    }
}

#[test]
fn a_ping_in_single_bytes_is_answered_whole() {
    let mut decoder = FrameDecoder::default();
    let mut pings = Vec::new();
    for byte in frame(0x89, b"payload of a ping") {
        pings.extend(decode(&mut decoder, &[byte], &mut Vec::new()).ping);
    }
    assert_eq!(pings.len(), 1);
    assert_eq!(pings[0].as_slice(), b"payload of a ping");
}

#[test]
fn close_codes_are_those_that_may_be_sent() {
    for code in 0..=u16::MAX {
        let may_be_sent = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let ended = end(&frame(0x88, &code.to_be_bytes())).unwrap();
        if may_be_sent {
            assert_eq!(ended, StreamEnd::Closed(Some(code)));
        } else {
            assert!(matches!(ended, StreamEnd::Invalid(ProtocolError::Violation(_))), "{code}");
        }
    }
    assert_eq!(end(&frame(0x88, b"")), Some(StreamEnd::Closed(None)));
    assert!(protocol_error(&frame(0x88, b"\x03")));
    assert_eq!(end(&frame(0x88, b"\x03\xe8bye \xc3\xbc")), Some(StreamEnd::Closed(Some(1000))));
    assert_eq!(end(&frame(0x88, b"\x03\xe8\xff\xfe")), Some(StreamEnd::Invalid(ProtocolError::NotText)));
}

#[test]
fn bytes_after_the_end_are_ignored() {
    let mut decoder = FrameDecoder::default();
    let mut payload = Vec::new();
    let bytes = [frame(0x82, b"before"), frame(0x88, b""), frame(0x82, b"after")].concat();
    assert_eq!(decode(&mut decoder, &bytes, &mut payload).end, Some(StreamEnd::Closed(None)));
    assert_eq!(decode(&mut decoder, &frame(0x82, b"later"), &mut payload), DecodedFrames::default());
    assert_eq!(payload, b"before");
}

#[test]
fn own_frames_have_the_shortest_head() {
    assert_eq!(*encode_header(Opcode::Binary, 125), [0x82, 125]);
    assert_eq!(*encode_header(Opcode::Binary, 126), [0x82, 126, 0, 126]);
    assert_eq!(*encode_header(Opcode::Binary, 65_535), [0x82, 126, 255, 255]);
    assert_eq!(*encode_header(Opcode::Close, 0), [0x88, 0]);
    let close = ControlPayload::close(1011, &"\u{fc}".repeat(100));
    assert!(std::str::from_utf8(&close.as_slice()[2..]).is_ok_and(|reason| reason.chars().count() == 61));
}

/// The decoder takes all of random bytes, does not panic, and returns no more payload than input.
#[test]
fn random_bytes_never_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..5000 {
        let mut bytes: Vec<u8> = (0..random.usize(..512)).map(|_| random.u8(..)).collect();
        // Half of the inputs begin like a frame, to reach the states behind the header.
        if let ([first, second, ..], true) = (bytes.as_mut_slice(), random.bool()) {
            (*first, *second) = (0x82 & *first | 0x02, *second | MASK_BIT);
        }
        let (mut decoder, mut payload) = (FrameDecoder::default(), Vec::new());
        let cut = random.usize(..=bytes.len());
        decode(&mut decoder, &bytes[..cut], &mut payload);
        decode(&mut decoder, &bytes[cut..], &mut payload);
        assert!(payload.len() <= bytes.len());
    }
}
