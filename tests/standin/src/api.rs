//! The calls: login, a few reads with plausible data, a few writes that do nothing.

use serde_json::{Value, json};

use crate::answer::{Answer, Failure, Format, Reply};
use crate::daemon::{Config, Product, Shared};
use crate::form::Params;
use crate::order::shuffled_list;
use crate::record::Recorded;
use crate::tickets::now;
use crate::{console, credential, download, special};

pub(crate) enum Handled {
    Answer(Answer),
    /// Its length is not announced.
    Stream(Answer),
    /// For what no well-formed answer can say.
    Script(Reply),
}

pub(crate) type Outcome = Result<Value, Failure>;

/// One call: what a handler may look at.
pub(crate) struct Call<'a> {
    pub(crate) config: &'a Config,
    pub(crate) request: &'a Recorded,
    pub(crate) path: &'a str,
    pub(crate) params: Params,
    pub(crate) user: String,
    pub(crate) keep_alive: bool,
}

pub(crate) fn handle(shared: &Shared, request: &Recorded, keep_alive: bool) -> Handled {
    match prepared(&shared.config, request, keep_alive) {
        Ok((format, call)) => run(format, &call),
        Err(failure) if failure.status == 401 && request.path().starts_with("/api2/html/") => {
            Handled::Answer(Answer::moved("/api2/html/access/ticket"))
        }
        Err(failure) => Handled::Answer(Answer::bare(&failure)),
    }
}

fn prepared<'a>(
    config: &'a Config,
    request: &'a Recorded,
    keep_alive: bool,
) -> Result<(Format, Call<'a>), Failure> {
    let (format, path) = split_path(request.path())?;
    let user = if needs_no_login(config.product, &request.method, path) {
        String::new()
    } else {
        credential::user_of(config, request)?
    };
    // The special paths take any body, to show what was sent.
    let special = path.contains("/standin/");
    let params = match Params::of(request) {
        Err(_) if special => Params::parse(request.query()),
        params => params?,
    };
    let bodiless = matches!(request.method.as_str(), "GET" | "DELETE");
    if bodiless && !special && !request.body.is_empty() {
        let message = format!("Unexpected content for method '{}'", request.method);
        return Err(Failure::new(501, message));
    }
    let call = Call { config, request, path, params, user, keep_alive };
    Ok((format, call))
}

fn split_path(path: &str) -> Result<(Format, &str), Failure> {
    let rest = path.strip_prefix("/api2/").unwrap_or_default();
    let start = rest.find('/').unwrap_or(rest.len());
    match rest.split_at(start) {
        ("json", path) => Ok((Format::Json, path)),
        ("extjs", path) => Ok((Format::Extjs, path)),
        ("html", path) => Ok((Format::Html, path)),
        ("htmljs", path) => Ok((Format::Htmljs, path)),
        ("spiceconfig", path) => Ok((Format::SpiceConfig, path)),
        ("", _) => Err(Failure::new(501, "no such uri")),
        (other, path) => {
            let message = format!("no formatter for uri {path}, {other}");
            Err(Failure::new(501, message))
        }
    }
}

fn needs_no_login(product: Product, method: &str, path: &str) -> bool {
    match (method, path) {
        ("GET" | "POST", "/access/ticket") | ("POST", "/access/vncticket") => true,
        ("GET", "/access/domains") | ("POST", "/access/openid/auth-url" | "/access/openid/login") => {
            product == Product::Pve
        }
        ("GET", "/access/auth-realm")
        | ("POST", "/access/oidc/auth-url" | "/access/oidc/login" | "/quarantine/sendlink") => {
            product == Product::Pmg
        }
        _ => false,
    }
}

fn run(format: Format, call: &Call) -> Handled {
    if let Some((_, name)) = call.path.split_once("/standin/")
        && let Some(handled) = special::handle(name, call)
    {
        return handled;
    }
    if let Some(handled) = download::handle(call) {
        return handled;
    }
    if call.path.ends_with("/file-restore/download")
        && let Some(handled) = special::handle("streamfile", call)
    {
        return handled;
    }
    if call.path.ends_with("/qemu/999/spiceproxy")
        && let Some(handled) = special::handle("raw", call)
    {
        return handled;
    }
    if call.path.ends_with("/storage/slow/upload")
        && let Some(handled) = special::handle("slow", call)
    {
        return handled;
    }
    let answer = match outcome(call) {
        Ok(data)
            if format == Format::Html && call.request.method == "POST" && call.path == "/access/ticket" =>
        {
            welcomed(call, &data)
        }
        Ok(data) if format == Format::Html => Answer::html(&call.config.title, &data),
        Ok(data) => Answer::data(format, &data),
        Err(failure) => Answer::error(format, &failure),
    };
    Handled::Answer(answer)
}

