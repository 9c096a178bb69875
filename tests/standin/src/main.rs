//! The stand-in for a shell: a demo root, both daemons on it, and tickets to try things with.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool prints its results")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use nodegate_standin::{Config, Daemon, Echo, Keys, Listen, Product, demo, now};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage:
  standin demo DIR                     prepare DIR as a root for nodegate --root
  standin serve DIR [--console ADDRESS] [--pve ADDRESS] [--pmg ADDRESS] [--echo ADDRESS]
                                       the daemons behind it, until SIGTERM or SIGINT; consoles echo each byte
  standin ticket DIR USER [PREFIX]     a login ticket (PREFIX: PVE, PMG or PMGQUAR)
  standin csrf DIR USER                its CSRFPreventionToken
  standin spice DIR NODE VMID PORT     the target of a SPICE viewer's CONNECT";

type Failed = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("standin: {error}");
            ExitCode::FAILURE
        }
    }
}

/// False: wrong usage.
fn run(arguments: &[&str]) -> Result<bool, Failed> {
    match arguments {
        ["demo", root] => {
            demo::prepare(Path::new(root));
        }
        ["serve", root, options @ ..] => return serve(Path::new(root), options),
        ["ticket", root, user] => println!("{}", keys(root).ticket("PVE", user, now())),
        ["ticket", root, user, prefix] => println!("{}", keys(root).ticket(prefix, user, now())),
        ["csrf", root, user] => println!("{}", keys(root).csrf(user, now())),
        ["spice", root, node, vmid, port] => {
            let (vmid, port) = (vmid.parse()?, port.parse()?);
            println!("{}", keys(root).spice_target(node, vmid, port, now()));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn keys(root: &str) -> Keys {
    Keys::load_or_create(Path::new(root))
}

fn serve(root: &Path, options: &[&str]) -> Result<bool, Failed> {
    let keys = Arc::new(Keys::load_or_create(root));
    let (mut daemons, mut echoes) = (Vec::new(), Vec::new());
    let mut console_port = None;
    let daemon = |product, address, console_port: Option<u16>| {
        let config = Config::new(product);
        Daemon::try_start(Config {
            console_port: console_port.unwrap_or(config.console_port),
            keys: Arc::clone(&keys),
            listen: Listen::Address(address),
            root: PathBuf::from(root),
            gzip: true,
            record: false,
            ..config
        })
    };
    for option in options.chunks(2) {
        let [name, address] = option else {
            return Ok(false);
        };
        let address: SocketAddr = address.parse()?;
        match *name {
            "--console" => {
                console_port = Some(address.port());
                echoes.push(Echo::start(address)?);
            }
            "--pve" => daemons.push(daemon(Product::Pve, address, console_port)?),
            "--pmg" => daemons.push(daemon(Product::Pmg, address, console_port)?),
            "--echo" => echoes.push(Echo::start(address)?),
            _ => return Ok(false),
        }
    }
    for daemon in &daemons {
        println!("daemon on {}", daemon.address());
    }
    for echo in &echoes {
        println!("echo on {}", echo.address());
    }
    until_stopped()?;
    Ok(true)
}

fn until_stopped() -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}
