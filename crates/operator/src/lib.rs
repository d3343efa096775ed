//! The controller framework: handlers, retries, diffs, timers, daemons, indices, finalizers, events.

pub mod apply;
