//! Entities, router, balancer, proxy: Kong's gateway as an engine.
#![forbid(unsafe_code)]

pub mod entities;
pub mod net;
pub mod router;
