//! Targets from any Discoverer, relabelling, scraping.
//!
//! Invariants: a target in this process takes the same path as one over HTTP, only its body is never text; every
//! scrape, failed ones too, leaves the target's `up` and its report; a series that vanishes is marked stale.
#![forbid(unsafe_code)]

mod client;
pub mod config;
mod counters;
pub mod discover;
mod engine;
mod http_client;
mod ingest;
mod md5;
pub mod relabel;
mod target;
mod target_loop;

pub use config::{Config, ConfigError, GlobalConfig, ScrapeConfig};
pub use counters::Counters;
pub use discover::{
    Discovered, Discoverer, FileDiscoverer, GroupReceiver, GroupSink, HttpDiscoverer, InProcess, Static,
    TargetGroup,
};
pub use engine::{ActiveTarget, Job, Scraping, TargetMetadata, TargetsView};
pub use http_client::{Dialer, HttpClient, HttpError};
pub use ingest::{Body, Ingest, MetadataCache, ScrapeReport, Scraped};
pub use target::{Outcome, Target, populate};
pub use target_loop::{Health, TargetStatus};
