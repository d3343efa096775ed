//! Names and texts of the annotations in which handlers keep their state, byte for byte as Kopf writes them,
//! so that an operator can be moved from one to the other without running any handler twice.

use serde_json::Value;

use super::blake2b;

pub(crate) const KOPF_PREFIX: &str = "kopf.zalando.org";
const MARKER: &str = "kopf-managed";
const NAME_CHARS: usize = 63;

/// Makes annotation keys under one prefix.
#[derive(Clone, Debug)]
pub struct KeyNames {
    prefix: String,
    v1: bool,
}

impl KeyNames {
    /// `v1` also writes the names of the older scheme, which cut prefix and name together at 63 characters.
    pub fn new(prefix: &str, v1: bool) -> KeyNames {
        KeyNames { prefix: prefix.to_owned(), v1 }
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The keys of a handler's record or of another note, newest scheme first.
    pub fn keys(&self, name: &str) -> Vec<String> {
        let mut keys = vec![self.v2_key(name)];
        if self.v1 {
            let key = self.v1_key(name);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }

    /// The key that shows others that this prefix belongs to an operator; Kopf's own needs none.
    pub fn marker(&self) -> Option<String> {
        if self.prefix.starts_with("kopf.") { None } else { Some(format!("{}/{MARKER}", self.prefix)) }
    }

    fn v2_key(&self, name: &str) -> String {
        let suffix = if name.chars().count() > NAME_CHARS { suffix(name) } else { String::new() };
        let kept: String = safe(name).chars().take(NAME_CHARS.saturating_sub(suffix.len())).collect();
        format!("{}/{kept}{suffix}", self.prefix)
    }

    fn v1_key(&self, name: &str) -> String {
        let safe = safe(name);
        let room = NAME_CHARS.saturating_sub(self.prefix.len() + 1);
        let suffix = if safe.chars().count() > room { suffix(&safe) } else { String::new() };
        let kept: String = safe.chars().take(room.saturating_sub(suffix.len())).collect();
        format!("{}/{kept}{suffix}", self.prefix)
    }
}

fn safe(name: &str) -> String {
    name.chars()
        .map(|letter| match letter {
            '/' => '.',
            '<' | '>' => '_',
            other => other,
        })
        .collect()
}

/// A dash and four digest bytes in base 64, where `+/` are `-.` and the end must be alphanumeric.
fn suffix(name: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.";
    let digest: [u8; 4] = blake2b::digest(name.as_bytes());
    let bits = u64::from(u32::from_be_bytes(digest)) << 4;
    let letters = (0..6)
        .rev()
        .map(|index| char::from(ALPHABET[usize::try_from((bits >> (6 * index)) & 63).unwrap_or(0)]));
    let text: String = std::iter::once('-').chain(letters).collect();
    text.trim_end_matches(['=', '-', '.']).to_owned()
}

/// Prefixes of operators of this family among annotation keys: their notes are nobody's configuration.
pub(crate) fn operator_prefixes<'a>(keys: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut prefixes: Vec<String> = Vec::new();
    for (prefix, name) in keys.filter_map(|key| key.split_once('/')) {
        let kopf =
            prefix == KOPF_PREFIX || prefix.strip_suffix(KOPF_PREFIX).is_some_and(|rest| rest.ends_with('.'));
        if (name == MARKER || kopf) && !prefixes.iter().any(|known| known == prefix) {
            prefixes.push(prefix.to_owned());
        }
    }
    prefixes
}

/// Compact JSON with everything beyond ASCII escaped, as Python writes it.
pub(crate) fn ascii_json(value: &Value) -> String {
    let compact = value.to_string();
    if compact.is_ascii() {
        return compact;
    }
    let mut text = String::with_capacity(compact.len() + 16);
    for letter in compact.chars() {
        if letter.is_ascii() {
            text.push(letter);
        } else {
            let mut units = [0u16; 2];
            for unit in letter.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn short_names_stay_readable() {
        let names = KeyNames::new("example.com", true);
        assert_eq!(names.keys("on_create"), ["example.com/on_create"]);
        assert_eq!(names.keys("on_create/spec.size"), ["example.com/on_create.spec.size"]);
        assert_eq!(names.keys("<lambda>"), ["example.com/_lambda_"]);
    }

    #[test]
    fn long_names_end_in_a_hash_in_both_schemes() {
        let names = KeyNames::new("example.com", true);
        let keys = names.keys(&"n".repeat(80));
        let ends: Vec<bool> = keys.iter().map(|key| key.contains("nn-")).collect();
        assert_eq!(ends, [true, true]);
        assert_eq!(
            keys.iter().map(|key| key.split_once('/').map_or(0, |(_, name)| name.len())).max(),
            Some(63)
        );
        assert!(keys.iter().any(|key| key.len() == 63));
        assert_eq!(KeyNames::new("example.com", false).keys(&"n".repeat(80)).len(), 1);
    }

    #[test]
    fn a_prefix_longer_than_a_name_does_not_break() {
        let names = KeyNames::new(&"p".repeat(100), true);
        assert_eq!(names.keys("x").len(), 2);
    }

    #[test]
    fn operators_are_known_by_prefix_or_marker() {
        let keys = [
            "kopf.zalando.org/a",
            "my.kopf.zalando.org/b",
            "example.com/kopf-managed",
            "other.com/c",
            "plain",
        ];
        assert_eq!(
            operator_prefixes(keys.into_iter()),
            ["kopf.zalando.org", "my.kopf.zalando.org", "example.com"]
        );
    }

    #[test]
    fn json_is_ascii() {
        assert_eq!(ascii_json(&json!({ "a": "é😀" })), "{\"a\":\"\\u00e9\\ud83d\\ude00\"}");
    }
}
