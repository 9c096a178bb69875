//! Header blocks that decode, and hold bytes that no field may hold (RFC 9113 section 8.2.1).
//!
//! Such a request is malformed and ends its stream (section 8.1.1). The library would reject the whole block and close
//! the connection, which a trusted proxy shares among its clients. So the mender replaces each byte that the library
//! rejects by one that it accepts, and notes the stream. nodegate resets the stream before it reads the request.
//!
//! Huffman-coded texts, and texts that the dynamic table keeps for later blocks, are not changed.
//!
//! HAProxy resets a stream that it has not opened if it cannot write a request as HTTP/2. That is a connection error
//! (section 6.4). From a trusted proxy, the mender changes the type of such a frame to one without a meaning.

mod header_block;
mod text;

use super::frame::{
    CONTINUATION, HEADER_BYTES, HEADERS, PADDED, PREFACE_BYTES, PRIORITY, PRIORITY_BYTES, RST_STREAM,
    UNKNOWN, payload_bytes,
};
use header_block::HeaderBlock;

/// A connection with more noted streams is closed.
const MAX_MALFORMED_STREAMS: usize = 1024;

/// Follows the frames of one connection.
pub(super) struct HeaderBlockMender {
    header: [u8; HEADER_BYTES],
    known: usize,
    /// bytes outside of a header block; `block_bytes` and `padding` follow
    skip: usize,
    block_bytes: usize,
    padding: usize,
    wants_padding: bool,
    has_priority: bool,
    /// of the last header block; below `highest` if that block held trailers
    stream: u32,
    highest: u32,
    is_trusted_proxy: bool,
    block: HeaderBlock,
    malformed: Vec<u32>,
}

impl HeaderBlockMender {
    pub fn new(is_trusted_proxy: bool) -> Self {
        Self {
            header: [0; HEADER_BYTES],
            known: 0,
            skip: PREFACE_BYTES,
            block_bytes: 0,
            padding: 0,
            wants_padding: false,
            has_priority: false,
            stream: 0,
            highest: 0,
            is_trusted_proxy,
            block: HeaderBlock::default(),
            malformed: Vec::new(),
        }
    }

    /// Replaces bytes that the library rejects. Returns the number of streams that these bytes made malformed, or
    /// `usize::MAX` if too many are noted: no budget pays for that.
    pub(super) fn mend(&mut self, mut bytes: &mut [u8]) -> usize {
        let before = self.malformed.len();
        while !bytes.is_empty() {
            let taken = if self.skip > 0 {
                let taken = self.skip.min(bytes.len());
                self.skip -= taken;
                taken
            } else if self.block_bytes > 0 {
                self.mend_block(bytes)
            } else {
                self.ignore_reset_of_idle_stream(bytes);
                self.read_header(bytes.first().copied().unwrap_or_default());
                1
            };
            bytes = std::mem::take(&mut bytes).get_mut(taken..).unwrap_or_default();
        }
        if self.malformed.len() >= MAX_MALFORMED_STREAMS {
            return usize::MAX;
        }
        self.malformed.len().saturating_sub(before)
    }

    /// Whether a request that the library has read is malformed. Streams are read in order, so the notes of earlier
    /// streams are dropped.
    pub(super) fn is_malformed(&mut self, stream: u32) -> bool {
        let is_malformed = self.malformed.contains(&stream);
        self.malformed.retain(|known| *known > stream);
        is_malformed
    }

    /// Needs the whole frame header in one read, because the stream id follows the type.
    fn ignore_reset_of_idle_stream(&self, bytes: &mut [u8]) {
        let begins = self.is_trusted_proxy && self.known == 0 && !self.wants_padding;
        let Some([_, _, _, kind, _, first, second, third, fourth]) =
            bytes.first_chunk_mut::<HEADER_BYTES>().filter(|_| begins)
        else {
            return;
        };
        let stream = u32::from_be_bytes([*first & 0x7f, *second, *third, *fourth]);
        if *kind == RST_STREAM && stream > self.highest {
            *kind = UNKNOWN;
        }
    }

