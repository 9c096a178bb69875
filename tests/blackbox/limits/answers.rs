//! A guess whose answer shows no success is a failure, in each format, framing and version of HTTP.

use std::process::Command;
use std::time::{Duration, Instant};

use nodegate_standin::{API_TOKEN, Config, Daemon, Product};

use super::{LOGIN, VERSION, behind_a_proxy, from, login, login_at, verified};
use crate::support::{Nodegate, Site, all_at_once};

const CLIENT: &str = "192.0.2.7";
const ONE: &str = "limits.login_failures=1";
const THREE: &str = "limits.login_failures=3";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const PUBLIC: &str =
    "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1\"\nport = 0\nroute_scope = \"quarantine\"\n";

/// Sends a POST of the client by curl's HTTP/2 library, and returns the status.
fn post_by_http2(port: u16, path: &str, client: &str, form: &str) -> u16 {
    let output = Command::new("curl")
        .args(["-sk", "--http2", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code} %{http_version}"])
        .args(["-H", from(client).trim_end(), "--data", form])
        .arg(format!("https://127.0.0.1:{port}{path}"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = text.strip_suffix(" 2").unwrap_or_else(|| panic!("{output:?}"));
    status.parse().unwrap()
}

/// An address for each case, so that one nodegate serves all of them.
fn address(case: usize) -> String {
    format!("192.0.2.{}", case + 1)
}

/// Makes three guesses at once, then a fourth, which must be refused.
fn assert_counts(guess: impl Fn() -> u16 + Sync, what: &str) {
    all_at_once(&[1, 2, 3], |_| assert_ne!(guess(), 429, "{what}"));
    assert_eq!(guess(), 429, "{what}: the fourth guess was judged");
}

#[test]
fn wrong_passwords_count_in_every_format() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE, "http2=true", "compression.api=true"]);
    let formats = ["json", "extjs", "htmljs", "html", "spiceconfig", "png"];
    let ways = ["", "?standin-chunked=1", "?standin-pad=5000", "?standin-chunked=1&standin-pad=300000"];
    let mut cases = Vec::new();
    for format in formats {
        cases.extend(ways.map(|way| (format!("/api2/{format}/access/ticket{way}"), false)));
        cases.push((format!("/api2/{format}/access/ticket"), true));
    }
    let cases: Vec<_> = cases.into_iter().enumerate().collect();
    all_at_once(&cases, |(number, (path, http2))| {
        let (client, form) = (address(*number), "username=root@pam&password=x");
        let guess = || {
            if *http2 {
                return post_by_http2(gate.port(), path, &client, form);
            }
            let headers = from(&client) + FORM + "Accept-Encoding: zstd, gzip, deflate\r\n";
            gate.request("POST", path, &headers, form.as_bytes()).status
        };
        assert_counts(guess, &format!("{path}, HTTP/2: {http2}"));
        assert_eq!(login(&gate, &client, "root@pam", "demo").status, 429, "{path}");
    });
    assert_eq!(verified(&site), 3 * cases.len());
}

#[test]
fn quarantine_login_failures_count_in_every_format() {
    let site = Site::pmg();
    let proxy = ["real_ip.header=X-Real-IP", "real_ip.allow_from=127.0.0.1"];
    let gate = crate::listeners::start(&site, PUBLIC, &[&proxy[..], &[THREE, "http2=true"]].concat());
    let formats = ["json", "extjs", "htmljs", "html", "htmlmail"];
    let cases: Vec<_> = formats.iter().flat_map(|format| [(*format, false), (*format, true)]).collect();
    let cases: Vec<_> = cases.into_iter().enumerate().collect();
    let port = gate.listener("public").port();
    all_at_once(&cases, |(number, (format, http2))| {
        let path = format!("/api2/{format}/access/ticket");
        let (client, form) = (address(*number), "username=user@example.com@quarantine&password=x");
        let guess = || {
            if *http2 {
                return post_by_http2(port, &path, &client, form);
            }
            let mut session = crate::support::Session::tls(gate.listener("public"));
            session.request("POST", &path, &(from(&client) + FORM), form.as_bytes()).status
        };
        assert_counts(guess, &format!("{path}, HTTP/2: {http2}"));
    });
    assert_eq!(verified(&site), 3 * cases.len());
}

