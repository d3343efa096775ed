//! Interned strings: each text once, a number in its place.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// The texts of an index. Numbers are handed out from 0 and never change; unused texts go when the index is rebuilt.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    text: Vec<u8>,
    /// Where each text ends; it begins where the one before ends.
    ends: Vec<u32>,
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Symbols {
    /// The text of a number that this table handed out.
    pub(crate) fn get(&self, symbol: u32) -> &str {
        let index = symbol as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends.get(before).copied().unwrap_or(0));
        let end = self.ends.get(index).copied().unwrap_or(start);
        self.text
            .get(start as usize..end as usize)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or("")
    }

    fn range(ends: &[u32], symbol: u32) -> (usize, usize) {
        let index = symbol as usize;
        let start = if index == 0 { 0 } else { ends[index - 1] as usize };
        (start, ends[index] as usize)
    }

    /// The number of a text that is already here.
    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(text.as_bytes());
        self.table
            .find(hash, |symbol| {
                let (start, end) = Symbols::range(&self.ends, *symbol);
                &self.text[start..end] == text.as_bytes()
            })
            .copied()
    }

    /// The number of a text, a new one if need be; `None` when 4 GiB of texts are here already.
    pub(crate) fn intern(&mut self, text: &str) -> Option<u32> {
        if let Some(symbol) = self.find(text) {
            return Some(symbol);
        }
        let end = u32::try_from(self.text.len() + text.len()).ok()?;
        let symbol = u32::try_from(self.ends.len()).ok()?;
        self.text.extend_from_slice(text.as_bytes());
        self.ends.push(end);
        let hash = self.hasher.hash_one(text.as_bytes());
        let (texts, ends, hasher) = (&self.text, &self.ends, &self.hasher);
        self.table.insert_unique(hash, symbol, |other| {
            let (start, end) = Symbols::range(ends, *other);
            hasher.hash_one(&texts[start..end])
        });
        Some(symbol)
    }

    /// Number of texts.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * 4 + self.table.capacity() * 5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_once() {
        let mut symbols = Symbols::default();
        let texts: Vec<String> = (0..1000).map(|n| format!("text-{n}")).collect();
        let numbers: Vec<_> = texts.iter().map(|text| symbols.intern(text).unwrap()).collect();
        assert_eq!(symbols.intern("text-7"), Some(numbers[7]));
        assert_eq!(symbols.intern(""), Some(1000));
        assert_eq!(symbols.get(1000), "");
        for (text, number) in texts.iter().zip(&numbers) {
            assert_eq!(symbols.get(*number), text);
            assert_eq!(symbols.find(text), Some(*number));
        }
        assert_eq!(symbols.find("absent"), None);
        assert_eq!(symbols.len(), 1001);
    }
}
