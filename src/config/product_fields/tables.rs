//! Every table of `[product]`. A test compares the rows with the types that serde fills, and with
//! `docs/reference/profile.md`.

use super::Need::{Always, Never, Protocol, With};
use super::ValueShape::{Named, Table, Tables};
use super::login_tables::{API, AUTH};
use super::{ProductKey as Key, TableKeys};

pub(super) const PRODUCT: TableKeys = TableKeys {
    header: "[product]",
    keys: &[
        Key::needed("name", "the name of your settings files"),
        Key::needed("daemon", "the daemon that nodegate replaces"),
        Key::needed("protocol", "`https` or `connect`"),
        Key::needed("server", "value of the `Server` header"),
        Key::new("certificate", Protocol("https"), Tables(&CERTIFICATE), "the certificates to serve"),
        Key::new("auth", Protocol("https"), Table(&AUTH), "how your users log in"),
        Key::new("api", With("auth"), Table(&API), "the paths of API calls"),
        Key::new("connect", Protocol("connect"), Table(&CONNECT), "the tickets of SPICE viewers"),
        Key::new("backend", Never, Table(&BACKEND), "headers and worker counts of your daemon"),
        Key::new("directory", Never, Tables(&DIRECTORY), "directories to serve"),
        Key::new("file", Never, Tables(&FILE), "single files to serve"),
        Key::new("page", Never, Tables(&PAGE), "pages, from templates"),
        Key::new("variable", Never, Named(&VARIABLE), "the variables of your templates"),
        Key::new("console", Never, Table(&CONSOLE), "the ports and sockets of consoles"),
        Key::new("upload", Never, Table(&UPLOAD), "where an upload waits for the daemon"),
        Key::new("nodes", Never, Table(&NODES), "the list of the other nodes"),
        Key::new("page_title", Never, Table(&PAGE_TITLE), "the title of API answers that are pages"),
        Key::new("route_scope", Never, Named(&ROUTE_SCOPE), "parts that a listener may be limited to"),
        Key::new("compare", Never, Table(&COMPARE), "rules for `nodegate compare`"),
        Key::new("doctor", Never, Table(&DOCTOR), "facts for `nodegate doctor`"),
        Key::new("dump", Never, Table(&DUMP), "how `nodegate profile-diff` reads the installed product"),
        Key::optional("legacy_file", "the product's own settings file"),
        Key::optional("pid_file", "the file with nodegate's pid"),
        Key::optional("routes", "the route table"),
        Key::optional(
            "coalesce",
            "`GET PATTERN` of calls that GUIs repeat all the time, for `backend.coalesce`",
        ),
        Key::optional("side_effects", "`METHOD PATTERN` of GET calls that change something or cost much"),
        Key::optional("secret_parameters", "query parameters whose values the log must not show"),
        Key::optional("version_parameters", "query parameters that name the version of a file"),
        Key::optional("page_policy", "`Content-Security-Policy` of pages and HTML files; without it none"),
        Key::optional("worker_package", "the package whose worker renders pages that nodegate cannot"),
    ],
};

pub(super) const CERTIFICATE: TableKeys = TableKeys {
    header: "[[product.certificate]]",
    keys: &[
        Key::needed("file", "the certificate with its chain"),
        Key::optional("key", "the key; without it the key is in `file`"),
        Key::optional("key_setting", "the setting `tls.key_file` replaces `key`"),
    ],
};

pub(super) const NODES: TableKeys = TableKeys {
    header: "[product.nodes]",
    keys: &[
        Key::needed("file", "the list of nodes"),
        Key::needed("format", "`members` (JSON) or `sections`"),
        Key::optional("certificates", "paths of a node's certificate, with `{node}`"),
    ],
};

pub(super) const DOCTOR: TableKeys = TableKeys {
    header: "[product.doctor]",
    keys: &[
        Key::optional("packages", "packages that the profile was made from, each with its version"),
        Key::optional("restart_daemon", "the command that starts the daemon again"),
        Key::optional("renew_certificate", "the command that makes and publishes a node's certificate"),
        Key::optional("restart_cluster", "the command that restarts the writer of the cluster's files"),
    ],
};

pub(super) const DUMP: TableKeys = TableKeys {
    header: "[product.dump]",
    keys: &[
        Key::needed(
            "command",
            "the program and its arguments; `{root}` is the directory of `--root` or empty",
        ),
        Key::optional("script", "a file beside your profile, or a built-in one, for the program's stdin"),
    ],
};

pub(super) const COMPARE: TableKeys = TableKeys {
    header: "[product.compare]",
    keys: &[
        Key::optional("login", "a target that every user may GET, but no client without a login"),
        Key::optional("unordered", "lists without order in an answer, by `\"GET PATTERN\"`"),
    ],
};

pub(super) const BACKEND: TableKeys = TableKeys {
    header: "[product.backend]",
    keys: &[
        Key::optional("client_header", "tells the daemon the client's address"),
        Key::optional("loop_header", "marks a request that another node has forwarded"),
        Key::optional("stream_header", "names a local file that the daemon wants nodegate to stream"),
        Key::optional("stream_paths", "directories below which such a file may lie; without it none"),
        Key::optional("location_prefix", "the prefix that nodegate cuts off from `Location`"),
        Key::new(
            "workers",
            Never,
            Table(&WORKER_COUNT),
            "the file with the daemon's worker count, and the count's name there",
        ),
        Key::new("unprivileged_workers", Never, Table(&WORKER_COUNT), "the same of the daemon without root"),
        Key::optional("cost_parameters", "path parameters that decide how long a call takes, such as `node`"),
    ],
};

pub(super) const WORKER_COUNT: TableKeys = TableKeys {
    header: "",
    keys: &[
        Key::needed("file", "a file of shell assignments"),
        Key::needed("name", "the name of the count in that file"),
    ],
};

