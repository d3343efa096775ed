//! The store's suites.

mod wal;
