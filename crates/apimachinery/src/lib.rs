//! The object tree and what every Kubernetes object has in common: names, selectors, quantities, patches.

#![forbid(unsafe_code)]

pub mod cel;
pub mod check;
pub mod difference;
pub mod field_path;
pub mod fields;
pub mod from_yaml;
pub mod json_patch;
pub mod kind_names;
pub mod managed_fields;
pub mod merge_patch;
pub mod names;
pub mod protobuf;
pub mod quantity;
pub mod selector;
pub mod strategic_merge;
pub mod strategic_patch;
pub mod structural;
pub mod time;
pub mod types;
pub mod value;

pub use field_path::FieldPath;
pub use from_yaml::{from_yaml, parse_yaml, to_yaml};
pub use merge_patch::merge_patch;
pub use selector::Selector;
pub use value::{Key, Kind, Map, Number, Value};