    fn mend_block(&mut self, bytes: &mut [u8]) -> usize {
        let taken = self.block_bytes.min(bytes.len());
        for byte in bytes.iter_mut().take(taken) {
            if self.block.mend(byte)
                && self.malformed.last() != Some(&self.stream)
                && self.malformed.len() < MAX_MALFORMED_STREAMS
            {
                self.malformed.push(self.stream);
            }
        }
        self.block_bytes -= taken;
        if self.block_bytes == 0 {
            self.skip = std::mem::take(&mut self.padding);
        }
        taken
    }

    fn read_header(&mut self, byte: u8) {
        if std::mem::take(&mut self.wants_padding) {
            self.padding = byte.into();
            let others = 1 + self.padding + if self.has_priority { PRIORITY_BYTES } else { 0 };
            self.begin_block(payload_bytes(self.header).saturating_sub(others));
            return;
        }
        if let Some(place) = self.header.get_mut(self.known) {
            *place = byte;
        }
        self.known += 1;
        if self.known < HEADER_BYTES {
            return;
        }
        self.known = 0;
        let [.., kind, flags, first, second, third, fourth] = self.header;
        match kind {
            HEADERS => {
                self.stream = u32::from_be_bytes([first & 0x7f, second, third, fourth]);
                self.highest = self.highest.max(self.stream);
                self.block = HeaderBlock::default();
                self.has_priority = flags & PRIORITY != 0;
                self.wants_padding = flags & PADDED != 0 && payload_bytes(self.header) > 0;
                if !self.wants_padding {
                    let others = if self.has_priority { PRIORITY_BYTES } else { 0 };
                    self.begin_block(payload_bytes(self.header).saturating_sub(others));
                }
            }
            CONTINUATION => self.block_bytes = payload_bytes(self.header),
            _ => self.skip = payload_bytes(self.header),
        }
    }

