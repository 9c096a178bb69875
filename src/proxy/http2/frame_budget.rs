//! A token bucket for frames that cost a client little and nodegate more (RFC 9113 section 10.5). It refills with time
//! and with the bytes sent to the client.

use std::time::Duration;

use h2::Reason;

use super::frame::{
    DATA, HEADER_BYTES, HEADERS, PING, PREFACE_BYTES, RST_STREAM, SETTINGS, WINDOW_UPDATE, connection_error,
    payload_bytes,
};

/// Tokens of a full bucket, and at the start.
const MAX_TOKENS: u64 = 2000;
const TOKENS_PER_SECOND: u64 = 100;
/// A trusted proxy has the budget of this many clients.
const CLIENTS_OF_TRUSTED_PROXY: u64 = 100;
/// Sending this many bytes to the client adds a token. A client with a small window sends a `WINDOW_UPDATE` for each
/// 4 kB, on the stream and on the connection.
const BYTES_PER_TOKEN: u64 = 256;
/// A DATA frame with fewer bytes costs a token.
const SMALL_DATA_BYTES: usize = 128;

/// The tokens of one client, and the position in its frames.
pub(super) struct FrameBudget {
    left: u64,
    clients: u64,
    /// time of the last refill, after the connection began
    filled: Duration,
    /// bytes sent since the last token
    sent: u64,
    header: [u8; HEADER_BYTES],
    known: usize,
    /// bytes before the next frame begins
    skip: usize,
}

impl FrameBudget {
    pub fn new() -> Self {
        Self::for_clients(1)
    }

    /// The budget of a trusted proxy.
    pub(super) fn for_trusted_proxy() -> Self {
        Self::for_clients(CLIENTS_OF_TRUSTED_PROXY)
    }

    fn for_clients(clients: u64) -> Self {
        let left = MAX_TOKENS * clients;
        Self {
            left,
            clients,
            filled: Duration::ZERO,
            sent: 0,
            header: [0; HEADER_BYTES],
            known: 0,
            skip: PREFACE_BYTES,
        }
    }

    /// Charges the resets of malformed requests.
    ///
    /// # Errors
    /// The budget did not cover them.
    pub(super) fn pay_for_malformed(&mut self, streams: usize) -> Result<(), Reason> {
        self.pay(cost(RST_STREAM, 0).saturating_mul(u64::try_from(streams).unwrap_or(u64::MAX)))
    }

    fn pay(&mut self, cost: u64) -> Result<(), Reason> {
        let left = self.left.checked_sub(cost);
        self.left = left.unwrap_or_default();
        left.map(drop).ok_or(Reason::ENHANCE_YOUR_CALM)
    }

    /// Adds tokens for bytes sent to the client.
    pub fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.refill(self.sent / BYTES_PER_TOKEN);
        self.sent %= BYTES_PER_TOKEN;
    }

    /// Charges the frames in `bytes`; `now` is the time since the connection began.
    ///
    /// # Errors
    /// The budget did not cover them, or one of them is a connection error.
    pub fn received(&mut self, mut bytes: &[u8], now: Duration) -> Result<(), Reason> {
        let seconds = now.saturating_sub(self.filled).as_secs();
        if seconds > 0 {
            self.refill(seconds.saturating_mul(TOKENS_PER_SECOND * self.clients));
            self.filled = now;
        }
        while !bytes.is_empty() {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = bytes.get(passed..).unwrap_or_default();
            for (place, byte) in self.header.iter_mut().skip(self.known).zip(bytes) {
                *place = *byte;
            }
            let taken = bytes.len().min(HEADER_BYTES - self.known);
            self.known += taken;
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.known == HEADER_BYTES {
                self.known = 0;
                let [_, _, _, kind, ..] = self.header;
                self.skip = payload_bytes(self.header);
                self.pay(cost(kind, self.skip))?;
                connection_error(self.header, bytes).map_or(Ok(()), Err)?;
            }
        }
        Ok(())
    }

    fn refill(&mut self, tokens: u64) {
        self.left = self.left.saturating_add(tokens).min(MAX_TOKENS * self.clients);
    }
}

/// Tokens of one frame. A reset stream has cost a request, and nodegate must answer a ping or settings.
fn cost(kind: u8, length: usize) -> u64 {
    match kind {
        HEADERS => 0,
        DATA if length >= SMALL_DATA_BYTES => 0,
        RST_STREAM => 10,
        SETTINGS | PING => 4,
        DATA | WINDOW_UPDATE => 1,
        // PRIORITY, CONTINUATION and unknown types
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
        let mut budget = FrameBudget::new();
        assert_eq!(budget.received(&[0; PREFACE_BYTES], Duration::ZERO), Ok(()));
        (0..10_000).take_while(|_| budget.received(&frame(kind, length), Duration::ZERO).is_ok()).count()
    }

    #[test]
    fn what_costs_nothing_else_is_counted() {
        assert_eq!([at_once(RST_STREAM, 4), at_once(PING, 8), at_once(SETTINGS, 0)], [200, 500, 500]);
        assert_eq!([at_once(DATA, 0), at_once(WINDOW_UPDATE, 4), at_once(9, 0)], [2000, 2000, 1000]);
        assert_eq!([at_once(HEADERS, 30), at_once(DATA, 200)], [10_000, 10_000]);
    }

    #[test]
    fn frames_are_recognized_however_they_are_split() {
        let all = [vec![0; PREFACE_BYTES], frame(DATA, 200), frame(PING, 8), frame(RST_STREAM, 4)].concat();
        for size in 1..all.len() {
            let mut budget = FrameBudget::new();
            assert!(all.chunks(size).all(|piece| budget.received(piece, Duration::ZERO).is_ok()));
            assert_eq!((budget.left, budget.known, budget.skip), (MAX_TOKENS - 14, 0, 0), "{size}");
        }
    }

    #[test]
    fn time_and_answers_are_earned() {
        let mut budget = FrameBudget::new();
        assert_eq!(budget.received(&[0; PREFACE_BYTES], Duration::ZERO), Ok(()));
        while budget.received(&frame(PING, 8), Duration::ZERO).is_ok() {}
        assert_eq!(budget.left, 0);
        budget.sent(4096);
        budget.sent(255);
        assert_eq!(budget.left, 16);
        assert_eq!(budget.received(&[], Duration::from_millis(2500)), Ok(()));
        assert_eq!(budget.left, 216);
        assert_eq!(budget.received(&[], Duration::from_hours(1)), Ok(()));
        assert_eq!(budget.left, MAX_TOKENS);
    }
}