pub(super) const PAGE_TITLE: TableKeys = TableKeys {
    header: "[product.page_title]",
    keys: &[
        Key::needed("format", "the format of such answers"),
        Key::needed("text", "the title"),
        Key::needed("class", "the class of the element that repeats the title"),
    ],
};

pub(super) const UPLOAD: TableKeys = TableKeys {
    header: "[product.upload]",
    keys: &[
        Key::needed("spool", "directory and first part of a spool file's name; 32 hexadecimal digits follow"),
        Key::needed("file", "the part of the form with the file"),
        Key::needed("spool_field", "tells the daemon the spool file"),
        Key::needed("permissions", "the call that nodegate asks for the client's permissions, with `path=`"),
        Key::needed("permission_path", "the path that it asks for; `{name}` is the route's parameter"),
        Key::needed("privilege", "the privilege that the client needs there"),
        Key::optional("shows", "members of the daemon's answer, such as `[\"data\"]`"),
        Key::optional("formats", "formats of an answer that nodegate can read; without it all"),
        Key::optional("reserve", "bytes that stay free on the disk; 268435456"),
        Key::optional("limit", "bytes of one upload; none"),
        Key::optional("idle_timeout", "seconds without a byte; 60"),
    ],
};

pub(super) const CONSOLE: TableKeys = TableKeys {
    header: "[product.console]",
    keys: &[
        Key::needed("upgrade", "the protocol of consoles: `websocket`"),
        Key::needed("ports", "`FIRST-LAST` on the loopback address"),
        Key::optional("sockets", "directories of unix sockets"),
        Key::optional("subprotocols", "WebSocket subprotocols of consoles; by default `binary`"),
        Key::new("ticket", Never, Tables(&CONSOLE_TICKET), "calls that contain the console's own ticket"),
    ],
};

pub(super) const CONSOLE_TICKET: TableKeys = TableKeys {
    header: "[[product.console.ticket]]",
    keys: &[
        Key::needed("parameter", "the query parameter with the console's own ticket"),
        Key::needed("calls", "`GET PATTERN` of calls that contain it"),
    ],
};

pub(super) const CONNECT: TableKeys = TableKeys {
    header: "[product.connect]",
    keys: &[
        Key::needed("prefix", "the first field of SPICE tickets"),
        Key::needed("secret", "the file with their secret"),
        Key::needed("max_age", "the oldest ticket that is accepted, in seconds"),
        Key::needed("max_future", "seconds that a ticket may be ahead of this machine's clock"),
        Key::new("answers", Never, Table(&ANSWERS), "the answers that name the viewers' proxy"),
    ],
};

pub(super) const ANSWERS: TableKeys = TableKeys {
    header: "[product.connect.answers]",
    keys: &[
        Key::needed("calls", "`METHOD PATTERN` of calls whose answers name the viewers' proxy"),
        Key::needed("field", "the field with the proxy's URL"),
    ],
};

pub(super) const DIRECTORY: TableKeys = TableKeys {
    header: "[[product.directory]]",
    keys: &[
        Key::needed("url", "begins and ends with `/`"),
        Key::needed("path", "the directory"),
        Key::optional("links", "directories into which symbolic links out of `path` may lead"),
    ],
};

pub(super) const FILE: TableKeys = TableKeys {
    header: "[[product.file]]",
    keys: &[Key::needed("url", "the path of its URL"), Key::needed("path", "the file")],
};

pub(super) const PAGE: TableKeys = TableKeys {
    header: "[[product.page]]",
    keys: &[
        Key::needed("url", "the path of its URL"),
        Key::new("template", Always, Tables(&TEMPLATE), "its templates; the first that fits is rendered"),
    ],
};

pub(super) const TEMPLATE: TableKeys = TableKeys {
    header: "",
    keys: &[
        Key::needed("file", "the template"),
        Key::optional("when", "the variables that must be true or defined"),
    ],
};

pub(super) const VARIABLE: TableKeys = TableKeys {
    header: "[product.variable.NAME]",
    keys: &[
        Key::needed("kind", "the values that a page may get"),
        Key::needed("from", "the sources of its value, in their order"),
        Key::optional("pattern", "the pattern of a whole value"),
    ],
};

pub(super) const ROUTE_SCOPE: TableKeys = TableKeys {
    header: "[product.route_scope.NAME]",
    keys: &[
        Key::optional("pages", "URLs of pages"),
        Key::optional("pages_without", "query parameters that would select another page"),
        Key::optional("files", "URLs of directories and files"),
        Key::optional("calls", "`METHOD PATTERN`"),
        Key::optional("tickets", "prefixes of tickets; without it all, with it no other credential"),
        Key::new(
            "login",
            Never,
            Table(&SCOPE_LOGIN),
            "`{ call, realm }`: only users of that realm log in by this call",
        ),
        Key::new("limit", Never, Tables(&CALL_LIMIT), "`[{ call, per_minute }]`, by the client's address"),
    ],
};

pub(super) const SCOPE_LOGIN: TableKeys = TableKeys {
    header: "",
    keys: &[
        Key::needed("call", "the `METHOD PATTERN` of the login"),
        Key::needed("realm", "the realm whose users may log in"),
        Key::optional("is_default", "a login without a realm is one of this realm"),
        Key::optional("realms", "names of other realms"),
        Key::optional("realm_file", "a file of sections that are other realms"),
    ],
};

pub(super) const CALL_LIMIT: TableKeys = TableKeys {
    header: "",
    keys: &[
        Key::needed("call", "the `METHOD PATTERN` of the call"),
        Key::needed("per_minute", "calls of one address in a minute"),
    ],
};
