//! A panic on demand, so that a test can see its effect. Release builds do not have it.

use http::request::Parts;

/// For a request to the path in the environment.
///
/// # Panics
///
/// If the paths are equal.
#[cfg(debug_assertions)]
pub fn panic_if_injected(head: &Parts) {
    // The environment belongs to the process and is read once.
    static PATH: std::sync::LazyLock<Option<std::ffi::OsString>> =
        std::sync::LazyLock::new(|| std::env::var_os("FAULT_PANIC_AT"));
    assert!(PATH.as_deref().is_none_or(|path| path != head.uri.path()), "the environment asked for it");
}

#[cfg(not(debug_assertions))]
pub const fn panic_if_injected(_: &Parts) {}
