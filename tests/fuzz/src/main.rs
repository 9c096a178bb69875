//! Run by libFuzzer: `tests/fuzz/run` builds it with `--cfg fuzzing` and names the target in the environment. Built
//! without, it gives one file to a target: `fuzz TARGET FILE`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static CHOSEN: std::sync::LazyLock<&nodegate_fuzz::Target> = std::sync::LazyLock::new(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        nodegate_fuzz::target(&name).unwrap_or_else(|| std::process::exit(2))
    });
    (CHOSEN.run)(bytes);
});

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [name, file] = arguments.as_slice() else { return std::process::ExitCode::from(2) };
    match (nodegate_fuzz::target(name), std::fs::read(file)) {
        (Some(target), Ok(bytes)) => {
            (target.run)(&bytes);
            std::process::ExitCode::SUCCESS
        }
        (None, _) | (_, Err(_)) => std::process::ExitCode::from(2),
    }
}
