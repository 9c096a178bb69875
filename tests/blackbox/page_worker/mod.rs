//! Pages that the built-in reader cannot render: a worker renders them, or the failure is named.

mod problems;
mod product;
mod requests;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Nodegate, Site};

const INDEX: &str = "/usr/share/pve-manager/index.html.tpl";
const MOBILE: &str = "/usr/share/pve-yew-mobile-gui/index.html.tpl";

/// A template of tomorrow: no reader without Perl renders it.
const TOMORROW: &str = "<html>\n[% PERL %] print 1; [% END %]\n</html>\n";

/// The response of the product's server for a page.
fn page(body: &str) -> Vec<u8> {
    answer("200 OK", "text/html; charset=utf-8", body)
}

/// An answer as the product's server writes it: an empty one has no length.
fn answer(status: &str, content_type: &str, body: &str) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!(
        "HTTP/1.1 {status}\r\nCache-Control: max-age=0\r\nConnection: close\r\n\
         Date: Sun, 29 Nov 2026 12:00:00 GMT\r\nPragma: no-cache\r\nServer: pve-api-daemon/3.0\r\n{length}\
         Content-Type: {content_type}\r\nExpires: Sun, 29 Nov 2026 12:00:00 GMT\r\n\r\n"
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Stands in for the worker: gives every request the same answer, and keeps the heads that came.
struct Worker {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Vec<u8>>>,
    stopped: Arc<AtomicBool>,
}

impl Worker {
    fn start(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (heads, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(answer)));
        let stopped = Arc::new(AtomicBool::new(false));
        let (came, says, stop) = (Arc::clone(&heads), Arc::clone(&answer), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
                    head.push(byte[0]);
                }
                came.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
                let answer = says.lock().unwrap().clone();
                if answer.is_empty() {
                    // Held open until the other side has had enough.
                    let _ = stream.read(&mut byte);
                }
                let _ = stream.write_all(&answer);
            }
        });
        Self { address, heads, answer, stopped }
    }

    fn setting(&self) -> String {
        format!("backend.unprivileged={}", self.address)
    }

    fn answers(&self, answer: Vec<u8>) {
        *self.answer.lock().unwrap() = answer;
    }

    /// The heads of pages that were asked for since the last call. Looks whether it can be connected to bring none.
    fn heads(&self) -> Vec<String> {
        let mut heads = std::mem::take(&mut *self.heads.lock().unwrap());
        heads.retain(|head| !head.is_empty());
        heads
    }

    fn head(&self) -> String {
        let mut heads = self.heads();
        assert_eq!(heads.len(), 1, "{heads:?}");
        heads.remove(0)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = std::net::TcpStream::connect(self.address);
    }
}

/// The header lines of a request by name, in small letters.
fn lines(head: &str, name: &str) -> Vec<String> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).collect()
}

/// A site whose page is beyond the reader.
fn site() -> Site {
    let site = Site::pve();
    site.write(INDEX, TOMORROW);
    site
}

fn start(site: &Site, worker: &Worker, sets: &[&str]) -> Nodegate {
    let worker = worker.setting();
    Nodegate::start(site, &[&[worker.as_str()], sets].concat())
}
