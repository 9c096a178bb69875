//! Limits the lines about one topic. Each subject, such as an address, has a token bucket, all subjects together have
//! a limit, and suppressed lines are counted. Times come in as values.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The lines of all subjects are counted in this interval.
const WINDOW: Duration = Duration::from_secs(1);

/// The limits of a topic.
#[derive(Clone, Copy, Debug)]
pub struct LineRate {
    /// lines of one subject in a burst
    pub burst: u32,
    /// until the same subject may have another line
    pub interval: Duration,
    /// lines of all subjects in a second; kept lines have as many again
    pub per_second: u32,
    /// limit of remembered subjects
    pub subjects: usize,
}

/// A suppressed line that is due now.
#[derive(Debug, Eq, PartialEq)]
pub struct KeptLine {
    pub text: Box<str>,
    /// further suppressed lines of the same subject
    pub left_out: u64,
}

/// The lines that may be logged now.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct DueLines {
    pub lines: Vec<KeptLine>,
    /// suppressed lines of subjects that are not remembered
    pub lost: u64,
}

pub struct LogThrottle {
    rate: LineRate,
    subjects: HashMap<Box<str>, ThrottledSubject>,
    window: Option<(Instant, u32)>,
    swept: Option<Instant>,
    lost: u64,
    lost_logged: Option<Instant>,
}

struct ThrottledSubject {
    /// the time when its bucket is full again
    full_at: Instant,
    left_out: u64,
    /// the first suppressed line and its time
    kept: Option<(Instant, Box<str>)>,
}

impl LogThrottle {
    pub fn new(rate: LineRate) -> Self {
        Self { rate, subjects: HashMap::new(), window: None, swept: None, lost: 0, lost_logged: None }
    }

    /// The number of lines of this subject that were suppressed before, if one may be logged now. Otherwise `line`
    /// returns the text to keep for later, if any.
    pub fn admit(
        &mut self,
        subject: &str,
        now: Instant,
        line: impl FnOnce() -> Option<Box<str>>,
    ) -> Option<u64> {
        if !self.subjects.contains_key(subject) {
            if self.subjects.len() >= self.rate.subjects && !self.sweep(now) {
                self.lost += 1;
                return None;
            }
            let fresh = ThrottledSubject { full_at: now, left_out: 0, kept: None };
            self.subjects.insert(subject.into(), fresh);
        }
        let has_room = self.has_room(now);
        let entry = self.subjects.get_mut(subject)?;
        if has_room && entry.take(self.rate, now) {
            entry.kept = None;
            let left_out = std::mem::take(&mut entry.left_out);
            self.count_line();
            return Some(left_out);
        }
        entry.left_out += 1;
        if entry.kept.is_none() {
            entry.kept = line().map(|text| (now, text));
        }
        None
    }

    /// Takes the kept lines that may be logged now, the oldest first, and forgets subjects with full buckets.
    pub fn due(&mut self, now: Instant) -> DueLines {
        let rate = self.rate;
        let mut waiting: Vec<_> = self
            .subjects
            .values_mut()
            .filter(|subject| subject.kept.is_some() && subject.may_have_line(rate, now))
            .collect();
        waiting.sort_by_key(|subject| subject.kept.as_ref().map(|(since, _)| *since));
        let most = usize::try_from(rate.per_second).unwrap_or(usize::MAX);
        let lines = waiting.into_iter().take(most).filter_map(|subject| {
            subject.take(rate, now);
            let (_, text) = subject.kept.take()?;
            let left_out = std::mem::take(&mut subject.left_out).saturating_sub(1);
            Some(KeptLine { text, left_out })
        });
        let lines = lines.collect();
        self.forget(now);
        let is_due = |logged: Instant| now.saturating_duration_since(logged) >= rate.interval;
        let lost = if self.lost > 0 && self.lost_logged.is_none_or(is_due) {
            self.lost_logged = Some(now);
            std::mem::take(&mut self.lost)
        } else {
            0
        };
        DueLines { lines, lost }
    }

    fn has_room(&mut self, now: Instant) -> bool {
        match self.window {
            Some((began, lines)) if now.saturating_duration_since(began) < WINDOW => {
                lines < self.rate.per_second
            }
            Some(_) | None => {
                self.window = Some((now, 0));
                true
            }
        }
    }

    fn count_line(&mut self) {
        if let Some((_, lines)) = &mut self.window {
            *lines += 1;
        }
    }

    /// Makes room for a subject, at most once a second, because a flood of subjects must not cost a walk each.
    /// Returns whether there is room.
    fn sweep(&mut self, now: Instant) -> bool {
        if self.swept.is_some_and(|before| now.saturating_duration_since(before) < WINDOW) {
            return false;
        }
        self.forget(now);
        self.subjects.len() < self.rate.subjects
    }

    /// A subject without a kept line is forgotten with its count.
    fn forget(&mut self, now: Instant) {
        self.swept = Some(now);
        self.subjects.retain(|_, subject| subject.kept.is_some() || subject.full_at > now);
    }
}

