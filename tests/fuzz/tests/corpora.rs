//! Every input that is kept, on the ordinary build.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

use std::fs;

use nodegate_fuzz::{TARGETS, corpus, target};

#[test]
fn no_corpus_entry_breaks_a_rule() {
    for target in TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(corpus(target.name)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let outcome = std::panic::catch_unwind(|| (target.run)(&bytes));
            assert!(outcome.is_ok(), "{}", path.display());
            count += 1;
        }
        assert!(count >= 3, "{} has {count} inputs", target.name);
    }
}

/// A few changes of each, so that a reader that trusts its corpus is found without the fuzzer as well.
#[test]
fn no_changed_entry_breaks_a_rule() {
    for target in TARGETS {
        for entry in fs::read_dir(corpus(target.name)).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            let step = (bytes.len() / 8).max(1);
            for at in (0..bytes.len()).step_by(step) {
                let mut changed = bytes.clone();
                if let Some(byte) = changed.get_mut(at) {
                    *byte ^= 0x21;
                }
                (target.run)(&changed);
                (target.run)(bytes.get(..at).unwrap_or_default());
            }
        }
    }
}

#[test]
fn every_corpus_has_its_target() {
    for entry in fs::read_dir(corpus("")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(target(name.to_str().unwrap()).is_some(), "{name:?} is no target's");
    }
}
