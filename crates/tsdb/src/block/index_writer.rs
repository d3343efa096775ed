//! Writes the index of a block, format version 2 (`docs/index.md`).

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use gantry_prom_model::Labels;

use super::BlockError;
use super::index::{ChunkMeta, MAGIC, VERSION_2};
use crate::codec::Put;

/// A series' place is this many bytes times its number.
const SERIES_ALIGN: u64 = 16;

/// An index that is being written: symbols first, then series in the order of their labels.
#[derive(Debug)]
pub struct IndexWriter {
    path: PathBuf,
    out: BufWriter<File>,
    position: u64,
    symbols: HashMap<Box<str>, u32>,
    symbols_at: u64,
    series_at: u64,
    /// For each name and value the series that have it, rising.
    postings: BTreeMap<(u32, u32), Vec<u32>>,
    all: Vec<u32>,
    last: Option<Labels>,
    entry: Vec<u8>,
    series_max_bytes: u64,
}

impl IndexWriter {
    /// Starts the file with its symbols, which must be sorted and unique.
    ///
    /// # Errors
    /// When it cannot be written, or the symbols are not sorted.
    pub fn create<'s>(
        path: &Path,
        symbols: impl Iterator<Item = &'s str>,
    ) -> Result<IndexWriter, BlockError> {
        let file = File::create(path).map_err(BlockError::io("create", path))?;
        let mut writer = IndexWriter {
            path: path.to_path_buf(),
            out: BufWriter::with_capacity(1 << 16, file),
            position: 0,
            symbols: HashMap::new(),
            symbols_at: 0,
            series_at: 0,
            postings: BTreeMap::new(),
            all: Vec::new(),
            last: None,
            entry: Vec::new(),
            series_max_bytes: 0,
        };
        writer.put(&MAGIC.to_be_bytes())?;
        writer.put(&[VERSION_2])?;
        writer.put_symbols(symbols)?;
        writer.pad(SERIES_ALIGN)?;
        writer.series_at = writer.position;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BlockError> {
        self.out.write_all(bytes).map_err(BlockError::io("write", &self.path))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self, align: u64) -> Result<(), BlockError> {
        let over = self.position % align;
        if over > 0 {
            self.put(&[0; SERIES_ALIGN as usize][..(align - over) as usize])?;
        }
        Ok(())
    }

    /// Length, content and checksum.
    fn put_section(&mut self, content: &[u8]) -> Result<u64, BlockError> {
        let at = self.position;
        let len = u32::try_from(content.len()).map_err(|_| {
            BlockError::Invalid(format!("a section of {} bytes is larger than 4 GiB", content.len()))
        })?;
        self.put(&len.to_be_bytes())?;
        self.put(content)?;
        self.put(&crc32c::crc32c(content).to_be_bytes())?;
        Ok(at)
    }

    fn put_symbols<'s>(&mut self, symbols: impl Iterator<Item = &'s str>) -> Result<(), BlockError> {
        let mut content = vec![0; 4];
        let mut last: Option<&str> = None;
        for symbol in symbols {
            if last.is_some_and(|last| last >= symbol) {
                return Err(BlockError::Invalid(format!("the symbols are not sorted at {symbol:?}")));
            }
            last = Some(symbol);
            let number = u32::try_from(self.symbols.len())
                .map_err(|_| BlockError::Invalid("more than 4 billion symbols".into()))?;
            self.symbols.insert(Box::from(symbol), number);
            content.put_str(symbol);
        }
        let count = (self.symbols.len() as u32).to_be_bytes();
        content[..4].copy_from_slice(&count);
        self.symbols_at = self.put_section(&content)?;
        Ok(())
    }

    fn symbol(&self, text: &str) -> Result<u32, BlockError> {
        self.symbols
            .get(text)
            .copied()
            .ok_or_else(|| BlockError::Invalid(format!("{text:?} is not among the symbols")))
    }

    /// Adds a series. Series come in the order of their labels, chunks in the order of time.
    ///
    /// # Errors
    /// When it cannot be written, or comes out of order.
    pub fn add_series(&mut self, labels: &Labels, chunks: &[ChunkMeta]) -> Result<(), BlockError> {
        if self.last.as_ref().is_some_and(|last| last >= labels) {
            return Err(BlockError::Invalid(format!("series {labels} is out of order")));
        }
        self.pad(SERIES_ALIGN)?;
        let id = u32::try_from(self.position / SERIES_ALIGN)
            .map_err(|_| BlockError::Invalid("the series take more than 64 GiB".into()))?;
        let mut entry = std::mem::take(&mut self.entry);
        entry.clear();
        entry.put_uvarint(labels.len() as u64);
        for (name, value) in labels.iter() {
            let pair = (self.symbol(name)?, self.symbol(value)?);
            entry.put_uvarint(u64::from(pair.0));
            entry.put_uvarint(u64::from(pair.1));
            self.postings.entry(pair).or_default().push(id);
        }
        entry.put_uvarint(chunks.len() as u64);
        let mut before: Option<&ChunkMeta> = None;
        for chunk in chunks {
            if let Some(before) = before {
                if chunk.min_t < before.max_t {
                    return Err(BlockError::Invalid(format!("chunks of {labels} overlap")));
                }
                entry.put_uvarint(chunk.min_t.wrapping_sub(before.max_t) as u64);
                entry.put_uvarint(chunk.max_t.wrapping_sub(chunk.min_t) as u64);
                entry.put_varint(chunk.reference.wrapping_sub(before.reference) as i64);
            } else {
                entry.put_varint(chunk.min_t);
                entry.put_uvarint(chunk.max_t.wrapping_sub(chunk.min_t) as u64);
                entry.put_uvarint(chunk.reference);
            }
            before = Some(chunk);
        }
        let mut head = Vec::with_capacity(10);
        head.put_uvarint(entry.len() as u64);
        self.put(&head)?;
        self.put(&entry)?;
        self.put(&crc32c::crc32c(&entry).to_be_bytes())?;
        self.series_max_bytes = self.series_max_bytes.max((head.len() + entry.len() + 4) as u64);
        self.entry = entry;
        self.all.push(id);
        self.last = Some(labels.clone());
        Ok(())
    }

    /// Bytes of the largest series entry so far.
    pub fn series_max_bytes(&self) -> u64 {
        self.series_max_bytes
    }

    fn put_postings(&mut self, ids: &[u32]) -> Result<u64, BlockError> {
        self.pad(4)?;
        let mut content = Vec::with_capacity(4 + 4 * ids.len());
        content.extend_from_slice(&(ids.len() as u32).to_be_bytes());
        ids.iter().for_each(|id| content.extend_from_slice(&id.to_be_bytes()));
        self.put_section(&content)
    }

    /// Writes what follows the series, makes the file durable, and says how many bytes it has.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<u64, BlockError> {
        self.pad(4)?;
        // Nobody reads label indices any more; an empty table keeps old readers content.
        let label_indices_at = self.position;
        let postings_at = self.position;
        let mut names: Vec<&str> = vec![""; self.symbols.len()];
        let symbols = std::mem::take(&mut self.symbols);
        for (text, number) in &symbols {
            names[*number as usize] = text;
        }
        let mut table = vec![0; 4];
        let mut entries = 0u32;
        let mut put_entry = |name: &str, value: &str, at: u64| {
            table.put_u8(2);
            table.put_str(name);
            table.put_str(value);
            table.put_uvarint(at);
            entries += 1;
        };
        let all = std::mem::take(&mut self.all);
        let at = self.put_postings(&all)?;
        put_entry("", "", at);
        for ((name, value), ids) in std::mem::take(&mut self.postings) {
            let at = self.put_postings(&ids)?;
            put_entry(names[name as usize], names[value as usize], at);
        }
        table[..4].copy_from_slice(&entries.to_be_bytes());
        self.pad(4)?;
        let label_table_at = self.put_section(&0u32.to_be_bytes())?;
        let postings_table_at = self.put_section(&table)?;
        let mut toc = Vec::with_capacity(52);
        for place in [
            self.symbols_at,
            self.series_at,
            label_indices_at,
            label_table_at,
            postings_at,
            postings_table_at,
        ] {
            toc.put_be64(place);
        }
        let sum = crc32c::crc32c(&toc);
        toc.extend_from_slice(&sum.to_be_bytes());
        self.put(&toc)?;
        self.out.flush().map_err(BlockError::io("write", &self.path))?;
        self.out.get_ref().sync_all().map_err(BlockError::io("sync", &self.path))?;
        Ok(self.position)
    }
}
