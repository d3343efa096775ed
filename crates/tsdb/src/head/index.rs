//! The head's index: interned label pairs, and for each pair the slots of the series that have it.

use std::collections::HashMap;
use std::sync::Arc;

use gantry_prom_model::{Labels, Matcher};
use hashbrown::HashTable;
use roaring::RoaringBitmap;

use super::series::MemSeries;
use super::symbols::Symbols;

/// The series that have one label pair.
#[derive(Debug, Default)]
enum Postings {
    #[default]
    None,
    /// Most pairs of a fresh label value have one series; a bitmap for each would cost more than the series.
    One(u32),
    Many(Box<RoaringBitmap>),
}

impl Postings {
    fn insert(&mut self, slot: u32) {
        match self {
            Postings::None => *self = Postings::One(slot),
            Postings::One(only) if *only == slot => {}
            Postings::One(only) => {
                let both = RoaringBitmap::from_iter([*only, slot]);
                *self = Postings::Many(Box::new(both));
            }
            Postings::Many(slots) => {
                slots.insert(slot);
            }
        }
    }

    fn remove(&mut self, dead: &RoaringBitmap) {
        match self {
            Postings::One(only) if dead.contains(*only) => *self = Postings::None,
            Postings::Many(slots) => {
                **slots -= dead;
                match slots.len() {
                    0 => *self = Postings::None,
                    1 => *self = slots.min().map_or(Postings::None, Postings::One),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn add_to(&self, all: &mut RoaringBitmap) {
        match self {
            Postings::None => {}
            Postings::One(slot) => {
                all.insert(*slot);
            }
            Postings::Many(slots) => *all |= &**slots,
        }
    }

    fn intersects(&self, wanted: &RoaringBitmap) -> bool {
        match self {
            Postings::None => false,
            Postings::One(slot) => wanted.contains(*slot),
            Postings::Many(slots) => !slots.is_disjoint(wanted),
        }
    }

    fn len(&self) -> u64 {
        match self {
            Postings::None => 0,
            Postings::One(_) => 1,
            Postings::Many(slots) => slots.len(),
        }
    }
}

#[derive(Debug)]
struct Pair {
    name: u32,
    value: u32,
    series: Postings,
}

#[derive(Debug)]
struct Slot {
    series: Arc<MemSeries>,
    /// Where the series' pair numbers lie in `Index::pair_lists`.
    start: u32,
    len: u16,
}

/// The index is full; nothing was changed that a caller could see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// Labels to series, by value, by reference and by matcher.
#[derive(Debug, Default)]
pub(crate) struct Index {
    symbols: Symbols,
    pairs: Vec<Pair>,
    pair_table: HashTable<u32>,
    by_name: HashMap<u32, Vec<u32>>,
    pair_lists: Vec<u32>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    all: RoaringBitmap,
    by_labels: HashTable<u32>,
    by_ref: HashTable<u32>,
    /// Entries of `pair_lists` that belong to removed series.
    garbage: usize,
}

fn mix(value: u64) -> u64 {
    let spread = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    spread ^ (spread >> 32)
}

fn hash_pairs(pairs: &[u32]) -> u64 {
    pairs.iter().fold(pairs.len() as u64, |hash, pair| mix(hash ^ u64::from(*pair)))
}

fn hash_pair(name: u32, value: u32) -> u64 {
    mix(u64::from(name) << 32 | u64::from(value))
}

impl Index {
    /// Number of series.
    pub(crate) fn len(&self) -> usize {
        self.all.len() as usize
    }

    fn pair_list(&self, slot: u32) -> &[u32] {
        match self.slots.get(slot as usize) {
            Some(Some(entry)) => {
                let start = entry.start as usize;
                self.pair_lists.get(start..start + usize::from(entry.len)).unwrap_or_default()
            }
            _ => &[],
        }
    }

    fn find_pair(&self, name: u32, value: u32) -> Option<u32> {
        self.pair_table
            .find(hash_pair(name, value), |pair| {
                self.pairs.get(*pair as usize).is_some_and(|entry| entry.name == name && entry.value == value)
            })
            .copied()
    }

    fn intern_pair(&mut self, name: &str, value: &str) -> Option<u32> {
        let name = self.symbols.intern(name)?;
        let value = self.symbols.intern(value)?;
        if let Some(pair) = self.find_pair(name, value) {
            return Some(pair);
        }
        let pair = u32::try_from(self.pairs.len()).ok()?;
        self.pairs.push(Pair { name, value, series: Postings::None });
        let pairs = &self.pairs;
        self.pair_table.insert_unique(hash_pair(name, value), pair, |other| {
            let entry = &pairs[*other as usize];
            hash_pair(entry.name, entry.value)
        });
        self.by_name.entry(name).or_default().push(pair);
        Some(pair)
    }

    /// The series with this reference.
    pub(crate) fn by_ref(&self, reference: u64) -> Option<&Arc<MemSeries>> {
        let slot = *self.by_ref.find(mix(reference), |slot| {
            matches!(self.slots.get(*slot as usize), Some(Some(entry)) if entry.series.reference == reference)
        })?;
        self.slots.get(slot as usize)?.as_ref().map(|entry| &entry.series)
    }

    /// The series with these labels.
    pub(crate) fn by_labels<'l>(
        &self,
        labels: impl Iterator<Item = (&'l str, &'l str)>,
    ) -> Option<&Arc<MemSeries>> {
        let mut list = Vec::with_capacity(16);
        for (name, value) in labels {
            list.push(self.find_pair(self.symbols.find(name)?, self.symbols.find(value)?)?);
        }
        let slot = self.find_list(&list)?;
        self.slots.get(slot as usize)?.as_ref().map(|entry| &entry.series)
    }

    fn find_list(&self, list: &[u32]) -> Option<u32> {
        self.by_labels.find(hash_pairs(list), |slot| self.pair_list(*slot) == list).copied()
    }

    /// The series with these labels (sorted by name), made with `make` when there is none. The flag says whether
    /// it is new.
    pub(crate) fn get_or_insert<'l>(
        &mut self,
        labels: impl Iterator<Item = (&'l str, &'l str)>,
        make: impl FnOnce() -> MemSeries,
    ) -> Result<(Arc<MemSeries>, bool), Full> {
        let mut list = Vec::with_capacity(16);
        for (name, value) in labels {
            list.push(self.intern_pair(name, value).ok_or(Full)?);
        }
        if let Some(slot) = self.find_list(&list)
            && let Some(Some(entry)) = self.slots.get(slot as usize)
        {
            return Ok((entry.series.clone(), false));
        }
        let series = Arc::new(make());
        self.insert(series.clone(), &list)?;
        Ok((series, true))
    }

    fn insert(&mut self, series: Arc<MemSeries>, list: &[u32]) -> Result<(), Full> {
        let start = u32::try_from(self.pair_lists.len()).map_err(|_| Full)?;
        let len = u16::try_from(list.len()).map_err(|_| Full)?;
        let reference = series.reference;
        let entry = Slot { series, start, len };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(self.slots.len()).map_err(|_| Full)?;
                self.slots.push(None);
                slot
            }
        };
        self.pair_lists.extend_from_slice(list);
        self.slots[slot as usize] = Some(entry);
        self.all.insert(slot);
        for pair in list {
            self.pairs[*pair as usize].series.insert(slot);
        }
        let (slots, lists) = (&self.slots, &self.pair_lists);
        self.by_labels.insert_unique(hash_pairs(list), slot, |other| {
            slots[*other as usize].as_ref().map_or(0, |entry| {
                let start = entry.start as usize;
                hash_pairs(&lists[start..start + usize::from(entry.len)])
            })
        });
        self.by_ref.insert_unique(mix(reference), slot, |other| {
            slots[*other as usize].as_ref().map_or(0, |entry| mix(entry.series.reference))
        });
        Ok(())
    }

