//! Head, write-ahead log, blocks, compaction.
