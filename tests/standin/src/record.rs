//! A request as it came over the wire.

#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    /// Empty when the head made no sense.
    pub method: String,
    pub target: String,
    /// `HTTP/1.0` or `HTTP/1.1`.
    pub version: String,
    /// In order, in their own case, doubles included; bytes that are not UTF-8 are in `head` only.
    pub headers: Vec<(String, String)>,
    /// Request line, header lines and the empty line, byte for byte.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    /// False when the head made no sense, or the body was chunked or shorter than announced.
    pub complete: bool,
    /// Content of the spool file that an upload's `tmpfilename` named; the file is gone now.
    pub upload: Option<Vec<u8>>,
}

impl Recorded {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = |(own, _): &&(String, String)| own.eq_ignore_ascii_case(name);
        let found = self.headers.iter().filter(named);
        found.map(|(_, value)| value.as_str()).collect()
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn keeps_alive(&self) -> bool {
        let asks = |word| {
            let connection = self.all("connection").join(",").to_lowercase();
            connection.contains(word)
        };
        match self.version.as_str() {
            "HTTP/1.0" => asks("keep-alive"),
            _ => !asks("close"),
        }
    }
}
