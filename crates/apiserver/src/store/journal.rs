//! What makes a write durable: the trait behind the store, and the journal that keeps nothing.

use std::io;

use bytes::Bytes;

use super::object::ObjectKey;

/// One change, as it goes to disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub revision: u64,
    pub collection: String,
    pub key: ObjectKey,
    /// The object under its new revision; for a deletion its last state.
    pub object: Bytes,
    pub deleted: bool,
}

/// Everything that a snapshot holds: all live objects at one revision.
pub struct SnapshotSource {
    pub revision: u64,
    pub objects: Vec<Record>,
}

pub trait Journal: Send {
    /// Returns when all records are durable. After an error none of them may come back on the next start.
    fn append(&mut self, records: &[Record]) -> io::Result<()>;

    /// True when the history has grown so far beyond the live objects that a snapshot pays.
    fn wants_snapshot(&self) -> bool;

    /// Starts replacing history with a snapshot; may go on in the background.
    fn snapshot(&mut self, source: SnapshotSource) -> io::Result<()>;
}
