//! Kubernetes service discovery for scrape.
