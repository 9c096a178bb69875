//! The spool file of an upload, in the hands of a stranger with a login.

use nodegate_standin::Product;
use serde_json::Value;

use super::place::Place;
use super::stranger::request;
use crate::support::nodegate::eventually;

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
