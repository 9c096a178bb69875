//! The texts of the unit files. Their source is that of the packages: `debian/units` and `debian/takeover`.

use std::fmt::Write as _;
use std::path::Path;

use include_dir::{Dir, include_dir};

use crate::config::Config;

/// The units of the packages. A constant; `static`, so that the binary holds them once.
static UNITS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/debian/units");
/// Starts the original if nodegate does not come up.
pub(super) const FALLBACK_SCRIPT: &str = include_str!("../../../debian/takeover/fallback");
/// Gives the port back if the guard of a trial ends without a verdict.
pub(super) const TRIAL_END_SCRIPT: &str = include_str!("../../../debian/takeover/trial-end");
pub(super) const FALLBACK_UNIT: &str = "nodegate-fallback@.service";
/// The places of the fallback's script: of the package, and of a program without one.
pub(super) const PACKAGE_SCRIPT: &str = "/usr/lib/nodegate/fallback";
pub(super) const LOCAL_SCRIPT: &str = "/usr/local/lib/nodegate/fallback";
/// How the packages start nodegate.
const PACKAGE_START: &str = "ExecStart=/usr/bin/nodegate run ";

/// The program and the profile that a unit runs.
pub(super) struct UnitCommand<'a> {
    pub(super) program: &'a Path,
    pub(super) profile: &'a str,
}

impl UnitCommand<'_> {
    fn run(&self, options: &str) -> String {
        format!("ExecStart={}{options} run {}", self.program.display(), self.profile)
    }
}

/// The drop-ins that make nodegate the program of the daemon's unit. Their names are those of the packages, so the
/// fallback hides either.
pub(super) fn drop_ins(config: &Config, command: &UnitCommand<'_>) -> [(&'static str, String); 3] {
    let written = format!(
        "# Written by `nodegate takeover {0}`. `nodegate giveback {0}` removes it.\n",
        command.profile
    );
    let with_header = |text: &str| written.clone() + text;
    [
        ("nodegate.conf", with_header(&of_daemon(config, command))),
        ("nodegate-takeover.conf", with_header(unit("takeover.conf"))),
        ("nodegate-hardening.conf", with_header(unit("hardening.conf"))),
    ]
}

/// One drop-in for a trial. Its guard takes the place of the fallback.
pub(super) fn trial(config: &Config, command: &UnitCommand<'_>) -> String {
    let daemon = &config.product.daemon;
    let about =
        format!("[Unit]\nDescription=nodegate in place of {daemon}, on trial (nodegate-trial@{daemon})\n");
    without_fallback(config, command) + &about
}

/// A unit that starts nodegate as the drop-ins do, on another port.
pub(super) fn rehearsal(config: &Config, command: &UnitCommand<'_>, port: u16) -> String {
    let about = format!("[Unit]\nDescription=nodegate rehearses the work of {}\n", config.product.daemon);
    // An empty log writes nowhere. The preparations are the original's, which has run them.
    let options = format!(" --set listen.address=127.0.0.1 --set listen.port={port} --set log.access=");
    let start = format!(
        "[Service]\nExecStartPre=\nExecStartPost=\nExecStart=\n{}\nRestart=no\nTimeoutStopSec=15\nRuntimeMaxSec=600\n",
        command.run(&options)
    );
    about + &without_fallback(config, command) + &start
}

/// The unit of the guard.
pub(super) fn guard(config: &Config, command: &UnitCommand<'_>, script: &Path) -> String {
    let daemon = &config.product.daemon;
    let (program, profile) = (command.program.display(), command.profile);
    let script = script.display();
    format!(
        "# Written by `nodegate takeover {profile}`; a reboot removes it.\n\
         [Unit]\n\
         Description=guard of nodegate's trial in place of {daemon}\n\
         Documentation=file:///usr/share/doc/nodegate/docs/install.md\n\n\
         [Service]\n\
         Type=notify\n\
         ExecStart={program} guard {profile}\n\
         # If the guard ends in another way than by its verdict, the original gets the port back.\n\
         ExecStopPost=/bin/sh {script} {daemon}\n\
         Restart=no\n\
         # The start includes the original's preparations.\n\
         TimeoutStartSec=300\n\
         TimeoutStopSec=300\n\
         # It holds answers of the product, and a credential.\n\
         LimitCORE=0\n\
         OOMScoreAdjust=-900\n\
         NoNewPrivileges=yes\n\
         CapabilityBoundingSet=CAP_DAC_READ_SEARCH\n\
         ProtectSystem=strict\n\
         ProtectHome=yes\n\
         ReadWritePaths=/run/systemd /run/nodegate-takeover\n\
         PrivateTmp=yes\n\
         PrivateDevices=yes\n\
         ProtectKernelModules=yes\n\
         ProtectKernelTunables=yes\n\
         ProtectControlGroups=yes\n\
         RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n\
         RestrictNamespaces=yes\n\
         RestrictRealtime=yes\n\
         LockPersonality=yes\n\
         MemoryDenyWriteExecute=yes\n\
         SystemCallArchitectures=native\n"
    )
}

