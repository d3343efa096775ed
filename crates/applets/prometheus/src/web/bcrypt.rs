//! bcrypt, as the passwords of a web configuration are hashed: EksBlowfish of Provos and Mazières (1999).
//!
//! Blowfish's tables are the first digits of the fraction of pi; they are computed once instead of being written down.

use std::sync::LazyLock;

/// Cost beyond this would let one request hold a thread for minutes.
const MAX_COST: u32 = 16;
const ALPHABET: &[u8; 64] = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const SALT_BYTES: usize = 16;
const DIGEST_BYTES: usize = 23;
/// What is encrypted.
const TEXT: [u32; 6] = [0x4f72_7068, 0x6561_6e42, 0x6568_6f6c, 0x6465_7253, 0x6372_7944, 0x6f75_6274];
const P_WORDS: usize = 18;
const S_WORDS: usize = 4 * 256;

/// A password's hash.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hash {
    cost: u32,
    salt: [u8; SALT_BYTES],
    digest: [u8; DIGEST_BYTES],
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<hash>")
    }
}

impl Hash {
    /// Reads `$2b$10$` with 22 characters of salt and 31 of digest.
    pub(crate) fn parse(text: &str) -> Result<Hash, String> {
        let wrong = || {
            "the password is not a bcrypt hash; make one with: htpasswd -nBC 10 \"\" | tr -d ':\\n'"
                .to_owned()
        };
        let mut parts = text.strip_prefix('$').ok_or_else(wrong)?.split('$');
        let version = parts.next().ok_or_else(wrong)?;
        let cost = parts.next().and_then(|cost| cost.parse::<u32>().ok()).ok_or_else(wrong)?;
        let rest = parts.next().ok_or_else(wrong)?;
        if !matches!(version, "2" | "2a" | "2b" | "2y")
            || parts.next().is_some()
            || rest.len() != 53
            || !rest.is_ascii()
        {
            return Err(wrong());
        }
        if !(4..=MAX_COST).contains(&cost) {
            return Err(format!("a bcrypt cost of 4 to {MAX_COST} is accepted, not {cost}"));
        }
        let (salt, digest) = rest.split_at(22);
        Ok(Hash { cost, salt: decode(salt).ok_or_else(wrong)?, digest: decode(digest).ok_or_else(wrong)? })
    }

    /// Whether it is of this password. Takes as long as the cost says.
    pub(crate) fn is_of(&self, password: &str) -> bool {
        let digest = digest(self.cost, &self.salt, password);
        // Without an early end, which would tell how much was right.
        digest.iter().zip(&self.digest).fold(0, |wrong, (left, right)| wrong | (left ^ right)) == 0
    }
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = Vec::with_capacity(N + 2);
    let (mut buffer, mut bits) = (0u32, 0);
    for c in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == c)?;
        buffer = buffer << 6 | value as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits) as u8);
        }
    }
    bytes.get(..N)?.try_into().ok()
}

#[derive(Clone)]
struct Blowfish {
    p: [u32; P_WORDS],
    s: Box<[u32; S_WORDS]>,
}

static INITIAL: LazyLock<Blowfish> = LazyLock::new(|| {
    let words = pi_fraction(P_WORDS + S_WORDS);
    let mut initial = Blowfish { p: [0; P_WORDS], s: Box::new([0; S_WORDS]) };
    initial.p.copy_from_slice(&words[..P_WORDS]);
    initial.s.copy_from_slice(&words[P_WORDS..]);
    initial
});

impl Blowfish {
    fn encrypt(&self, mut left: u32, mut right: u32) -> (u32, u32) {
        for word in &self.p[..16] {
            left ^= word;
            let [a, b, c, d] = left.to_be_bytes().map(usize::from);
            let mixed = self.s[a].wrapping_add(self.s[256 + b]) ^ self.s[512 + c];
            right ^= mixed.wrapping_add(self.s[768 + d]);
            std::mem::swap(&mut left, &mut right);
        }
        std::mem::swap(&mut left, &mut right);
        (left ^ self.p[17], right ^ self.p[16])
    }

    /// Mixes a key in, and a salt if there is one.
    fn expand(&mut self, salt: &[u8], key: &[u8]) {
        let mut key = Words::of(key);
        for word in &mut self.p {
            *word ^= key.next();
        }
        let mut salt = Words::of(salt);
        let (mut left, mut right) = (0, 0);
        for pair in 0..P_WORDS / 2 {
            (left, right) = self.encrypt(left ^ salt.next(), right ^ salt.next());
            (self.p[2 * pair], self.p[2 * pair + 1]) = (left, right);
        }
        for pair in 0..S_WORDS / 2 {
            (left, right) = self.encrypt(left ^ salt.next(), right ^ salt.next());
            (self.s[2 * pair], self.s[2 * pair + 1]) = (left, right);
        }
    }
}

