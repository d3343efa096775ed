//! The server's suites.

mod api;
mod common;
mod peer;
mod promtool;
mod remote;
mod rules;