    fn begin_block(&mut self, bytes: usize) {
        self.skip = if self.has_priority { PRIORITY_BYTES } else { 0 };
        self.block_bytes = bytes;
        if bytes == 0 {
            self.skip += std::mem::take(&mut self.padding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream];
        frame.extend(payload);
        frame
    }

    fn line(first: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
        let lengths = [name, value].map(|text| u8::try_from(text.len()).unwrap());
        [&[first, lengths[0]], name, &[lengths[1]], value].concat()
    }

    fn mended(frames: &[u8], size: usize) -> (Vec<u8>, Vec<u32>) {
        let mut bytes = [&[0; PREFACE_BYTES], frames].concat();
        let mut mender = HeaderBlockMender::new(false);
        for piece in bytes.chunks_mut(size) {
            mender.mend(piece);
        }
        (bytes.split_off(PREFACE_BYTES), mender.malformed)
    }

    #[test]
    fn valid_blocks_pass_unchanged_in_any_split() {
        let block = [
            &[0x82, 0x87, 0x84][..],
            &line(0, b":path", "/\u{fc}?a=\u{20ac}".as_bytes()),
            &line(0x10, b"x-a", b"b\t\xff c"),
            &line(0x40, b"x-b", b"kept"),
            &[0x3f, 0xe1, 0x1f],
            &[0x0f, 0x0d, 0x01, b'3'],
            &[0x00, 0x83, 1, 2, 3, 0x82, 4, 5],
        ]
        .concat();
        let padded = [&[4][..], &[0; PRIORITY_BYTES], &block, b"\0\0\0\0"].concat();
        let frames = [
            frame(4, 0, 0, &[]),
            frame(HEADERS, 0x24 | PADDED, 1, &padded),
            frame(0, 0, 1, b"\0\0\0"),
            frame(HEADERS, 0, 3, &block[..9]),
            frame(CONTINUATION, 4, 3, &block[9..]),
            frame(HEADERS, 4, 5, &block),
        ]
        .concat();
        for size in 1..frames.len() {
            assert_eq!(mended(&frames, size), (frames.clone(), Vec::new()), "{size}");
        }
    }

    #[test]
    fn too_many_malformed_streams_end_the_connection() {
        let mut mender = HeaderBlockMender::new(true);
        mender.mend(&mut [0; PREFACE_BYTES]);
        let mut send = |number: usize| {
            let mut bad = frame(HEADERS, 4, 0, &line(0, b"x-a", b"\0"));
            bad[5..9].copy_from_slice(&u32::try_from(2 * number + 1).unwrap().to_be_bytes());
            mender.mend(&mut bad)
        };
        assert!((1..MAX_MALFORMED_STREAMS).all(|number| send(number) == 1));
        assert_eq!(send(MAX_MALFORMED_STREAMS), usize::MAX);
    }

    #[test]
    fn bad_bytes_are_replaced_and_their_streams_noted() {
        let cases: [(&[u8], &[u8]); 13] = [
            (&line(0, b"x-a", b"a\0b\r\n\x7f"), &line(0, b"x-a", b"a_b___")),
            (&line(0x10, b"X:\0 \xfc", b"b"), &line(0x10, b"_____", b"b")),
            (&line(0, b":x", b"b"), &line(0, b"_x", b"b")),
            (&line(0, b":status", b"2\x000"), &line(0, b":scheme", b"2\x000")),
            (&line(0, b":methox", b"G T"), &line(0, b":method", b"GXT")),
            (&line(0, b":pAth", b"/"), &line(0, b":path", b"/")),
            (&line(0, b":path", b"/\xff"), &line(0, b":path", b"/_")),
            (&line(0, b":path", b"/\xc3a\xe2\x82"), &line(0, b":path", b"/\xc3\x80__")),
            (&line(0, b":authority", b"\xe0\x80\x80"), &line(0, b":authority", b"\xe0\xa0\x80")),
            (&[0x0f, 0x0b, 2, 0, b'x'], &[0x0f, 0x0b, 2, b'_', b'x']),
            (&[0x02, 3, b'G', 0, b'T'], &[0x02, 3, b'G', b'X', b'T']),
            (&[0x08, 1, b'x'], &[0x04, 1, b'x']),
            (&[0x88], &[0x88]),
        ];
        for (bad, good) in cases {
            let frames = |field: &[u8]| {
                let block = [&[0x82], field, &[0x87][..]].concat();
                [frame(HEADERS, 5, 1, &[0x82]), frame(HEADERS, 5, 3, &block), frame(HEADERS, 5, 5, &[0x82])]
                    .concat()
            };
            for size in [1, 2, 3, 7, 1000] {
                assert_eq!(mended(&frames(bad), size), (frames(good), vec![3]), "{bad:?} {size}");
            }
        }
        let kept = frame(HEADERS, 5, 1, &line(0x40, b"x-a", b"a\0b"));
        assert_eq!(mended(&kept, 1000), (kept, Vec::new()), "the table would differ from the client's");
    }

    #[test]
    fn each_malformed_stream_is_reported_once() {
        let mut mender = HeaderBlockMender::new(false);
        mender.malformed = vec![3, 7, 9];
        assert!(!mender.is_malformed(1) && mender.is_malformed(3) && !mender.is_malformed(8));
        assert!(mender.is_malformed(9) && mender.malformed.is_empty());
    }

    #[test]
    fn a_proxy_may_reset_unopened_streams() {
        let frames = |kind: u8| {
            let reset = |kind, stream| frame(kind, 0, stream, &[0, 0, 0, 8]);
            [frame(HEADERS, 5, 3, &[0x82]), reset(RST_STREAM, 3), reset(RST_STREAM, 1), reset(kind, 5)]
                .concat()
        };
        for (is_trusted_proxy, kind) in [(true, UNKNOWN), (false, RST_STREAM)] {
            let mut bytes = [vec![0; PREFACE_BYTES], frames(RST_STREAM)].concat();
            HeaderBlockMender::new(is_trusted_proxy).mend(&mut bytes);
            assert_eq!(bytes[PREFACE_BYTES..], frames(kind));
        }
    }

    #[test]
    fn any_bytes_can_be_followed() {
        for seed in 0..200_u32 {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            };
            let payload: Vec<u8> = (0..200).map(|_| next()).collect();
            let frames = frame(HEADERS, next(), 1, &payload);
            let (all, _) = mended(&frames, 1000);
            let (cut, _) = mended(&frames, 3);
            assert_eq!((all.len(), all), (frames.len(), cut), "{seed}");
        }
    }
}