/// Big-endian words of bytes that begin anew at their end; zeros for none.
struct Words<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Words<'_> {
    fn of(bytes: &[u8]) -> Words<'_> {
        Words { bytes, at: 0 }
    }

    fn next(&mut self) -> u32 {
        let mut word = 0;
        for _ in 0..4 {
            let byte = self.bytes.get(self.at).copied().unwrap_or(0);
            word = word << 8 | u32::from(byte);
            self.at += 1;
            if self.at >= self.bytes.len() {
                self.at = 0;
            }
        }
        word
    }
}

fn digest(cost: u32, salt: &[u8], password: &str) -> [u8; DIGEST_BYTES] {
    let mut key: Vec<u8> = password.bytes().take(71).collect();
    // The end of the text belongs to the key; only the first 72 bytes count.
    key.push(password.as_bytes().get(71).copied().unwrap_or(0));
    let mut state = INITIAL.clone();
    state.expand(salt, &key);
    for _ in 0..1u64 << cost {
        state.expand(&[], &key);
        state.expand(&[], salt);
    }
    let mut text = TEXT;
    for pair in text.chunks_exact_mut(2) {
        for _ in 0..64 {
            (pair[0], pair[1]) = state.encrypt(pair[0], pair[1]);
        }
    }
    let mut bytes = [0; DIGEST_BYTES];
    for (byte, value) in bytes.iter_mut().zip(text.iter().flat_map(|word| word.to_be_bytes())) {
        *byte = value;
    }
    bytes
}

/// The first words of the fraction of pi, by Machin's formula: pi = 16 arctan(1/5) - 4 arctan(1/239).
fn pi_fraction(words: usize) -> Vec<u32> {
    // One word before the point, and some after the end for what rounding takes.
    let length = words + 1 + 4;
    let (fifth, other) = (arctan_inverse(5, 16, length), arctan_inverse(239, 4, length));
    let mut pi = fifth;
    subtract(&mut pi, &other);
    pi[1..=words].to_vec()
}

/// `factor` times the arctangent of `1/n`, as a fixed-point number with one word before the point.
fn arctan_inverse(n: u32, factor: u32, length: usize) -> Vec<u32> {
    let mut power = vec![0; length];
    power[0] = factor;
    divide(&mut power, n);
    let mut sum = power.clone();
    let mut term = vec![0; length];
    for index in 1u32.. {
        divide(&mut power, n * n);
        if power.iter().all(|word| *word == 0) {
            break;
        }
        term.copy_from_slice(&power);
        divide(&mut term, 2 * index + 1);
        if index % 2 == 1 { subtract(&mut sum, &term) } else { add(&mut sum, &term) }
    }
    sum
}

fn divide(number: &mut [u32], divisor: u32) {
    let mut rest = 0u64;
    for word in number {
        let value = rest << 32 | u64::from(*word);
        *word = (value / u64::from(divisor)) as u32;
        rest = value % u64::from(divisor);
    }
}

fn add(number: &mut [u32], other: &[u32]) {
    let mut carry = 0u64;
    for (word, other) in number.iter_mut().zip(other).rev() {
        let sum = u64::from(*word) + u64::from(*other) + carry;
        *word = sum as u32;
        carry = sum >> 32;
    }
}

fn subtract(number: &mut [u32], other: &[u32]) {
    let mut borrow = 0i64;
    for (word, other) in number.iter_mut().zip(other).rev() {
        let difference = i64::from(*word) - i64::from(*other) + borrow;
        *word = difference as u32;
        borrow = difference >> 32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_the_digits_of_pi() {
        assert_eq!(INITIAL.p[..4], [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]);
        assert_eq!(INITIAL.s[0], 0xd131_0ba6);
        assert_eq!(INITIAL.s[S_WORDS - 1], 0x3ac3_72e6);
    }

    #[test]
    fn known_hashes_are_of_their_passwords() {
        for (password, text) in [
            ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
            ("U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"),
            ("", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"),
        ] {
            let hash = Hash::parse(text).unwrap();
            assert!(hash.is_of(password), "{password}");
            assert!(!hash.is_of("other"));
        }
    }

    #[test]
    fn what_is_no_hash_is_refused_without_being_shown() {
        for text in [
            "",
            "secret",
            "$2a$05$short",
            "$2a$99$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            "$1$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        ] {
            let error = Hash::parse(text).unwrap_err();
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }
}
