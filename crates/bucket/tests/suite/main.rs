//! The room's suites.

mod archive;
mod common;
mod compaction;
mod grpc;
mod remote_read;
mod s3;
