//! `cargo fuzz run strategic_merge`
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/kustomize/tests/suite/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::strategic_merge(bytes));