impl ThrottledSubject {
    fn may_have_line(&self, rate: LineRate, now: Instant) -> bool {
        self.full_at <= now + rate.interval * rate.burst.saturating_sub(1)
    }

    fn take(&mut self, rate: LineRate, now: Instant) -> bool {
        let may = self.may_have_line(rate, now);
        if may {
            self.full_at = self.full_at.max(now) + rate.interval;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: LineRate =
        LineRate { burst: 3, interval: Duration::from_secs(1), per_second: 50, subjects: 1000 };

    fn admit(throttle: &mut LogThrottle, subject: &str, now: Instant) -> Option<u64> {
        throttle.admit(subject, now, || Some(format!("{subject} failed").into()))
    }

    fn line(text: &str, left_out: u64) -> KeptLine {
        KeptLine { text: text.into(), left_out }
    }

    #[test]
    fn a_subject_gets_a_burst_then_intervals() {
        let (mut throttle, now) = (LogThrottle::new(RATE), Instant::now());
        let at = |milliseconds| now + Duration::from_millis(milliseconds);
        for number in 0..3 {
            assert_eq!(admit(&mut throttle, "a", now), Some(0), "{number}");
        }
        assert_eq!([admit(&mut throttle, "a", now), admit(&mut throttle, "a", at(900))], [None; 2]);
        assert_eq!(admit(&mut throttle, "b", at(900)), Some(0), "another subject");
        assert_eq!(admit(&mut throttle, "a", at(1000)), Some(2), "those left out are counted");
        assert_eq!(admit(&mut throttle, "a", at(1000)), None);
        assert_eq!(admit(&mut throttle, "a", at(9000)), Some(1));
        assert_eq!(admit(&mut throttle, "a", at(9000)), Some(0), "its lines are there again");
    }

    #[test]
    fn suppressed_lines_are_logged_when_due() {
        let (mut throttle, now) = (LogThrottle::new(RATE), Instant::now());
        for _ in 0..10 {
            admit(&mut throttle, "a", now);
        }
        assert_eq!(throttle.due(now), DueLines::default());
        let later = now + Duration::from_secs(1);
        assert_eq!(throttle.due(later).lines, [line("a failed", 6)]);
        assert_eq!(admit(&mut throttle, "a", later), None, "the kept line was that of this second");
        assert_eq!(throttle.due(later), DueLines::default());
    }

    #[test]
    fn an_hourly_interval_logs_a_subject_once() {
        let hourly = LineRate { burst: 1, interval: Duration::from_hours(1), ..RATE };
        let (mut throttle, begin) = (LogThrottle::new(hourly), Instant::now());
        let mut is_due = |subject: &str, minute| {
            throttle.admit(subject, begin + Duration::from_mins(minute), || None).is_some()
        };
        assert!(is_due("https://a", 0) && is_due("https://b", 1));
        assert!(!is_due("https://a", 59) && is_due("https://a", 60));
        assert!(!is_due("https://b", 60) && is_due("https://b", 61));
        assert_eq!(throttle.due(begin + Duration::from_hours(9)), DueLines::default(), "nothing was kept");
        assert!(throttle.subjects.is_empty());
    }

    #[test]
    fn subjects_share_a_bound_in_turn() {
        let (mut throttle, now) = (LogThrottle::new(RATE), Instant::now());
        let names: Vec<_> = (0..1000).map(|number| format!("{number:04}")).collect();
        let later = names.iter().filter(|name| admit(&mut throttle, name, now).is_none());
        let later: Vec<_> = later.map(|name| format!("{name} failed")).collect();
        assert_eq!(later.len(), 950);
        let mut kept: Vec<String> = Vec::new();
        for second in 1..=20 {
            let due = throttle.due(now + Duration::from_secs(second));
            assert!(due.lines.len() <= 50 && due.lost == 0);
            kept.extend(due.lines.iter().map(|line| line.text.to_string()));
        }
        kept.sort();
        assert_eq!(kept, later);
    }

    #[test]
    fn many_subjects_are_counted_in_bounded_memory() {
        let (mut throttle, now) = (LogThrottle::new(RATE), Instant::now());
        let mut logged = 0;
        let (mut kept, mut lost) = (0, 0);
        let mut collect = |due: DueLines| {
            kept += due.lines.iter().map(|line| 1 + line.left_out).sum::<u64>();
            lost += due.lost;
        };
        for number in 0..100_000_u32 {
            let at = now + Duration::from_micros(u64::from(number) * 20);
            logged += admit(&mut throttle, &number.to_string(), at).map_or(0, |before| 1 + before);
            assert!(throttle.subjects.len() <= RATE.subjects);
            if number % 50_000 == 49_999 {
                collect(throttle.due(at));
            }
        }
        (3..40).for_each(|second| collect(throttle.due(now + Duration::from_secs(second))));
        assert!(logged <= 150, "{logged} lines in two seconds");
        assert_eq!(logged + kept + lost, 100_000);
        assert_eq!(admit(&mut throttle, "later", now + Duration::from_mins(1)), Some(0));
    }
}
