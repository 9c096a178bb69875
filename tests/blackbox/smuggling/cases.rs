//! The corpus: classes of request smuggling as they have been published, in bytes of our own.
//!
//! `{login}` stands for header lines, `{second}` for a whole request, `{second-length}` and `{second-hex}` for its length.

/// The result for the bytes without a proxy in between.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reading {
    /// a refusal, or not even that, and the end; the daemon sees nothing
    Refused,
    /// one answer and the end; if the daemon sees anything, it is one request with this body
    Once(&'static str),
    /// two requests, as RFC 9112 reads it; the first has this body
    Twice(&'static str),
}

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) bytes: &'static str,
    pub(super) reading: Reading,
}

use Reading::{Once, Refused, Twice};

macro_rules! post {
    ($headers:literal, $rest:literal) => {
        concat!(
            "POST /api2/json/standin/echo?first HTTP/1.1\r\nHost: node1\r\n{login}",
            $headers,
            "\r\n",
            $rest
        )
    };
}

const fn case(name: &'static str, bytes: &'static str, reading: Reading) -> Case {
    Case { name, bytes, reading }
}

pub(super) const CASES: &[Case] = &[
    // Two lengths.
    case(
        "CL.CL, the original takes the first",
        post!("Content-Length: 3\r\nContent-Length: {second-length}\r\n", "a=1{second}"),
        Refused,
    ),
    case(
        "CL.CL, larger first",
        post!("Content-Length: {second-length}\r\nContent-Length: 0\r\n", "{second}"),
        Refused,
    ),
    case("CL list", post!("Content-Length: 3, 300\r\n", "a=1{second}"), Refused),
    case("CL list of the same", post!("Content-Length: 3, 3\r\n", "a=1{second}"), Refused),
    case(
        "CL twice the same",
        post!("Content-Length: 3\r\nContent-Length: 3\r\n", "a=1{second}"),
        Twice("a=1"),
    ),
    // Lengths that some parsers do not read as numbers.
    case("CL hexadecimal, 0 to the original", post!("Content-Length: 0x3\r\n", "a=1{second}"), Refused),
    case("CL negative", post!("Content-Length: -1\r\n", "{second}"), Refused),
    case("CL with a plus", post!("Content-Length: +3\r\n", "a=1{second}"), Refused),
    case("CL with an exponent", post!("Content-Length: 3e0\r\n", "a=1{second}"), Refused),
    case("CL with an underscore", post!("Content-Length: 1_0\r\n", "a=12345678{second}"), Refused),
    case("CL with words", post!("Content-Length: 3 bytes\r\n", "a=1{second}"), Refused),
    case("CL with a space within", post!("Content-Length: 3 0\r\n", "a=1{second}"), Refused),
    case("CL empty", post!("Content-Length:\r\n", "{second}"), Refused),
    case("CL fraction", post!("Content-Length: 3.0\r\n", "a=1{second}"), Refused),
    case("CL in Arabic digits", post!("Content-Length: \u{663}\r\n", "a=1{second}"), Refused),
    case("CL over 64 bits", post!("Content-Length: 18446744073709551619\r\n", "a=1{second}"), Refused),
    case("CL with leading zeros", post!("Content-Length: 0003\r\n", "a=1{second}"), Twice("a=1")),
    // A space before the colon, lines that go on.
    case("CL with a space before the colon", post!("Content-Length : 3\r\n", "a=1{second}"), Refused),
    case(
        "TE with a space before the colon",
        post!("Transfer-Encoding : chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "TE with a tab before the colon",
        post!("Transfer-Encoding\t: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n{second}"),
        Refused,
    ),
    case("obs-fold of a length", post!("Content-Length:\r\n 3\r\n", "a=1{second}"), Refused),
    case(
        "obs-fold of a coding",
        post!("Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "obs-fold behind another value",
        post!("X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "a first line that is folded",
        "POST /api2/json/standin/echo?first HTTP/1.1\r\n Host: node1\r\n{login}Content-Length: 3\r\n\r\na=1{second}",
        Refused,
    ),
    // Length and coding.
    case(
        "CL.TE",
        post!("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n{second}"),
        Once(""),
    ),
    case(
        "TE.CL",
        post!(
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
            "{second-hex}\r\n{second}\r\n0\r\n\r\n{second}"
        ),
        Once("*"),
    ),
    case(
        "TE.TE, the second unknown",
        post!(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\nContent-Length: 5\r\n",
            "0\r\n\r\n{second}"
        ),
        Refused,
    ),
    case(
        "TE.TE, the first unknown",
        post!(
            "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "0\r\n\r\n{second}"
        ),
        Refused,
    ),
    case(
        "TE twice the same",
        post!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "TE list, chunked last",
        post!("Transfer-Encoding: identity, chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "TE list, chunked first",
        post!("Transfer-Encoding: chunked, identity\r\nContent-Length: 5\r\n", "0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "TE list, chunked twice",
        post!("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "TE prefixed",
        post!("Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n", "0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "TE in quotes",
        post!("Transfer-Encoding: \"chunked\"\r\nContent-Length: 5\r\n", "0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "TE with a parameter",
        post!("Transfer-Encoding: chunked;q=1\r\nContent-Length: 5\r\n", "0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "TE with a comma",
        post!("Transfer-Encoding: chunked,\r\nContent-Length: 5\r\n", "0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "TE identity",
        post!("Transfer-Encoding: identity\r\nContent-Length: 3\r\n", "a=1{second}"),
        Refused,
    ),
    case(
        "TE empty, ignored by the original",
        post!("Transfer-Encoding:\r\nContent-Length: 3\r\n", "a=1{second}"),
        Refused,
    ),
    case(
        "TE 0, ignored by the original",
        post!("Transfer-Encoding: 0\r\nContent-Length: 3\r\n", "a=1{second}"),
        Refused,
    ),
    case(
        "TE with a vertical tab",
        post!("Transfer-Encoding: \u{b}chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "TE with a NUL",
        post!("Transfer-Encoding: chunked\0\r\nContent-Length: 5\r\n", "0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "TE with a non-breaking space",
        post!("Transfer-Encoding: chunked\u{a0}\r\nContent-Length: 5\r\n", "0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "TE on HTTP/1.0",
        "POST /api2/json/standin/echo?first HTTP/1.0\r\nHost: node1\r\nConnection: keep-alive\r\n{login}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{second}",
        Refused,
    ),
    case(
        "TE in capitals",
        post!("TRANSFER-ENCODING: CHUNKED\r\n", "3\r\na=1\r\n0\r\n\r\n{second}"),
        Twice("a=1"),
    ),
    case(
        "TE behind a tab",
        post!("Transfer-Encoding:\tchunked\r\n", "3\r\na=1\r\n0\r\n\r\n{second}"),
        Twice("a=1"),
    ),
    case(
        "an underscore is another name",
        post!("Content_Length: 300\r\nTransfer_Encoding: chunked\r\nContent-Length: 3\r\n", "a=1{second}"),
        Twice("a=1"),
    ),
    // Line ends and bytes that belong nowhere.
    case(
        "bare CR within a value",
        post!("X: y\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n{second}"),
        Refused,
    ),
    case("bare CR behind a name", post!("X\r: y\r\nContent-Length: 3\r\n", "a=1{second}"), Refused),
    case(
        "NUL within a name",
        post!("Content-\0Length: 300\r\nContent-Length: 3\r\n", "a=1{second}"),
        Refused,
    ),
    case("NUL within a value", post!("X: a\0b\r\nContent-Length: 3\r\n", "a=1{second}"), Refused),
    case(
        "a line without a colon",
        post!("Transfer-Encoding chunked\r\nContent-Length: 3\r\n", "a=1{second}"),
        Refused,
    ),
    case("a line without a name", post!(": chunked\r\nContent-Length: 3\r\n", "a=1{second}"), Refused),
    case(
        "a name with a space",
        post!("X Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "a=1{second}"),
        Refused,
    ),
    case(
        "bare LF line ends",
        "POST /api2/json/standin/echo?first HTTP/1.1\nHost: node1\n{login}Content-Length: 3\n\na=1{second}",
        Twice("a=1"),
    ),
    // Chunks.
    case(
        "chunk size in 0x",
        post!("Transfer-Encoding: chunked\r\n", "0x3\r\na=1\r\n0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "chunk size negative",
        post!("Transfer-Encoding: chunked\r\n", "-3\r\na=1\r\n0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "chunk size with a plus",
        post!("Transfer-Encoding: chunked\r\n", "+3\r\na=1\r\n0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "chunk size empty",
        post!("Transfer-Encoding: chunked\r\n", "\r\na=1\r\n0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "chunk size over 64 bits",
        post!("Transfer-Encoding: chunked\r\n", "10000000000000003\r\na=1\r\n0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "chunk size with an underscore",
        post!("Transfer-Encoding: chunked\r\n", "1_0\r\na=1\r\n0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "chunk size behind a space",
        post!("Transfer-Encoding: chunked\r\n", " 3\r\na=1\r\n0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "chunk size ends with a bare LF",
        post!("Transfer-Encoding: chunked\r\n", "3\na=1\r\n0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "chunk size ends with a bare CR",
        post!("Transfer-Encoding: chunked\r\n", "3\ra=1\r\n0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "chunk extension ends with a bare LF (TERM.EXT)",
        post!("Transfer-Encoding: chunked\r\n", "3;x\na=1\r\n0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "chunk extension that goes on (EXT.TERM)",
        post!("Transfer-Encoding: chunked\r\n", "3;\n{second-hex}\r\na=1\r\n0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "a chunk longer than it says (SPILL)",
        post!("Transfer-Encoding: chunked\r\n", "3\r\na=1xx\r\n0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "a chunk without its end",
        post!("Transfer-Encoding: chunked\r\n", "3\r\na=10\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "a chunk that ends with a bare LF",
        post!("Transfer-Encoding: chunked\r\n", "3\r\na=1\n0\r\n\r\n{second}"),
        Refused,
    ),
    case(
        "a chunk extension is no part of the body",
        post!("Transfer-Encoding: chunked\r\n", "3;a=b;c=\"d\"\r\na=1\r\n0\r\n\r\n{second}"),
        Twice("a=1"),
    ),
    case(
        "trailers name another length and host",
        post!(
            "Transfer-Encoding: chunked\r\n",
            "3\r\na=1\r\n0\r\nContent-Length: 300\r\nHost: evil\r\n\r\n{second}"
        ),
        Twice("a=1"),
    ),
    // Host and target.
    case("two hosts", post!("Host: evil\r\nContent-Length: 3\r\n", "a=1{second}"), Refused),
    case(
        "no host",
        "POST /api2/json/standin/echo?first HTTP/1.1\r\n{login}Content-Length: 3\r\n\r\na=1{second}",
        Refused,
    ),
    case(
        "a host that is none",
        "POST /api2/json/standin/echo?first HTTP/1.1\r\nHost: a b\r\n{login}Content-Length: 3\r\n\r\na=1{second}",
        Refused,
    ),
    case(
        "an absolute target of another host",
        "POST http://evil/api2/json/standin/echo?first HTTP/1.1\r\nHost: node1\r\n{login}Content-Length: 3\r\n\r\na=1{second}",
        Refused,
    ),
    case(
        "@ target, CVE-2022-35508",
        "GET @evil/api2/json/standin/echo?first HTTP/1.1\r\nHost: node1\r\n{login}\r\n{second}",
        Refused,
    ),
    case(
        "a relative target",
        "GET api2/json/standin/echo?first HTTP/1.1\r\nHost: node1\r\n{login}\r\n{second}",
        Refused,
    ),
    case(
        "an encoded line end in the target",
        "GET /api2/json/standin/echo%0d%0aX:%20y?first HTTP/1.1\r\nHost: node1\r\n{login}\r\n{second}",
        Refused,
    ),
    case(
        "junk before the request line",
        "JUNK JUNK GET /api2/json/standin/echo?first HTTP/1.1\r\nHost: node1\r\n{login}\r\n{second}",
        Refused,
    ),
    case(
        "junk behind the version",
        "GET /api2/json/standin/echo?first HTTP/1.1 x\r\nHost: node1\r\n{login}\r\n{second}",
        Refused,
    ),
    case(
        "two spaces in the request line",
        "GET  /api2/json/standin/echo?first HTTP/1.1\r\nHost: node1\r\n{login}\r\n{second}",
        Refused,
    ),
    case(
        "HTTP/1.9",
        "GET /api2/json/standin/echo?first HTTP/1.9\r\nHost: node1\r\n{login}\r\n{second}",
        Refused,
    ),
    case("HTTP/0.9", "GET /api2/json/standin/echo?first\r\n{second}", Refused),
    case("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{second}", Refused),
    case("CONNECT", "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n{second}", Refused),
    // Bodies where none is expected.
    case(
        "a body of a GET is a body",
        "GET /api2/json/standin/echo?first HTTP/1.1\r\nHost: node1\r\n{login}Content-Length: {second-length}\r\n\r\n{second}{second}",
        Twice("*"),
    ),
    case(
        "a request as the body of a POST",
        post!("Content-Length: {second-length}\r\n", "{second}{second}"),
        Twice("*"),
    ),
    case(
        "Expect, and the body comes at once",
        post!("Expect: 100-continue\r\nContent-Length: {second-length}\r\n", "{second}{second}"),
        Twice("*"),
    ),
    case(
        "Expect of a refused request, whose body is none",
        "POST /api2/nothing HTTP/1.1\r\nHost: node1\r\nExpect: 100-continue\r\nContent-Length: {second-length}\r\n\r\n{second}",
        Once(""),
    ),
    case(
        "Expect in other words",
        post!("Expect: y 100-continue\r\nContent-Length: {second-length}\r\n", "{second}{second}"),
        Twice("*"),
    ),
    case(
        "h2c is not switched to",
        "GET /api2/json/standin/echo?first HTTP/1.1\r\nHost: node1\r\n{login}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n{second}",
        Twice(""),
    ),
    case(
        "a header named in Connection is still ours to read",
        post!("Connection: Content-Length\r\nContent-Length: 3\r\n", "a=1{second}"),
        Twice("a=1"),
    ),
];
