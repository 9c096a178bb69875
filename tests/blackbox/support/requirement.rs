//! Requirements of a test that not every machine meets: root, namespaces, a kernel feature, a program.

use std::io::Write as _;
use std::panic::catch_unwind;

/// Whether the test can go on. If the machine does not meet the requirement, the test fails. With
/// `NODEGATE_ALLOW_SKIP=1` it reports on stderr that it is skipped, and the caller returns.
pub fn require(is_met: bool, requirement: &str) -> bool {
    let allow_skip = std::env::var_os("NODEGATE_ALLOW_SKIP").is_some_and(|value| value == "1");
    check(is_met, requirement, allow_skip)
}

/// `require` for a test that needs root for the named action.
pub fn require_root(action: &str) -> bool {
    require(nix::unistd::geteuid().is_root(), &format!("root, to {action}"))
}

fn check(is_met: bool, requirement: &str, allow_skip: bool) -> bool {
    if is_met {
        return true;
    }
    assert!(allow_skip, "this test needs {requirement}; to skip such tests set NODEGATE_ALLOW_SKIP=1");
    // The test harness captures `eprintln!` of a test that passes.
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: needs {requirement}");
    false
}

#[test]
fn an_unmet_requirement_fails_unless_skips_are_allowed() {
    assert!(check(true, "nothing", false) && check(true, "nothing", true));
    assert!(!check(false, "a machine that no test has", true));
    let failure = catch_unwind(|| check(false, "a sixth wheel", false)).unwrap_err();
    let message = failure.downcast_ref::<String>().unwrap();
    assert!(message.starts_with("this test needs a sixth wheel;"), "{message}");
}