    /// Removes the series for which `is_dead` holds; hands out their references.
    pub(crate) fn remove_if(&mut self, mut is_dead: impl FnMut(&MemSeries) -> bool) -> Vec<u64> {
        let mut dead = RoaringBitmap::new();
        let mut references = Vec::new();
        for slot in &self.all {
            if let Some(Some(entry)) = self.slots.get(slot as usize)
                && is_dead(&entry.series)
            {
                dead.insert(slot);
                references.push(entry.series.reference);
            }
        }
        if dead.is_empty() {
            return references;
        }
        for slot in &dead {
            let list = self.pair_list(slot).to_vec();
            if let Ok(found) = self.by_labels.find_entry(hash_pairs(&list), |other| *other == slot) {
                found.remove();
            }
            let Some(entry) = self.slots.get_mut(slot as usize).and_then(Option::take) else { continue };
            if let Ok(found) = self.by_ref.find_entry(mix(entry.series.reference), |other| *other == slot) {
                found.remove();
            }
            self.garbage += list.len();
            self.free.push(slot);
        }
        for pair in &mut self.pairs {
            pair.series.remove(&dead);
        }
        self.all -= dead;
        if self.garbage > self.pair_lists.len() / 2 {
            self.rebuild();
        }
        references
    }

    /// Starts over with the live series only, so that the texts of those that went cost nothing.
    fn rebuild(&mut self) {
        let old = std::mem::take(self);
        for slot in &old.all {
            let Some(Some(entry)) = old.slots.get(slot as usize) else { continue };
            let mut list = Vec::with_capacity(usize::from(entry.len));
            for (name, value) in old.pairs_of(slot) {
                list.extend(self.intern_pair(name, value));
            }
            // It fitted before, and there is less of it now.
            let _ = self.insert(entry.series.clone(), &list);
        }
        self.pair_lists.shrink_to_fit();
        self.slots.shrink_to_fit();
    }

