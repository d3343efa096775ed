//! Request ids: 32 hexadecimal digits, unique per node by a seeded sequence.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct RequestIds {
    seed: u64,
    next: AtomicU64,
}

fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl RequestIds {
    pub(crate) fn new(seed: u64) -> RequestIds {
        RequestIds { seed: mix(seed ^ 0x9e37_79b9_7f4a_7c15), next: AtomicU64::new(0) }
    }

    /// Writes the next id into `out`.
    pub(crate) fn next(&self, out: &mut String) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        out.clear();
        for word in [mix(self.seed ^ mix(number)), mix(self.seed.wrapping_add(number))] {
            for nibble in (0..16).rev() {
                out.push(DIGITS[((word >> (nibble * 4)) & 15) as usize] as char);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_and_repeatable() {
        let take = |seed| {
            let ids = RequestIds::new(seed);
            let mut id = String::new();
            let mut all = Vec::new();
            for _ in 0..1_000 {
                ids.next(&mut id);
                assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
                all.push(id.clone());
            }
            all
        };
        let first = take(7);
        assert_eq!(first, take(7));
        let distinct: std::collections::HashSet<&String> = first.iter().collect();
        assert_eq!(distinct.len(), first.len());
        assert_ne!(first[0], take(8)[0]);
    }
}
