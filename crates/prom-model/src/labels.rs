//! A sorted set of label pairs in one shared allocation.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

/// The label that holds a series' metric name.
pub const METRIC_NAME: &str = "__name__";
/// The label of a classic histogram's upper bound.
pub const BUCKET_LABEL: &str = "le";
/// The label of a summary's quantile.
pub const QUANTILE_LABEL: &str = "quantile";

/// Label pairs sorted by name, each name once, no empty value.
///
/// The pairs lie one after the other in a single shared string, each text preceded by its length, so a clone
/// is a reference count, equality is a comparison of bytes, and a set of ten labels is one allocation.
#[derive(Clone, PartialEq, Eq)]
pub struct Labels {
    /// Length digits (base 64, six bits a byte, `0x40` set on all but the last) and text, alternating. Length
    /// bytes are ASCII, which keeps the whole a valid `str`.
    encoded: Arc<str>,
}

static EMPTY: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));

fn push_length(out: &mut String, length: usize) {
    let mut shift = 0;
    while length >> shift >= 64 {
        shift += 6;
    }
    while shift > 0 {
        out.push(char::from(0x40 | ((length >> shift) & 0x3f) as u8));
        shift -= 6;
    }
    out.push(char::from((length & 0x3f) as u8));
}

fn push_text(out: &mut String, text: &str) {
    push_length(out, text.len());
    out.push_str(text);
}

/// Splits the text at the front of `encoded` from what follows it.
fn split_text(encoded: &str) -> Option<(&str, &str)> {
    let mut length = 0usize;
    for (index, byte) in encoded.bytes().enumerate() {
        length = (length << 6) | usize::from(byte & 0x3f);
        if byte & 0x40 == 0 {
            let start = index + 1;
            return Some((&encoded[start..start + length], &encoded[start + length..]));
        }
    }
    None
}

/// The pairs of a [`Labels`], by name.
#[derive(Clone)]
pub struct Iter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, after_name) = split_text(self.rest)?;
        let (value, after_value) = split_text(after_name)?;
        self.rest = after_value;
        Some((name, value))
    }
}

// === impl Labels ===

impl Labels {
    /// No labels; does not allocate.
    pub fn empty() -> Labels {
        Labels { encoded: EMPTY.clone() }
    }

    /// From pairs in any order. Empty values are left out; of a name given twice the last value counts.
    pub fn from_pairs<I, N, V>(pairs: I) -> Labels
    where
        I: IntoIterator<Item = (N, V)>,
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// From pairs that are already sorted by name, unique, and without empty values (the caller's promise).
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
        let mut encoded = String::new();
        for (name, value) in pairs {
            push_text(&mut encoded, name);
            push_text(&mut encoded, value);
        }
        if encoded.is_empty() { Labels::empty() } else { Labels { encoded: Arc::from(encoded) } }
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.encoded }
    }

    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Bytes this set takes in memory, without the handle.
    pub fn encoded_len(&self) -> usize {
        self.encoded.len()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        for (candidate, value) in self.iter() {
            match candidate.cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return Some(value),
                Ordering::Greater => return None,
            }
        }
        None
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The value of `__name__`.
    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder { pairs: self.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect() }
    }

    /// This set without the label `name`; a cheap clone when it is not there.
    pub fn without(&self, name: &str) -> Labels {
        if !self.has(name) {
            return self.clone();
        }
        Labels::from_sorted(self.iter().filter(|(n, _)| *n != name))
    }

    /// This set without `__name__`.
    pub fn without_name(&self) -> Labels {
        self.without(METRIC_NAME)
    }

    /// Only the labels for which `keep` holds.
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Labels {
        Labels::from_sorted(self.iter().filter(|(name, _)| keep(name)))
    }

    /// A 64-bit hash that is the same in every process and on every machine.
    pub fn stable_hash(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let (chunks, tail) = self.encoded.as_bytes().as_chunks::<8>();
        for chunk in chunks {
            hash = (hash ^ u64::from_le_bytes(*chunk)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            hash ^= hash >> 29;
        }
        let mut last = [0u8; 8];
        last[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        hash ^= hash >> 32;
        hash = hash.wrapping_mul(0x94D0_49BB_1331_11EB);
        hash ^ (hash >> 29)
    }
}

impl Default for Labels {
    fn default() -> Self {
        Labels::empty()
    }
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.encoded.hash(state);
    }
}

impl Ord for Labels {
    /// By the first pair that differs, names before values; a prefix comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Labels::from_pairs(pairs)
    }
}

/// Whether a label name needs no quotes in PromQL and in the exposition formats.
pub(crate) fn is_plain_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b == b'_' || b.is_ascii_alphabetic())
        && bytes.all(|b| b == b'_' || b.is_ascii_alphanumeric())
}

impl fmt::Display for Labels {
    /// `{name="value", other="value"}`, names quoted where they are not plain identifiers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (name, value)) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            if is_plain_label_name(name) {
                f.write_str(name)?;
            } else {
                crate::sample::write_quoted(f, name)?;
            }
            f.write_str("=")?;
            crate::sample::write_quoted(f, value)?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Label pairs being changed; [`build`](Self::build) sorts nothing, the pairs are kept in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

// === impl LabelsBuilder ===

impl LabelsBuilder {
    pub fn new() -> Self {
        LabelsBuilder::default()
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.pairs.binary_search_by(|(candidate, _)| candidate.as_str().cmp(name))
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match (self.position(name), value.is_empty()) {
            (Ok(index), true) => {
                self.pairs.remove(index);
            }
            (Ok(index), false) => {
                let slot = &mut self.pairs[index].1;
                slot.clear();
                slot.push_str(value);
            }
            (Err(_), true) => {}
            (Err(index), false) => self.pairs.insert(index, (name.to_owned(), value.to_owned())),
        }
        self
    }

    pub fn remove(&mut self, name: &str) -> &mut Self {
        if let Ok(index) = self.position(name) {
            self.pairs.remove(index);
        }
        self
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.position(name).ok().map(|index| self.pairs[index].1.as_str())
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) {
        self.pairs.retain(|(name, value)| keep(name, value));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub fn clear(&mut self) {
        self.pairs.clear();
    }

    pub fn build(&self) -> Labels {
        Labels::from_sorted(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_sorted_without_empty_ones() {
        let labels = Labels::from_pairs([("job", "api"), ("__name__", "up"), ("empty", ""), ("job", "web")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("__name__", "up"), ("job", "web")]);
        assert_eq!(labels.get("job"), Some("web"));
        assert_eq!(labels.get("jo"), None);
        assert_eq!(labels.metric_name(), Some("up"));
        assert_eq!(labels.without_name().to_string(), r#"{job="web"}"#);
    }

    #[test]
    fn long_texts_survive_the_length_prefix() {
        for length in [0, 1, 63, 64, 65, 4095, 4096, 300_000] {
            let value = "ü".repeat(length);
            let labels = Labels::from_pairs([("a", value.as_str()), ("b", "x")]);
            assert_eq!(labels.get("a").unwrap_or_default(), value);
            assert_eq!(labels.get("b"), Some("x"));
        }
    }

    #[test]
    fn order_is_by_pairs_not_by_encoding() {
        let short = Labels::from_pairs([("a", "b")]);
        let long = Labels::from_pairs([("a", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa")]);
        assert!(long < short);
        assert!(Labels::empty() < long);
    }

    #[test]
    fn unusual_names_are_quoted() {
        let labels = Labels::from_pairs([("a.b", "x\"y\n")]);
        assert_eq!(labels.to_string(), r#"{"a.b"="x\"y\n"}"#);
    }
}
