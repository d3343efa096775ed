//! The elements that a list had before, where it tells its elements apart by their keys.

use std::collections::HashMap;

use smol_str::SmolStr;

use super::ListType;
use crate::fields::key_step;
use crate::value::Value;

/// The elements of an older state of a list.
pub(super) struct Former<'v> {
    list: &'v ListType,
    elements: HashMap<SmolStr, &'v Value>,
}

impl<'v> Former<'v> {
    /// Empty where nothing was there before, or nothing tells the elements apart.
    pub(super) fn of(old: Option<&'v Value>, list: &'v ListType) -> Former<'v> {
        let mut former = Former { list, elements: HashMap::new() };
        for item in old.and_then(Value::as_array).into_iter().flatten() {
            if let Some(step) = former.step_to(item) {
                former.elements.entry(step).or_insert(item);
            }
        }
        former
    }

    /// What this element was.
    pub(super) fn of_item(&self, item: &Value) -> Option<&'v Value> {
        if self.elements.is_empty() {
            return None;
        }
        self.elements.get(&self.step_to(item)?).copied()
    }

    fn step_to(&self, item: &Value) -> Option<SmolStr> {
        let ListType::Map(keys) = self.list else { return None };
        Some(key_step(keys.iter().filter_map(|key| Some((key.as_str(), item.get(key)?))).collect()))
    }
}
