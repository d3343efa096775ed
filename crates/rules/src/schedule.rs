//! When a group is evaluated: every interval, at a point within it that depends on the group alone.
//!
//! The point is a hash of file and name, so that the groups of a server do not all run at once and a restart does not
//! move them. All in nanoseconds since the epoch.

use xxhash_rust::xxh64::xxh64;

/// The hash of a group, as Prometheus hashes the label set of its file and name.
pub(crate) fn group_hash(file: &str, name: &str) -> u64 {
    let mut encoded = Vec::new();
    for text in ["file", file, "name", name] {
        match u8::try_from(text.len()) {
            Ok(length) if length < 255 => encoded.push(length),
            // Lengths that one byte cannot hold follow it in three.
            _ => {
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
                encoded.extend([255, length[0], length[1], length[2]]);
            }
        }
        encoded.extend(text.as_bytes());
    }
    xxh64(&encoded, 0)
}

/// The last time at or before `now_ns` at which a group with this hash is due.
pub(crate) fn due_before(now_ns: i64, hash: u64, interval_ns: i64) -> i64 {
    let interval = interval_ns.max(1);
    let offset = i64::try_from(hash % interval.unsigned_abs()).unwrap_or(0);
    let adjusted = now_ns - offset;
    adjusted - adjusted.rem_euclid(interval) + offset
}

/// The next time after `last_ns` for a group whose turn has come at `now_ns`, and how many turns were missed.
pub(crate) fn next_turn(last_ns: i64, now_ns: i64, interval_ns: i64) -> (i64, u64) {
    let interval = interval_ns.max(1);
    let missed = ((now_ns - last_ns) / interval - 1).max(0);
    (last_ns + (missed + 1) * interval, missed.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn a_group_is_due_at_its_own_point_of_the_interval() {
        let now = 1_700_000_000 * SECOND + 1;
        for name in ["a", "b", "c"] {
            let hash = group_hash("r.yml", name);
            let due = due_before(now, hash, 60 * SECOND);
            assert!(due <= now && now - due < 60 * SECOND);
            assert_eq!(due.rem_euclid(60 * SECOND) as u64, hash % (60 * SECOND) as u64);
            assert_eq!(due_before(due, hash, 60 * SECOND), due);
            assert_eq!(due_before(due + 60 * SECOND, hash, 60 * SECOND), due + 60 * SECOND);
        }
        assert_ne!(group_hash("r.yml", "a"), group_hash("r.yml", "b"));
        assert_ne!(group_hash("ab", "c"), group_hash("a", "bc"));
    }

    #[test]
    fn missed_turns_are_counted_and_left_out() {
        assert_eq!(next_turn(100, 110, 10), (110, 0));
        assert_eq!(next_turn(100, 119, 10), (110, 0));
        assert_eq!(next_turn(100, 120, 10), (120, 1));
        assert_eq!(next_turn(100, 155, 10), (150, 4));
        assert_eq!(next_turn(100, 90, 10), (110, 0), "a clock that was set back");
    }
}
