//! `make demo` does what it says: every command that it prints is run and checked.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::Path;
use std::process::Command;

#[test]
fn every_command_that_the_demo_prints_works() {
    let binaries = Path::new(env!("CARGO_BIN_EXE_nodegate")).parent().unwrap();
    assert!(binaries.join("standin").exists(), "the stand-in is not built: run make test");
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("tests/demo.sh");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("DEMO_ONCE", "1").env("DEMO_BIN", binaries);
    command.env("DEMO_ROOT", folder.path().join("demo"));
    let names = ["PVE", "PMG", "SPICE", "PVE_DAEMON", "PMG_DAEMON", "STATUS"];
    // Below the range that the kernel gives out.
    let start = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    for (name, port) in names.iter().zip(free_ports(start..32_000)) {
        command.env(format!("DEMO_{name}_PORT"), port.to_string());
    }
    let console = free_ports(5_900..6_000).next().unwrap();
    command.env("DEMO_CONSOLE_PORT", console.to_string());
    let machine = free_ports(61_500..61_900).next().unwrap();
    command.env("DEMO_MACHINE_PORT", machine.to_string());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.lines().count() >= 10 && said.lines().all(|line| line.starts_with("ok ")), "{said}");
    assert!(!folder.path().join("demo").exists(), "the root is left behind");
}

fn free_ports(range: Range<u16>) -> impl Iterator<Item = u16> {
    range.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
}
