//! The time of a thread's last event, for whoever can do without the exact one: reading the clock costs as much as
//! comparing a ticket with a known one, and a request would do it twenty times.

use std::cell::Cell;
use std::time::{Duration, Instant};

thread_local! {
    static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// From now on this thread goes by its last event. It has to call `refresh` whenever it has slept, and whoever begins to
/// wait for something does as well.
pub fn begin() {
    LAST.set(Some(Instant::now()));
}

/// Something has happened: the time as it is.
pub fn refresh() -> Instant {
    let now = Instant::now();
    if LAST.get().is_some() {
        LAST.set(Some(now));
    }
    now
}

/// The time of the thread's last event; in other threads than workers the time as it is.
pub fn now() -> Instant {
    LAST.get().unwrap_or_else(Instant::now)
}

/// How long ago `then` was at the last event.
pub fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

#[cfg(test)]
mod tests {
    use std::thread::{sleep, spawn};

    use super::*;

    #[test]
    fn only_a_thread_that_has_begun_goes_by_its_last_event() {
        const MOMENT: Duration = Duration::from_millis(5);
        let began = Instant::now();
        sleep(MOMENT);
        assert!(since(began) >= MOMENT);
        assert!(refresh() <= now());
        let thread = spawn(|| {
            begin();
            let before = now();
            sleep(MOMENT);
            assert_eq!(now(), before);
            assert!(refresh() >= before + MOMENT);
            assert!(since(before) >= MOMENT);
            assert_eq!(since(Instant::now()), Duration::ZERO);
        });
        assert!(thread.join().is_ok());
    }
}
