//! The server as its clients see it.

mod access;
mod apply;
mod crud;
mod custom;
mod durability;
mod harness;
mod kube_client;
mod kubectl;
mod validation;
