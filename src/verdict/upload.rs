//! The answer to the call that tells the daemon where an upload lies.

use super::AnswerView;
use super::api_answer::ApiAnswer;
use super::shown::ShownMembers;

/// Whether the daemon has taken the file over.
pub fn is_taken(answer: &AnswerView<'_>, shows: &ShownMembers) -> bool {
    let read = answer.body.filter(|_| answer.status.is_success());
    read.and_then(|body| ApiAnswer::read(answer.headers, body)).is_some_and(|read| shows.are_in(&read))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::verdict::api_answer::tests::of_type;

    #[test]
    fn a_named_task_means_the_file_was_taken() {
        let shows = ShownMembers::parse(&["data".to_owned()]).unwrap();
        let taken = |status: u16, kind, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            is_taken(&AnswerView { status, headers: &of_type(kind), body: Some(body.as_bytes()) }, &shows)
        };
        assert!(taken(200, "application/json", r#"{"data":"UPID:x"}"#));
        assert!(taken(200, "application/json", r#"{"data":"UPID:x","success":1}"#));
        assert!(taken(200, "text/html", "{&quot;data&quot;:&quot;UPID:x&quot;,&quot;success&quot;:1}"));
        for (status, kind, body) in [
            (200, "text/html", "{&quot;data&quot;:null,&quot;success&quot;:0,&quot;status&quot;:500}"),
            (200, "text/html", "<pre>UPID:x</pre>"),
            (200, "application/json", r#"{"data":"UPID:x","success":0}"#),
            (200, "application/json", r#"{"data":null}"#),
            (200, "application/json", r#"{"data":""}"#),
            (200, "application/json", ""),
            (500, "application/json", r#"{"data":"UPID:x"}"#),
            (301, "application/json", r#"{"data":"UPID:x"}"#),
        ] {
            assert!(!taken(status, kind, body), "{status} {body}");
        }
        let view = AnswerView { status: StatusCode::OK, headers: &of_type("x"), body: None };
        assert!(!is_taken(&view, &ShownMembers::default()));
    }
}