#[test]
fn right_passwords_count_in_no_format() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[ONE, "compression.api=true"]);
    let ticket = site.ticket("root@pam");
    let ticket = percent_encoding::utf8_percent_encode(&ticket, percent_encoding::NON_ALPHANUMERIC);
    let renewal = format!("username=root@pam&password={ticket}");
    let forms = ["username=root@pam&password=demo", "username=tfa@pve&password=demo", &renewal];
    for format in ["json", "extjs", "htmljs", "html"] {
        for way in ["", "?standin-chunked=1", "?standin-pad=5000"] {
            let path = format!("/api2/{format}/access/ticket{way}");
            all_at_once(&forms, |form| {
                let status = login_at(&gate, &path, CLIENT, form).status;
                assert_eq!(status, if format == "html" { 301 } else { 200 }, "{path} {form}");
            });
        }
    }
    let headers = from(CLIENT) + FORM + "Accept-Encoding: zstd, gzip\r\n";
    let reply = gate.request("POST", LOGIN, &headers, b"username=root@pam&password=demo");
    assert_eq!((reply.status, reply.header("content-encoding")), (200, None));
    assert!(reply.json()["data"]["ticket"].is_string());
    assert_eq!(login(&gate, CLIENT, "root@pam", "demo").status, 200, "nothing has counted");
}

#[test]
fn logins_by_identity_providers_count_without_a_ticket() {
    for (site, name) in [(Site::pve(), "openid"), (Site::pmg(), "oidc")] {
        let gate = behind_a_proxy(&site, &[ONE]);
        let ask = |client: &str, call: &str, form: &str| {
            login_at(&gate, &format!("/api2/json/access/{name}/{call}"), client, form).status
        };
        for _ in 0..4 {
            assert_eq!(ask(CLIENT, "auth-url", "realm=sso&redirect-url=https://x"), 200);
            assert_eq!(ask(CLIENT, "login", "code=good&state=x&redirect-url=https://x"), 200);
        }
        all_at_once(&[("192.0.2.8", "login", "code=x"), ("192.0.2.9", "auth-url", "realm=x")], |case| {
            let (client, call, form) = *case;
            assert!([401, 500].contains(&ask(client, call, form)), "{call}");
            assert_eq!(ask(client, call, form), 429, "{call}");
        });
        assert_eq!(ask(CLIENT, "login", "code=good"), 200);
    }
}

#[test]
fn second_factors_count_in_every_format() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE]);
    let half =
        login(&gate, "192.0.2.99", "tfa@pve", "demo").json()["data"]["ticket"].as_str().unwrap().to_owned();
    let half = percent_encoding::utf8_percent_encode(&half, percent_encoding::NON_ALPHANUMERIC).to_string();
    let formats: Vec<_> = ["json", "extjs", "htmljs", "html"].into_iter().enumerate().collect();
    all_at_once(&formats, |(number, format)| {
        let (client, path) = (address(*number), format!("/api2/{format}/access/ticket"));
        let guess = |code| {
            let form = format!("username=tfa@pve&tfa-challenge={half}&password=totp:{code}");
            login_at(&gate, &path, &client, &form).status
        };
        assert!([200, 301].contains(&guess(123_456)), "{format}: the right one");
        assert_counts(|| guess(1), format);
    });
}

