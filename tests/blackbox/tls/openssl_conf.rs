//! OpenSSL's own configuration: providers, and values that it does not understand.

use super::{has_post_quantum, s_client, shakes_hands};
use crate::support::{Nodegate, Outcome, Site};

/// The active lines of `/etc/ssl/openssl.cnf` that Debian 13 installs, then those of a test.
fn settings(providers: &[&str], lines: &str) -> String {
    let names = providers.join(" = provider\n") + " = provider\n";
    format!(
        "config_diagnostics = 1\nopenssl_conf = openssl_init\n[openssl_init]\nproviders = provider_sect\n\
         ssl_conf = ssl_sect\n[provider_sect]\n{names}[provider]\nactivate = 1\n[ssl_sect]\n\
         system_default = system_sect\n[system_sect]\n{lines}\n"
    )
}

fn start(site: &Site, settings: &str) -> Nodegate {
    site.write("/openssl.cnf", settings);
    Nodegate::spawn(Nodegate::prepared(site, "pve", &[]).env("OPENSSL_CONF", site.path("/openssl.cnf")))
}

/// The message of a start that fails with these settings.
fn refusal(site: &Site, settings: &str) -> String {
    site.write("/openssl.cnf", settings);
    let mut command = Nodegate::prepared(site, "pve", &[]);
    let outcome = Outcome::of(command.env("OPENSSL_CONF", site.path("/openssl.cnf")));
    assert_eq!(outcome.code, 1, "{outcome:?}");
    outcome.stderr
}

#[test]
fn activated_providers_are_used() {
    let site = Site::pve();
    let gate = start(&site, &settings(&["default"], "MinProtocol = TLSv1.3"));
    assert!(shakes_hands(gate.address(), &["-tls1_3"]) && !shakes_hands(gate.address(), &["-tls1_2"]));
    let gate = start(&site, &settings(&["default", "base"], "Groups = P-384"));
    assert!(shakes_hands(gate.address(), &["-groups", "P-384"]));
    assert!(!shakes_hands(gate.address(), &["-groups", "X25519"]));
}

#[test]
fn a_configuration_without_ciphers_is_named() {
    let site = Site::pve();
    for provider in ["base", "null"] {
        let said = refusal(&site, &settings(&[provider], ""));
        let message = "profile: tls: OpenSSL: none of the providers that openssl.cnf activates has ciphers for TLS: \
                       activate `default` as well";
        assert!(said.lines().any(|line| line == message), "{provider}: {said}");
    }
}

/// With `config_diagnostics`, as Debian 13 sets it, and its OpenSSL. Without either OpenSSL ignores the value.
#[test]
fn a_value_openssl_does_not_understand_is_named() {
    let site = Site::pve();
    for (line, command) in [
        ("Groups = NOSUCH", "cmd=Groups, value=NOSUCH"),
        ("MinProtocol = TLSv9", "cmd=MinProtocol, value=TLSv9"),
    ] {
        let strict = settings(&["default"], line);
        let lenient = strict.replace("config_diagnostics = 1\n", "");
        if has_post_quantum() {
            let said = refusal(&site, &strict);
            let message =
                format!("OpenSSL: openssl.cnf has a value that OpenSSL does not understand: {command}");
            assert!(said.contains(&message), "{line}: {said}");
        } else {
            let gate = start(&site, &strict);
            assert!(s_client(gate.address(), &[]).contains("HTTP/1.1 404 "), "{line}");
        }
        let gate = start(&site, &lenient);
        assert!(s_client(gate.address(), &[]).contains("HTTP/1.1 404 "), "{line}");
    }
}
