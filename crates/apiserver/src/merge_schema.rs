//! Merge keys and patch strategies of the built-in types, for strategic merge patch.

use gantry_apimachinery::strategic_merge::{Schema, TypeId};
use gantry_apimachinery::strategic_patch::{FieldMerge, MergeSchema};

/// The shared table, as the API server's walker reads it. The type is `None` where nothing below has a rule.
pub(crate) struct BuiltInTypes(&'static Schema);

impl BuiltInTypes {
    pub(crate) fn new() -> BuiltInTypes {
        BuiltInTypes(Schema::builtin())
    }

    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Option<TypeId> {
        self.0.resource(api_version, kind)
    }
}

impl MergeSchema for BuiltInTypes {
    type Type = Option<TypeId>;

    fn field(&self, of: &Option<TypeId>, field: &str) -> (FieldMerge, Option<TypeId>) {
        match of.and_then(|of| self.0.field(of, field)) {
            Some(rule) => {
                let merge = FieldMerge {
                    merge: rule.merges,
                    retain_keys: rule.retains_keys,
                    merge_key: rule.merge_key.map(Into::into),
                };
                (merge, rule.value)
            }
            None => (FieldMerge::default(), None),
        }
    }
}