fn outcome(call: &Call) -> Outcome {
    let method = call.request.method.as_str();
    let segments: Vec<&str> = call.path.split('/').skip(1).collect();
    match (method, &segments[..]) {
        ("POST", ["access", "ticket"]) => login(call),
        ("POST", ["access", "openid" | "oidc", "auth-url"]) => match call.params.value("realm") {
            Some("sso") => Ok(json!("https://id.example/authorize?client_id=standin")),
            _ => Err(Failure::new(500, "no such realm")),
        },
        ("POST", ["access", "openid" | "oidc", "login"]) => identified(call),
        ("PUT", ["access", "password"]) => match call.params.value("confirmation-password") {
            Some("demo") => Ok(Value::Null),
            _ => Err(Failure::new(401, "authentication failure")),
        },
        ("POST", ["quarantine", "sendlink"]) => match call.params.value("mail") {
            Some(mail) if mail.ends_with("@example.com") => Ok(Value::Null),
            _ => Err(Failure::new(500, "mail domain not in our relay domains")),
        },
        ("POST", ["access", "vncticket"]) => match call.params.value("vncticket") {
            Some("good") => Ok(Value::Null),
            _ => Err(Failure::new(401, "authentication failure")),
        },
        ("GET", path) => read(call, path),
        ("POST", ["nodes", _, "storage", "broken", "upload"]) => {
            Err(Failure::new(500, "storage 'broken' is broken"))
        }
        ("POST", ["nodes", _, "storage", _, "upload"]) => Ok(upid(call, "imgcopy")),
        ("POST", ["nodes", _, "qemu" | "lxc", _, "status", action]) => Ok(upid(call, action)),
        ("POST", ["nodes", .., "vncproxy" | "termproxy" | "vncshell"]) => Ok(console::open(call)),
        ("POST", ["nodes", .., "spiceproxy" | "spiceshell"]) => Ok(viewer(call)),
        ("PUT" | "POST" | "DELETE", ["cluster", "options"] | ["access", "users", ..]) => Ok(Value::Null),
        _ => Err(not_implemented(call)),
    }
}

fn login(call: &Call) -> Outcome {
    let config = call.config;
    let given = |name| call.params.value(name).unwrap_or_default();
    let (mut user, password) = (given("username").to_owned(), given("password"));
    if let Some(realm) = missing_realm(config.product, &user, given("realm")) {
        user = format!("{user}@{realm}");
    }
    let prefix = config.product.ticket_prefix();
    let full = || config.keys.ticket(prefix, &user, now());
    let known = config.users.iter().find(|known| known.name == user);
    let half = given("tfa-challenge");
    let ticket =
        if !half.is_empty() {
            let fits = credential::half_ticket_fits(config, half, &user);
            (fits && password == "totp:123456").then(full)
        } else if credential::ticket_user(config, password).is_some_and(|owner| owner == user) {
            // A quarantine ticket from a mail is the session's ticket itself.
            let own = user.ends_with("@quarantine");
            Some(if own { password.to_owned() } else { full() })
        } else {
            let known = known.filter(|known| known.password == password);
            known.map(|known| {
                if known.second_factor { config.keys.half_ticket(prefix, &user, now()) } else { full() }
            })
        };
    let ticket = ticket.ok_or_else(|| Failure::new(401, "authentication failure"))?;
    let mut data = json!({
        "CSRFPreventionToken": config.keys.csrf(&user, now()),
        "cap": {},
        "username": user,
    });
    if ticket.contains(":!tfa!") {
        data["NeedTFA"] = json!(1);
    }
    data["ticket"] = json!(ticket);
    Ok(data)
}

/// By the code of an identity provider.
fn identified(call: &Call) -> Outcome {
    let config = call.config;
    if call.params.value("code") != Some("good") {
        return Err(Failure::new(401, "authentication failure"));
    }
    let user = "bob@sso";
    let ticket = config.keys.ticket(config.product.ticket_prefix(), user, now());
    Ok(
        json!({"ticket": ticket, "username": user, "CSRFPreventionToken": config.keys.csrf(user, now()), "cap": {}}),
    )
}

/// A page keeps its ticket in a cookie.
fn welcomed(call: &Call, data: &Value) -> Answer {
    let ticket = data["ticket"].as_str().unwrap_or_default();
    let ticket = percent_encoding::utf8_percent_encode(ticket, percent_encoding::NON_ALPHANUMERIC);
    let cookie = format!("{}AuthCookie={ticket}; path=/; secure;", call.config.product.ticket_prefix());
    Answer::moved("/api2/html").with("Set-Cookie", &cookie)
}

/// The Mail Gateway takes a name that ends in no realm for one of its quarantine.
fn missing_realm<'a>(product: Product, user: &str, given: &'a str) -> Option<&'a str> {
    let ends_in = |realm: &str| user.ends_with(&format!("@{realm}"));
    match product {
        Product::Pve => Some(given).filter(|_| !user.contains('@')),
        Product::Pmg if ["pam", "pmg", "pve", "quarantine", "corp.example"].into_iter().any(ends_in) => None,
        Product::Pmg if given.is_empty() => Some("quarantine"),
        Product::Pmg => Some(given),
    }
}

