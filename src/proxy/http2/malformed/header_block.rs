//! The fields of a header block (RFC 7541), as far as nodegate has to know where names and values are.

use super::text::{FieldName, TextCheck};

/// Index of `:path` in the static table (RFC 7541 appendix A).
const PATH_INDEX: u8 = 4;

/// Position of the next byte in a header block (RFC 7541 section 6).
#[derive(Default)]
enum HpackState {
    #[default]
    Field,
    /// the rest of a number
    Number {
        value: usize,
        shift: u32,
        of: IntegerState,
    },
    NameLength,
    ValueLength,
    Text {
        left: usize,
        is_name: bool,
    },
    /// a number exceeded its limit; the library will reject the block
    Lost,
}

#[derive(Clone, Copy)]
enum IntegerState {
    /// index of a whole field, or a table size
    Whole,
    NameIndex,
    NameLength,
    ValueLength,
}

/// Follows one header block byte by byte.
#[derive(Default)]
pub(super) struct HeaderBlock {
    step: HpackState,
    /// the dynamic table keeps the field, so a changed text would make the two tables differ
    is_kept: bool,
    is_huffman: bool,
    name: FieldName,
    check: TextCheck,
}

impl HeaderBlock {
    /// Reads one byte and replaces it if the library would reject it. Returns whether the request is malformed.
    pub(super) fn mend(&mut self, byte: &mut u8) -> bool {
        match std::mem::take(&mut self.step) {
            HpackState::Field => return self.begin_field(byte),
            HpackState::Number { value, shift, of } => {
                let value = value.saturating_add(usize::from(*byte & 0x7f) << shift);
                self.step = match (*byte & 0x80 != 0, shift) {
                    (true, 28..) => HpackState::Lost,
                    (true, _) => HpackState::Number { value, shift: shift + 7, of },
                    (false, _) => self.state_after(value, of),
                };
            }
            HpackState::NameLength => self.step = self.length(*byte, IntegerState::NameLength),
            HpackState::ValueLength => self.step = self.length(*byte, IntegerState::ValueLength),
            HpackState::Text { left, is_name } => return self.mend_text(byte, left, is_name),
            HpackState::Lost => self.step = HpackState::Lost,
        }
        false
    }

    fn begin_field(&mut self, byte: &mut u8) -> bool {
        let (mask, of) = match *byte {
            0x80.. => (0x7f, IntegerState::Whole),
            0x40.. => (0x3f, IntegerState::NameIndex),
            0x20.. => (0x1f, IntegerState::Whole),
            _ => (0x0f, IntegerState::NameIndex),
        };
        self.is_kept = *byte & 0x40 != 0;
        let mut index = *byte & mask;
        // A request has no `:status`.
        let is_malformed = (8..=14).contains(&index) && *byte & 0xe0 != 0x20;
        if is_malformed && matches!(of, IntegerState::NameIndex) && !self.is_kept {
            index = PATH_INDEX;
            *byte = *byte & !mask | index;
        }
        self.step = if index == mask {
            HpackState::Number { value: mask.into(), shift: 0, of }
        } else {
            self.state_after(index.into(), of)
        };
        is_malformed
    }

    fn length(&mut self, byte: u8, of: IntegerState) -> HpackState {
        self.is_huffman = byte & 0x80 != 0;
        match byte & 0x7f {
            0x7f => HpackState::Number { value: 0x7f, shift: 0, of },
            length => self.state_after(length.into(), of),
        }
    }

    /// The state after a whole number.
    fn state_after(&mut self, value: usize, of: IntegerState) -> HpackState {
        match of {
            IntegerState::Whole => HpackState::Field,
            IntegerState::NameIndex if value == 0 => HpackState::NameLength,
            IntegerState::NameIndex => {
                self.name = FieldName::from_index(value);
                HpackState::ValueLength
            }
            IntegerState::NameLength => {
                self.name = FieldName::Regular; // until it is read
                self.check = TextCheck::name(value);
                if value == 0 {
                    HpackState::ValueLength
                } else {
                    HpackState::Text { left: value, is_name: true }
                }
            }
            IntegerState::ValueLength => {
                self.check = TextCheck::value(self.name);
                if value == 0 { HpackState::Field } else { HpackState::Text { left: value, is_name: false } }
            }
        }
    }

    fn mend_text(&mut self, byte: &mut u8, left: usize, is_name: bool) -> bool {
        let is_checked = !self.is_kept && !self.is_huffman;
        let is_malformed = is_checked && self.check.mend(byte, left - 1);
        self.step = match left - 1 {
            0 if is_name => {
                self.name = if is_checked { self.check.name_read() } else { FieldName::Regular };
                HpackState::ValueLength
            }
            0 => HpackState::Field,
            left => HpackState::Text { left, is_name },
        };
        is_malformed
    }
}
