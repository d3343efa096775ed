//! Kong's entities: schemas, validation with Kong's error bodies, defaults, and declarative files.
//!
//! Invariant: a value that [`Schema::validate`] accepts is one that Kong accepts, and what it refuses is refused with the
//! `fields` of Kong's answer. The schemas are facts read from `data/kong@3.9`; nothing here does I/O, reads a clock or
//! draws a number on its own ([`Generate`] is an argument).
#![forbid(unsafe_code)]

mod checks;
mod declarative;
mod entity_checks;
mod fault;
mod field;
mod fill;
mod flatten;
mod hosts;
mod ids;
mod lua_pattern;
mod model;
mod pem;
mod schema;
mod validate;

pub use declarative::{Declarative, Entities, ParseError, Parsed, read_yaml};
pub use fault::{Fault, Faults, Key, summary};
pub use field::{Field, Kind};
pub use fill::{Context, Generate, Seeded};
pub use flatten::flattened_errors;
pub use ids::{entity_id, hash_basic_password, is_uuid};
pub use model::{Model, PLUGIN_PRIORITIES, VERSION};
pub use pem::{certificate_names, read_certificates, read_key, read_public_key};
pub use schema::{Credential, Schema};
