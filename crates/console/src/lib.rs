//! The web console, embedded compressed.
