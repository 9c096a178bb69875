//! `printf` with Perl's semantics. Pure.

use super::interpreter::{ControlFlow, Interpreter, Outcome};
use super::number::{Number, exponent_text, general};
use super::text::TaintedText;
use crate::handler::page::sanitized::CharacterOrigin;

/// The widest field, and most digits.
const MAX_WIDTH: usize = 4096;

/// Characters of flags and sizes in a directive.
struct FormatDirective {
    flags: String,
    width: usize,
    precision: Option<usize>,
}

/// Formats one value. A second directive gets no value.
pub(super) fn print(
    format: &TaintedText,
    value: &TaintedText,
    beside: CharacterOrigin,
    interpreter: &mut Interpreter<'_>,
) -> Outcome<TaintedText> {
    interpreter.spend(format.steps() + value.steps())?;
    let mut result = TaintedText::default();
    let mut value = Some(value);
    let origin = format.origin();
    let mut rest = format.as_str();
    while let Some((plain, behind)) = rest.split_once('%') {
        result.insert(&TaintedText::new(plain, origin), beside);
        let (directive, length) = FormatDirective::parse(behind)?;
        interpreter.spend(1 + (directive.width + directive.precision.unwrap_or_default()) / 32)?;
        let letter = behind.get(length..).and_then(|rest| rest.chars().next());
        let letter = letter.ok_or_else(|| ControlFlow::failed("a format ends with '%'"))?;
        rest = behind.get(length + letter.len_utf8()..).unwrap_or_default();
        if letter == '%' {
            result.insert(&TaintedText::new("%", origin), beside);
            continue;
        }
        let empty = TaintedText::default();
        directive.print(letter, value.take().unwrap_or(&empty), &mut result)?;
    }
    result.insert(&TaintedText::new(rest, origin), beside);
    Ok(result)
}

impl FormatDirective {
    fn parse(text: &str) -> Outcome<(Self, usize)> {
        let flags = text.len() - text.trim_start_matches(['-', '0', '+', ' ', '#']).len();
        let (width, mut end) = number(text, flags)?;
        let mut precision = None;
        if text.get(end..).is_some_and(|rest| rest.starts_with('.')) {
            let (digits, after) = number(text, end + 1)?;
            (precision, end) = (Some(digits), after);
        }
        let flags = text.get(..flags).unwrap_or_default().to_owned();
        Ok((Self { flags, width, precision }, end))
    }

    fn has(&self, flag: char) -> bool {
        self.flags.contains(flag)
    }

    fn print(&self, letter: char, value: &TaintedText, result: &mut TaintedText) -> Outcome<()> {
        if letter == 's' {
            let end = self.precision.map_or(value.len(), |precision| value.position(precision));
            self.pad(&value.slice(0..end), result);
            return Ok(());
        }
        let number = Number::from_text(value.as_str());
        let text = match letter {
            'c' => {
                let character = u32::try_from(number.as_whole()).ok().and_then(char::from_u32);
                character.unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
            }
            'd' | 'i' => {
                self.signed(number.as_whole() < 0, &self.digits(number.as_whole().unsigned_abs().to_string()))
            }
            'u' => self.digits(number.as_whole().to_string()),
            'x' => self.digits(format!("{}{:x}", self.prefix("0x", number), number.as_whole())),
            'X' => self.digits(format!("{}{:X}", self.prefix("0X", number), number.as_whole())),
            'o' => self.digits(format!("{}{:o}", self.prefix("0", number), number.as_whole())),
            'b' => self.digits(format!("{}{:b}", self.prefix("0b", number), number.as_whole())),
            'e' | 'f' | 'g' | 'E' | 'F' | 'G' => self.float(letter, number.as_float()),
            _ => {
                return Err(ControlFlow::failed(format!(
                    "the format '%{}' is not supported",
                    letter.escape_debug()
                )));
            }
        };
        // a number has no origin, and may stand for any character, so the character counts as outside text
        let origin = if letter == 'c' { CharacterOrigin::User } else { CharacterOrigin::Template };
        self.pad(&TaintedText::new(&text, origin), result);
        Ok(())
    }

    fn prefix(&self, prefix: &'static str, number: Number) -> &'static str {
        if self.has('#') && number.as_whole() != 0 { prefix } else { "" }
    }

    fn digits(&self, digits: String) -> String {
        let least = self.precision.unwrap_or_default();
        if digits.len() < least { format!("{}{digits}", "0".repeat(least - digits.len())) } else { digits }
    }

    fn signed(&self, is_negative: bool, digits: &str) -> String {
        let sign = match (is_negative, self.has('+'), self.has(' ')) {
            (true, _, _) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            (false, false, false) => "",
        };
        format!("{sign}{digits}")
    }

    fn float(&self, letter: char, float: f64) -> String {
        let precision = self.precision.unwrap_or(6);
        let size = float.abs();
        let digits = match letter.to_ascii_lowercase() {
            'f' => format!("{size:.precision$}"),
            'e' => {
                let text = format!("{size:.precision$e}");
                let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                format!("{mantissa}e{}", exponent_text(exponent.parse().unwrap_or_default()))
            }
            _ => general(size, precision, self.has('#')),
        };
        let signed = self.signed(float.is_sign_negative() && float != 0.0, &digits);
        if letter.is_ascii_uppercase() { signed.to_uppercase() } else { signed }
    }

    /// Pads to the width, with blanks, or with zeros behind the sign.
    fn pad(&self, text: &TaintedText, result: &mut TaintedText) {
        let missing = self.width.saturating_sub(text.as_str().chars().count());
        let blanks = " ".repeat(missing);
        if self.has('-') {
            result.push_text(text);
            result.push_literal(&blanks);
        } else if self.has('0') {
            let sign = usize::from(text.as_str().starts_with(['-', '+']));
            result.push_text(&text.slice(0..sign));
            result.push_literal(&"0".repeat(missing));
            result.push_text(&text.slice(sign..text.len()));
        } else {
            result.push_literal(&blanks);
            result.push_text(text);
        }
    }
}

/// The digits from a position, and their end.
fn number(text: &str, from: usize) -> Outcome<(usize, usize)> {
    let rest = text.get(from..).unwrap_or_default();
    let length = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let digits = rest.get(..length).unwrap_or_default();
    let number = if digits.is_empty() { Some(0) } else { digits.parse().ok() };
    match number.filter(|number| *number <= MAX_WIDTH) {
        Some(number) => Ok((number, from + length)),
        None => Err(ControlFlow::failed(format!("a field is wider than {MAX_WIDTH}"))),
    }
}
