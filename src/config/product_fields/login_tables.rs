//! The tables of logins and of the API.

use super::Need::{Always, Never, Without};
use super::ValueShape::{Plain, Table, Tables};
use super::{ProductKey as Key, TableKeys};

pub(super) const API: TableKeys = TableKeys {
    header: "[product.api]",
    keys: &[
        Key::needed("prefix", "the path that all calls begin with, such as `/rest/v1`"),
        Key::new("format", Without("formats"), Plain, "the answer to a failure, if the paths name no format"),
        Key::optional("formats", "the names of formats in paths, and the answer to a failure in each"),
        Key::optional("other_formats", "the same for formats that `formats` does not list"),
    ],
};

pub(super) const AUTH: TableKeys = TableKeys {
    header: "[product.auth]",
    keys: &[
        Key::needed("cookie", "the cookie with the ticket"),
        Key::needed("invalid", "the reason that every refused ticket gets"),
        Key::needed("schemes", "the signature schemes that are accepted, in their order; see *Tickets*"),
        Key::needed("user_length", "the limit of bytes of a user name"),
        Key::needed("open", "calls without login, compared exactly"),
        Key::new("ticket", Always, Tables(&TICKET), "the kinds of tickets"),
        Key::new("ticket_form", Always, Table(&TICKET_FORM), "the form of all your tickets"),
        Key::new("csrf", Always, Table(&CSRF), "the token that a write with a ticket needs"),
        Key::optional("api_token", "the name of API tokens; without it there are none"),
        Key::optional("login_page", "the call to which nodegate sends a refused login in the same format"),
        Key::optional("csrf_exempt", "`METHOD PATTERN` of calls that need no CSRF token"),
        Key::new("login", Never, Tables(&LOGIN), "calls at which a client can guess credentials"),
    ],
};

pub(super) const LOGIN: TableKeys = TableKeys {
    header: "[[product.auth.login]]",
    keys: &[
        Key::needed("call", "the `METHOD PATTERN` of the call"),
        Key::optional("shows", "members of its answer, such as `[\"data.ticket\"]`"),
    ],
};

pub(super) const TICKET: TableKeys = TableKeys {
    header: "[[product.auth.ticket]]",
    keys: &[
        Key::needed("prefix", "the first field of the ticket"),
        Key::needed("key", "the public key"),
        Key::needed("min_age", "seconds, exclusive; negative, for clocks that differ"),
        Key::new("max_age", Without("lifetime"), Plain, "seconds, exclusive"),
        Key::new("lifetime", Never, Table(&LIFETIME), "`max_age` in days, from a file of sections"),
        Key::optional("old_key", "the key before the last rotation"),
        Key::optional("key_lifetime", "seconds; narrows the ages by the key's own age"),
        Key::optional("realm", "the ticket names a mail address"),
        Key::optional("link", "the query parameter of a page that may contain such a ticket"),
    ],
};

pub(super) const LIFETIME: TableKeys = TableKeys {
    header: "",
    keys: &[
        Key::needed("file", "the file of sections"),
        Key::needed("section", "the section"),
        Key::needed("key", "the line with the days"),
        Key::needed("default", "the days if there is no such line"),
    ],
};

pub(super) const TICKET_FORM: TableKeys = TableKeys {
    header: "[product.auth.ticket_form]",
    keys: &[
        Key::needed("fields", "`[\"prefix\", \"user\", \"time\"]` or `[\"prefix\", \"time\", \"user\"]`"),
        Key::needed("separator", "one or two of `:` `\\|` `~` `$` `.`"),
        Key::needed("time", "`hex8`: 8 upper-case digits; `decimal`: up to 12 digits"),
        Key::needed("signature_separator", "as `separator`; it ends the signed text"),
        Key::needed("signature", "`base64` with padding, or `base64url` without"),
        Key::new(
            "half_logins",
            Always,
            Tables(&HALF_LOGIN),
            "how the user's field begins while a second factor is missing",
        ),
    ],
};

pub(super) const HALF_LOGIN: TableKeys = TableKeys {
    header: "",
    keys: &[
        Key::needed("prefix", "how the field begins"),
        Key::optional("complete", "how the field of a complete login ends"),
    ],
};

pub(super) const CSRF: TableKeys = TableKeys {
    header: "[product.auth.csrf]",
    keys: &[
        Key::needed("header", "the request header with the token"),
        Key::needed("secret", "the file with the secret"),
        Key::needed("key", "`file`: its bytes; `hmac-of-file`: see below"),
        Key::needed("mac", "`hmac-sha256`, `hmac-sha512`"),
        Key::needed("encoding", "of the MAC, without padding: `base64`, `base64url`, `hex`"),
        Key::needed("separator", "as in tickets"),
        Key::needed("time", "as in tickets"),
        Key::needed("min_age", "seconds, exclusive"),
        Key::needed("max_age", "seconds, exclusive"),
    ],
};
