//! `cargo fuzz run field_paths`
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/kustomize/tests/suite/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::field_paths(bytes));
