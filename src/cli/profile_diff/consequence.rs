//! The consequence for clients as long as the table in use lacks a method of the installed product, or has other flags.

use crate::config::route_table::{ApiMethod, MethodKind, NodeChoice};

/// The effect on clients with the table in use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Consequence {
    /// whether calls may fail that the product would answer
    pub(super) fails: bool,
    pub(super) text: String,
}

/// The settings and lists that decide beside the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServingRules {
    /// a daemon without root answers calls that need none
    pub(super) has_worker: bool,
    /// the profile lists the call as one that needs no login
    pub(super) is_open: bool,
}

/// A method that the installed product has. `ours` is that of the table in use.
pub(super) fn of_method(
    path: &str,
    ours: Option<ApiMethod>,
    installed: ApiMethod,
    rules: ServingRules,
) -> Consequence {
    let effective = ours.unwrap_or_else(|| general_rule(path));
    let parts = [
        of_login(ours, installed, rules),
        of_kind(effective.kind, installed.kind),
        of_node(path, effective, installed, rules),
        of_root(effective, installed, rules),
        of_tokens(ours, installed),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        return harmless("nodegate sends it to the same place in both cases");
    }
    let texts: Vec<_> = parts.iter().map(|part| part.text.as_str()).collect();
    Consequence { fails: parts.iter().any(|part| part.fails), text: texts.join("; ") }
}

/// A method that the installed product no longer has.
pub(super) fn of_gone() -> Consequence {
    harmless("nodegate forwards it, and the product answers that it is not implemented")
}

/// As the router treats a path that the table does not have.
fn general_rule(path: &str) -> ApiMethod {
    let mut segments = path.split('/').skip(1);
    let is_of_node =
        segments.next() == Some("nodes") && segments.next().is_some() && segments.next().is_some();
    let home = if is_of_node { NodeChoice::Node } else { NodeChoice::Here };
    ApiMethod { home, ..ApiMethod::default() }
}

fn of_login(ours: Option<ApiMethod>, installed: ApiMethod, rules: ServingRules) -> Option<Consequence> {
    if installed.open && !rules.is_open {
        return Some(failing(
            "clients without a login get 401, also with the new table: product.auth.open of the profile decides",
        ));
    }
    let was_open = ours.is_some_and(|ours| ours.open);
    (was_open && !installed.open).then(|| harmless("the product asks for a login, and answers 401 itself"))
}

fn of_kind(ours: MethodKind, installed: MethodKind) -> Option<Consequence> {
    match (ours, installed) {
        (MethodKind::Call | MethodKind::Download | MethodKind::Upload, MethodKind::Websocket) => {
            Some(failing("its console does not open: nodegate forwards it as a plain call"))
        }
        (MethodKind::Call | MethodKind::Download | MethodKind::Websocket, MethodKind::Upload) => {
            Some(failing("uploads fail: nodegate does not store the file for the daemon"))
        }
        (MethodKind::Call | MethodKind::Upload | MethodKind::Websocket, MethodKind::Download) => {
            Some(failing("its download may fail: nodegate streams no file that the answer names"))
        }
        (MethodKind::Upload, MethodKind::Call) => {
            Some(failing("calls fail: nodegate expects a form with a file"))
        }
        (MethodKind::Websocket, MethodKind::Call) => Some(failing(
            "calls that need root may fail: nodegate sends them to the daemon that answers consoles",
        )),
        (MethodKind::Call | MethodKind::Download, MethodKind::Call)
        | (MethodKind::Download, MethodKind::Download)
        | (MethodKind::Upload, MethodKind::Upload)
        | (MethodKind::Websocket, MethodKind::Websocket) => None,
    }
}

fn of_node(path: &str, ours: ApiMethod, installed: ApiMethod, rules: ServingRules) -> Option<Consequence> {
    // Consoles and uploads are answered here, whatever node the flags say.
    let is_fixed = |kind| matches!(kind, MethodKind::Upload | MethodKind::Websocket);
    if ours.home == installed.home || is_fixed(installed.kind) {
        return None;
    }
    // The daemon without root forwards a call by itself, the other one refuses it.
    let forwards = rules.has_worker && !ours.protected;
    let in_path = if path.contains("{node}") { "that the path names" } else { "that `node` names" };
    Some(match (ours.home, installed.home) {
        (NodeChoice::Node, NodeChoice::Here) => failing(
            "for another node it goes there, where the product answers it here: it fails if that node is down",
        ),
        (_, NodeChoice::Here) => failing("it may go to another node, where the product answers it here"),
        (NodeChoice::Here, _) if forwards => {
            harmless("the daemon without root forwards it to the right node: a hop more")
        }
        (_, NodeChoice::Master) => {
            failing("on a node that is not the master it fails: it must go to the master")
        }
        (_, NodeChoice::Node) => {
            failing(format!("it fails for another node {in_path}: nodegate does not send it there"))
        }
        (_, NodeChoice::CheckNode) => failing(
            "it fails for another node that `check-node` names; verify that it is this parameter that names it",
        ),
    })
}

