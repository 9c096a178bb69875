use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::login_tables::*;
use super::tables::*;
use super::*;
use crate::config::auth::{LifetimeSource, LoginCall};
use crate::config::grammar::{CsrfRules, HalfLogin, TicketForm};
use crate::config::page::{PageRules, TemplateChoice, VariableRules};
use crate::config::product::*;
use crate::config::profile::read_profile;
use crate::config::route_scope::CallLimit;
use crate::config::{built_in_profile, built_in_profiles};

/// The keys of a type, as serde's error about an unknown one lists them.
fn names_of<T: DeserializeOwned>() -> BTreeSet<String> {
    let Err(error) = toml::from_str::<T>("no_such_key = 1") else { unreachable!() };
    let message = error.message().to_owned();
    let (_, expected) = message.split_once("expected ").unwrap();
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_key_of_every_type_has_a_row() {
    let tables: Vec<(&TableKeys, BTreeSet<String>)> = vec![
        (&PRODUCT, names_of::<Product>()),
        (&CERTIFICATE, names_of::<CertificatePaths>()),
        (&NODES, names_of::<NodeListRules>()),
        (&DOCTOR, names_of::<DoctorRules>()),
        (&DUMP, names_of::<DumpRules>()),
        (&COMPARE, names_of::<CompareRules>()),
        (&API, names_of::<ApiRules>()),
        (&BACKEND, names_of::<BackendRules>()),
        (&WORKER_COUNT, names_of::<WorkerCountFile>()),
        (&PAGE_TITLE, names_of::<PageTitle>()),
        (&AUTH, names_of::<AuthRules>()),
        (&LOGIN, names_of::<LoginCall>()),
        (&TICKET, names_of::<TicketKind>()),
        (&LIFETIME, names_of::<LifetimeSource>()),
        (&TICKET_FORM, names_of::<TicketForm>()),
        (&HALF_LOGIN, names_of::<HalfLogin>()),
        (&CSRF, names_of::<CsrfRules>()),
        (&UPLOAD, names_of::<UploadRules>()),
        (&CONSOLE, names_of::<ConsoleAnswerRules>()),
        (&CONSOLE_TICKET, names_of::<ConsoleTicket>()),
        (&CONNECT, names_of::<ConnectRules>()),
        (&ANSWERS, names_of::<ProxyAnswers>()),
        (&DIRECTORY, names_of::<DirectoryRules>()),
        (&FILE, names_of::<SingleFile>()),
        (&PAGE, names_of::<PageRules>()),
        (&TEMPLATE, names_of::<TemplateChoice>()),
        (&VARIABLE, names_of::<VariableRules>()),
        (&ROUTE_SCOPE, names_of::<RouteScope>()),
        (&SCOPE_LOGIN, names_of::<ScopeLogin>()),
        (&CALL_LIMIT, names_of::<CallLimit>()),
    ];
    for (table, names) in &tables {
        let rows: BTreeSet<_> = table.keys.iter().map(|key| key.name.to_owned()).collect();
        assert_eq!(&rows, names, "{} {:?}", table.header, rows);
    }
    let mut listed = Vec::new();
    walk(&PRODUCT, &mut |table| listed.push(table.keys.as_ptr()));
    assert!(tables.iter().all(|(table, _)| listed.contains(&table.keys.as_ptr())));
}

fn walk(table: &'static TableKeys, visit: &mut impl FnMut(&'static TableKeys)) {
    visit(table);
    for key in table.keys {
        if let ValueShape::Table(inner) | ValueShape::Tables(inner) | ValueShape::Named(inner) = key.value {
            walk(inner, visit);
        }
    }
}

#[derive(Clone)]
enum Step {
    Key(String),
    Item(usize),
}

fn at<'a>(root: &'a mut toml::Value, path: &[Step]) -> &'a mut toml::Value {
    path.iter().fold(root, |value, step| match step {
        Step::Key(name) => value.get_mut(name.as_str()).unwrap(),
        Step::Item(index) => value.get_mut(*index).unwrap(),
    })
}

