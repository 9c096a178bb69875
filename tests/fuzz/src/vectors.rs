//! Tickets and tokens that are good, made by the originals' own libraries.

use std::sync::LazyLock;

use nodegate::testing::auth::ticket::TicketKey;

/// When all of them were made.
pub(crate) const MADE: i64 = 0x6B02_4400;
pub(crate) const PUBLIC_KEY: &[u8] = include_bytes!("../../data/vectors/authkey.pub");
pub(crate) const SECRET_FILE: &[u8] = include_bytes!("../../data/vectors/pve-www.key");
const VECTORS: &str = include_str!("../../data/vectors/tickets.tsv");

pub(crate) static KEY: LazyLock<TicketKey> = LazyLock::new(|| TicketKey::from_pem(PUBLIC_KEY).unwrap());

/// The last field of every row of a kind.
pub(crate) fn rows(kind: &str) -> impl Iterator<Item = &'static str> {
    let fields = VECTORS.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    fields.filter(move |fields| fields[0] == kind).map(|fields| *fields.last().unwrap())
}
