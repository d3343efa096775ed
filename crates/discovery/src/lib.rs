//! Kubernetes service discovery for `scrape`.
//!
//! Invariant: targets are made from the informers' local copies alone, one group per object, named after it; a
//! change of an object replaces its group and no other.
#![forbid(unsafe_code)]

mod endpoint;
mod follow;
mod ingress;
mod labels;
mod node;
mod pod;
mod preset;
mod service;

pub use follow::{Scope, kubernetes};
pub use preset::annotated_pods;
