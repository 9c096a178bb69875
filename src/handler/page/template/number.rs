//! Numbers with Perl's semantics. Pure.

use std::fmt;

/// An integer if it fits, otherwise a float.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Whole(i64),
    Float(f64),
}

/// A float above this is not exact.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Bytes of a text that are parsed as a number. More digits change nothing.
const MAX_BYTES: usize = 1024;

impl Number {
    /// The number at the start of a text, or 0.
    pub(super) fn from_text(text: &str) -> Self {
        let text = text.get(..text.floor_char_boundary(MAX_BYTES)).unwrap_or_default();
        let trimmed = text.trim_start_matches(is_space);
        Self::parse(trimmed.get(..number_length(trimmed)).unwrap_or_default())
    }

    /// The number that the whole text is. Perl allows white space around it.
    pub(super) fn from_whole_text(text: &str) -> Option<Self> {
        let trimmed = if text.len() > MAX_BYTES { "" } else { text.trim_matches(is_space) };
        (!trimmed.is_empty() && number_length(trimmed) == trimmed.len()).then(|| Self::parse(trimmed))
    }

    fn parse(digits: &str) -> Self {
        match digits.parse::<i64>() {
            Ok(whole) => Self::Whole(whole),
            Err(_) => digits.parse::<f64>().map_or(Self::Whole(0), Self::Float),
        }
    }

    #[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "Perl rounds there as well")]
    pub(super) fn as_float(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Float(float) => float,
        }
    }

    /// Rounds towards zero, to the nearest value that fits.
    #[expect(clippy::cast_possible_truncation, clippy::as_conversions, reason = "`as` saturates")]
    pub(super) fn as_whole(self) -> i64 {
        match self {
            Self::Whole(whole) => whole,
            Self::Float(float) => float as i64,
        }
    }

    pub(super) fn is_true(self) -> bool {
        self.as_float() != 0.0
    }

    fn from_float(float: f64) -> Self {
        if float.fract() == 0.0 && float.abs() < EXACT {
            return Self::Whole(Self::Float(float).as_whole());
        }
        Self::Float(float)
    }

    pub(super) fn add(self, other: Self) -> Self {
        self.exact(other, i64::checked_add, |left, right| left + right)
    }

    pub(super) fn subtract(self, other: Self) -> Self {
        self.exact(other, i64::checked_sub, |left, right| left - right)
    }

    pub(super) fn multiply(self, other: Self) -> Self {
        self.exact(other, i64::checked_mul, |left, right| left * right)
    }

    fn exact(self, other: Self, whole: fn(i64, i64) -> Option<i64>, float: fn(f64, f64) -> f64) -> Self {
        if let (Self::Whole(left), Self::Whole(right)) = (self, other)
            && let Some(result) = whole(left, right)
        {
            return Self::Whole(result);
        }
        Self::from_float(float(self.as_float(), other.as_float()))
    }

    /// `None` for a division by zero.
    pub(super) fn divide(self, other: Self) -> Option<Self> {
        other.is_true().then(|| Self::from_float(self.as_float() / other.as_float()))
    }

    /// The remainder with the sign of the divisor. `None` for a divisor of zero.
    pub(super) fn modulo(self, other: Self) -> Option<Self> {
        let (left, right) = (self.as_whole(), other.as_whole());
        let rest = left.checked_rem(right).or((right == -1).then_some(0))?;
        let differs = rest != 0 && (rest < 0) != (right < 0);
        Some(Self::Whole(if differs { rest.saturating_add(right) } else { rest }))
    }

    #[must_use]
    pub(super) fn truncate(self) -> Self {
        match self {
            Self::Whole(_) => self,
            Self::Float(float) => Self::from_float(float.trunc()),
        }
    }
}

/// Bytes of the number at the start of a text.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
    let sign = usize::from(is(0, b"+-"));
    let whole = digits(sign);
    let mut end = sign + whole;
    if is(end, b".") {
        let fraction = digits(end + 1);
        if whole + fraction == 0 {
            return 0;
        }
        end += 1 + fraction;
    } else if whole == 0 {
        return 0;
    }
    if is(end, b"eE") {
        let sign = usize::from(is(end + 1, b"+-"));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    end
}

/// ASCII characters of Perl's `\s`.
pub(super) fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Fifteen digits, like C's `%.15g`.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(whole) => write!(f, "{whole}"),
            Self::Float(float) => f.write_str(&general(*float, 15, false)),
        }
    }
}

/// C's `%.{precision}g`. `is_full` keeps zeros at the end.
pub(super) fn general(float: f64, precision: usize, is_full: bool) -> String {
    if float.is_nan() {
        return "NaN".to_owned();
    }
    if float.is_infinite() {
        return if float > 0.0 { "Inf" } else { "-Inf" }.to_owned();
    }
    let precision = precision.max(1);
    let scientific = format!("{float:.*e}", precision - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let digits = i32::try_from(precision).unwrap_or(i32::MAX);
    let strip = |text: &str| {
        if is_full || !text.contains('.') {
            return text.to_owned();
        }
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if exponent < -4 || exponent >= digits {
        return format!("{}e{}", strip(mantissa), exponent_text(exponent));
    }
    let decimals = usize::try_from(digits - 1 - exponent).unwrap_or_default();
    strip(&format!("{float:.decimals$}"))
}

/// An exponent with a sign and at least two digits.
pub(super) fn exponent_text(exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{:02}", exponent.unsigned_abs())
}