    fn pairs_of(&self, slot: u32) -> impl Iterator<Item = (&str, &str)> {
        self.pair_list(slot).iter().filter_map(|pair| {
            let pair = self.pairs.get(*pair as usize)?;
            Some((self.symbols.get(pair.name), self.symbols.get(pair.value)))
        })
    }

    /// The labels in a slot.
    pub(crate) fn labels(&self, slot: u32) -> Labels {
        Labels::from_sorted(self.pairs_of(slot))
    }

    /// The series in a slot.
    pub(crate) fn series(&self, slot: u32) -> Option<&Arc<MemSeries>> {
        self.slots.get(slot as usize)?.as_ref().map(|entry| &entry.series)
    }

    /// The slots of all series.
    pub(crate) fn all(&self) -> &RoaringBitmap {
        &self.all
    }

    fn pairs_named(&self, name: &str) -> &[u32] {
        self.symbols.find(name).and_then(|name| self.by_name.get(&name)).map_or(&[], Vec::as_slice)
    }

    fn union_where(&self, name: &str, mut wanted: impl FnMut(&str) -> bool) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        for pair in self.pairs_named(name) {
            let pair = &self.pairs[*pair as usize];
            if wanted(self.symbols.get(pair.value)) {
                pair.series.add_to(&mut all);
            }
        }
        all
    }

    /// The slots of the series that fulfil all matchers.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> RoaringBitmap {
        let mut found: Option<RoaringBitmap> = None;
        let (optional, required): (Vec<_>, Vec<_>) =
            matchers.iter().partition(|matcher| matcher.matches_empty());
        for matcher in required {
            let with_value = match matcher.set_matches() {
                Some(values) => {
                    let mut all = RoaringBitmap::new();
                    for value in values {
                        let pair = self
                            .symbols
                            .find(&matcher.name)
                            .zip(self.symbols.find(value))
                            .and_then(|(name, value)| self.find_pair(name, value));
                        if let Some(pair) = pair {
                            self.pairs[pair as usize].series.add_to(&mut all);
                        }
                    }
                    all
                }
                None => self.union_where(&matcher.name, |value| matcher.matches(value)),
            };
            let both = match found {
                None => with_value,
                Some(before) => before & with_value,
            };
            if both.is_empty() {
                return both;
            }
            found = Some(both);
        }
        let mut found = found.unwrap_or_else(|| self.all.clone());
        for matcher in optional {
            // A series without the label fulfils it, so only those with another value have to go.
            found -= self.union_where(&matcher.name, |value| !matcher.matches(value));
        }
        found
    }

    /// Names of labels on the series in `slots` (all series when `None`).
    pub(crate) fn label_names(&self, slots: Option<&RoaringBitmap>) -> Vec<String> {
        let has_any = |pair: &u32| {
            let postings = &self.pairs[*pair as usize].series;
            slots.map_or(postings.len() > 0, |slots| postings.intersects(slots))
        };
        let mut names: Vec<String> = self
            .by_name
            .iter()
            .filter(|(_, pairs)| pairs.iter().any(has_any))
            .map(|(name, _)| self.symbols.get(*name).to_owned())
            .collect();
        names.sort_unstable();
        names
    }

    /// Values of a label on the series in `slots` (all series when `None`).
    pub(crate) fn label_values(&self, name: &str, slots: Option<&RoaringBitmap>) -> Vec<String> {
        let mut values: Vec<String> = self
            .pairs_named(name)
            .iter()
            .map(|pair| &self.pairs[*pair as usize])
            .filter(|pair| slots.map_or(pair.series.len() > 0, |slots| pair.series.intersects(slots)))
            .map(|pair| self.symbols.get(pair.value).to_owned())
            .collect();
        values.sort_unstable();
        values
    }

    /// Label names with the number of their values, metric names and pairs with the number of their series.
    pub(crate) fn cardinality(&self) -> Cardinality {
        let mut found = Cardinality { label_pairs: 0, ..Cardinality::default() };
        let metric_name = self.symbols.find(gantry_prom_model::METRIC_NAME);
        for (name, pairs) in &self.by_name {
            let live: Vec<_> = pairs
                .iter()
                .map(|pair| &self.pairs[*pair as usize])
                .filter(|pair| pair.series.len() > 0)
                .collect();
            let text = self.symbols.get(*name);
            let bytes: usize = live.iter().map(|pair| self.symbols.get(pair.value).len()).sum();
            found.label_pairs += live.len();
            found.values_by_label.push((text.to_owned(), live.len() as u64));
            found.bytes_by_label.push((text.to_owned(), bytes as u64));
            for pair in live {
                let value = self.symbols.get(pair.value);
                found.series_by_pair.push((format!("{text}={value}"), pair.series.len()));
                if Some(*name) == metric_name {
                    found.series_by_metric.push((value.to_owned(), pair.series.len()));
                }
            }
        }
        found
    }

    /// Bytes of heap, without the series' samples; an estimate from capacities.
    pub(crate) fn heap_bytes(&self) -> usize {
        let postings: usize = self
            .pairs
            .iter()
            .map(|pair| match &pair.series {
                Postings::Many(slots) => slots.serialized_size() + 64,
                _ => 0,
            })
            .sum();
        self.symbols.heap_bytes()
            + self.pairs.capacity() * size_of::<Pair>()
            + postings
            + self.pair_table.capacity() * 5
            + self.by_name.values().map(|pairs| pairs.capacity() * 4 + 48).sum::<usize>()
            + self.pair_lists.capacity() * 4
            + self.slots.capacity() * size_of::<Option<Slot>>()
            + (self.by_labels.capacity() + self.by_ref.capacity()) * 5
    }

    /// Number of interned texts.
    pub(crate) fn symbol_count(&self) -> usize {
        self.symbols.len()
    }
}

