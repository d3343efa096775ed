//! Ingress and Service objects into gateway entities, and Services onto addresses of their own.
//!
//! Routes and services carry the names and tags that Kong's ingress controller gives them. Invariant: what the gateway
//! serves follows from the shared stores alone; it is translated as a whole and swapped as a whole, and an endpoint that
//! is not ready or is being terminated is in none of it.
#![forbid(unsafe_code)]

mod addresses;
mod annotations;
mod class;
mod controller;
mod paths;
mod translate;

pub use addresses::{AddressTable, ServicePort};
pub use controller::{Config, register};
pub use translate::{Input, Problem, Translation, service_of_upstream, translate};
