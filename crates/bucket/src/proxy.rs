//! Many stores as one: those asked that may have an answer, their series merged, the same chunk taken once.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use gantry_prom_model::Matcher;
use parking_lot::RwLock;

use crate::storeapi::{
    AggrChunk, LabelsAnswer, LabelsQuery, PartialResponse, SeriesQuery, SeriesStream, StoreApi, StoreError,
    StoreInfo, StoreSeries,
};

/// A store and what was last heard of it.
#[derive(Clone)]
pub struct Endpoint {
    /// The store.
    pub store: Arc<dyn StoreApi>,
    /// Whether it is missed when it cannot be reached.
    pub strict: bool,
}

/// Asks many stores.
#[derive(Default)]
pub struct Proxy {
    endpoints: RwLock<Arc<Vec<Endpoint>>>,
}

impl Proxy {
    /// Over these stores.
    pub fn new(endpoints: Vec<Endpoint>) -> Proxy {
        Proxy { endpoints: RwLock::new(Arc::new(endpoints)) }
    }

    /// The stores from now on.
    pub fn replace(&self, endpoints: Vec<Endpoint>) {
        *self.endpoints.write() = Arc::new(endpoints);
    }

    /// The stores.
    pub fn endpoints(&self) -> Arc<Vec<Endpoint>> {
        self.endpoints.read().clone()
    }

    /// The stores that may have an answer, and a word about each that should but cannot be asked.
    fn chosen(
        &self,
        min_ms: i64,
        max_ms: i64,
        matchers: &[Matcher],
    ) -> (Vec<Arc<dyn StoreApi>>, Vec<StoreError>) {
        let (mut chosen, mut missing) = (Vec::new(), Vec::new());
        for endpoint in self.endpoints().iter() {
            match endpoint.store.info() {
                Some(info) if info.may_have(min_ms, max_ms, matchers) => chosen.push(endpoint.store.clone()),
                Some(_) => {}
                None if endpoint.strict => missing.push(StoreError::Unavailable {
                    store: endpoint.store.name(),
                    reason: "it does not say what it has".into(),
                }),
                None => {}
            }
        }
        (chosen, missing)
    }

    fn labels(
        &self,
        query: &LabelsQuery,
        ask: impl Fn(&dyn StoreApi) -> Result<LabelsAnswer, StoreError> + Sync,
    ) -> Result<LabelsAnswer, StoreError> {
        let (chosen, missing) = self.chosen(query.min_ms, query.max_ms, &query.matchers);
        let answers: Vec<Result<LabelsAnswer, StoreError>> = at_once(&chosen, |store| ask(store));
        let mut values = BTreeSet::new();
        let mut warnings = Vec::new();
        for answer in missing.into_iter().map(Err).chain(answers) {
            match answer {
                Ok(answer) => {
                    values.extend(answer.values);
                    warnings.extend(answer.warnings);
                }
                Err(error) if query.partial == PartialResponse::Abort => {
                    return Err(StoreError::Aborted(error.to_string()));
                }
                Err(error) => warnings.push(error.to_string()),
            }
        }
        let limit = if query.limit == 0 { usize::MAX } else { query.limit };
        Ok(LabelsAnswer { values: values.into_iter().take(limit).collect(), warnings })
    }
}

/// Asks all stores at the same time.
fn at_once<T: Send>(stores: &[Arc<dyn StoreApi>], ask: impl Fn(&dyn StoreApi) -> T + Sync) -> Vec<T> {
    match stores {
        [] => Vec::new(),
        [only] => vec![ask(only.as_ref())],
        _ => std::thread::scope(|scope| {
            let ask = &ask;
            let asked: Vec<_> = stores.iter().map(|store| scope.spawn(move || ask(store.as_ref()))).collect();
            asked
                .into_iter()
                .map(|answer| answer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        }),
    }
}

/// A stream whose failure is a warning, or the end of everything.
struct Guarded {
    stream: Option<Box<dyn SeriesStream>>,
    partial: PartialResponse,
    warnings: Vec<String>,
}

impl SeriesStream for Guarded {
    fn next(&mut self) -> Result<Option<StoreSeries>, StoreError> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        match stream.next() {
            Ok(next) => Ok(next),
            Err(error) if self.partial == PartialResponse::Abort => {
                Err(StoreError::Aborted(error.to_string()))
            }
            Err(error) => {
                self.warnings.extend(stream.warnings());
                self.warnings.push(error.to_string());
                self.stream = None;
                Ok(None)
            }
        }
    }

    fn warnings(&self) -> Vec<String> {
        let own = self.warnings.iter().cloned();
        own.chain(self.stream.iter().flat_map(|stream| stream.warnings())).collect()
    }
}