/// What takes room in the head, unsorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Number of distinct label pairs.
    pub label_pairs: usize,
    /// Series per metric name.
    pub series_by_metric: Vec<(String, u64)>,
    /// Distinct values per label name.
    pub values_by_label: Vec<(String, u64)>,
    /// Bytes of distinct values per label name.
    pub bytes_by_label: Vec<(String, u64)>,
    /// Series per `name=value`.
    pub series_by_pair: Vec<(String, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_prom_model::MatchOp;

    fn index(count: u64) -> Index {
        let mut index = Index::default();
        for n in 0..count {
            let (id, shard) = (n.to_string(), (n % 3).to_string());
            let labels = [("__name__", "m"), ("id", id.as_str()), ("shard", shard.as_str())];
            let labels = labels.into_iter().take(if n % 2 == 0 { 3 } else { 2 });
            let (_, new) = index.get_or_insert(labels, || MemSeries::new(n + 1)).unwrap();
            assert!(new);
        }
        index
    }

    fn ids(index: &Index, matchers: &[(MatchOp, &str, &str)]) -> Vec<u64> {
        let matchers: Vec<_> =
            matchers.iter().map(|(op, name, value)| Matcher::new(*op, name, value).unwrap()).collect();
        index.select(&matchers).iter().map(|slot| index.series(slot).unwrap().reference - 1).collect()
    }

    #[test]
    fn matchers_with_and_without_the_label() {
        let index = index(12);
        assert_eq!(ids(&index, &[(MatchOp::Equal, "shard", "0")]), [0, 6]);
        assert_eq!(ids(&index, &[(MatchOp::Equal, "shard", "")]), [1, 3, 5, 7, 9, 11]);
        assert_eq!(
            ids(&index, &[(MatchOp::NotEqual, "shard", "0"), (MatchOp::Regex, "id", "[0-4]")]),
            [1, 2, 3, 4]
        );
        assert_eq!(ids(&index, &[(MatchOp::NotRegex, "shard", "0|1")]), [1, 2, 3, 5, 7, 8, 9, 11]);
        assert_eq!(
            ids(&index, &[(MatchOp::Regex, "shard", ".+"), (MatchOp::NotEqual, "id", "2")]),
            [0, 4, 6, 8, 10]
        );
        assert_eq!(ids(&index, &[(MatchOp::Regex, "shard", ".*"), (MatchOp::Regex, "id", "3|7|99")]), [3, 7]);
        assert_eq!(ids(&index, &[(MatchOp::Equal, "absent", "x")]), [0u64; 0]);
        assert_eq!(ids(&index, &[(MatchOp::Regex, "shard", "|1")]), [1, 3, 4, 5, 7, 9, 10, 11]);
    }

    #[test]
    fn removed_series_leave_nothing_behind() {
        let mut index = index(1000);
        let dead = index.remove_if(|series| series.reference > 10);
        assert_eq!((dead.len(), index.len()), (990, 10));
        assert!(index.symbol_count() < 20, "the index was not rebuilt");
        assert_eq!(index.label_values("id", None).len(), 10);
        assert_eq!(ids(&index, &[(MatchOp::Equal, "id", "3")]), [3]);
        assert_eq!(ids(&index, &[(MatchOp::Equal, "id", "30")]), [0u64; 0]);
        assert!(index.by_ref(11).is_none() && index.by_ref(10).is_some());
        let labels = [("__name__", "m"), ("id", "30"), ("shard", "0")];
        assert!(index.by_labels(labels.into_iter()).is_none());
        assert!(index.get_or_insert(labels.into_iter(), || MemSeries::new(2000)).unwrap().1);
        assert_eq!(index.labels(10).get("id"), Some("30"));
    }
}
