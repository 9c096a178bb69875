//! The corpus through nginx and HAProxy, which share connections to nodegate between clients: each request that
//! nodegate reads is one that the front sent as one, and the next client gets its own response.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::cases::CASES;
use super::{bytes, login};
use crate::support::nodegate::{TIMEOUT, eventually, free_port};
use crate::support::{Nodegate, Site};

/// The beginning of HAProxy's response if a server has given none. nodegate never says `Bad Gateway`.
const FRONTS_OWN_502: &str = "HTTP/1.1 502 Bad Gateway\r\n";

/// A proxy in front, ended when dropped, and what it says it has sent on: a line of method and target each.
struct Front {
    child: RefCell<Child>,
    address: SocketAddr,
    said: PathBuf,
    sent_on: Arc<Mutex<Vec<String>>>,
}

impl Drop for Front {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A place to write to for logs that come as datagrams; lines are what follows ` : `.
fn log_socket() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let (address, collected) = (socket.local_addr().unwrap(), Arc::clone(&lines));
    std::thread::spawn(move || {
        let mut buffer = [0; 16_384];
        while let Ok(length) = socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if let Some((_, line)) = text.trim_end().split_once("sent ") {
                collected.lock().unwrap().push(line.to_owned());
            }
        }
    });
    (address, lines)
}

impl Front {
    fn start(directory: &Path, command: &mut Command, port: u16, sent_on: Arc<Mutex<Vec<String>>>) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let said = directory.join("said");
        let output = std::fs::File::create(&said).unwrap();
        let command = command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let front = Self { child: RefCell::new(command.spawn().unwrap()), address, said, sent_on };
        eventually("the front listens", || TcpStream::connect(address).is_ok());
        front
    }

    fn nginx(directory: &Path, gate: &Nodegate) -> Self {
        let (port, (log, sent_on)) = (free_port(), log_socket());
        let configuration = format!(
            "daemon off; master_process off; pid {run}/pid; error_log {run}/error;\n\
             events {{ }}\n\
             http {{\n\
               client_body_temp_path {run}/body; proxy_temp_path {run}/proxy; fastcgi_temp_path {run}/f;\n\
               uwsgi_temp_path {run}/u; scgi_temp_path {run}/s;\n\
               log_format sent 'sent $upstream_status $request_method $request_uri';\n\
               access_log syslog:server={log} sent;\n\
               upstream gate {{ server {gate}; keepalive 8; }}\n\
               server {{ listen 127.0.0.1:{port}; keepalive_requests 1000000;\n\
                 location / {{ proxy_pass https://gate; proxy_ssl_verify off; proxy_http_version 1.1;\n\
                   proxy_set_header Connection ''; proxy_set_header Host $http_host;\n\
                   proxy_request_buffering off; proxy_ignore_client_abort on; }} }}\n\
             }}\n",
            run = directory.display(),
            gate = gate.address(),
        );
        let file = written(directory, "nginx.conf", &configuration);
        Self::start(
            directory,
            Command::new("nginx").arg("-c").arg(file).arg("-e").arg(directory.join("start")),
            port,
            sent_on,
        )
    }

    /// `speaks` is said of nodegate as a server.
    fn haproxy(directory: &Path, gate: &Nodegate, speaks: &str) -> Self {
        let (port, (log, sent_on)) = (free_port(), log_socket());
        let configuration = format!(
            "global\n  log {log} format raw local0\n  nbthread 1\n\
             defaults\n  mode http\n  log global\n  timeout connect 10s\n  timeout client 30s\n  timeout server 30s\n\
             frontend front\n  bind 127.0.0.1:{port}\n  default_backend gate\n\
             \x20 log-format \"sent %ST/%sc %HM %HU\"\n\
             backend gate\n  http-reuse always\n  server gate {gate} ssl verify none pool-max-conn 8 {speaks}\n",
            gate = gate.address(),
        );
        let file = written(directory, "haproxy.cfg", &configuration);
        Self::start(directory, Command::new("haproxy").arg("-db").arg("-f").arg(file), port, sent_on)
    }

    /// How the front ended, and its own words.
    fn state(&self) -> String {
        let ended = self.child.borrow_mut().try_wait();
        format!("front {ended:?}, said {:?}", std::fs::read_to_string(&self.said))
    }

    /// Sends bytes as they are, and reads until nothing comes any more.
    fn exchange(&self, sent: &[u8]) -> String {
        let mut stream =
            TcpStream::connect(self.address).unwrap_or_else(|error| panic!("{error}: {}", self.state()));
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let _ = stream.write_all(sent);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    }
}

