//! The local store, its head and its blocks, as a store among others.

use std::sync::Arc;

use gantry_prom_model::{Labels, Queryable};
use gantry_tsdb::Db;

use crate::storeapi::{
    LabelsAnswer, LabelsQuery, SeriesQuery, SeriesStream, Sorted, StoreApi, StoreError, StoreInfo,
    matchers_within,
};

/// A local store under external labels.
#[derive(Debug)]
pub struct LocalStore {
    db: Arc<Db>,
    external: Labels,
    component: &'static str,
}

impl LocalStore {
    /// Over a store; its series get the external labels.
    pub fn new(db: Arc<Db>, external: Labels, component: &'static str) -> LocalStore {
        LocalStore { db, external, component }
    }
}

impl StoreApi for LocalStore {
    fn name(&self) -> String {
        format!("local store {}", self.external)
    }

    fn info(&self) -> Option<StoreInfo> {
        let (min_ms, _) = self.db.time_range().unwrap_or((i64::MAX, i64::MIN));
        let label_sets = if self.external.is_empty() { Vec::new() } else { vec![self.external.clone()] };
        Some(StoreInfo {
            component: self.component.to_owned(),
            label_sets,
            min_ms,
            // New samples come at any time.
            max_ms: i64::MAX,
            supports_without: true,
        })
    }

    fn series(&self, query: &SeriesQuery) -> Result<Box<dyn SeriesStream>, StoreError> {
        let Some(rest) = matchers_within(&query.matchers, &self.external) else {
            return Ok(crate::proxy::merge(Vec::new(), 0));
        };
        let set = self.db.chunk_series(&rest, query.min_ms, query.max_ms)?;
        Ok(Box::new(Sorted::new(set, self.external.clone(), query)))
    }

    fn label_names(&self, query: &LabelsQuery) -> Result<LabelsAnswer, StoreError> {
        let Some(rest) = matchers_within(&query.matchers, &self.external) else {
            return Ok(LabelsAnswer::default());
        };
        let mut values = self.db.querier(query.min_ms, query.max_ms)?.label_names(&rest, 0)?;
        if !values.is_empty() {
            values.extend(self.external.iter().map(|(name, _)| name.to_owned()));
        }
        values.retain(|name| !query.without.contains(name));
        values.sort_unstable();
        values.dedup();
        if query.limit > 0 {
            values.truncate(query.limit);
        }
        Ok(LabelsAnswer { values, warnings: Vec::new() })
    }

    fn label_values(&self, name: &str, query: &LabelsQuery) -> Result<LabelsAnswer, StoreError> {
        let Some(rest) = matchers_within(&query.matchers, &self.external) else {
            return Ok(LabelsAnswer::default());
        };
        if query.without.iter().any(|label| label == name) {
            return Ok(LabelsAnswer::default());
        }
        let querier = self.db.querier(query.min_ms, query.max_ms)?;
        let values = match self.external.get(name) {
            // It is on all series, if there are any.
            Some(value) if !querier.label_names(&rest, 1)?.is_empty() => vec![value.to_owned()],
            Some(_) => Vec::new(),
            None => querier.label_values(name, &rest, query.limit)?,
        };
        Ok(LabelsAnswer { values, warnings: Vec::new() })
    }
}
