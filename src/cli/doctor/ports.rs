//! The ports of the settings, and the processes that listen on them.

use std::net::SocketAddr;

use super::finding::Finding;
use super::service::sandbox;
use super::subject::{StatusAnswer, Subject};
use crate::cli::port_owner::{self, ListeningPort, Owner, OwnerKind};
use crate::config::settings::BackendAddress;

/// A port that the settings name.
struct WantedPort {
    /// such as `listener 'web'`
    name: String,
    /// the setting that changes it
    key: String,
    port: u16,
    /// `None` listens on all addresses
    address: Option<std::net::IpAddr>,
}

pub(super) fn probe(subject: &Subject) -> Vec<Finding> {
    let found = match port_owner::listening_ports(&subject.config.product.daemon) {
        Ok(found) => found,
        Err(error) => {
            return vec![Finding::note(format!("the kernel's list of sockets cannot be read: {error}"))];
        }
    };
    let mut wanted = wanted(subject);
    if subject.original().is_some() {
        // The others are those of nodegate, which does not run.
        wanted.truncate(1);
        let own_port = subject.config.own_port;
        wanted.iter_mut().filter(|_| !subject.config.is_trial()).for_each(|wanted| wanted.port = own_port);
    }
    wanted.iter().map(|wanted| evaluate(subject, subject.status(), wanted, &found)).collect()
}

fn wanted(subject: &Subject) -> Vec<WantedPort> {
    let settings = &subject.config.settings;
    let listeners = settings.listeners.iter().enumerate().map(|(number, listener)| WantedPort {
        name: if number == 0 { "the port".to_owned() } else { format!("listener '{}'", listener.name) },
        key: if number == 0 { "listen.port".to_owned() } else { format!("listener[{number}].port") },
        port: listener.listen.port,
        address: port_owner::literal_address(&listener.listen),
    });
    let metrics = settings.monitoring.listen.iter().filter_map(|listen| {
        let BackendAddress::Tcp(address) = listen else { return None };
        let port = address.rsplit_once(':')?.1.parse().ok()?;
        let address = address.parse::<SocketAddr>().ok().map(|address| address.ip());
        Some(WantedPort { name: "the metrics".to_owned(), key: "metrics.listen".to_owned(), port, address })
    });
    listeners.chain(metrics).collect()
}

impl WantedPort {
    fn text(&self) -> String {
        match self.address {
            Some(address) => format!("{} {}", self.name, SocketAddr::new(address, self.port)),
            None => format!("{} {}", self.name, self.port),
        }
    }
}

fn evaluate(
    subject: &Subject,
    status: &StatusAnswer,
    wanted: &WantedPort,
    found: &[ListeningPort],
) -> Finding {
    let place = wanted.text();
    if wanted.port == 0 {
        let listening = status.report().map(|report| report.listening.join(", "));
        return match listening {
            Some(listening) => Finding::ok(format!("{} is a free one: {listening}", wanted.name)),
            None => {
                Finding::note(format!("{} is a free one that only the log of the process names", wanted.name))
            }
        };
    }
    let holders: Vec<_> = found.iter().filter(|found| found.overlaps(wanted.port, wanted.address)).collect();
    let owners: Vec<_> = holders.iter().filter_map(|holder| holder.owner()).collect();
    let of_kind = |kind| owners.iter().find(|owner| owner.kind == kind);
    if holders.is_empty() {
        return nothing_listens(subject, status, wanted);
    }
    if let Some(owner) = of_kind(OwnerKind::Other) {
        return taken(wanted, &place, owner);
    }
    if let Some(owner) = of_kind(OwnerKind::Original) {
        return Finding::ok(format!("{place}: {}", owner.text(&subject.config.product.daemon)));
    }
    if let Some(owner) = of_kind(OwnerKind::Nodegate) {
        let is_other = status.report().is_some_and(|report| report.pid != owner.pid);
        if is_other && subject.config.is_beside_another() && wanted.key != "listen.port" {
            return left_out(&place, owner);
        }
        return nodegate(status, &place, owner);
    }
    let users: Vec<_> = holders.iter().map(|holder| holder.user.as_str()).collect();
    let is_reported = |report: &crate::metrics::report::StatusReport| {
        let is_it = |address: &String| address.parse().is_ok_and(|it: SocketAddr| it.port() == wanted.port);
        report.listening.iter().any(is_it)
    };
    if status.report().is_some_and(is_reported) {
        return Finding::ok(format!("{place}: the running nodegate"));
    }
    Finding::note(format!("{place}: a process of user '{}' listens", users.first().copied().unwrap_or("?")))
        .because("only root sees which process it is")
        .mend(format!("sudo {}", subject.command("doctor")))
}

fn nothing_listens(subject: &Subject, status: &StatusAnswer, wanted: &WantedPort) -> Finding {
    let (place, why) = (wanted.text(), "clients get a refused connection");
    let reload = subject.command("reload");
    match status.report() {
        Some(report) => Finding::error(format!(
            "{place}: nothing listens, though nodegate runs (it listens on {})",
            report.listening.join(", ")
        ))
        .because(why)
        .mend(if !report.reverted.is_empty() {
            format!("{} # a reload reverted values that the files still hold", subject.command("status"))
        } else if sandbox::LOW_PORTS.contains(&wanted.port) {
            format!("{reload} # if it is refused, the unit needs CAP_NET_BIND_SERVICE: see \"Ports below 1024\" in listeners.md")
        } else {
            reload
        }),
        None => Finding::error(format!("{place}: nothing listens"))
            .because(why)
            .mend(format!("systemctl start {0} || journalctl -u {0} -n 50", subject.unit())),
    }
}

fn taken(wanted: &WantedPort, place: &str, owner: &Owner) -> Finding {
    Finding::error(format!("{place}: '{}' (pid {}) listens", owner.command, owner.pid))
        .because("nodegate cannot listen there, and clients reach that program")
        .mend(format!("stop that program (systemctl status {}), or set another {}", owner.pid, wanted.key))
}

/// A port that a trial leaves to the nodegate beside it.
fn left_out(place: &str, owner: &Owner) -> Finding {
    Finding::note(format!("{place}: nodegate, pid {}; the trial leaves it out", owner.pid))
        .because("two processes cannot listen on one port")
        .mend("give the trial another port with --set, or nothing")
}

fn nodegate(status: &StatusAnswer, place: &str, owner: &Owner) -> Finding {
    match status {
        StatusAnswer::Running(report) if report.pid == owner.pid => {
            Finding::ok(format!("{place}: nodegate {}, pid {}", report.version, owner.pid))
        }
        StatusAnswer::Running(report) => Finding::warning(format!(
            "{place}: pid {} of nodegate listens, and pid {} answers",
            owner.pid, report.pid
        ))
        .because("two processes share the clients if this is no upgrade that just runs")
        .mend(format!("systemctl status {} {}", owner.pid, report.pid)),
        StatusAnswer::Silent(_) | StatusAnswer::Forbidden(_) => {
            Finding::ok(format!("{place}: nodegate, pid {}", owner.pid))
        }
        StatusAnswer::Absent(_) => Finding::note(format!(
            "{place}: nodegate, pid {}, without this control socket",
            owner.pid
        ))
        .because(
            "its socket was deleted, or it was started with another profile, another --root or another port",
        )
        .mend(format!("ps -o args= -p {}", owner.pid)),
    }
}