fn read(call: &Call, path: &[&str]) -> Outcome {
    let node = call.config.node.as_str();
    let pve = call.config.product == Product::Pve;
    let memory = json!({"total": 8_589_934_592_u64, "used": 2_147_483_648_u64});
    Ok(match path {
        ["version"] if pve => json!({"release": "9.2", "repoid": "standin", "version": "9.2.11"}),
        ["version"] => json!({"release": "9.1", "repoid": "standin", "version": "9.1.0"}),
        ["access", "ticket"] => Value::Null,
        ["access", "domains" | "auth-realm"] => shuffled_list(json!([
            {"realm": "pam", "type": "pam", "comment": "Linux PAM standard authentication"},
            {"realm": if pve { "pve" } else { "pmg" }, "type": if pve { "pve" } else { "pmg" },
             "comment": "built in", "default": 1},
        ])),
        ["access", "users"] => {
            let users = call.config.users.iter();
            let users = users.map(|user| json!({"userid": user.name, "enable": 1, "expire": 0}));
            shuffled_list(users.collect())
        }
        // The phrase has the name as it is, in raw UTF-8.
        ["access", "users", name] => {
            let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned();
            let known = call.config.users.iter().any(|user| user.name == name);
            let unknown = || Failure::new(500, format!("no such user ('{name}')"));
            return known.then(|| json!({"enable": 1})).ok_or_else(unknown);
        }
        ["access", "permissions"] => permissions(call),
        ["cluster", "resources"] => shuffled_list(json!([
            {"id": format!("node/{node}"), "type": "node", "node": node, "status": "online",
             "cpu": 0.05, "maxcpu": 4, "mem": memory["used"], "maxmem": memory["total"]},
            {"id": "qemu/100", "type": "qemu", "node": node, "vmid": 100, "name": "demo",
             "status": "running", "cpu": 0.01, "maxcpu": 1, "template": 0},
            {"id": format!("storage/{node}/local"), "type": "storage", "node": node,
             "storage": "local", "status": "available", "shared": 0},
        ])),
        ["cluster", "options"] => json!({"keyboard": "en-us"}),
        ["cluster", "tasks"] => json!([{
            "upid": upid(call, "qmstart"), "type": "qmstart", "node": node, "user": "root@pam",
            "id": "100", "status": "OK", "starttime": now() - 60, "endtime": now() - 58,
        }]),
        ["nodes"] => json!([{
            "id": format!("node/{node}"), "node": node, "type": "node", "status": "online",
            "level": "", "cpu": 0.05, "maxcpu": 4, "uptime": 86_400,
        }]),
        ["nodes", _, "subscription"] if !pve => json!({"status": "notfound", "serverid": "0123456789ABCDEF"}),
        ["nodes", name, "status"] => json!({
            "name": name, "uptime": 86_400, "cpu": 0.05, "loadavg": ["0.10", "0.20", "0.30"],
            "memory": memory, "kversion": "Linux 6.14.0-standin",
        }),
        ["nodes", _, "qemu" | "lxc", _, "config"] => json!({"cores": 1, "memory": "512", "digest": "0"}),
        ["nodes", _, "tasks", _, "log"] => download::task_lines(),
        ["statistics", _] | ["nodes", _, "storage", _, "content"] => json!([]),
        ["nodes", .., "vncwebsocket" | "mtunnelwebsocket"] => return console::connect(call),
        _ => return Err(not_implemented(call)),
    })
}

/// Everything for root, but on `/storage/forbidden`; `/storage/inherited` is not passed on to what lies below.
fn permissions(call: &Call) -> Value {
    let path = call.params.value("path").unwrap_or("/");
    match (call.user.split('!').next(), path) {
        (Some("root@pam"), "/storage/forbidden") | (None, _) => json!({ path: {"Datastore.Audit": 1} }),
        (Some("root@pam"), "/storage/inherited") => json!({ path: {"Datastore.AllocateTemplate": 0} }),
        (Some("root@pam"), _) => json!({ path: {"Datastore.Audit": 1, "Datastore.AllocateTemplate": 1} }),
        (Some(_), _) => json!({}),
    }
}

/// The values that a SPICE viewer needs: by default it is to connect to the node itself.
fn viewer(call: &Call) -> Value {
    let node = call.config.node.as_str();
    let target = call.config.keys.spice_target(node, 100, 61_000, now());
    json!({
        "type": "spice", "title": "VM 100 - demo", "host": target.trim_end_matches(":61000"), "tls-port": 61_000,
        "proxy": format!("http://{}:3128", call.params.value("proxy").unwrap_or(node)), "password": "secret1",
        "delete-this-file": 1,
    })
}

/// The name of a task that was started.
pub(crate) fn upid(call: &Call, kind: &str) -> Value {
    let (node, user, time) = (&call.config.node, &call.user, now());
    json!(format!("UPID:{node}:000003E8:00001000:{time:08X}:{kind}:100:{user}:"))
}

fn not_implemented(call: &Call) -> Failure {
    let message = format!("Method '{} {}' not implemented", call.request.method, call.path);
    Failure::new(501, message)
}
