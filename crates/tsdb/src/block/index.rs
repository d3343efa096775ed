//! Reads the index of a block, format versions 1 and 2 (`docs/index.md`).
//!
//! Little of it is held: every 32nd entry of the postings table, and the symbols only while someone reads series
//! (longer when they are few).

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use gantry_prom_model::{Labels, Matcher};
use parking_lot::Mutex;
use roaring::RoaringBitmap;

use super::BlockError;
use super::source::ReadAt;
use super::symbols::Symbols;
use crate::codec::Get;

pub(super) const MAGIC: u32 = 0xBAAA_D700;
const VERSION_1: u8 = 1;
pub(super) const VERSION_2: u8 = 2;
const TOC_BYTES: u64 = 52;
/// Of this many neighbouring entries of the postings table one is held.
const SAMPLED: usize = 32;
/// Symbol tables up to this size stay in memory between reads.
const KEPT_SYMBOL_BYTES: usize = 256 * 1024;
/// Postings lists up to this size are read at once with their length.
const POSTINGS_GUESS_BYTES: usize = 512;

/// Where a chunk is, and what time it spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkMeta {
    /// Segment (high 32 bits) and place in it.
    pub reference: u64,
    /// First time.
    pub min_t: i64,
    /// Last time.
    pub max_t: i64,
}

/// A series as the index has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesEntry {
    /// Its labels.
    pub labels: Labels,
    /// Its chunks, rising.
    pub chunks: Vec<ChunkMeta>,
}

#[derive(Debug, Clone, Copy)]
struct Toc {
    symbols: u64,
    postings_table: u64,
}

/// A sampled entry of the postings table.
#[derive(Debug)]
struct Sampled {
    value: Box<str>,
    /// Its place in the table.
    at: u32,
}

/// The entries of one label name.
#[derive(Debug)]
struct NameTable {
    sampled: Vec<Sampled>,
    /// Where the entries of the name end in the table.
    end: u32,
    count: usize,
}

/// Values and places of the postings of each name, by value.
type UnsortedTable = BTreeMap<Box<str>, BTreeMap<Box<str>, u64>>;

#[derive(Debug, Default)]
struct KeptSymbols {
    strong: Option<Arc<Symbols>>,
    weak: Weak<Symbols>,
}

/// An index that is read on demand.
#[derive(Debug)]
pub struct IndexReader {
    source: Arc<dyn ReadAt>,
    version: u8,
    toc: Toc,
    names: BTreeMap<Box<str>, NameTable>,
    /// Version 1 does not sort its table: all of it is held.
    unsorted: UnsortedTable,
    all_postings_at: u64,
    symbols: Mutex<KeptSymbols>,
}

struct TableEntry<'a> {
    name: &'a str,
    value: &'a str,
    postings_at: u64,
}

fn table_entry<'a>(input: &mut Get<'a>) -> Option<TableEntry<'a>> {
    if input.uvarint()? != 2 {
        return None;
    }
    Some(TableEntry { name: input.str()?, value: input.str()?, postings_at: input.uvarint()? })
}

impl IndexReader {
    /// Reads what has to be held.
    ///
    /// # Errors
    /// When the bytes cannot be read or are not an index.
    pub fn open(source: Arc<dyn ReadAt>) -> Result<IndexReader, BlockError> {
        let name = source.name();
        let size = source.size();
        let wrong = |offset: u64, reason: &str| BlockError::corrupt(name.clone(), offset, reason);
        let header = source.read(0, 5)?;
        let Some((magic, version)) = header.split_first_chunk::<4>() else {
            return Err(wrong(0, "the file is too short to be an index"));
        };
        if u32::from_be_bytes(*magic) != MAGIC {
            return Err(wrong(0, "not an index: it does not begin with baaad700"));
        }
        let version = version.first().copied().unwrap_or(0);
        if !matches!(version, VERSION_1 | VERSION_2) {
            return Err(wrong(4, &format!("index format version {version} is not known, 1 and 2 are")));
        }
        let toc_at =
            size.checked_sub(TOC_BYTES).ok_or_else(|| wrong(0, "the table of contents is missing"))?;
        let toc_bytes = source.read(toc_at, TOC_BYTES as usize)?;
        let toc = parse_toc(&toc_bytes).ok_or_else(|| wrong(toc_at, "the table of contents is damaged"))?;
        let mut reader = IndexReader {
            source,
            version,
            toc,
            names: BTreeMap::new(),
            unsorted: BTreeMap::new(),
            all_postings_at: 0,
            symbols: Mutex::default(),
        };
        if reader.version == VERSION_1 {
            reader.read_unsorted_table()?
        } else {
            reader.read_table()?
        }
        Ok(reader)
    }

