//! The store's suites.

mod common;
mod head;
mod interop;
mod kill;
mod wal;
