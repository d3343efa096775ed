//! The Prometheus server: flags, configuration file and HTTP API over tsdb, promql and scrape.
