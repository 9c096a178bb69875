//! The paths below `/standin/`, consoles and uploads.

use nodegate_standin::{API_TOKEN, Config, Daemon, Keys, Product, content, now};
use serde_json::Value;

use super::{body, escaped, exchange, text};

fn get(daemon: &Daemon, path: &str) -> String {
    let cookie = Keys::generate().ticket("PVE", "root@pam", now());
    text(daemon, format!("GET {path} HTTP/1.1\r\ncookie: PVEAuthCookie={cookie}\r\n\r\n"))
}

#[test]
fn special_paths_do_what_their_names_say() {
    let daemon = Daemon::start(Config::new(Product::Pve));
    let special = |path: &str| get(&daemon, &format!("/api2/json/standin/{path}"));
    assert_eq!(body(&special("echo?x=1"))["data"]["user"], "root@pam");
    assert!(special("reason?status=596&text=not%20now").starts_with("HTTP/1.1 596 not now\r\n"));
    assert!(special("slow?ms=1").starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(special("close"), "");
    assert_eq!(special("rubbish"), "garbage\r\n\r\n");
    assert_eq!(special("raw?text=a%0D%0Ab"), "a\r\nb");
    assert!(special("short?size=10").contains("Content-Length: 10\r\n"));
    assert!(special("head-only-then-hang").ends_with("\r\n\r\n"));
    assert!(special("chunked").ends_with("\r\n0\r\nX-Standin: trailer\r\n\r\n"));
    assert_eq!(special("cookies").matches("Set-Cookie: ").count(), 2);
    assert!(!special("cookies?file=").contains("pvestreamfile"));
    let unknown = special("nothing");
    assert!(unknown.starts_with("HTTP/1.1 501 Method 'GET /standin/nothing' not implemented\r\n"));
    assert_eq!(body(&unknown)["data"], Value::Null);
}

#[test]
fn big_answers_are_the_known_content() {
    let daemon = Daemon::start(Config::new(Product::Pve));
    let cookie = Keys::generate().ticket("PVE", "root@pam", now());
    for path in ["big", "until-close"] {
        let head = format!("GET /api2/json/standin/{path}?size=300000 HTTP/1.1\r\n");
        let answer = exchange(&daemon, format!("{head}cookie: PVEAuthCookie={cookie}\r\n\r\n"));
        assert!(answer.ends_with(&content(300_000)), "{path}");
    }
}

#[test]
fn a_console_opens_for_its_own_ticket_only() {
    let daemon = Daemon::start(Config::new(Product::Pve));
    let vm = "/api2/json/nodes/n1/qemu";
    let head = format!("POST {vm}/100/vncproxy HTTP/1.1\r\nAuthorization: PVEAPIToken");
    let opened = body(&text(&daemon, format!("{head} {API_TOKEN}\r\n\r\n")));
    let ticket = escaped(opened["data"]["ticket"].as_str().unwrap());
    for (query, status) in [
        ("100/vncwebsocket?port=5900", "200"),
        ("100/vncwebsocket?port=5901", "401"),
        ("101/vncwebsocket?port=5900", "401"),
    ] {
        let head = format!("GET {vm}/{query}&vncticket={ticket} HTTP/1.1\r\nAuthorization: PVEAPIToken");
        let answer = text(&daemon, format!("{head} {API_TOKEN}\r\n\r\n"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{query}: {answer}");
    }
}

#[test]
fn uploads_are_stored_and_their_files_removed() {
    let root = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(Config { root: root.path().to_owned(), ..Config::new(Product::Pve) });
    let file = root.path().join("var/tmp/pveupload-0123456789abcdef0123456789abcdef");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "content").unwrap();
    let form = "tmpfilename=/var/tmp/pveupload-0123456789abcdef0123456789abcdef";
    text(
        &daemon,
        format!(
            "POST /api2/json/nodes/n1/storage/local/upload HTTP/1.1\r\nContent-Length: {}\r\nAuthorization: PVEAPIToken {API_TOKEN}\r\n\r\n{form}",
            form.len()
        ),
    );
    assert_eq!(daemon.last().upload.unwrap(), b"content");
    assert!(!file.exists());
}
