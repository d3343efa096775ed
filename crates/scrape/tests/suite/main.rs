//! The scraper's suites.

mod common;
mod config;
mod ingest;
mod live;
