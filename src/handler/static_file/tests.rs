//! Requests against real directories.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use fastrand::Rng;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo, setfsuid};
use tempfile::TempDir;

use super::*;

type Fields<'a> = &'a [(HeaderName, &'a str)];

struct TestSite {
    tree: TempDir,
    files: StaticFiles,
}

impl TestSite {
    /// `/x/` is `root` below `tree`, `/x/deep/` is `deep`, `/one.js` is `one.js`; links may lead into `fonts`.
    fn new() -> Self {
        let tree = TempDir::new().unwrap();
        let path = |name: &str| tree.path().join(name);
        for name in ["root", "root/sub", "deep", "fonts", "fonts-of-others"] {
            fs::create_dir(path(name)).unwrap();
        }
        let directories = vec![
            DirectoryRules { url: "/x/".to_owned(), path: path("root"), links: vec![path("fonts")] },
            DirectoryRules { url: "/x/deep/".to_owned(), path: path("deep"), links: Vec::new() },
        ];
        let single = vec![SingleFile { url: "/one.js".to_owned(), path: path("one.js") }];
        let files = StaticFiles::new(directories, single, true);
        Self { tree, files }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.tree.path().join(name)
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(name), contents).unwrap();
    }

    async fn ask(
        &self,
        url: &str,
        method_is_head: bool,
        fields: Fields<'_>,
    ) -> Result<Response<ResponseBody>, StaticError> {
        let located = self.files.locate(url).ok_or(StaticError::NotFound)?;
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        self.files.respond(&located, method_is_head, &headers).await
    }

    async fn get(&self, url: &str, fields: Fields<'_>) -> TestResponse {
        TestResponse::read(self.ask(url, false, fields).await.unwrap()).await
    }

    async fn head(&self, url: &str, fields: Fields<'_>) -> TestResponse {
        TestResponse::read(self.ask(url, true, fields).await.unwrap()).await
    }

    async fn error(&self, url: &str, fields: Fields<'_>) -> StaticError {
        self.ask(url, false, fields).await.err().unwrap()
    }

    async fn is_absent(&self, url: &str) -> bool {
        matches!(self.ask(url, false, &[]).await, Err(StaticError::NotFound))
    }
}

struct TestResponse {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl TestResponse {
    async fn read(response: Response<ResponseBody>) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self { status: parts.status, headers: parts.headers, body }
    }

    /// Empty if missing.
    fn field(&self, name: &HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn script(bytes: usize) -> String {
    "var answer = 42;\n".chars().cycle().take(bytes).collect()
}

fn set_modified(path: &Path, seconds: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

#[test]
fn only_simple_names_below_the_url_match() {
    let site = TestSite::new();
    let relative = |url: &str| site.files.locate(url).map(|located| located.name.relative);
    assert_eq!(relative("/x/a.js").as_deref(), Some("a.js"));
    assert_eq!(relative("/x/sub/A-b_c.9").as_deref(), Some("sub/A-b_c.9"));
    assert_eq!(relative("/x/deep/a.js").as_deref(), Some("a.js"));
    assert_eq!(relative("/x/deeper/a.js").as_deref(), Some("deeper/a.js"));
    assert_eq!(relative("/one.js").as_deref(), Some(""));
    let refused = [
        "",
        "/",
        "/x",
        "/x/",
        "/x//",
        "//x/a.js",
        "/X/a.js",
        "x/a.js",
        "/y/a.js",
        "/one.js/",
        "/one.jsx",
        "/x/deep/",
        "/x/sub/",
        "/x/sub//a.js",
        "/x//etc/passwd",
        "/x/..",
        "/x/../secret",
        "/x/sub/../../secret",
        "/x/sub/..",
        "/x/./a.js",
        "/x/.",
        "/x/...",
        "/x/.hidden",
        "/x/sub/.git/config",
        "/x/..\\secret",
        "/x/sub\\..\\..\\secret",
        "/x/..%2fsecret",
        "/x/%2e%2e/secret",
        "/x/%252e%252e/secret",
        "/x/\u{2024}\u{2024}/secret",
        "/x/\u{ff0e}\u{ff0e}/secret",
        "/x/..\u{2215}secret",
        "/x/..;/secret",
        "/x/a.js\0",
        "/x/a\0.js",
        "/x/a.js\n",
        "/x/a.js ",
        "/x/ a.js",
        "/x/a.js?b",
        "/x/a.js#b",
        "/x/a.js;b",
        "/x/a.js::$DATA",
        "/x/~root",
        "/x/$HOME",
        "/x/a*",
        "/x/\u{e4}.js",
        "/x/\u{fffd}",
        "../x/a.js",
        "/../x/a.js",
    ];
    for url in refused {
        assert_eq!(relative(url), None, "{url:?}");
    }
}

#[tokio::test]
async fn links_are_followed_inside_and_where_allowed() {
    let site = TestSite::new();
    site.write("root/real.js", "real");
    site.write("root/sub/low.js", "low");
    site.write("fonts/font.png", "font");
    site.write("fonts-of-others/other.png", "other");
    site.write("secret", "secret");
    let link = |target: &Path, name: &str| symlink(target, site.path(name)).unwrap();
    link(Path::new("real.js"), "root/beside.js");
    link(Path::new("../real.js"), "root/sub/up.js");
    link(&site.path("root/real.js"), "root/absolute.js");
    link(Path::new("sub"), "root/other-sub");
    link(Path::new("../fonts/font.png"), "root/font.png");
    link(&site.path("fonts"), "root/fonts");
    link(Path::new("../secret"), "root/secret");
    link(&site.path("secret"), "root/absolute-secret");
    link(Path::new("../fonts-of-others/other.png"), "root/other.png");
    link(Path::new(".."), "root/parent");
    link(Path::new("/proc/self/root"), "root/magic");
    link(Path::new("loop"), "root/loop");
    link(Path::new("nowhere"), "root/dangling");
    link(&site.path("fonts/font.png"), "deep/font.png");

    for (url, contents) in [
        ("/x/real.js", "real"),
        ("/x/beside.js", "real"),
        ("/x/sub/up.js", "real"),
        ("/x/absolute.js", "real"),
        ("/x/other-sub/low.js", "low"),
        ("/x/font.png", "font"),
        ("/x/fonts/font.png", "font"),
    ] {
        assert_eq!(site.get(url, &[]).await.body, contents, "{url}");
    }
    for url in [
        "/x/secret",
        "/x/absolute-secret",
        "/x/other.png",
        "/x/parent/secret",
        "/x/magic/etc/passwd",
        "/x/loop",
        "/x/dangling",
        "/x/deep/font.png",
    ] {
        assert!(site.is_absent(url).await, "{url}");
    }
}

#[tokio::test]
async fn a_link_leading_outside_is_rejected() {
    let site = TestSite::new();
    site.write("root/real.js", "real");
    site.write("secret", "secret");
    let link = |target: &str| {
        let _ = fs::remove_file(site.path("root/a.js"));
        symlink(target, site.path("root/a.js")).unwrap();
    };
    for (target, contents) in [("real.js", Some("real")), ("../secret", None), ("real.js", Some("real"))] {
        link(target);
        for _ in 0..2 {
            match contents {
                Some(contents) => assert_eq!(site.get("/x/a.js", &[]).await.body, contents),
                None => assert!(site.is_absent("/x/a.js").await),
            }
        }
    }
    fs::remove_file(site.path("root/a.js")).unwrap();
    assert!(site.is_absent("/x/a.js").await);
}

#[tokio::test]
async fn only_regular_files_are_served() {
    let site = TestSite::new();
    mkfifo(&site.path("root/fifo"), Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(site.path("root/socket")).unwrap();
    symlink("/dev/null", site.path("root/null")).unwrap();
    symlink("/dev/zero", site.path("one.js")).unwrap();
    site.write("root/file", "");
    let too_long = format!("/x/{}", "a".repeat(300));
    let urls = ["/x/fifo", "/x/socket", "/x/null", "/one.js", "/x/sub", "/x/none", "/x/file/a", &too_long];
    for url in urls {
        assert!(site.is_absent(url).await, "{url}");
    }
}

#[test]
fn an_unreadable_file_is_not_missing() {
    let site = TestSite::new();
    site.write("root/closed.js", "x");
    for (name, mode) in [("", 0o755), ("root", 0o755), ("root/closed.js", 0o0)] {
        fs::set_permissions(site.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let open = |url| {
        let located = site.files.locate(url).unwrap();
        open::FoundFile::open(&located.origin, &located.name.relative).map(|_| ())
    };
    // Root reads every file, so this thread gives up its file system user for good.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            setfsuid(Uid::from_raw(65534));
            assert!(matches!(open("/x/closed.js"), Err(StaticError::Unreadable(_))));
            assert!(matches!(open("/x/missing.js"), Err(StaticError::NotFound)));
        });
    });
}

#[tokio::test]
async fn a_response_has_type_length_and_age() {
    let site = TestSite::new();
    site.write("root/a.js", "12345");
    site.write("root/A.JS", "12345");
    site.write("root/a.png", "");
    site.write("root/a.unknown", "x");
    site.write("root/js", "x");
    site.write("one.js", "one");
    set_modified(&site.path("root/a.js"), 784_111_777);
    let answer = site.get("/x/a.js", &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body, "12345");
    assert_eq!(answer.field(&CONTENT_TYPE), "application/javascript");
    assert_eq!(answer.field(&CONTENT_LENGTH), "5");
    assert_eq!(answer.field(&LAST_MODIFIED), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(answer.field(&ETAG), "\"ae1b981bc490a00-5\"");
    assert_eq!(answer.field(&ACCEPT_RANGES), "bytes");
    assert_eq!(answer.field(&VARY), "Accept-Encoding");
    assert_eq!(site.get("/one.js", &[]).await.body, "one");
    for (url, content_type, length) in [
        ("/x/A.JS", "application/javascript", "5"),
        ("/x/a.png", "image/png", "0"),
        ("/x/a.unknown", "application/octet-stream", "1"),
        ("/x/js", "application/octet-stream", "1"),
    ] {
        let answer = site.get(url, &[]).await;
        assert_eq!(answer.field(&CONTENT_TYPE), content_type, "{url}");
        assert_eq!(answer.field(&CONTENT_LENGTH), length, "{url}");
    }
    assert_eq!(site.get("/x/a.png", &[]).await.field(&VARY), "");
}

#[tokio::test]
async fn an_invalid_date_is_omitted() {
    let site = TestSite::new();
    site.write("root/future.js", "x");
    site.write("root/past.js", "x");
    set_modified(&site.path("root/future.js"), 300_000_000_000);
    let past = File::options().write(true).open(site.path("root/past.js")).unwrap();
    past.set_modified(UNIX_EPOCH - Duration::from_secs(1)).unwrap();
    for url in ["/x/future.js", "/x/past.js"] {
        let answer = site.get(url, &[]).await;
        assert_eq!(answer.field(&LAST_MODIFIED), "", "{url}");
        let again = site.get(url, &[(IF_NONE_MATCH, answer.field(&ETAG))]).await;
        assert_eq!(again.status, StatusCode::NOT_MODIFIED, "{url}");
    }
}

#[tokio::test]
async fn the_best_coding_of_all_lines_wins() {
    let site = TestSite::new();
    site.write("root/a.js", script(5000));
    let mut tags = vec![site.get("/x/a.js", &[]).await.field(&ETAG).to_owned()];
    for coding in ["br", "zstd", "gzip", "deflate"] {
        let answer = site.get("/x/a.js", &[(ACCEPT_ENCODING, "identity"), (ACCEPT_ENCODING, coding)]).await;
        assert_eq!(answer.field(&CONTENT_ENCODING), coding);
        assert!(answer.body.len() < 500);
        assert_eq!(answer.field(&VARY), "Accept-Encoding");
        tags.push(answer.field(&ETAG).to_owned());
    }
    let all = site.get("/x/a.js", &[(ACCEPT_ENCODING, "gzip, br;q=0.9")]).await;
    assert_eq!(all.field(&CONTENT_ENCODING), "gzip");
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 5);
}

#[tokio::test]
async fn a_file_is_read_and_compressed_once() {
    let site = TestSite::new();
    site.write("root/a.js", script(500_000));
    let gzip = [(ACCEPT_ENCODING, "gzip")];
    for fields in [&gzip[..], &[]] {
        let (first, second, third) = tokio::join!(
            site.get("/x/a.js", fields),
            site.get("/x/a.js", fields),
            site.get("/x/a.js", fields)
        );
        let later = site.get("/x/a.js", fields).await;
        for answer in [second, third, later] {
            assert_eq!(answer.body.as_ptr(), first.body.as_ptr());
        }
    }
}

#[tokio::test]
async fn incompressible_files_are_sent_unchanged() {
    let site = TestSite::new();
    let mut noise = [0; 5000];
    Rng::with_seed(1).fill(&mut noise);
    site.write("root/noise.js", noise);
    let plain = site.get("/x/noise.js", &[]).await;
    for _ in 0..2 {
        let answer = site.get("/x/noise.js", &[(ACCEPT_ENCODING, "br")]).await;
        assert_eq!(answer.field(&CONTENT_ENCODING), "");
        assert_eq!(answer.field(&ETAG), plain.field(&ETAG));
        assert_eq!(answer.body, noise[..]);
    }
}

#[tokio::test]
async fn a_changed_file_is_read_again() {
    let site = TestSite::new();
    let gzip = [(ACCEPT_ENCODING, "gzip")];
    site.write("root/a.js", script(2000));
    set_modified(&site.path("root/a.js"), 1_000_000_000);
    let old = [site.get("/x/a.js", &[]).await, site.get("/x/a.js", &gzip).await];

    // The same size and modification time, as after an upgrade to another reproducible build.
    site.write("new", script(2000).replace("42", "43"));
    set_modified(&site.path("new"), 1_000_000_000);
    fs::rename(site.path("new"), site.path("root/a.js")).unwrap();
    let new = [site.get("/x/a.js", &[]).await, site.get("/x/a.js", &gzip).await];
    assert!(old[0].body != new[0].body && old[1].body != new[1].body);

    site.write("root/a.js", script(3000));
    let again = site.get("/x/a.js", &[(IF_NONE_MATCH, old[0].field(&ETAG))]).await;
    assert_eq!((again.status, again.body.len()), (StatusCode::OK, 3000));
}

#[tokio::test]
async fn head_has_the_headers_of_get() {
    let site = TestSite::new();
    site.write("root/a.js", script(5000));
    site.write("root/large.png", vec![7; 3 << 20]);
    let gzip: Fields = &[(ACCEPT_ENCODING, "gzip")];
    for (url, fields) in [("/x/a.js", gzip), ("/x/a.js", &[]), ("/x/large.png", &[])] {
        let (head, get) = (site.head(url, fields).await, site.get(url, fields).await);
        assert_eq!((head.status, &head.headers), (get.status, &get.headers));
        assert!(head.body.is_empty() && !get.body.is_empty());
    }
    let ranged = site.head("/x/a.js", &[(RANGE, "bytes=0-0")]).await;
    assert_eq!((ranged.status, ranged.field(&CONTENT_LENGTH)), (StatusCode::OK, "5000"));
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let site = TestSite::new();
    site.write("root/a.js", script(5000));
    let gzip = (ACCEPT_ENCODING, "gzip");
    let plain = site.get("/x/a.js", &[]).await;
    let coded = site.get("/x/a.js", std::slice::from_ref(&gzip)).await;
    let (plain_tag, coded_tag) = (plain.field(&ETAG), coded.field(&ETAG));
    let date = plain.field(&LAST_MODIFIED);
    let none_match = |tag| (IF_NONE_MATCH, tag);
    let cases: &[(Fields, Option<&str>)] = &[
        (&[none_match(plain_tag)], Some(plain_tag)),
        (&[none_match(coded_tag), gzip.clone()], Some(coded_tag)),
        (&[none_match(coded_tag)], None),
        (&[none_match(plain_tag), gzip.clone()], None),
        (&[none_match("*"), gzip.clone()], Some(coded_tag)),
        (&[(IF_MODIFIED_SINCE, date)], Some(plain_tag)),
        (&[(IF_MODIFIED_SINCE, date), gzip], Some(coded_tag)),
        (&[(IF_MODIFIED_SINCE, date), none_match("\"x\"")], None),
        (&[none_match(plain_tag), (RANGE, "bytes=9999-")], Some(plain_tag)),
    ];
    for (fields, expected) in cases {
        let answer = site.get("/x/a.js", fields).await;
        let is_unmodified = answer.status == StatusCode::NOT_MODIFIED;
        assert_eq!(is_unmodified, expected.is_some(), "{fields:?}");
        if let Some(tag) = expected {
            assert_eq!(answer.field(&ETAG), *tag);
            assert_eq!(answer.field(&LAST_MODIFIED), date);
            assert_eq!(answer.field(&VARY), "Accept-Encoding");
            assert_eq!(answer.field(&CONTENT_LENGTH), "");
            assert!(answer.body.is_empty());
        }
    }
}

#[tokio::test]
async fn ranges_of_kept_and_of_streamed_files() {
    let site = TestSite::new();
    for (name, size) in [("kept.js", 100_000), ("streamed.js", 3_000_000)] {
        let contents = script(size);
        site.write(&format!("root/{name}"), &contents);
        let url = format!("/x/{name}");
        let whole = site.get(&url, &[]).await;
        assert_eq!(whole.body, contents, "{name}");
        for (range, start, end) in
            [("bytes=0-0", 0, 1), ("bytes=-10", size - 10, size), ("bytes=1000-", 1000, size)]
        {
            let fields = [(RANGE, range), (ACCEPT_ENCODING, "gzip"), (IF_RANGE, whole.field(&ETAG))];
            let part = site.get(&url, &fields).await;
            assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
            assert_eq!(part.body, whole.body.slice(start..end), "{name} {range}");
            assert_eq!(part.field(&CONTENT_RANGE), format!("bytes {start}-{}/{size}", end - 1));
            assert_eq!(part.field(&CONTENT_LENGTH), (end - start).to_string());
            assert_eq!(part.field(&CONTENT_ENCODING), "");
        }
        let several = site.get(&url, &[(RANGE, "bytes=0-1,4-5")]).await;
        assert_eq!((several.status, several.body.len()), (StatusCode::OK, size));
        let error = site.error(&url, &[(RANGE, "bytes=9999999-")]).await;
        let expected = u64::try_from(size).unwrap();
        assert!(matches!(error, StaticError::RangeNotSatisfiable { size } if size == expected));
    }
}

#[tokio::test]
async fn a_shrinking_file_breaks_the_body() {
    let site = TestSite::new();
    site.write("root/a.png", vec![7; 3 << 20]);
    let mut body = site.ask("/x/a.png", false, &[]).await.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.len() <= 32 << 10);
    File::options().write(true).open(site.path("root/a.png")).unwrap().set_len(300 << 10).unwrap();
    let error = body.collect().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn one_store_serves_several_workers() {
    fn is_shared<T: Send + Sync>(value: T) -> T {
        value
    }
    let site = Arc::new(is_shared(TestSite::new()));
    site.write("root/a.js", script(200_000));
    let workers: Vec<_> = std::iter::repeat_with(|| {
        let site = Arc::clone(&site);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(site.get("/x/a.js", &[(ACCEPT_ENCODING, "br")])).body
        })
    })
    .take(4)
    .collect();
    let bodies: Vec<Bytes> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    assert!(bodies.iter().all(|body| body.as_ptr() == bodies[0].as_ptr()));
}