    fn read_unsorted_table(&mut self) -> Result<(), BlockError> {
        let content = self.section(self.toc.postings_table)?;
        let mut input = Get::new(content.get(4..).unwrap_or_default());
        while !input.is_empty() {
            let Some(entry) = table_entry(&mut input) else {
                return Err(self.wrong(self.toc.postings_table, "the postings table is damaged"));
            };
            if entry.name.is_empty() {
                self.all_postings_at = entry.postings_at;
                continue;
            }
            let values = self.unsorted.entry(entry.name.into()).or_default();
            values.insert(entry.value.into(), entry.postings_at);
        }
        Ok(())
    }

    fn wrong(&self, offset: u64, reason: impl Into<String>) -> BlockError {
        BlockError::corrupt(self.source.name(), offset, reason)
    }

    /// A section's content, its checksum verified.
    fn section(&self, at: u64) -> Result<Bytes, BlockError> {
        let head = self.source.read(at, 4)?;
        let len = head
            .first_chunk::<4>()
            .map(|len| u32::from_be_bytes(*len))
            .ok_or_else(|| self.wrong(at, "a section is behind the end"))?;
        if u64::from(len) + at + 8 > self.source.size() {
            return Err(self.wrong(at, format!("a section of {len} bytes reaches behind the end")));
        }
        let bytes = self.source.read(at + 4, len as usize + 4)?;
        let Some((content, sum)) = bytes.split_last_chunk::<4>() else {
            return Err(self.wrong(at, "a section ends early"));
        };
        if crc32c::crc32c(content) != u32::from_be_bytes(*sum) {
            return Err(self.wrong(at, "the checksum of a section does not fit"));
        }
        Ok(bytes.slice(..len as usize))
    }

    fn read_table(&mut self) -> Result<(), BlockError> {
        let content = self.section(self.toc.postings_table)?;
        let mut input = Get::new(content.get(4..).unwrap_or_default());
        let mut names: BTreeMap<Box<str>, NameTable> = BTreeMap::new();
        let mut current: Option<(&str, NameTable)> = None;
        let mut last_value = "";
        while !input.is_empty() {
            let at = (content.len() - input.rest.len()) as u32;
            let Some(entry) = table_entry(&mut input) else {
                return Err(self.wrong(self.toc.postings_table, "the postings table is damaged"));
            };
            let end = (content.len() - input.rest.len()) as u32;
            if entry.name.is_empty() {
                self.all_postings_at = entry.postings_at;
                continue;
            }
            let follows = current.as_ref().is_some_and(|(name, _)| *name == entry.name);
            if !follows {
                if let Some((name, table)) = current.take() {
                    names.insert(name.into(), table);
                }
                if names.contains_key(entry.name) {
                    return Err(self.wrong(self.toc.postings_table, "the postings table is not sorted"));
                }
                current = Some((entry.name, NameTable { sampled: Vec::new(), end, count: 0 }));
            } else if entry.value <= last_value {
                return Err(self.wrong(self.toc.postings_table, "the postings table is not sorted"));
            }
            last_value = entry.value;
            if let Some((_, table)) = &mut current {
                if table.count % SAMPLED == 0 {
                    table.sampled.push(Sampled { value: entry.value.into(), at });
                }
                table.count += 1;
                table.end = end;
            }
        }
        if let Some((name, table)) = current {
            names.insert(name.into(), table);
        }
        self.names = names;
        Ok(())
    }

    /// Number of bytes of the index.
    pub fn size(&self) -> u64 {
        self.source.size()
    }