/// The tables of a value, each with its path and its rows.
fn tables_in(
    value: &toml::Value,
    rows: &'static TableKeys,
    path: &[Step],
    found: &mut Vec<(Vec<Step>, &'static TableKeys)>,
) {
    found.push((path.to_vec(), rows));
    for key in rows.keys {
        let Some(inner) = value.get(key.name) else { continue };
        let path = [path, &[Step::Key(key.name.to_owned())]].concat();
        match key.value {
            ValueShape::Plain => (),
            ValueShape::Table(rows) => tables_in(inner, rows, &path, found),
            ValueShape::Tables(rows) => {
                for (index, item) in inner.as_array().unwrap().iter().enumerate() {
                    tables_in(item, rows, &[path.as_slice(), &[Step::Item(index)]].concat(), found);
                }
            }
            ValueShape::Named(rows) => {
                for (name, item) in inner.as_table().unwrap() {
                    tables_in(item, rows, &[path.as_slice(), &[Step::Key(name.clone())]].concat(), found);
                }
            }
        }
    }
}

/// Each key of each table of the built-in profiles is removed in turn.
#[test]
fn a_needed_key_cannot_be_left_out() {
    let mut tried = BTreeSet::new();
    for name in built_in_profiles() {
        let profile: toml::Table = built_in_profile(&name).unwrap().parse().unwrap();
        let root = profile["product"].clone();
        let mut tables = Vec::new();
        tables_in(&root, &PRODUCT, &[], &mut tables);
        for (path, rows) in tables {
            for key in rows.keys {
                let mut root = root.clone();
                if at(&mut root, &path).as_table_mut().unwrap().remove(key.name).is_none() {
                    continue;
                }
                let is_refused = Product::deserialize(root).is_err();
                assert_eq!(is_refused, key.need == Need::Always, "{name}: {} {}", rows.header, key.name);
                tried.insert((rows.keys.as_ptr(), key.name));
            }
        }
    }
    let mut untried = Vec::new();
    walk(&PRODUCT, &mut |table| {
        let needed = table.keys.iter().filter(|key| key.need == Need::Always);
        untried.extend(
            needed.filter(|key| !tried.contains(&(table.keys.as_ptr(), key.name))).map(|key| key.name),
        );
    });
    assert_eq!(untried, Vec::<&str>::new());
}

const DOCUMENT: &str = include_str!("../../../docs/reference/profile.md");

/// The rows of the table with this header.
fn documented(header: &str) -> Vec<Vec<&str>> {
    let head = format!("| `{header}` | needed | meaning |");
    let lines = DOCUMENT.lines().skip_while(|line| *line != head).skip(2);
    let rows = lines.map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.map(|row| row.split(" | ").collect()).collect()
}

#[test]
fn the_page_has_the_row_of_each_key() {
    walk(&PRODUCT, &mut |table| {
        if table.header.is_empty() {
            return;
        }
        let row = |key: &ProductKey| {
            let needed = match key.need {
                Need::Always => "yes".to_owned(),
                Need::Protocol(protocol) => format!("with `{protocol}`"),
                Need::With(other) => format!("with `{other}`"),
                Need::Without(other) => format!("without `{other}`"),
                Need::Never => "no".to_owned(),
            };
            format!("| `{}` | {needed} | {} |", key.name, key.purpose)
        };
        let expected: Vec<_> = table.keys.iter().map(row).collect();
        let found: Vec<_> =
            documented(table.header).iter().map(|cells| format!("| {} |", cells.join(" | "))).collect();
        let head = format!("| `{}` | needed | meaning |\n|---|---|---|", table.header);
        assert_eq!(found, expected, "docs/reference/profile.md has to have\n{head}\n{}", expected.join("\n"));
    });
}

#[test]
fn all_mistakes_come_at_once_with_purposes() {
    let text = "limits.bodyy = 1\n\n[product]\nname = \"x\"\nprotocol = \"https\"\nserver = \"x\"\n\n\
                [product.auth]\ncokie = \"c\"\nuser_length = 64\n\n[[product.auth.ticket]]\nprefix = \"X\"\n";
    let Err(problems) = read_profile(text, Some(Path::new("x.toml"))) else { unreachable!() };
    let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let said: Vec<_> = said.iter().map(|line| line.strip_prefix("x.toml").unwrap()).collect();
    assert_eq!(
        said,
        [
            ":1: limits.bodyy: unknown key; did you mean limits.body?",
            ":3: product.daemon: is missing: the daemon that nodegate replaces",
            ":3: product.certificate: is missing: the certificates to serve; it needs file",
            ":3: product.api: is missing: the paths of API calls; it needs prefix",
            ":8: product.auth.cookie: is missing: the cookie with the ticket",
            ":8: product.auth.invalid: is missing: the reason that every refused ticket gets",
            ":8: product.auth.schemes: is missing: the signature schemes that are accepted, in their order; see *Tickets*",
            ":8: product.auth.open: is missing: calls without login, compared exactly",
            ":8: product.auth.ticket_form: is missing: the form of all your tickets; it needs fields, separator, time, \
             signature_separator, signature, half_logins",
            ":8: product.auth.csrf: is missing: the token that a write with a ticket needs; it needs header, secret, \
             key, mac, encoding, separator, time, min_age, max_age",
            ":9: product.auth.cokie: unknown key; did you mean product.auth.cookie?",
            ":12: product.auth.ticket[1].key: is missing: the public key",
            ":12: product.auth.ticket[1].min_age: is missing: seconds, exclusive; negative, for clocks that differ",
            ":12: product.auth.ticket[1].max_age: is missing: seconds, exclusive",
        ]
    );
}

#[test]
fn wrong_values_of_several_keys_come_at_once() {
    let text = "[product]\nname = 3\ndaemon = \"x\"\nserver = \"x\"\nprotocol = \"http\"\n\n\
                [[product.file]]\nurl = \"/a\"\npath = []\n";
    let Err(problems) = read_profile(text, None) else { unreachable!() };
    let mut said: Vec<_> =
        problems.iter().map(|problem| (problem.origin.place().1, problem.key.as_str())).collect();
    said.sort_unstable();
    assert_eq!(said, [(Some(2), "product.name"), (Some(5), "product.protocol"), (Some(9), "product.file")]);
    let Err(problems) = read_profile("[product]\nextra = 1\n", None) else { unreachable!() };
    assert!(
        problems.iter().any(|problem| problem.message.contains("the keys of [product] are name, daemon")),
        "{problems:?}"
    );
}
