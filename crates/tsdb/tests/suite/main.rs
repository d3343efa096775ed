//! The store's suites.

mod blocks;
mod blocks_peer;
mod common;
mod cut_kill;
mod head;
mod interop;
mod kill;
mod wal;