/// Streams as one: a series of several streams once, with the chunks of all, each chunk once.
struct Merged {
    streams: Vec<Box<dyn SeriesStream>>,
    heads: Vec<Option<StoreSeries>>,
    started: bool,
    left: usize,
}

/// The series of sorted streams, at most `limit` (0: all).
pub(crate) fn merge(streams: Vec<Box<dyn SeriesStream>>, limit: usize) -> Box<dyn SeriesStream> {
    let heads = streams.iter().map(|_| None).collect();
    let left = if limit == 0 { usize::MAX } else { limit };
    Box::new(Merged { streams, heads, started: false, left })
}

impl SeriesStream for Merged {
    fn next(&mut self) -> Result<Option<StoreSeries>, StoreError> {
        if !self.started {
            self.started = true;
            for (stream, head) in self.streams.iter_mut().zip(&mut self.heads) {
                *head = stream.next()?;
            }
        }
        if self.left == 0 {
            return Ok(None);
        }
        let Some(labels) = self.heads.iter().flatten().map(|series| &series.labels).min().cloned() else {
            return Ok(None);
        };
        let mut chunks = Vec::new();
        let mut parts = 0;
        for (stream, head) in self.streams.iter_mut().zip(&mut self.heads) {
            // A series may come in several frames, one behind the other.
            while head.as_ref().is_some_and(|series| series.labels == labels) {
                if let Some(series) = std::mem::replace(head, stream.next()?) {
                    chunks.extend(series.chunks);
                    parts += 1;
                }
            }
        }
        self.left -= 1;
        Ok(Some(StoreSeries { labels, chunks: if parts > 1 { distinct(chunks) } else { chunks } }))
    }

    fn warnings(&self) -> Vec<String> {
        self.streams.iter().flat_map(|stream| stream.warnings()).collect()
    }
}

/// The chunks by their first time, each once: replicas of a block have the same bytes.
pub(crate) fn distinct(chunks: Vec<AggrChunk>) -> Vec<AggrChunk> {
    let mut seen = HashSet::new();
    let mut kept: Vec<AggrChunk> = chunks
        .into_iter()
        .filter(|chunk| {
            let hashes: Vec<u64> = chunk.parts().map(|part| part.hash()).collect();
            seen.insert((chunk.min_t, chunk.max_t, hashes))
        })
        .collect();
    kept.sort_by_key(|chunk| (chunk.min_t, chunk.max_t));
    kept
}

impl StoreApi for Proxy {
    fn name(&self) -> String {
        "fan-out".into()
    }

    fn info(&self) -> Option<StoreInfo> {
        let infos: Vec<StoreInfo> =
            self.endpoints().iter().filter_map(|endpoint| endpoint.store.info()).collect();
        let mut label_sets = Vec::new();
        for info in &infos {
            if info.label_sets.is_empty() {
                label_sets.clear();
                break;
            }
            label_sets.extend(info.label_sets.iter().cloned());
        }
        label_sets.sort();
        label_sets.dedup();
        Some(StoreInfo {
            component: "query".into(),
            label_sets,
            min_ms: infos.iter().map(|info| info.min_ms).min().unwrap_or(i64::MAX),
            max_ms: infos.iter().map(|info| info.max_ms).max().unwrap_or(i64::MIN),
            supports_without: true,
        })
    }

    fn series(&self, query: &SeriesQuery) -> Result<Box<dyn SeriesStream>, StoreError> {
        let (chosen, missing) = self.chosen(query.min_ms, query.max_ms, &query.matchers);
        let mut streams: Vec<Box<dyn SeriesStream>> = Vec::new();
        for error in missing {
            if query.partial == PartialResponse::Abort {
                return Err(StoreError::Aborted(error.to_string()));
            }
            let warnings = vec![error.to_string()];
            streams.push(Box::new(Guarded { stream: None, partial: query.partial, warnings }));
        }
        // All are asked before the first is read, so that they work at the same time.
        for opened in at_once(&chosen, |store| store.series(query)) {
            let (stream, warnings) = match opened {
                Ok(stream) => (Some(stream), Vec::new()),
                Err(error) if query.partial == PartialResponse::Abort => {
                    return Err(StoreError::Aborted(error.to_string()));
                }
                Err(error) => (None, vec![error.to_string()]),
            };
            streams.push(Box::new(Guarded { stream, partial: query.partial, warnings }));
        }
        Ok(merge(streams, query.limit))
    }

    fn label_names(&self, query: &LabelsQuery) -> Result<LabelsAnswer, StoreError> {
        self.labels(query, |store| store.label_names(query))
    }

    fn label_values(&self, name: &str, query: &LabelsQuery) -> Result<LabelsAnswer, StoreError> {
        self.labels(query, |store| store.label_values(name, query))
    }
}
