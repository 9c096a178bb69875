//! An open console is listed by `nodegate status`, and no longer than it is open.

use std::io::Write as _;

use super::client::{BINARY, FINAL, opened, read};
use crate::status::report;
use crate::support::nodegate::eventually;
use crate::support::{Nodegate, Site};

/// The list shows client, user, target and bytes.
#[test]
fn an_open_console_is_listed() {
    let site = Site::pve();
    let gate = Nodegate::start(&site, &[]);
    let (mut socket, mut server) = opened(&site, &gate);
    socket.send(FINAL | BINARY, b"12345");
    assert_eq!(read(&mut server, 5), b"12345");
    server.write_all(b"123").unwrap();
    assert_eq!(socket.data(3), b"123");
    let reported = report(&site, &gate, "pve");
    assert_eq!((&reported["consoles"], &reported["tunnels"]), (&1.into(), &0.into()));
    let console = &reported["open"][0];
    assert_eq!(console["kind"], "console");
    assert_eq!(console["client"], "127.0.0.1");
    assert_eq!(console["user"], "root@pam");
    assert_eq!(console["target"], "/nodes/node1/qemu/100/vncwebsocket");
    assert_eq!((&console["up"], &console["down"]), (&5.into(), &3.into()));
    drop((socket, server));
    eventually("it is gone from the list", || report(&site, &gate, "pve")["consoles"] == 0);
}