fn of_root(ours: ApiMethod, installed: ApiMethod, rules: ServingRules) -> Option<Consequence> {
    match (ours.protected, installed.protected) {
        (false, true) if rules.has_worker => {
            Some(harmless("it goes to the daemon without root, which passes it on: a hop more"))
        }
        (false, true) => {
            Some(harmless("its answer may take timeout.answer_unprivileged instead of timeout.answer"))
        }
        (true, false) if rules.has_worker => {
            Some(harmless("the daemon with root answers it, where the one without root could"))
        }
        (true, false) => {
            Some(harmless("its answer may take timeout.answer instead of timeout.answer_unprivileged"))
        }
        (true, true) | (false, false) => None,
    }
}

fn of_tokens(ours: Option<ApiMethod>, installed: ApiMethod) -> Option<Consequence> {
    let before = ours?.no_token;
    (before != installed.no_token).then(|| {
        harmless(if installed.no_token {
            "the product refuses API tokens for it"
        } else {
            "the product accepts API tokens for it"
        })
    })
}

/// Where nodegate sends a method of its table.
pub(super) fn destination(method: ApiMethod, rules: ServingRules) -> String {
    match method.kind {
        MethodKind::Upload => return "an upload of this node".to_owned(),
        MethodKind::Websocket => return "a console of this node".to_owned(),
        MethodKind::Call | MethodKind::Download => (),
    }
    let daemon = match (rules.has_worker, method.protected) {
        (true, true) => "the daemon with root",
        (true, false) => "the daemon without root",
        (false, _) => "the daemon",
    };
    let node = match method.home {
        NodeChoice::Here => "of this node",
        NodeChoice::Node => "of the node that `node` names",
        NodeChoice::CheckNode => "of the node that `check-node` names",
        NodeChoice::Master => "of the master",
    };
    format!("{daemon} {node}")
}

fn failing(text: impl Into<String>) -> Consequence {
    Consequence { fails: true, text: text.into() }
}

fn harmless(text: &str) -> Consequence {
    Consequence { fails: false, text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::route_table::parse_method;

    fn method(flags: &str) -> ApiMethod {
        parse_method(&format!("GET:{flags}")).unwrap().1
    }

    fn follows(path: &str, ours: Option<&str>, installed: &str, has_worker: bool) -> (bool, String) {
        let rules = ServingRules { has_worker, is_open: false };
        let found = of_method(path, ours.map(method), method(installed), rules);
        (found.fails, found.text)
    }

    #[test]
    fn a_new_method_may_work_already() {
        for (path, installed) in [("/cluster/x", ""), ("/nodes/{node}/x", "n"), ("/nodes", "")] {
            for has_worker in [true, false] {
                let (fails, text) = follows(path, None, installed, has_worker);
                assert!(!fails && text.contains("same place"), "{path}: {text}");
            }
        }
    }

    #[test]
    fn a_new_method_that_fails_is_recognised() {
        for (path, installed, has_worker, part) in [
            ("/nodes/{node}/x", "", true, "goes there"),
            ("/nodes/{node}/vncwebsocket", "w", true, "console"),
            ("/storage/x", "pu", true, "uploads fail"),
            ("/nodes/{node}/log", "nd", true, "download"),
            ("/config/x", "pm", false, "master"),
            ("/cluster/x", "n", false, "`node` names"),
            ("/cluster/x", "c", false, "`check-node`"),
            ("/access/x", "po", true, "401"),
        ] {
            let (fails, text) = follows(path, None, installed, has_worker);
            assert!(fails && text.contains(part), "{path} {installed}: {text}");
        }
    }

    #[test]
    fn the_daemon_without_root_mends_much_by_itself() {
        for (path, installed, part) in [
            ("/config/x", "m", "forwards"),
            ("/cluster/x", "p", "a hop more"),
            ("/cluster/x", "n", "forwards"),
        ] {
            let (fails, text) = follows(path, None, installed, true);
            assert!(!fails && text.contains(part), "{path} {installed}: {text}");
        }
    }

    #[test]
    fn changed_flags_have_their_consequences() {
        for (ours, installed, fails, part) in [
            ("", "p", false, "passes it on"),
            ("p", "", false, "with root answers"),
            ("n", "", true, "goes there"),
            ("m", "", true, "another node"),
            ("p", "pm", true, "master"),
            ("u", "", true, "form"),
            ("pt", "p", false, "accepts API tokens"),
            ("p", "pt", false, "refuses API tokens"),
            ("o", "", false, "401 itself"),
        ] {
            let found = follows("/x", Some(ours), installed, true);
            assert_eq!((found.0, found.1.contains(part)), (fails, true), "{ours} {installed}: {}", found.1);
        }
    }

    #[test]
    fn destinations_are_named() {
        let rules = ServingRules { has_worker: true, is_open: false };
        for (flags, expected) in [
            ("pn", "the daemon with root of the node that `node` names"),
            ("", "the daemon without root of this node"),
            ("m", "the daemon without root of the master"),
            ("w", "a console of this node"),
            ("pu", "an upload of this node"),
        ] {
            assert_eq!(destination(method(flags), rules), expected);
        }
        let alone = ServingRules { has_worker: false, is_open: false };
        assert_eq!(destination(method("p"), alone), "the daemon of this node");
    }
}
