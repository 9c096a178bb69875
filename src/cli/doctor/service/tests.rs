use super::super::finding::Level;
use super::*;

fn subject() -> Subject {
    Subject::of_test("pve")
}

const OURS: &str = "Id=pveproxy.service\nLoadState=loaded\nActiveState=active\nSubState=running\nResult=success\n\
    NRestarts=0\nNeedDaemonReload=no\nUnitFileState=enabled\nUser=www-data\nNoNewPrivileges=yes\nProtectSystem=strict\n\
    CapabilityBoundingSet=\nDropInPaths=/usr/lib/systemd/system/pveproxy.service.d/nodegate.conf\n\
    ExecStart={ path=/usr/bin/nodegate ; argv[]=/usr/bin/nodegate run pve ; ignore_errors=no }\n";

/// The findings that are not good, for the blocks of `systemctl show`.
fn found(blocks: &[&str]) -> Vec<(Level, String)> {
    let subject = subject();
    let units = units(&names(&subject), &parse(&blocks.join("\n")));
    let findings = evaluate(&subject, &units);
    for finding in findings.iter().filter(|finding| finding.level < Level::Note) {
        assert!(finding.why.is_some() && finding.mend.is_some(), "{finding:?}");
    }
    let bad = findings.into_iter().filter(|finding| finding.level != Level::Ok);
    bad.map(|finding| (finding.level, finding.what)).collect()
}

#[test]
fn a_unit_in_order_has_no_finding() {
    assert_eq!(found(&[OURS]), []);
}

#[test]
fn each_state_of_the_unit_has_its_finding() {
    let cases = [
        (
            OURS.replace("ActiveState=active", "ActiveState=failed")
                .replace("Result=success", "Result=exit-code"),
            Level::Error,
            "has failed (exit-code)",
        ),
        (
            OURS.replace(
                "ActiveState=active\nSubState=running",
                "ActiveState=activating\nSubState=auto-restart",
            ),
            Level::Error,
            "again and again",
        ),
        (OURS.replace("ActiveState=active", "ActiveState=inactive"), Level::Warning, "is inactive"),
        (OURS.replace("NRestarts=0", "NRestarts=3"), Level::Warning, "restarted pveproxy.service 3 times"),
        (OURS.replace("NeedDaemonReload=no", "NeedDaemonReload=yes"), Level::Warning, "have changed"),
        (OURS.replace("UnitFileState=enabled", "UnitFileState=disabled"), Level::Warning, "at boot"),
        (
            OURS.replace("/usr/bin/nodegate run pve", "/usr/bin/pveproxy start")
                .replace("path=/usr/bin/nodegate ", "path=/usr/bin/pveproxy ")
                .replace("ActiveState=active", "ActiveState=inactive"),
            Level::Note,
            "starts the original",
        ),
    ];
    for (block, level, text) in cases {
        let all = found(&[&block]);
        assert!(all.len() == 1 && all[0].0 == level && all[0].1.contains(text), "{text}: {all:?}");
    }
}

#[test]
fn a_drop_in_without_sandbox_is_named() {
    let block = OURS
        .replace("ProtectSystem=strict", "ProtectSystem=no")
        .replace("CapabilityBoundingSet=", "CapabilityBoundingSet=cap_chown cap_kill cap_setuid")
        .replace("nodegate.conf\n", "nodegate.conf /etc/systemd/system/pveproxy.service.d/override.conf\n");
    let all = found(&[&block]);
    let expected = "the sandbox of pveproxy.service is not whole: CapabilityBoundingSet=cap_chown and 2 more, \
                    ProtectSystem=no (/etc/systemd/system/pveproxy.service.d/override.conf)";
    assert_eq!(all, [(Level::Warning, expected.to_owned())]);
    let findings = sandbox::evaluate(&subject(), &parse(&block)[0]);
    let mend = "sed -i -E '/^(CapabilityBoundingSet|ProtectSystem)=/d' \
                /etc/systemd/system/pveproxy.service.d/override.conf \
                && systemctl daemon-reload && systemctl restart pveproxy.service";
    assert_eq!(findings[0].mend.as_deref(), Some(mend));
    let ours = block.replace("override.conf", "nodegate-trial.conf");
    let findings = sandbox::evaluate(&subject(), &parse(&ours)[0]);
    assert_eq!(
        findings[0].mend.as_deref(),
        Some("systemctl cat pveproxy.service"),
        "that is no file of the admin"
    );
}