fn written(directory: &Path, name: &str, text: &str) -> PathBuf {
    let file = directory.join(name);
    std::fs::write(&file, text).unwrap();
    file
}

/// The request of another client, on any connection of the front: it gets the response to its request.
fn next_client_is_unharmed(front: &Front, login: &str, number: usize) -> Result<(), String> {
    let target = format!("/api2/json/standin/echo?next={number}");
    let request = format!("GET {target} HTTP/1.1\r\nHost: node1\r\nConnection: close\r\n{login}\r\n");
    let said = match front.exchange(request.as_bytes()) {
        // HAProxy resets a stream that it has not opened when it cannot write a request as HTTP/2, which ends the
        // connection (RFC 9113, section 5.1). It may notice that when it uses the connection again.
        said if said.starts_with(FRONTS_OWN_502) => front.exchange(request.as_bytes()),
        said => said,
    };
    let is_its_own = said.starts_with("HTTP/1.1 200") && said.contains(&format!("\"target\":\"{target}\""));
    if is_its_own { Ok(()) } else { Err(format!("the next client got {said:.300}")) }
}

/// Requests that nodegate has read, and those that the front has sent on; without the next clients'.
fn readings(site: &Site, front: &Front) -> (Vec<String>, Vec<String>) {
    let log = site.access_log();
    let read = log.lines().filter_map(|line| line.split('"').nth(1)).filter(|request| *request != "-");
    let read = read.filter_map(|request| request.rsplit_once(' ').map(|(request, _)| request.to_owned()));
    let sent = front.sent_on.lock().unwrap().clone();
    let sent = sent.iter().filter_map(|line| line.split_once(' ').map(|(_, request)| request.to_owned()));
    let is_of_case = |request: &String| !request.contains("?next=");
    (read.filter(is_of_case).collect(), sent.filter(is_of_case).collect())
}

/// Whether each request that was read was sent, as often as it was read.
fn is_covered(read: &[String], sent: &[String]) -> bool {
    let times = |list: &[String], wanted: &String| list.iter().filter(|request| *request == wanted).count();
    read.iter().all(|request| times(read, request) <= times(sent, request))
}

fn goes_through(front: &Front, site: &Site) {
    let login = login(site);
    let mut faults = Vec::new();
    next_client_is_unharmed(front, &login, 0).unwrap();
    for (number, case) in CASES.iter().enumerate() {
        front.exchange(&bytes(case, &login));
        for _ in 0..3 {
            if let Err(fault) = next_client_is_unharmed(front, &login, number) {
                faults.push(format!("{}: {fault}", case.name));
            }
        }
        if let Err((read, sent)) = agreed(site, front) {
            faults.push(format!("{}: read {read:?}, sent {sent:?}", case.name));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let (read, _) = readings(site, front);
    assert!(read.len() > 20, "hardly anything came through: {read:?}");
}

/// Both write their logs a little later than they answer.
fn agreed(site: &Site, front: &Front) -> Result<(), (Vec<String>, Vec<String>)> {
    for _ in 0..200 {
        let (read, sent) = readings(site, front);
        if is_covered(&read, &sent) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    Err(readings(site, front))
}

#[test]
fn nginx_and_nodegate_read_the_same_requests() {
    let (site, directory) = (Site::pve(), tempfile::tempdir().unwrap());
    let gate = Nodegate::start(&site, &["timeout.header=5"]);
    goes_through(&Front::nginx(directory.path(), &gate), &site);
}

#[test]
fn haproxy_and_nodegate_read_the_same_requests() {
    let (site, directory) = (Site::pve(), tempfile::tempdir().unwrap());
    let gate = Nodegate::start(&site, &["timeout.header=5"]);
    goes_through(&Front::haproxy(directory.path(), &gate, ""), &site);
}

#[test]
fn haproxy_to_http_2_reads_the_same_requests() {
    let (site, directory) = (Site::pve(), tempfile::tempdir().unwrap());
    let trusted = ["real_ip.header=X-Forwarded-For", "real_ip.allow_from=127.0.0.1"];
    let gate = Nodegate::start(&site, &[&["timeout.header=5", "http2=true"], &trusted[..]].concat());
    goes_through(&Front::haproxy(directory.path(), &gate, "alpn h2"), &site);
    let log = gate.stderr();
    assert!(
        !log.contains("connection error detected"),
        "what one client sends ends no connection of all: {log}"
    );
    assert!(site.access_log().contains(" HTTP/2.0\" 200 "));
}

#[test]
fn what_was_read_but_not_sent_is_noticed() {
    let list = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert!(is_covered(&list("a b"), &list("b a c")));
    assert!(!is_covered(&list("a a"), &list("a b")));
    assert!(!is_covered(&list("x"), &list("")));
}
