//! The object tree and what every Kubernetes object has in common: names, selectors, quantities, patches.

pub mod from_yaml;
pub mod strategic_merge;
pub mod value;

pub use from_yaml::{from_yaml, parse_yaml, to_yaml};
pub use value::{Key, Kind, Map, Number, Value};
