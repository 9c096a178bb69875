//! The calls that answer with files: framed and headed as the products' daemons were recorded.

use serde_json::json;

use crate::answer::Answer;
use crate::api::{Call, Handled};
use crate::special::content;

/// `None` where the call answers with data. `size` in the query is the length of the file.
pub(crate) fn handle(call: &Call) -> Option<Handled> {
    let size = usize::try_from(call.params.number("size", 100_000)).unwrap_or(usize::MAX);
    let segments: Vec<&str> = call.path.split('/').skip(1).collect();
    Some(match (call.request.method.as_str(), &segments[..]) {
        // A pipe of another program.
        ("GET", ["nodes", _, "journal"]) => Handled::Stream(Answer::ok("text/plain", content(size))),
        ("GET", ["nodes", _, "tasks", upid, "log"]) if call.params.value("download") == Some("1") => {
            let name = format!("attachment; filename=\"task-{upid}.log\"");
            Handled::Answer(Answer::ok("text/plain", content(size)).with("Content-Disposition", &name))
        }
        ("GET", ["nodes", _, "backup", _]) => Handled::Answer(file("application/gzip", size)),
        ("GET", ["quarantine", "download"]) => Handled::Answer(file("message/rfc822", size)),
        _ => return None,
    })
}

fn file(content_type: &str, size: usize) -> Answer {
    let answer = Answer { is_file: true, ..Answer::ok(content_type, content(size)) };
    answer.with("Last-Modified", "Sun, 29 Nov 2026 10:00:00 GMT")
}

/// The lines of a task, as the GUI shows them.
pub(crate) fn task_lines() -> serde_json::Value {
    json!([{"n": 1, "t": "starting task"}, {"n": 2, "t": "TASK OK"}])
}
