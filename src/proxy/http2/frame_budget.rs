//! Frames that cost a client next to nothing, and us more (RFC 9113 section 10.5): each is paid from an account that
//! fills with time and with what is sent to the client.

use std::time::Duration;

/// Bytes that begin a connection before its first frame.
const PREFACE: usize = 24;
const HEADER: usize = 9;
/// What the account holds at most, and at first.
const FULL: u64 = 2000;
/// Earned a second.
const PER_SECOND: u64 = 100;
/// So many times as much for a front, behind which there are many clients.
const CLIENTS_OF_FRONT: u64 = 100;
/// Bytes sent to the client that earn one: a small window is opened anew for each 4 kB, on stream and connection.
const BYTES: u64 = 256;
/// A piece of a body with fewer bytes has to be paid for.
const SMALL: usize = 128;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

/// What one client has left, and where in its frames it is.
pub(crate) struct FrameBudget {
    left: u64,
    /// how many clients it is for
    clients: u64,
    /// when it was last filled, since the connection began
    filled: Duration,
    /// bytes sent that have not earned anything yet
    sent: u64,
    header: [u8; HEADER],
    known: usize,
    /// bytes before the next frame begins
    skip: usize,
}

impl FrameBudget {
    pub(crate) fn new() -> Self {
        Self::of_clients(1)
    }

    /// The account of a front that is trusted.
    pub(crate) fn of_front() -> Self {
        Self::of_clients(CLIENTS_OF_FRONT)
    }

    fn of_clients(clients: u64) -> Self {
        let left = FULL * clients;
        Self { left, clients, filled: Duration::ZERO, sent: 0, header: [0; HEADER], known: 0, skip: PREFACE }
    }

    /// Whether the client could pay for so many requests that are reset as malformed.
    pub(crate) fn pay_for_malformed(&mut self, streams: usize) -> bool {
        let price = price(RST_STREAM, 0).saturating_mul(u64::try_from(streams).unwrap_or(u64::MAX));
        let left = self.left.checked_sub(price);
        self.left = left.unwrap_or_default();
        left.is_some()
    }

    /// So many bytes went to the client.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.earn(self.sent / BYTES);
        self.sent %= BYTES;
    }

    /// Whether the client could pay for what has come from it; `now` is the time since the connection began.
    pub(crate) fn received(&mut self, mut bytes: &[u8], now: Duration) -> bool {
        let seconds = now.saturating_sub(self.filled).as_secs();
        if seconds > 0 {
            self.earn(seconds.saturating_mul(PER_SECOND * self.clients));
            self.filled = now;
        }
        while !bytes.is_empty() {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = bytes.get(passed..).unwrap_or_default();
            for (place, byte) in self.header.iter_mut().skip(self.known).zip(bytes) {
                *place = *byte;
            }
            let taken = bytes.len().min(HEADER - self.known);
            self.known += taken;
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.known == HEADER {
                self.known = 0;
                let [high, middle, low, kind, ..] = self.header;
                self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                let Some(left) = self.left.checked_sub(price(kind, self.skip)) else { return false };
                self.left = left;
            }
        }
        true
    }

    fn earn(&mut self, more: u64) {
        self.left = self.left.saturating_add(more).min(FULL * self.clients);
    }
}

/// A stream that is given up has cost a request; an answer to a ping or to settings has to be written.
fn price(kind: u8, length: usize) -> u64 {
    match kind {
        HEADERS => 0,
        DATA if length >= SMALL => 0,
        RST_STREAM => 10,
        SETTINGS | PING => 4,
        DATA | WINDOW_UPDATE => 1,
        // PRIORITY, CONTINUATION, and whatever is not known
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, 1];
        frame.extend(vec![0xff; usize::from(length)]);
        frame
    }

    /// How many of a kind a client may send at once.
    fn at_once(kind: u8, length: u8) -> usize {
        let mut account = FrameBudget::new();
        assert!(account.received(&[0; PREFACE], Duration::ZERO));
        (0..10_000).take_while(|_| account.received(&frame(kind, length), Duration::ZERO)).count()
    }

    #[test]
    fn what_costs_nothing_else_is_counted() {
        assert_eq!([at_once(RST_STREAM, 4), at_once(PING, 8), at_once(SETTINGS, 0)], [200, 500, 500]);
        assert_eq!([at_once(DATA, 0), at_once(WINDOW_UPDATE, 4), at_once(9, 0)], [2000, 2000, 1000]);
        assert_eq!([at_once(HEADERS, 30), at_once(DATA, 200)], [10_000, 10_000]);
    }

    #[test]
    fn frames_are_told_apart_however_they_are_cut() {
        let all = [vec![0; PREFACE], frame(DATA, 200), frame(PING, 8), frame(RST_STREAM, 4)].concat();
        for size in 1..all.len() {
            let mut account = FrameBudget::new();
            assert!(all.chunks(size).all(|piece| account.received(piece, Duration::ZERO)));
            assert_eq!((account.left, account.known, account.skip), (FULL - 14, 0, 0), "{size}");
        }
    }

    #[test]
    fn time_and_answers_are_earned() {
        let mut account = FrameBudget::new();
        assert!(account.received(&[0; PREFACE], Duration::ZERO));
        while account.received(&frame(PING, 8), Duration::ZERO) {}
        assert_eq!(account.left, 0);
        account.sent(4096);
        account.sent(255);
        assert_eq!(account.left, 16);
        assert!(account.received(&[], Duration::from_millis(2500)));
        assert_eq!(account.left, 216);
        assert!(account.received(&[], Duration::from_hours(1)));
        assert_eq!(account.left, FULL);
    }
}
