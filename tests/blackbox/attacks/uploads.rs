//! The spool file of an upload, in the hands of a stranger with a login.

use nodegate_standin::Product;
use serde_json::Value;

use super::place::Place;
use super::stranger::request;
use crate::support::nodegate::eventually;

const FORM: &str = "application/x-www-form-urlencoded";
const SPOOL_FILE: &str = "/var/tmp/pveupload-0123456789abcdef0123456789abcdef";

fn spooled(place: &Place) -> usize {
    std::fs::read_dir(place.site.path("/var/tmp")).unwrap().count()
}

/// A user that may log in, which takes no privilege.
fn logged_in(place: &Place, kind: &str) -> [(&'static str, String); 3] {
    let token = place.site.csrf("root@pam");
    let cookie = place.site.cookie("root@pam");
    [
        ("Cookie", cookie.trim_end().trim_start_matches("Cookie: ").to_owned()),
        ("CSRFPreventionToken", token.trim_end().trim_start_matches("CSRFPreventionToken: ").to_owned()),
        ("Content-Type", kind.to_owned()),
    ]
}

fn call(place: &Place, method: &str, path: &str, kind: &str, body: &str) -> Value {
    let headers = logged_in(place, kind);
    request(method, path, &headers.each_ref().map(|(name, value)| (*name, value.as_str())), body)
}

/// The daemon answers with 200 and an error that is escaped as a page.
#[test]
fn a_refused_upload_leaves_no_spool_file() {
    Place::visit(Product::Pve, "", &[], |place| {
        place.everywhere(|way| {
            for format in ["json", "extjs", "html", "htmljs"] {
                let path = format!("/api2/{format}/nodes/node1/storage/broken/upload");
                let form = "--b\r\nContent-Disposition: form-data; name=\"content\"\r\n\r\niso\r\n--b\r\n\
                     Content-Disposition: form-data; name=\"filename\"; filename=\"x.iso\"\r\n\r\nx\r\n--b--\r\n";
                let upload = call(place, "POST", &path, "multipart/form-data; boundary=b", form);
                let answers = way.job(vec![upload]).in_turn();
                assert!(answers.iter().all(|it| it.status.is_some()), "{format} {}: {answers:?}", way.name());
            }
        });
        println!("{} spool files are left", spooled(place));
        eventually("no spool file is left", || spooled(place) == 0);
    });
}

/// The daemon moves away the file that the field names, even if a client wrote the name.
#[test]
fn the_spool_field_is_refused_on_every_call() {
    Place::visit(Product::Pve, "", &[], |place| {
        let field = format!("tmpfilename={}", super::place::escape(SPOOL_FILE));
        let in_json = format!("{{\"tmpfilename\":\"{SPOOL_FILE}\"}}");
        let escaped = "%74mpfilename=%2Fvar%2Ftmp%2Fx";
        let (storage, json) = ("/api2/json/nodes/node1/storage", "application/json");
        let calls = [
            ("PUT", format!("{storage}/local/upload"), FORM, field.as_str()),
            ("POST", format!("{storage}/local/upload;"), FORM, &field),
            ("POST", format!("{storage}/lo%2fcal/upload"), FORM, &field),
            ("POST", format!("{storage}/local/upload%20"), FORM, &field),
            ("POST", "/api2/json/nodes/node2%00/storage/local/upload".to_owned(), FORM, &field),
            ("POST", format!("{storage}/local/upload?{field}"), FORM, ""),
            ("POST", format!("{storage}/local/upload?{escaped}"), FORM, "content=iso"),
            ("PUT", format!("/api2/json/cluster/options?{field}"), FORM, ""),
            ("PUT", "/api2/json/cluster/options".to_owned(), FORM, &field),
            ("PUT", "/api2/json/cluster/options".to_owned(), FORM, escaped),
            ("PUT", "/api2/json/cluster/options".to_owned(), json, &in_json),
            ("PUT", "/api2/json/cluster/options".to_owned(), json, "{\"tmp\\u0066ilename\":\"/x\"}"),
            ("GET", format!("/api2/json/version?{field}"), FORM, ""),
            ("DELETE", format!("/api2/json/access/users/x@pve?{field}"), FORM, ""),
        ];
        place.everywhere(|way| {
            let requests: Vec<_> = calls
                .iter()
                .map(|(method, path, kind, body)| call(place, method, path, kind, body))
                .collect();
            let answers = way.job(requests).in_turn();
            let came = place.site.daemon.requests();
            let came = came.iter().filter(|it| it.header("PVEClientIP") == Some(&way.client));
            let named = |it: &&nodegate_standin::Recorded| {
                let all = format!("{}{}", it.target, it.text()).to_lowercase();
                all.contains("filename")
            };
            let reached: Vec<_> =
                came.filter(named).map(|it| format!("{} {}", it.method, it.target)).collect();
            println!("{}: {} of {} reached the daemon", way.name(), reached.len(), calls.len());
            assert!(reached.is_empty(), "{}: {reached:#?}", way.name());
            let refused = |status: u16| (400..500).contains(&status);
            for (answer, (method, path, ..)) in answers.iter().zip(&calls) {
                assert!(answer.status.is_some_and(refused), "{method} {path}: {answer:?}");
            }
        });
    });
}
