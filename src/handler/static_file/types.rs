//! Content types by file ending, and which of them are worth compressing.

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

/// The content type of a file by its name, and whether compression makes it smaller.
pub(super) fn of_name(name: &str) -> (&'static str, bool) {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let is_known = |endings: &[&str]| endings.iter().any(|known| known.eq_ignore_ascii_case(ending));
    let found = TYPES.iter().find(|(endings, ..)| is_known(endings));
    found.map_or(("application/octet-stream", false), |(_, content_type, compress)| (content_type, *compress))
}
