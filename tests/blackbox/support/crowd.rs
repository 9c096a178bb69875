//! Many cases at once: a refused login costs three seconds, whoever waits for it.

/// Checks every case in a thread of its own.
pub fn all_at_once<T: Sync>(cases: &[T], check: impl Fn(&T) + Sync) {
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| check(case));
        }
    });
}