/// The unit of the fallback, where no package has it.
pub(super) fn local_fallback_unit() -> String {
    unit(FALLBACK_UNIT).replace(PACKAGE_SCRIPT, LOCAL_SCRIPT)
}

fn without_fallback(config: &Config, command: &UnitCommand<'_>) -> String {
    let texts = drop_ins(config, command).map(|(_, text)| text);
    let lines = texts.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with("OnFailure="));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The part that is specific to this daemon. A product without a file has only the part from its profile.
fn of_daemon(config: &Config, command: &UnitCommand<'_>) -> String {
    let name = format!("{}.conf", config.product.daemon);
    let start = command.run("");
    if let Some(text) = UNITS.get_file(&name).and_then(|file| file.contents_utf8()) {
        let lines = text.lines().skip_while(|line| line.starts_with('#'));
        let lines = lines.map(|line| if line.starts_with(PACKAGE_START) { start.as_str() } else { line });
        return lines.flat_map(|line| [line, "\n"]).collect();
    }
    let mut text = format!("[Service]\nExecStart=\n{start}\n");
    let pid_file = config.product.pid_file.as_ref().and_then(|path| path.strip_prefix("/run").ok()?.parent());
    if let Some(directory) = pid_file.filter(|directory| !directory.as_os_str().is_empty()) {
        let directory = directory.display();
        let _ = writeln!(
            text,
            "RuntimeDirectory={directory}\nRuntimeDirectoryMode=0700\nRuntimeDirectoryPreserve=yes"
        );
    }
    if let Some(directory) = config.settings.access_log.as_deref().and_then(Path::parent) {
        let _ = writeln!(text, "ReadWritePaths=-{}", directory.display());
    }
    text
}

fn unit(name: &str) -> &'static str {
    UNITS.get_file(name).and_then(|file| file.contents_utf8()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigSources;

    fn config(profile: &str) -> Config {
        Config::load(profile, &ConfigSources::default()).unwrap()
    }

    fn command(profile: &str) -> UnitCommand<'_> {
        UnitCommand { program: Path::new("/usr/local/bin/nodegate"), profile }
    }

    #[test]
    fn the_texts_are_those_of_the_packages() {
        for profile in ["pve", "pmg", "spice"] {
            let [(_, own), (_, takeover), (_, hardening)] = drop_ins(&config(profile), &command(profile));
            let start = format!("ExecStart=\nExecStart=/usr/local/bin/nodegate run {profile}\n");
            assert!(own.contains(&start) && own.contains("ReadWritePaths=-/var/log/"), "{own}");
            assert!(!own.contains("while nodegate-"), "{own}");
            assert!(
                takeover.ends_with(unit("takeover.conf")) && takeover.contains("OnFailure="),
                "{takeover}"
            );
            assert!(hardening.ends_with(unit("hardening.conf")) && hardening.contains("User=www-data"));
        }
        assert!(drop_ins(&config("pve"), &command("pve"))[0].1.contains("pvecm updatecerts"));
    }

    #[test]
    fn a_trial_has_no_fallback() {
        let trial = trial(&config("pve"), &command("pve"));
        assert!(!trial.contains("OnFailure=") && trial.contains("Type=notify"), "{trial}");
        assert!(trial.contains("on trial (nodegate-trial@pveproxy)"), "{trial}");
        let rehearsal = rehearsal(&config("pve"), &command("pve"), 4711);
        let start = "ExecStart=/usr/local/bin/nodegate --set listen.address=127.0.0.1 --set listen.port=4711";
        let last = rehearsal.rsplit_once("ExecStart=\n").unwrap().1;
        assert!(last.starts_with(start) && !rehearsal.contains("OnFailure="), "{rehearsal}");
    }

    #[test]
    fn the_local_fallback_runs_the_local_script() {
        let text = local_fallback_unit();
        assert!(text.contains("ExecStart=/usr/local/lib/nodegate/fallback start %i"), "{text}");
        assert!(!text.contains(" /usr/lib/nodegate") && !text.contains("=/usr/lib/nodegate"), "{text}");
    }
}
