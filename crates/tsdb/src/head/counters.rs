//! What the head counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub(crate) fn inc(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counted since the start.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Count,)*
        }

        /// The counters at one moment.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct CountersSnapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// All counters now.
            pub fn snapshot(&self) -> CountersSnapshot {
                CountersSnapshot { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Float samples stored.
    samples_appended,
    /// Native histogram samples stored.
    histograms_appended,
    /// Samples refused because a newer one was there.
    out_of_order,
    /// Samples refused because another one has their time.
    duplicates,
    /// Samples refused because they are too old.
    out_of_bounds,
    /// Series made.
    series_created,
    /// Series removed.
    series_removed,
    /// Chunks removed.
    chunks_removed,
    /// Truncations done.
    truncations,
    /// Checkpoints written.
    checkpoints,
    /// Log writes that failed.
    wal_failures,
    /// Bytes of records given to the log, before compression.
    wal_bytes,
}
