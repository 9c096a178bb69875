//! Content types by file ending, and which of them are worth compressing.

use http::HeaderValue;

use super::FileType;

const TYPES: &[(&[&str], &str, bool)] = &[
    (&["css"], "text/css", true),
    (&["html", "htm"], "text/html", true),
    (&["js", "mjs"], "application/javascript", true),
    (&["json", "map"], "application/json", true),
    (&["svg"], "image/svg+xml", true),
    (&["wasm"], "application/wasm", true),
    (&["mo"], "application/x-gettext-translation", true),
    (&["txt"], "text/plain", true),
    (&["xml"], "text/xml", true),
    (&["png"], "image/png", false),
    (&["ico"], "image/x-icon", false),
    (&["gif"], "image/gif", false),
    (&["jpg", "jpeg"], "image/jpeg", false),
    (&["webp"], "image/webp", false),
    (&["jar"], "application/java-archive", false),
    (&["woff"], "application/font-woff", false),
    (&["woff2"], "application/font-woff2", false),
    (&["ttf"], "font/ttf", false),
    (&["pdf"], "application/pdf", false),
    (&["epub"], "application/epub+zip", false),
    (&["mp3"], "audio/mpeg", false),
    (&["oga"], "audio/ogg", false),
    (&["tgz"], "application/x-compressed-tar", false),
    (&["gz"], "application/gzip", false),
];

/// Every known ending. Other files are served as `application/octet-stream`.
pub fn file_types() -> Vec<FileType> {
    TYPES
        .iter()
        .flat_map(|(endings, content_type, compress)| {
            endings.iter().map(|ending| FileType {
                ending: (*ending).to_owned(),
                content_type: HeaderValue::from_static(content_type),
                compress: *compress,
            })
        })
        .collect()
}
