//! Runs pods as processes: probes, volumes, restarts, logs, resource usage.
#![deny(unsafe_code)]

mod action;
mod cluster;
pub mod command;
mod config;
mod downward;
mod env;
mod expand;
mod ip;
pub mod isolation;
mod kube_cluster;
mod log_stream;
pub mod logs;
mod node;
mod pod;
mod ports;
mod probe;
mod process;
mod procfs;
mod registration;
pub mod runtime;
mod services;
mod status;
mod streams;
mod usage;
mod volumes;
mod words;

pub use cluster::{BeforeStop, Cluster, ClusterError, Severity};
pub use config::{Cidr, CidrError, Config, ServiceAddresses};
pub use env::References;
pub use isolation::{Forwards, NetworksConfig, NotIsolated, PodNetworks};
pub use log_stream::{LogError, log_query};
pub use logs::LogOptions;
pub use node::{Node, NodeError, Shutdown};
pub use process::ProcessRuntime;
pub use runtime::PodRef;
pub use streams::StreamError;
pub use usage::{ContainerUsage, PodUsage, Usage, UsageSnapshot, resource_families};
