//! Consoles: a ticket for one, and the port for a client that returns the ticket.

use serde_json::{Value, json};

use crate::answer::Failure;
use crate::api::{Call, Outcome, upid};
use crate::credential::fresh;
use crate::tickets::{now, verify};

pub(crate) fn open(call: &Call) -> Value {
    let (keys, port) = (&call.config.keys, call.config.console_port);
    let object = object(call.path);
    json!({
        "port": port.to_string(),
        "ticket": keys.vnc_ticket(&prefix(call), &call.user, &object, port, now()),
        "upid": upid(call, "vncproxy"),
        "user": call.user,
    })
}

/// The port is what the client asked for; its ticket has to be for that very port.
pub(crate) fn connect(call: &Call) -> Outcome {
    if let Some(socket) = call.params.value("socket") {
        return Ok(json!({"socket": socket}));
    }
    let given = |name| call.params.value(name).unwrap_or_default();
    let port = given("port");
    let extra = format!(":{}:{}:{port}", call.user, object(call.path));
    let key = &call.config.keys.public;
    let valid = verify(key, given("vncticket"), &prefix(call), &extra)
        .is_some_and(|verified| fresh(verified.time, -20, 40));
    if valid {
        Ok(json!({ "port": port }))
    } else {
        let message = format!("permission denied - invalid {} ticket", prefix(call));
        Err(Failure::new(401, message))
    }
}

fn prefix(call: &Call) -> String {
    format!("{}VNC", call.config.product.ticket_prefix())
}

/// `/vms/100` or `/nodes/NAME`, which the ticket is bound to.
fn object(path: &str) -> String {
    match path.split('/').collect::<Vec<_>>()[..] {
        [_, "nodes", _, "qemu" | "lxc", vmid, ..] => format!("/vms/{vmid}"),
        [_, "nodes", node, ..] => format!("/nodes/{node}"),
        _ => String::new(),
    }
}
