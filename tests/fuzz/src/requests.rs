//! Requests of clients.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT_ENCODING;
use http::{Method, Request, Version};
use http_body::{Body, Frame};
use nodegate::testing::config::RootDirectory;
use nodegate::testing::config::{Config, ConfigSources};
use nodegate::testing::handler::FormFields;
use nodegate::testing::handler::FormReader;
use nodegate::testing::handler::MinRate;
use nodegate::testing::handler::WebSocketHandshake;
use nodegate::testing::handler::find_boundary;
use nodegate::testing::handler::{FrameDecoder, StreamEnd};
use nodegate::testing::handler::{SpoolBounds, SpoolDirectory, UploadGauges};
use nodegate::testing::http::ApiGrammar;
use nodegate::testing::http::HeaderNames;
use nodegate::testing::http::RouteRules;
use nodegate::testing::http::validate;
use nodegate::testing::http::{ContentCoding, negotiate};
use nodegate::testing::http::{RequestTarget, query_parameters, query_value};
use nodegate::testing::upstream::NodeFile;
use nodegate_spice::head::{connect_request, parse_request_head};
use nodegate_spice::ticket::{mask, verify};
use nodegate_spice::{HopHeaders, TicketRules};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::vectors::{MADE, rows};

/// A product, on a machine with a separate node list.
struct Machine {
    api: ApiGrammar,
    routes: RouteRules,
    nodes: NodeFile,
    config: Config,
    _directory: TempDir,
}

static MACHINES: LazyLock<[Machine; 2]> = LazyLock::new(|| ["pve", "pmg"].map(Machine::of));

impl Machine {
    fn of(profile: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in [
            (
                "etc/pve/.members",
                r#"{"nodename":"node1","nodelist":{"node2":{"ip":"127.0.0.2"},"node3":{}}}"#,
            ),
            ("etc/pmg/cluster.conf", "master: 1\n\tname mail1\n\tip 127.0.0.1\n"),
        ] {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let options = ConfigSources {
            root: RootDirectory::new(directory.path().to_owned()),
            sets: vec!["node.name=node1".to_owned()],
        };
        let config = Config::load(profile, &options).unwrap_or_else(|_| panic!("the profile"));
        Self {
            api: ApiGrammar::new(&config.product).unwrap(),
            routes: RouteRules::new(&config),
            nodes: NodeFile::new(config.product.nodes.as_ref(), &options.root, &config.settings.node_name),
            config,
            _directory: directory,
        }
    }
}

/// `METHOD TARGET`: the forwarded request is read like the verified one, and takes the same route.
pub(crate) fn request_target(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (method, target) = text.split_once(' ').unwrap_or(("GET", &text));
    let method = Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    for (name, value) in query_parameters(query) {
        assert!(value.is_none() || query_value(query, &name).is_some());
    }
    let api_grammar = &MACHINES[0].api;
    let Ok(parsed) = RequestTarget::parse(path, api_grammar) else { return };
    let goes = |target: &RequestTarget| -> Vec<String> {
        let route = |machine: &Machine| machine.routes.resolve(&method, target, query, &machine.nodes);
        MACHINES.iter().map(|machine| route(machine).unwrap().to_string()).collect()
    };
    let before = goes(&parsed);
    let RequestTarget::Api(api) = &parsed else { return };
    let sent = api.upstream_target(None);
    assert!(sent.bytes().all(|byte| byte.is_ascii_graphic() || !byte.is_ascii()), "{sent}");
    assert!(!sent.contains(['?', '#']) && !sent.contains("//"), "{sent}");
    let again = RequestTarget::parse(&sent, api_grammar).unwrap();
    let RequestTarget::Api(read) = &again else { panic!("{sent} is no call any more") };
    assert_eq!(read.format(), api.format());
    assert!(read.segments().eq(api.segments()), "{sent}");
    assert_eq!(goes(&again), before);
}

/// A head that passes every check has one Host, and each header that is looked at is looked at without harm.
pub(crate) fn request_head(bytes: &[u8]) {
    let mut lines = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Request::new(&mut lines);
    let Ok(httparse::Status::Complete(_)) = parsed.parse(bytes) else { return };
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut request = Request::builder()
        .method(parsed.method.unwrap_or_default())
        .uri(parsed.path.unwrap_or_default())
        .version(version);
    for line in parsed.headers.iter() {
        request = request.header(line.name, line.value);
    }
    let Ok(request) = request.body(()) else { return };
    let (head, ()) = request.into_parts();
    let _ = HeaderNames::default().is_looped(&head.headers);
    let _ = validate::keeps_alive(head.version, &head.headers);
    if let Ok(handshake) = WebSocketHandshake::check(&head, &["binary".to_owned()]) {
        assert_eq!(handshake.response().status(), 101);
    }
    let accepted = head.headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let coding = negotiate(accepted, &[ContentCoding::Gzip, ContentCoding::Brotli]);
    assert!(coding.is_none_or(|coding| matches!(coding, ContentCoding::Gzip | ContentCoding::Brotli)));
    if validate::check(&head, &MACHINES[0].config.settings.limits).is_ok() {
        let hosts = head.headers.get_all("host").iter().count();
        assert!(hosts == 1 || (hosts == 0 && version == Version::HTTP_10));
    }
}

/// A head is complete with its last byte and not before, and no line of what is sent on comes from outside.
pub(crate) fn connect_head(bytes: &[u8]) {
    let names = HopHeaders { loop_header: "X-Looped".to_owned(), client_header: "X-Client".to_owned() };
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().next().unwrap_or_default();
    check_spice_ticket(line.split(' ').nth(1).unwrap_or(line));
    let Ok(Some((head, length))) = parse_request_head(bytes, 64, &names) else { return };
    assert!(length <= bytes.len() && head.early.is_empty());
    let early = parse_request_head(&bytes[..length - 1], 64, &names);
    assert!(matches!(early, Ok(None)), "complete before its end");
    if let Ok(request) = connect_request(&head.target, &[]) {
        let request = String::from_utf8(request).unwrap();
        assert_eq!(request.matches("\r\n\r\n").count(), 1);
        assert!(request.starts_with(&format!("CONNECT {} HTTP/1.0\r\n", head.target)));
    }
}

fn check_spice_ticket(target: &str) {
    let rules = TicketRules {
        prefix: "pvespiceproxy".to_owned(),
        ports: 61_000..=61_999,
        max_age: 40,
        max_future: 40,
    };
    let secret = rows("csrf_secret").next().unwrap();
    let masked = mask(target);
    let longest = masked.split(|c: char| !c.is_ascii_hexdigit()).map(str::len).max();
    assert!(longest < Some(40), "{masked}");
    if let Ok(good) = verify(target, &rules, secret, MADE + 5) {
        let split = |ticket: &str| {
            let (signed, port) = ticket.rsplit_once(':').unwrap();
            (signed.to_ascii_lowercase(), port.parse::<u16>().unwrap())
        };
        let (signed, port) = split(target);
        // Nodes of old leave the port out of what they sign; there it is the client's to choose.
        let is_known = rows("spice").any(|known| split(known) == (signed.clone(), port))
            || rows("spice_old").any(|known| split(known).0 == signed);
        assert!(is_known, "forged: {target}");
        assert!((61_000..=61_999).contains(&good.port));
        assert_ne!(masked, target);
    }
}

/// The first byte says in what pieces the frames arrive: payload and end are the same.
pub(crate) fn websocket(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let decode = |size: usize| -> (Vec<u8>, Option<StreamEnd>) {
        let (mut decoder, mut payload) = (FrameDecoder::default(), Vec::new());
        for piece in bytes.chunks(size.max(1)) {
            let mut piece = piece.to_vec();
            let found = decoder.decode(&mut piece);
            payload.extend_from_slice(&piece[found.payload.clone()]);
            if found.end.is_some() {
                return (payload, found.end);
            }
        }
        (payload, None)
    };
    let at_once = decode(bytes.len());
    assert!(at_once.0.len() <= bytes.len());
    assert_eq!(at_once, decode(usize::from(*size)));
}

static SPOOL: LazyLock<(Runtime, Arc<SpoolDirectory>, TempDir)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let bounds = SpoolBounds { reserve: 0, uploads: 1, bytes: 0 };
    let (path, gauges) = (directory.path().to_owned(), UploadGauges::default());
    let spool = Arc::new(SpoolDirectory::new(path, "spool-".to_owned(), bounds, gauges));
    (runtime, spool, directory)
});

