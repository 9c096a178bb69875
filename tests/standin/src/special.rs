//! Paths below `/standin/`, for what a test needs from a daemon and no real call gives.

use std::time::Duration;

use serde_json::json;

use crate::answer::{Answer, Failure, Format, Framing, Reply, Step};
use crate::api::{Call, Handled};

const OCTETS: &str = "application/octet-stream";

/// The first bytes of the content that `big` and `until-close` send.
pub fn content(size: usize) -> Vec<u8> {
    (0..251).cycle().take(size).collect()
}

/// `name` is the text behind `/standin/`; the part before it does not matter.
pub(crate) fn handle(name: &str, call: &Call) -> Option<Handled> {
    let text = |name| call.params.value(name).unwrap_or_default();
    let number = |name, default| call.params.number(name, default);
    let size = usize::try_from(number("size", 1000)).unwrap_or(usize::MAX);
    let head = Answer::ok(call.params.value("type").unwrap_or(OCTETS), "");
    Some(match name {
        "echo" => Handled::Answer(echo(call)),
        "reason" => Handled::Answer(reason(number("status", 200), text("text"))),
        "slow" => slow(Duration::from_millis(number("ms", 1000)), call),
        "close" => script(Vec::new()),
        "rubbish" => script(vec![Step::Write(b"garbage\r\n\r\n".to_vec())]),
        "raw" => script(vec![Step::Write(text("text").as_bytes().to_vec())]),
        "short" => {
            script(vec![Step::Write(head.head(&Framing::Length(size), false)), Step::Content(size / 2)])
        }
        "head-only-then-hang" => {
            script(vec![Step::Write(head.head(&Framing::Length(size), true)), Step::Hang])
        }
        "hang" => script(vec![Step::Hang]),
        "big" => sized(&head, size, call),
        "until-close" => {
            script(vec![Step::Write(head.head(&Framing::UntilClose, false)), Step::Content(size)])
        }
        "chunked" => chunked(call),
        "drip" => script(drip(&head, number("pieces", 3), Duration::from_millis(number("ms", 100)))),
        "cookies" => Handled::Answer(cookies(call)),
        "streamfile" => Handled::Answer(streamfile(call)),
        "binary" => Handled::Answer(Answer::ok(OCTETS, (0..=255).collect::<Vec<u8>>())),
        _ => return None,
    })
}

fn script(steps: Vec<Step>) -> Handled {
    Handled::Script(Reply::then_close(steps))
}

fn echo(call: &Call) -> Answer {
    let request = call.request;
    let data = json!({
        "connection": request.connection,
        "method": request.method,
        "target": request.target,
        "version": request.version,
        "headers": request.headers,
        "body": request.text(),
        "user": call.user,
    });
    Answer::data(Format::Json, &data)
}

fn reason(status: u64, text: &str) -> Answer {
    Answer {
        status: u16::try_from(status).unwrap_or(500),
        reason: text.to_owned(),
        ..Answer::data(Format::Json, &json!(null))
    }
}

fn slow(time: Duration, call: &Call) -> Handled {
    let is_upload = call.path.ends_with("/upload");
    let answer = if is_upload { crate::api::upid(call, "imgcopy") } else { json!(null) };
    let answer = Answer::data(Format::Json, &answer);
    let mut reply = answer.into_reply(&call.request.method, call.keep_alive);
    reply.steps.insert(0, Step::Wait(time));
    Handled::Script(reply)
}

fn sized(head: &Answer, size: usize, call: &Call) -> Handled {
    let head = head.head(&Framing::Length(size), call.keep_alive);
    let content = if call.request.method == "HEAD" { 0 } else { size };
    Handled::Script(Reply { steps: vec![Step::Write(head), Step::Content(content)], close: !call.keep_alive })
}

/// Pieces of ten bytes, with a pause behind each.
fn drip(head: &Answer, pieces: u64, pause: Duration) -> Vec<Step> {
    let mut steps = vec![Step::Write(head.head(&Framing::UntilClose, false))];
    for _ in 0..pieces {
        steps.extend([Step::Write(content(10)), Step::Wait(pause)]);
    }
    steps
}

fn chunked(call: &Call) -> Handled {
    let answer = Answer::ok(crate::answer::JSON, "").with("Trailer", "X-Standin");
    let mut bytes = answer.head(&Framing::Chunked, call.keep_alive);
    bytes.extend_from_slice(b"8\r\n{\"data\":\r\n");
    bytes.extend_from_slice(b"a;extension=1\r\n\"chunked\"}\r\n");
    bytes.extend_from_slice(b"0\r\nX-Standin: trailer\r\n\r\n");
    Handled::Script(Reply { steps: vec![Step::Write(bytes)], close: !call.keep_alive })
}

fn cookies(call: &Call) -> Answer {
    let answer = Answer::data(Format::Json, &json!(null))
        .with("Set-Cookie", "first=1; path=/")
        .with("Set-Cookie", "second=2; path=/; secure")
        .with("Location", "http://localhost:85/x");
    match call.params.value("file").unwrap_or("/etc/passwd") {
        "" => answer,
        file => answer.with("pvestreamfile", file),
    }
}

/// As a file-restore download: only a proxy that announced itself gets the name of the file.
fn streamfile(call: &Call) -> Answer {
    let file = call.params.value("path").unwrap_or("/etc/passwd");
    if call.request.header("PVEDisableProxy").is_some() {
        Answer::ok(OCTETS, "error canary").with("pvestreamfile", file)
    } else {
        let message = "no PVEDisableProxy: the daemon would stream by itself";
        Answer::error(Format::Json, &Failure::new(500, message))
    }
}
