//! `USE date`: the time, and formatted times.

use std::fmt::Write as _;

use chrono::{DateTime, FixedOffset, Local, NaiveDate, NaiveDateTime, Offset as _, TimeZone as _, Utc};

use super::interpreter::{ControlFlow, Interpreter, Outcome};
use super::text::TaintedText;
use super::value::{HashId, Value};
use crate::os::unix_time::unix_time;

const FORMAT: &str = "%H:%M:%S %d-%b-%Y";

/// Bytes of a formatted time.
const MAX_TIME_BYTES: usize = 64;

/// Directives of C's `strftime` that chrono formats in the same way.
const LETTERS: &str = "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ%";

pub(super) fn call(
    interpreter: &mut Interpreter<'_>,
    id: HashId,
    name: &str,
    arguments: &[Value],
) -> Outcome<Value> {
    match name {
        "now" => Ok(now(interpreter)),
        "format" => format(interpreter, id, arguments),
        "calc" | "manip" | "new" | "load" | "throw" | "error" => {
            Err(ControlFlow::failed(format!("the method '{name}' of a date is not supported")))
        }
        _ => Ok(interpreter.heap.hash_value(id, name).cloned().unwrap_or(Value::Undefined)),
    }
}

fn now(interpreter: &Interpreter<'_>) -> Value {
    Value::count(usize::try_from(unix_time(interpreter.now)).unwrap_or(usize::MAX))
}

/// `format(time, format, locale, gmt)`. Each argument may be named, here or at `USE`.
fn format(interpreter: &mut Interpreter<'_>, id: HashId, arguments: &[Value]) -> Outcome<Value> {
    let (named, positional) = match arguments.split_last() {
        Some((Value::Hash(named), positional)) => (Some(*named), positional),
        _ => (None, arguments),
    };
    let by_name = |name: &str| {
        let given = named.and_then(|named| interpreter.heap.hash_value(named, name));
        let own = interpreter.heap.hash_value(id, name);
        [given, own].into_iter().flatten().find(|value| value.is_true()).cloned()
    };
    let argument = |at: usize, name: &str| positional.get(at).cloned().or_else(|| by_name(name));
    let time = positional.first().filter(|time| time.is_true()).cloned().or_else(|| by_name("time"));
    let format =
        argument(1, "format").map_or_else(|| TaintedText::literal(FORMAT).into(), |value| value.to_text());
    if argument(2, "locale").is_some_and(|locale| locale.is_true()) {
        return Err(ControlFlow::failed("the locale of a date is not supported"));
    }
    let is_utc = argument(3, "gmt").is_some_and(|gmt| gmt.is_true());
    let time = time.unwrap_or_else(|| now(interpreter)).to_text();
    let time = parse(&time, is_utc)?;
    interpreter.spend(format.len() / 2)?;
    let mut text = TaintedText::default();
    text.push(&print(format.as_str(), &time, is_utc)?, format.origin());
    interpreter.spend_text(&text)?;
    Ok(Value::text(text))
}

/// Parses seconds since 1970, `h:m:s d:m:y` or `y:m:d h:m:s`, with any separators.
fn parse(given: &TaintedText, is_utc: bool) -> Outcome<DateTime<FixedOffset>> {
    let bad = || {
        let mut message = TaintedText::literal("bad time/date string:  expects 'h:m:s d:m:y'  got: '");
        message.push_text(&given.slice(0..given.position(MAX_TIME_BYTES)));
        message.push_literal("'");
        ControlFlow::thrown("date", message)
    };
    let time = given.as_str();
    if time.len() > MAX_TIME_BYTES {
        return Err(bad());
    }
    if let Ok(seconds) = time.parse::<i64>() {
        let utc = DateTime::from_timestamp(seconds, 0).ok_or_else(&bad)?;
        return Ok(if is_utc { utc.fixed_offset() } else { utc.with_timezone(&Local).fixed_offset() });
    }
    let parts: Vec<&str> = time.split(|c: char| !c.is_ascii_digit()).collect();
    let part = |at: usize| parts.get(at).and_then(|part| part.parse::<u32>().ok());
    let places = match parts.first().map(|first| first.len()) {
        Some(4) => [0, 1, 2, 3, 4, 5],
        _ => [5, 4, 3, 0, 1, 2],
    };
    let [year, month, day, hour, minute, second] = places.map(part);
    let date = || -> Option<NaiveDateTime> {
        let date = NaiveDate::from_ymd_opt(i32::try_from(year?).ok()?, month?, day?)?;
        date.and_hms_opt(hour?, minute?, second?)
    };
    let date = date().ok_or_else(bad)?;
    let local = if is_utc { None } else { Local.from_local_datetime(&date).earliest() };
    Ok(local.map_or_else(|| Utc.from_utc_datetime(&date).fixed_offset(), |local| local.fixed_offset()))
}

/// chrono has more directives than C, so only those of C are passed to it.
fn print(format: &str, time: &DateTime<FixedOffset>, is_utc: bool) -> Outcome<String> {
    let mut text = String::new();
    let mut rest = format;
    while let Some((plain, behind)) = rest.split_once('%') {
        text.push_str(plain);
        let letter = behind.chars().next().unwrap_or('%');
        rest = behind.get(letter.len_utf8()..).unwrap_or_default();
        let is_zone = letter == 'Z' && !(is_utc || time.offset().fix().local_minus_utc() == 0);
        if !LETTERS.contains(letter) || is_zone {
            let message = format!("the date format '%{}' is not supported", letter.escape_debug());
            return Err(ControlFlow::failed(message));
        }
        if letter == 'Z' {
            text.push_str(if is_utc { "GMT" } else { "UTC" });
        } else {
            let _ = write!(text, "{}", time.format(&format!("%{letter}")));
        }
    }
    text.push_str(rest);
    Ok(text)
}
