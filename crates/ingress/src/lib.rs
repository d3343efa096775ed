//! Ingresses, HTTPRoutes, Services and Kong's own objects into gateway entities, and Services onto addresses of their own.
//!
//! Entities carry the names, ids and tags that Kong's ingress controller gives them. Invariants: what the gateway serves
//! follows from the shared stores alone; it is translated as a whole and swapped as a whole; an endpoint that is not ready
//! or is being terminated is in none of it; what was meant to stand before a route and cannot be had closes the route.
#![forbid(unsafe_code)]

mod addresses;
mod annotations;
mod attach;
mod class;
mod consumers;
mod controller;
mod filters;
mod grants;
mod http_routes;
mod ingresses;
pub mod kinds;
mod listeners;
mod matches;
mod paths;
mod plugins;
mod policies;
mod refused;
mod secrets;
mod services;
mod sources;
mod status;
mod subject;
mod tls_routes;
mod translate;
mod ways;

pub use addresses::{AddressTable, ServicePort};
pub use attach::{Attachment, CONTROLLER_NAME, Place, Verdict};
pub use controller::{Config, register};
pub use listeners::{Owner, Way};
pub use subject::{Kind, Problem, Subject};
pub use translate::{Input, Translation, Translator};
pub use ways::GatewayAddresses;

/// The definitions of Kong's kinds and the Gateway API's, for [`install_definitions`](gantry_operator::install_definitions).
pub const DEFINITIONS: &[&str] =
    &[include_str!("../data/kong-crds@2.0/crds.json"), include_str!("../data/gateway-api@1.6/crds.json")];
