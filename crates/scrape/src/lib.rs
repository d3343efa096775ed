//! Targets from any Discoverer, relabelling, scraping.
