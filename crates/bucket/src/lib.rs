//! Object storage: blocks up and down, the StoreAPI served and asked, compaction, downsampling, retention.
//!
//! Invariants: a block's `meta.json` is the last of its files to come and the first to go; what is derived from blocks
//! can be made again from them. Formats and rules are those of Thanos: what it wrote is read, what we write it reads.
#![forbid(unsafe_code)]

mod bucket;
mod cache;
mod client;
pub mod compact;
pub mod config;
pub mod dedup;
mod fetch;
mod grpc;
mod local;
mod meta;
mod proxy;
mod queryable;
mod remote_read;
mod shipper;
mod source;
mod store;
pub mod storeapi;

pub use bucket::{Bucket, BucketError};
pub use cache::RangeCache;
pub use config::{ConfigError, ObjectStorage};
pub use fetch::{BlockView, Fetcher, FetcherOptions, Found};
pub use grpc::{GrpcStore, GrpcStoreOptions, StoreService, service};
pub use local::LocalStore;
pub use meta::{
    BlockFile, DeletionMark, Downsample, IndexStats, MarkError, NoCompactMark, Source, ThanosMeta,
    deletion_mark_key, rfc3339,
};
pub use proxy::{Endpoint, Proxy};
pub use queryable::{FanOut, FanOutOptions};
pub use remote_read::RemoteRead;
pub use shipper::{Shipped, Shipper, ShipperOptions};
pub use store::{BucketStore, BucketStoreOptions, Synced};
