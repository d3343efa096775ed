//! Runs pods as processes: probes, volumes, restarts, logs, resource usage.
#![forbid(unsafe_code)]

mod command;
mod config;
mod downward;
mod env;
mod expand;
mod ip;
pub mod logs;
mod ports;
mod process;
mod procfs;
mod quantity;
pub mod runtime;
mod services;
mod volumes;
mod words;

pub use config::{Cidr, CidrError, Config};
pub use process::ProcessRuntime;
