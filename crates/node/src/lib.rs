//! Runs pods as processes: probes, volumes, restarts, logs, resource usage.
#![forbid(unsafe_code)]

mod action;
mod cluster;
mod command;
mod config;
mod downward;
mod env;
mod expand;
mod ip;
pub mod logs;
mod pod;
mod ports;
mod probe;
mod process;
mod procfs;
mod quantity;
pub mod runtime;
mod services;
mod status;
mod volumes;
mod words;

pub use cluster::{BeforeStop, Cluster, ClusterError, Severity};
pub use config::{Cidr, CidrError, Config};
pub use env::References;
pub use process::ProcessRuntime;
pub use runtime::PodRef;