    /// Format version: 1 or 2.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// The symbols; they stay in memory while the answer is held.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn symbols(&self) -> Result<Arc<Symbols>, BlockError> {
        let mut kept = self.symbols.lock();
        if let Some(symbols) = kept.strong.clone().or_else(|| kept.weak.upgrade()) {
            return Ok(symbols);
        }
        let content = self.section(self.toc.symbols)?;
        let by_offset = (self.version == VERSION_1).then_some(self.toc.symbols);
        let symbols =
            Symbols::parse(content, by_offset).map_err(|reason| self.wrong(self.toc.symbols, reason))?;
        let symbols = Arc::new(symbols);
        if symbols.heap_bytes() <= KEPT_SYMBOL_BYTES {
            kept.strong = Some(symbols.clone());
        }
        kept.weak = Arc::downgrade(&symbols);
        Ok(symbols)
    }

    /// All label names, sorted.
    pub fn label_names(&self) -> impl Iterator<Item = &str> {
        // One of the two is empty.
        self.names.keys().chain(self.unsorted.keys()).map(AsRef::as_ref)
    }

    /// Calls `visit` with each value of a name and the place of its postings, in order.
    fn each_value(&self, name: &str, mut visit: impl FnMut(&str, u64)) -> Result<(), BlockError> {
        for (value, at) in self.unsorted.get(name).into_iter().flatten() {
            visit(value, *at);
        }
        let Some(table) = self.names.get(name) else { return Ok(()) };
        self.scan(table, 0, table.sampled.len(), |value, at| {
            visit(value, at);
            true
        })
    }

    /// Calls `visit` with each value of a name and the place of its postings, in order, until it says `false`.
    fn scan(
        &self,
        table: &NameTable,
        from: usize,
        to: usize,
        mut visit: impl FnMut(&str, u64) -> bool,
    ) -> Result<(), BlockError> {
        let Some(start) = table.sampled.get(from).map(|sampled| sampled.at) else { return Ok(()) };
        let end = table.sampled.get(to).map_or(table.end, |sampled| sampled.at);
        let at = self.toc.postings_table + 4 + u64::from(start);
        let bytes = self.source.read(at, end.saturating_sub(start) as usize)?;
        let mut input = Get::new(&bytes);
        while !input.is_empty() {
            let Some(entry) = table_entry(&mut input) else {
                return Err(self.wrong(at, "the postings table is damaged"));
            };
            if !visit(entry.value, entry.postings_at) {
                break;
            }
        }
        Ok(())
    }

    /// All values of a label, sorted.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn label_values(&self, name: &str) -> Result<Vec<String>, BlockError> {
        let mut values = Vec::new();
        self.each_value(name, |value, _| values.push(value.to_owned()))?;
        Ok(values)
    }

    fn place_of(&self, name: &str, wanted: &str) -> Result<Option<u64>, BlockError> {
        if let Some(values) = self.unsorted.get(name) {
            return Ok(values.get(wanted).copied());
        }
        let Some(table) = self.names.get(name) else { return Ok(None) };
        let after = table.sampled.partition_point(|sampled| &*sampled.value <= wanted);
        let Some(from) = after.checked_sub(1) else { return Ok(None) };
        let mut found = None;
        self.scan(table, from, after, |value, at| {
            if value == wanted {
                found = Some(at);
            }
            value < wanted
        })?;
        Ok(found)
    }

    fn places_where(&self, name: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<u64>, BlockError> {
        let mut places = Vec::new();
        self.each_value(name, |value, at| {
            if wanted(value) {
                places.push(at);
            }
        })?;
        Ok(places)
    }

    /// The union of the postings lists at these places.
    fn union(&self, places: &[u64]) -> Result<RoaringBitmap, BlockError> {
        let mut all = RoaringBitmap::new();
        let guess = POSTINGS_GUESS_BYTES as u64;
        for part in places.chunks(1024) {
            let ranges: Vec<_> = part.iter().map(|at| *at..*at + guess).collect();
            for (at, bytes) in part.iter().zip(self.source.read_ranges(&ranges)?) {
                let len = bytes
                    .first_chunk::<4>()
                    .map(|len| u32::from_be_bytes(*len) as usize)
                    .ok_or_else(|| self.wrong(*at, "a postings list is behind the end"))?;
                let content = match bytes.get(4..4 + len) {
                    Some(_) => bytes.slice(4..4 + len),
                    None if *at + 4 + len as u64 <= self.source.size() => self.source.read(*at + 4, len)?,
                    None => return Err(self.wrong(*at, "a postings list reaches behind the end")),
                };
                let ids = content.get(4..).unwrap_or_default().as_chunks::<4>().0;
                let sorted = ids.iter().map(|id| u32::from_be_bytes(*id));
                match RoaringBitmap::from_sorted_iter(sorted) {
                    Ok(list) if all.is_empty() => all = list,
                    Ok(list) => all |= list,
                    Err(_) => return Err(self.wrong(*at, "a postings list is not sorted")),
                }
            }
        }
        Ok(all)
    }

    /// The numbers of all series.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn all_postings(&self) -> Result<RoaringBitmap, BlockError> {
        if self.all_postings_at == 0 {
            return Ok(RoaringBitmap::new());
        }
        self.union(&[self.all_postings_at])
    }

    /// The numbers of the series that fulfil all matchers; in rising order they are in the order of their labels.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn select(&self, matchers: &[Matcher]) -> Result<RoaringBitmap, BlockError> {
        let mut found: Option<RoaringBitmap> = None;
        let (optional, required): (Vec<_>, Vec<_>) =
            matchers.iter().partition(|matcher| matcher.matches_empty());
        for matcher in required {
            let places = match matcher.set_matches() {
                Some(values) => {
                    let mut places = Vec::with_capacity(values.len());
                    for value in values {
                        places.extend(self.place_of(&matcher.name, value)?);
                    }
                    places
                }
                None => self.places_where(&matcher.name, |value| matcher.matches(value))?,
            };
            let with_value = self.union(&places)?;
            let both = match found {
                None => with_value,
                Some(before) => before & with_value,
            };
            if both.is_empty() {
                return Ok(both);
            }
            found = Some(both);
        }
        let mut found = match found {
            Some(found) => found,
            None => self.all_postings()?,
        };
        for matcher in optional {
            // A series without the label fulfils it, so only those with another value have to go.
            let places = self.places_where(&matcher.name, |value| !matcher.matches(value))?;
            found -= self.union(&places)?;
        }
        Ok(found)
    }

    /// Names of labels on the series that fulfil the matchers, sorted.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn label_names_of(&self, matchers: &[Matcher]) -> Result<Vec<String>, BlockError> {
        if matchers.is_empty() {
            return Ok(self.label_names().map(str::to_owned).collect());
        }
        let ids = self.select(matchers)?;
        let mut names = std::collections::BTreeSet::new();
        let mut cursor = SeriesCursor::new(self)?;
        let ids: Vec<u32> = ids.iter().collect();
        for (index, id) in ids.iter().enumerate() {
            let entry = cursor.read(*id, ids.get(index + 1..).unwrap_or_default())?;
            for (name, _) in entry.labels.iter() {
                if !names.contains(name) {
                    names.insert(name.to_owned());
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    /// Values of a label on the series that fulfil the matchers, sorted.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn label_values_of(&self, name: &str, matchers: &[Matcher]) -> Result<Vec<String>, BlockError> {
        if matchers.is_empty() {
            return self.label_values(name);
        }
        let ids = self.select(matchers)?;
        let mut found = Vec::new();
        let mut candidates = Vec::new();
        self.each_value(name, |value, at| candidates.push((value.to_owned(), at)))?;
        for (value, at) in candidates {
            if !self.union(&[at])?.is_disjoint(&ids) {
                found.push(value);
            }
        }
        Ok(found)
    }
}

fn parse_toc(bytes: &[u8]) -> Option<Toc> {
    let (content, sum) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(content) != u32::from_be_bytes(*sum) {
        return None;
    }
    let mut input = Get::new(content);
    let mut places = [0; 6];
    for place in &mut places {
        *place = input.be64()?;
    }
    let [symbols, _, _, _, _, postings_table] = places;
    Some(Toc { symbols, postings_table })
}

/// Reads series entries, neighbours with one read.
#[derive(Debug)]
pub(crate) struct SeriesCursor<'i> {
    index: &'i IndexReader,
    symbols: Arc<Symbols>,
    window: Bytes,
    window_at: u64,
}