/// A path that differs from the open one needs a login, and reaches the same call of the daemon.
#[test]
fn users_guess_at_others_no_faster_than_strangers() {
    for (site, user) in [(Site::pve(), "bob@pve"), (Site::pmg(), "bob@pve")] {
        let gate = behind_a_proxy(&site, &[THREE, "http2=true"]);
        let known = site.cookie(user) + &site.csrf(user);
        let ask = |case: usize, method: &str, path: &str, form: &str| {
            let headers = from(&address(case)) + &known + FORM;
            gate.request(method, path, &headers, form.as_bytes()).status
        };
        let form = "username=root@pam&password=x";
        let paths =
            ["/access/ticket/", "//access/ticket", "/access//ticket", "/access/ticket%2F", "/access/ticket"];
        let cases: Vec<_> =
            paths.iter().flat_map(|path| ["json", "htmljs"].map(|format| (format, *path))).collect();
        let cases: Vec<_> = cases.into_iter().enumerate().collect();
        all_at_once(&cases, |(number, (format, path))| {
            let path = format!("/api2/{format}{path}");
            assert_counts(|| ask(*number, "POST", &path, form), &path);
        });
        let password = "/api2/extjs/access/password";
        let change = |case, own: &str| {
            ask(case, "PUT", password, &format!("userid={user}&password=y&confirmation-password={own}"))
        };
        for _ in 0..4 {
            assert_eq!(change(200, "demo"), 200);
        }
        assert_counts(|| change(201, "x"), "one's own password");
        assert_eq!(gate.get(VERSION, &(from(&address(201)) + &known)).status, 200, "the session goes on");
    }
}

#[test]
fn api_tokens_count_where_a_page_redirects_them() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[THREE]);
    let get = |client: &str, path: &str, token: &str| {
        gate.get(path, &(from(client) + &format!("Authorization: PVEAPIToken={token}\r\n"))).status
    };
    let (page, wrong) = ("/api2/html/version", API_TOKEN.replace("5f0c", "0000"));
    all_at_once(&["0000", "0001", "0002"], |start| {
        assert_eq!(get(CLIENT, page, &API_TOKEN.replace("5f0c", start)), 301);
    });
    assert_eq!(get(CLIENT, page, &wrong), 429);
    let seen = site.daemon.requests().len();
    assert_eq!(get(CLIENT, VERSION, &wrong), 429, "a redirect has proved the token");
    assert_eq!(site.daemon.requests().len(), seen);
    let other = "192.0.2.8";
    assert_eq!((get(other, page, API_TOKEN), get(other, VERSION, API_TOKEN)), (200, 200));
}

#[test]
fn a_guess_without_a_readable_answer_counts() {
    let site = Site::pve();
    let gate = behind_a_proxy(&site, &[ONE, "timeout.answer=1"]);
    let hangs = format!("{LOGIN}?standin-wait=5000");
    let form = "username=root@pam&password=demo";
    assert_eq!(login_at(&gate, &hangs, CLIENT, form).status, 596);
    assert_eq!(login(&gate, CLIENT, "root@pam", "demo").status, 429);
    // A daemon that got no request has verified nothing.
    let down = behind_a_proxy(&site, &[ONE, "backend.address=127.0.0.1:1"]);
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(login(&down, CLIENT, "root@pam", "demo").status, 595);
    }
    assert!(began.elapsed() < Duration::from_secs(30));
}

/// nodegate cannot read a compressed answer.
#[test]
fn logins_request_no_compressed_response() {
    let site = Site::pve();
    let packing = Daemon::start(Config {
        keys: site.keys.clone(),
        root: site.root().to_owned(),
        gzip: true,
        ..Config::new(Product::Pve)
    });
    let backend = format!("backend.address={}", packing.address());
    let gate: Nodegate = behind_a_proxy(&site, &[ONE, &backend]);
    let headers = from(CLIENT) + FORM + "Accept-Encoding: gzip, deflate\r\n";
    for _ in 0..3 {
        assert_eq!(gate.request("POST", LOGIN, &headers, b"username=root@pam&password=demo").status, 200);
    }
    assert!(packing.last().header("accept-encoding").is_none());
    let extjs = "/api2/extjs/access/ticket";
    assert_eq!(gate.request("POST", extjs, &headers, b"username=root@pam&password=x").status, 200);
    assert_eq!(login(&gate, CLIENT, "root@pam", "demo").status, 429);
}