/// `CONTENT-TYPE \n QUERY \n BODY`: the form is the same in all splits, only we name the spool file, and nothing is
/// left behind.
pub(crate) fn multipart(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
    let (Some(content_type), Some(query), Some(body)) = (parts.next(), parts.next(), parts.next()) else {
        return;
    };
    let query = String::from_utf8_lossy(query);
    let at_once = read_form(content_type, &query, body, body.len());
    let in_pieces = read_form(content_type, &query, body, 7);
    match (&at_once, &in_pieces) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (Err(_), Err(_)) => (),
        _ => panic!("{at_once:?} at once, {in_pieces:?} in pieces"),
    }
    assert_eq!(std::fs::read_dir(SPOOL.2.path()).unwrap().count(), 0, "a spool file is left");
}

fn read_form(
    content_type: &[u8],
    query: &str,
    body: &[u8],
    size: usize,
) -> Result<String, Box<dyn std::error::Error>> {
    let boundary = find_boundary(Some(content_type))?;
    let fields = FormFields::from_query(query, "tmpfilename")?;
    let (runtime, spool, _) = &*SPOOL;
    let space = spool.claim_space(None)?;
    let mut body = Pieces(body.chunks(size.max(1)).map(Bytes::copy_from_slice).collect());
    let min_rate = MinRate { grace: Duration::from_mins(1), rate: 0 };
    let reader = FormReader {
        body: &mut body,
        boundary,
        file_part: "filename",
        fields,
        space,
        limit: Some(1 << 20),
        min_rate,
    };
    let form = runtime.block_on(reader.read())?;
    let encoded = form.fields.encode("ours");
    assert_eq!(encoded.matches("tmpfilename=").count(), 1, "{encoded}");
    assert!(encoded.ends_with("tmpfilename=ours"), "{encoded}");
    Ok(encoded)
}

/// A body in pieces.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}
