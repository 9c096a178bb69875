//! Memory that the settings allow. The packages' units and `docs/operate/limits.md` have the same formula.

use crate::limits::concurrency::ConnectionCapacity;

const MIB: u64 = 1 << 20;
/// The program itself, its caches and tables, and the memory that the allocator keeps.
const BASE_BYTES: u64 = 128 * MIB;
/// Bytes for a connection whose client does not read its responses, logged in or not: TLS, a request, pieces of a
/// response. Unauthenticated clients have less.
const HTTP1_BYTES: u64 = 192 << 10;
/// The same, if every stream of HTTP/2 has a response waiting.
const HTTP2_BYTES: u64 = 448 << 10;
/// Two pieces of an uploaded file.
const UPLOAD_BYTES: u64 = MIB;

/// Bytes that one process takes when all limits are reached. `buffered` is for all bodies.
pub fn allowed_bytes(
    capacity: ConnectionCapacity,
    speaks_http2: bool,
    buffered: usize,
    uploads: usize,
) -> u64 {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let connection = if speaks_http2 { HTTP2_BYTES } else { HTTP1_BYTES };
    BASE_BYTES
        .saturating_add(number(buffered))
        .saturating_add(number(capacity.connections).saturating_mul(connection))
        .saturating_add(number(uploads).saturating_mul(UPLOAD_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_have_what_the_defaults_allow() {
        let capacity = ConnectionCapacity::new(0, 65_536);
        let allowed = allowed_bytes(capacity, false, 64 << 20, 64) / MIB;
        // After an upgrade the draining process is in the same group.
        let (high, most) = (format!("MemoryHigh={allowed}M"), format!("MemoryMax={}M", allowed / 2 * 3));
        for unit in [
            include_str!("../../debian/units/nodegate@.service"),
            include_str!("../../debian/units/takeover.conf"),
        ] {
            assert!(unit.contains("LimitNOFILE=65536\n"));
            assert!(unit.lines().any(|line| line == high), "{high}");
            assert!(unit.lines().any(|line| line == most), "{most}");
        }
    }

    #[test]
    fn unauthenticated_memory_is_part_of_the_estimate() {
        for connections in [100, 16_384] {
            let capacity = ConnectionCapacity { connections, reserve: 1 };
            let without = allowed_bytes(ConnectionCapacity { connections: 0, reserve: 1 }, false, 0, 0);
            let unauthenticated = u64::try_from(capacity.unauthenticated_bytes()).unwrap_or(u64::MAX);
            assert!(allowed_bytes(capacity, false, 0, 0) - without >= unauthenticated);
        }
    }
}