#[test]
fn a_low_port_needs_its_capability() {
    let block = OURS.replace("CapabilityBoundingSet=", "CapabilityBoundingSet=cap_net_bind_service");
    let unit = &parse(&block)[0];
    let mut subject = subject();
    assert_eq!(sandbox::evaluate(&subject, unit)[0].level, Level::Warning);
    subject.config.settings.listeners[0].listen.port = 443;
    assert_eq!(sandbox::evaluate(&subject, unit)[0].level, Level::Ok);
    let more = block.replace("cap_net_bind_service", "cap_chown cap_net_bind_service");
    assert_eq!(sandbox::evaluate(&subject, &parse(&more)[0])[0].level, Level::Warning);
}

#[test]
fn a_trial_is_a_note() {
    let trial =
        OURS.replace("/usr/lib/systemd", "/run/systemd").replace("nodegate.conf", "nodegate-trial.conf");
    assert_eq!(found(&[&trial]), [(Level::Note, "pveproxy.service runs nodegate on trial".to_owned())]);
    let note = on_trial(&subject(), &parse(&trial)[0]).unwrap();
    assert!(note.mend.is_some_and(|mend| mend.starts_with("nodegate takeover pve --confirm # ")));
}

#[test]
fn the_original_beside_nodegate_is_an_error() {
    let fallback = "Id=nodegate-fallback@pveproxy.service\nLoadState=loaded\nActiveState=active\n";
    let all = found(&[OURS, fallback]);
    assert!(
        all[0].0 == Level::Error && all[0].1.contains("the original pveproxy runs in its place"),
        "{all:?}"
    );
    assert!(all[0].1.starts_with("nodegate or a page of it failed"), "{all:?}");
    let stopped = OURS
        .replace("path=/usr/bin/nodegate ", "path=/usr/bin/pveproxy ")
        .replace("/usr/bin/nodegate run pve", "/usr/bin/pveproxy start")
        .replace("ActiveState=active", "ActiveState=failed");
    let instance = OURS
        .replace("Id=pveproxy.service", "Id=nodegate@pve.service")
        .replace("ActiveState=active", "ActiveState=inactive");
    let both_failed = fallback.replace("ActiveState=active", "ActiveState=failed");
    let all = found(&[&stopped, &instance, &both_failed]);
    assert!(all.len() == 1 && all[0].1.ends_with("nothing serves"), "{all:?}");
    let instance = OURS.replace("Id=pveproxy.service", "Id=nodegate@pve.service");
    let all = found(&[OURS, &instance]);
    let both = "pveproxy.service and nodegate@pve.service are both active";
    assert_eq!(all, [(Level::Error, both.to_owned())]);
}

/// The daemon's unit without a drop-in.
fn original() -> String {
    OURS.replace("path=/usr/bin/nodegate ", "path=/usr/bin/pveproxy ")
        .replace("/usr/bin/nodegate run pve", "/usr/bin/pveproxy start")
}

#[test]
fn a_failed_second_unit_is_named() {
    let original = original();
    let instance = OURS
        .replace("Id=pveproxy.service", "Id=nodegate@pve.service")
        .replace("ActiveState=active", "ActiveState=failed");
    let failed = "nodegate@pve.service is failed, and pveproxy.service is active".to_owned();
    assert_eq!(found(&[&original, &instance]), [(Level::Warning, failed)]);
}

/// Neither a second unit on the port of the original nor the worker of nodegate has to start.
#[test]
fn beside_the_original_no_unit_has_to_start() {
    let original = original();
    let instance = OURS
        .replace("Id=pveproxy.service", "Id=nodegate@pve.service")
        .replace("ActiveState=active", "ActiveState=inactive")
        .replace("UnitFileState=enabled", "UnitFileState=disabled");
    let subject = subject();
    let units = units(&names(&subject), &parse(&[original, instance].join("\n")));
    let findings = evaluate(&subject, &units);
    assert_eq!(findings, [Finding::ok("pveproxy.service runs the original")]);
}
