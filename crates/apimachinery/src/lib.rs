//! The object tree and what every Kubernetes object has in common: names, selectors, quantities, patches.

pub mod value;

pub use value::{Key, Kind, Map, Number, Value};