/// Entries are read in pieces of at least and at most this many bytes.
const WINDOW_BYTES: (u64, u64) = (1024, 64 * 1024);

impl<'i> SeriesCursor<'i> {
    pub(crate) fn new(index: &'i IndexReader) -> Result<SeriesCursor<'i>, BlockError> {
        Ok(SeriesCursor { index, symbols: index.symbols()?, window: Bytes::new(), window_at: 0 })
    }

    pub(crate) fn resume(index: &'i IndexReader, symbols: Arc<Symbols>) -> SeriesCursor<'i> {
        SeriesCursor { index, symbols, window: Bytes::new(), window_at: 0 }
    }

    fn place(&self, id: u32) -> u64 {
        if self.index.version == VERSION_1 { u64::from(id) } else { u64::from(id) * 16 }
    }

    /// The entry's content and where it ends, if the window has all of it.
    fn in_window(&self, at: u64) -> Option<(Bytes, u64)> {
        let start = usize::try_from(at.checked_sub(self.window_at)?).ok()?;
        let rest = self.window.get(start..)?;
        let mut input = Get::new(rest);
        let len = usize::try_from(input.uvarint()?).ok()?;
        let head = rest.len() - input.rest.len();
        let total = head.checked_add(len)?.checked_add(4)?;
        (total <= rest.len()).then(|| {
            let from = start + head;
            (self.window.slice(from..from + len + 4), at + total as u64)
        })
    }

    fn content(&mut self, at: u64, window_bytes: u64) -> Result<(Bytes, u64), BlockError> {
        if let Some(found) = self.in_window(at) {
            return Ok(found);
        }
        let mut wanted = window_bytes;
        for _ in 0..2 {
            self.window = self.index.source.read(at, wanted as usize)?;
            self.window_at = at;
            if let Some(found) = self.in_window(at) {
                return Ok(found);
            }
            // An entry larger than the window says so itself.
            let mut input = Get::new(&self.window);
            wanted = input.uvarint().unwrap_or(0).saturating_add(16);
            if wanted > self.index.source.size() {
                break;
            }
        }
        Err(self.index.wrong(at, "a series entry ends early"))
    }

    /// The entry of series `id`; `next` are those that will be asked for afterwards.
    pub(crate) fn read(&mut self, id: u32, next: &[u32]) -> Result<SeriesEntry, BlockError> {
        let at = self.place(id);
        let far = next.get(..32).and_then(<[u32]>::last).or(next.last());
        let ahead = far.map_or(0, |far| self.place(*far).saturating_sub(at) + WINDOW_BYTES.0);
        let (bytes, _) = self.content(at, ahead.clamp(WINDOW_BYTES.0, WINDOW_BYTES.1))?;
        let Some((content, sum)) = bytes.split_last_chunk::<4>() else {
            return Err(self.index.wrong(at, "a series entry ends early"));
        };
        if crc32c::crc32c(content) != u32::from_be_bytes(*sum) {
            return Err(self.index.wrong(at, "the checksum of a series entry does not fit"));
        }
        self.parse(content).ok_or_else(|| self.index.wrong(at, "a series entry is damaged"))
    }

    /// Where the first chunk of the series behind `id` lies, if that is known without another read: there the last
    /// chunk of `id` ends.
    pub(crate) fn next_chunk(&self, id: u32) -> Option<u64> {
        let (_, end) = self.in_window(self.place(id))?;
        let next = if self.index.version == VERSION_1 { end } else { end.next_multiple_of(16) };
        let (content, _) = self.in_window(next)?;
        let mut input = Get::new(&content);
        let labels = input.count(2)?;
        for _ in 0..2 * labels {
            input.uvarint()?;
        }
        (input.uvarint()? > 0).then_some(())?;
        input.varint()?;
        input.uvarint()?;
        input.uvarint()
    }

    fn parse(&self, content: &[u8]) -> Option<SeriesEntry> {
        let mut input = Get::new(content);
        let count = input.count(2)?;
        let mut pairs = Vec::with_capacity(count);
        for _ in 0..count {
            let name = self.symbols.resolve(input.uvarint()?)?;
            pairs.push((name, self.symbols.resolve(input.uvarint()?)?));
        }
        let count = input.count(3)?;
        let mut chunks: Vec<ChunkMeta> = Vec::with_capacity(count);
        for _ in 0..count {
            let chunk = match chunks.last() {
                None => {
                    let min_t = input.varint()?;
                    let max_t = min_t.wrapping_add(input.uvarint()? as i64);
                    ChunkMeta { min_t, max_t, reference: input.uvarint()? }
                }
                Some(before) => {
                    let min_t = before.max_t.wrapping_add(input.uvarint()? as i64);
                    let max_t = min_t.wrapping_add(input.uvarint()? as i64);
                    let reference = before.reference.wrapping_add(input.varint()? as u64);
                    ChunkMeta { min_t, max_t, reference }
                }
            };
            chunks.push(chunk);
        }
        let sorted = pairs.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let labels = if sorted { Labels::from_sorted(pairs) } else { Labels::from_pairs(pairs) };
        Some(SeriesEntry { labels, chunks })
    }
}
