//! The server as its clients see it.

mod crud;
mod durability;
mod harness;
mod kube_client;
mod kubectl;
mod validation;
