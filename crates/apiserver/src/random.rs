//! Names and ids that nobody chose: uids, suffixes of generated names.

use gantry_apimachinery::value::SmolStr;
use parking_lot::Mutex;

/// Letters and digits that form no words and are not mistaken for one another.
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of what `generateName` gets appended.
const SUFFIX_LENGTH: usize = 5;

/// A generator that gives the same sequence for the same seed (SplitMix64).
pub(crate) struct Random(Mutex<u64>);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(Mutex::new(seed))
    }

    pub(crate) fn next(&self) -> u64 {
        let mut state = self.0.lock();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A version 4 UUID.
    pub(crate) fn uid(&self) -> String {
        let (high, low) = (self.next(), self.next());
        let high = (high & !0xf000) | 0x4000;
        let low = (low & !(0b11 << 62)) | (0b10 << 62);
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }

    pub(crate) fn suffix(&self) -> SmolStr {
        let mut bits = self.next();
        let letters = (0..SUFFIX_LENGTH).map(|_| {
            let letter = SUFFIX_ALPHABET[(bits % 27) as usize];
            bits /= 27;
            char::from(letter)
        });
        letters.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_their_shape_and_repeat_with_the_seed() {
        let random = Random::new(7);
        let uid = random.uid();
        assert_eq!(uid.len(), 36);
        assert_eq!(&uid[14..15], "4");
        assert!(matches!(&uid[19..20], "8" | "9" | "a" | "b"));
        assert_eq!(Random::new(7).uid(), uid);
        assert_ne!(random.uid(), uid);
        assert_eq!(random.suffix().len(), 5);
    }
}
