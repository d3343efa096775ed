//! The Kubernetes API over an embedded store.
//!
//! Invariant: one generic registry serves every kind from a row of metadata; a kind adds only its defaults, its
//! validation and its table columns. What was acknowledged is durable.

#![forbid(unsafe_code)]

mod addresses;
mod auth;
mod bootstrap;
mod convert;
mod crd;
mod crd_cleanup;
mod discovery;
mod doors;
mod duplicates;
mod go_json;
mod impersonation;
mod kinds;
mod merge_schema;
mod negotiate;
mod openapi;
mod path;
pub mod pki;
mod query;
mod random;
mod rbac;
mod resources;
mod response;
mod rest;
mod server;
mod service;
mod status;
pub mod store;
mod table;
mod tokens;
mod validate;
mod yaml;

pub use addresses::AddressRange;
pub use auth::{AuthenticatedService, Authenticator};
pub use doors::{AggregatedApi, NodeProxy, PodRequest, TypeDoc, TypeDocs, UserInfo};
pub use resources::{Resource, Subresource, Verbs};
pub use response::{
    failure as failure_response, json_bytes, stream as stream_response, text as text_response,
};
pub use server::{ApiServer, Config, Limits, OpenError};
pub use service::{ApiService, BoxError, ResponseBody, full};
pub use status::{About, Cause, Details, Failure, FieldError};
pub use tokens::TokenError;
