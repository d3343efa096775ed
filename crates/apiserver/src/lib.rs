//! The Kubernetes API over an embedded store.
