//! The symbol table of an index, in memory while someone reads series.

use bytes::Bytes;

use crate::codec::Get;

/// The texts of a block, sorted.
#[derive(Debug)]
pub struct Symbols {
    data: Bytes,
    /// Where each text begins in `data`, and where the last one ends.
    starts: Vec<u32>,
    lengths: Vec<u32>,
    /// Format version 1 refers to a text by the place of its length in the file.
    by_offset: Option<u64>,
}

impl Symbols {
    /// Reads the content of the section (its count and its texts). `by_offset` is the section's place in the file when
    /// texts are named by theirs.
    pub(super) fn parse(content: Bytes, by_offset: Option<u64>) -> Result<Symbols, String> {
        let count = content
            .first_chunk::<4>()
            .map(|count| u32::from_be_bytes(*count) as usize)
            .ok_or("the symbol table ends early")?;
        if count > content.len() || u32::try_from(content.len()).is_err() {
            return Err(format!("the symbol table claims {count} texts in {} bytes", content.len()));
        }
        let (mut starts, mut lengths) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut input = Get::new(&content[4..]);
        for _ in 0..count {
            let text = input.str().ok_or("the symbol table ends early or is not UTF-8")?;
            let start = content.len() - input.rest.len() - text.len();
            starts.push(start as u32);
            lengths.push(text.len() as u32);
        }
        Ok(Symbols { data: content, starts, lengths, by_offset })
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        self.data.len() + 8 * self.starts.len()
    }

    /// The text at a place in the order.
    pub fn get(&self, index: usize) -> Option<&str> {
        let start = *self.starts.get(index)? as usize;
        let bytes = self.data.get(start..start + *self.lengths.get(index)? as usize)?;
        // Checked when the table was read; a second check costs less than a label does elsewhere.
        std::str::from_utf8(bytes).ok()
    }

    /// The text that a series entry names.
    pub fn resolve(&self, reference: u64) -> Option<&str> {
        let Some(section) = self.by_offset else { return self.get(usize::try_from(reference).ok()?) };
        // The place of the length; the text follows it.
        let place = u32::try_from(reference.checked_sub(section + 4)?).ok()?;
        let index = self.starts.partition_point(|start| *start <= place);
        let start = *self.starts.get(index)?;
        let length_bytes = uvarint_len(u64::from(*self.lengths.get(index)?));
        (start - place == length_bytes).then(|| self.get(index))?
    }

    /// All texts in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

fn uvarint_len(value: u64) -> u32 {
    (64 - value.leading_zeros()).div_ceil(7).max(1)
}
