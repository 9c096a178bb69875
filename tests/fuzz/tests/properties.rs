//! Readers beside the programs whose habits they follow: bash for settings files, Python's `ipaddress` for addresses.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nodegate::testing::config::shell;
use nodegate::testing::net::{AddressRange, parse_entry};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn cases(count: u32) -> TestRunner {
    TestRunner::new(Config { cases: count, failure_persistence: None, ..Config::default() })
}

/// A program that answers each line with a line.
struct Oracle {
    process: Child,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Oracle {
    fn start(command: &mut Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, pipes: RefCell::new((stdin, BufReader::new(stdout))) }
    }

    fn ask(&self, line: &str) -> String {
        let (stdin, stdout) = &mut *self.pipes.borrow_mut();
        writeln!(stdin, "{line}").unwrap();
        let mut answer = String::new();
        stdout.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads files by their names and shows the variables, as `NAME=VALUE` in hexadecimal digits. A file with a problem
/// changes nothing outside its subshell.
const BASH: &str = r#"
while read -r file; do
    (
        unset A B_1 _c
        . "$file" >/dev/null 2>&1
        for name in A B_1 _c; do
            [ -n "${!name+x}" ] && printf '%s=%s ' "$name" "$(printf %s "${!name}" | od -An -v -tx1 | tr -d ' \n')"
        done
        echo
    )
done
"#;

fn hex(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// The reader's result for a file, in the words of the script above; `None` where it rejects something.
fn read_like_bash(text: &str) -> Option<String> {
    let (assignments, errors) = shell::parse(text.as_bytes());
    let last: BTreeMap<_, _> =
        assignments.iter().map(|one| (one.name.as_str(), one.value.as_str())).collect();
    errors.is_empty().then(|| {
        let shown = ["A", "B_1", "_c"].into_iter().filter_map(|name| Some((name, last.get(name)?)));
        shown.map(|(name, value)| format!("{name}={}", hex(value))).collect::<Vec<_>>().join(" ")
    })
}

/// A piece of a value, in every kind of quotes.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9:/,.=%@^_-]{1,6}",
        "'[^']{0,6}'",
        r#""([ a-z#;&'*?\[~-]|\\["\\$`a\n]|\$A|\$\{B_1\}){0,6}""#,
        r"\\[ -~]",
        "\\$(A|B_1|_c|\\{A\\}|\\{_c\\})",
        "\\\\\n",
        "[#~*?\\[\\]{}!+]{1,2}",
    ]
}

fn command() -> impl Strategy<Value = String> {
    let assignment = ("(A|B_1|_c)", "\\+?=", proptest::collection::vec(piece(), 0..4))
        .prop_map(|(name, operator, pieces)| format!("{name}{operator}{}", pieces.concat()));
    let assignments = proptest::collection::vec(assignment, 1..3).prop_map(|all| all.join(" ")).boxed();
    prop_oneof![
        4 => assignments.clone(),
        1 => assignments.prop_map(|all| format!("export {all}")),
        1 => "[ \t]{0,2}#[ -~]{0,9}",
        1 => "[ \t]{0,3}",
    ]
}

#[test]
fn settings_files_are_read_as_bash_reads_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("settings");
    let bash =
        Oracle::start(Command::new("bash").env_clear().env("PATH", "/usr/bin:/bin").args(["-c", BASH]));
    let ends = prop_oneof![Just("\n"), Just("; "), Just(" # x\n"), Just("\r\n")];
    let files = proptest::collection::vec((command(), ends), 1..5);
    let read = Cell::new(0);
    let outcome = cases(600).run(&files, |commands| {
        let text: String = commands.iter().flat_map(|(command, end)| [command.as_str(), end]).collect();
        // CRLF is taken for a line end, which bash would make part of the value.
        std::fs::write(&file, text.replace("\r\n", "\n")).unwrap();
        let said = bash.ask(file.to_str().unwrap());
        if let Some(own) = read_like_bash(&text) {
            read.set(read.get() + 1);
            prop_assert_eq!(own, said, "{:?}", text);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!(read.get() > 200, "only {} files were read at all", read.get());
}

/// `FIRST LAST` of a network, a range or an address; empty for what is none.
const PYTHON: &str = "
import sys, ipaddress
for line in sys.stdin:
    text = line.rstrip('\\n')
    try:
        if '-' in text:
            first, last = map(ipaddress.ip_address, text.split('-'))
            list(ipaddress.summarize_address_range(first, last))
        else:
            network = ipaddress.ip_network(text)
            first, last = network[0], network[-1]
        print(first, last, flush=True)
    except (ValueError, TypeError):
        print(flush=True)
";

fn ends(range: AddressRange) -> (IpAddr, IpAddr) {
    (range.first(), range.last())
}

/// Addresses near one another and near the ends, so that ranges and networks often fit.
fn address() -> impl Strategy<Value = IpAddr> {
    let v4 =
        prop_oneof![any::<u32>(), 0..512_u32, (0xffff_fe00..=u32::MAX), any::<u32>().prop_map(|it| it << 8)];
    let v6 = prop_oneof![
        any::<u128>(),
        0..512_u128,
        any::<u128>().prop_map(|it| it << 64),
        any::<u64>().prop_map(u128::from)
    ];
    prop_oneof![
        v4.prop_map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))),
        v6.prop_map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits)))
    ]
}

fn entry() -> impl Strategy<Value = String> {
    prop_oneof![
        address().prop_map(|one| one.to_string()),
        (address(), 0..=130_u8).prop_map(|(one, length)| format!("{one}/{length}")),
        // With no bits behind the prefix.
        (any::<u32>(), 0..=32_u32).prop_map(|(bits, length)| {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            format!("{}/{length}", Ipv4Addr::from_bits(bits & mask))
        }),
        (any::<u128>(), 0..=128_u32).prop_map(|(bits, length)| {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            format!("{}/{length}", Ipv6Addr::from_bits(bits & mask))
        }),
        (address(), address()).prop_map(|(first, last)| format!("{first}-{last}")),
        "[0-9a-f:.]{1,12}(/[0-9]{1,3})?",
    ]
}

#[test]
fn address_lists_are_read_as_python_reads_them() {
    let python = Oracle::start(Command::new("python3").args(["-c", PYTHON]));
    let read = Cell::new(0);
    let outcome = cases(4000).run(&entry(), |text| {
        let said = python.ask(&text);
        let own = parse_entry(&text).ok();
        let Some((first, last)) = said.split_once(' ') else {
            // Shortened and zero-padded addresses, which Perl's Net::IP reads and Python does not.
            let lenient = !text.contains(':') || text.contains('.');
            prop_assert!(own.is_none() || lenient, "{} is none for Python", text);
            return Ok(());
        };
        let expected: (IpAddr, IpAddr) = (first.parse().unwrap(), last.parse().unwrap());
        // One habit of Net::IP that is kept: at most seven colons.
        if text.split(['-', '/']).any(|part| part.matches(':').count() > 7) {
            prop_assert!(own.is_none());
            return Ok(());
        }
        read.set(read.get() + 1);
        prop_assert_eq!(
            own.map(|ranges| ranges.into_iter().map(ends).collect::<Vec<_>>()),
            Some(vec![expected]),
            "{}",
            text
        );
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!(read.get() > 1000, "only {} entries were read at all", read.get());
}
