//! The floor of each suite, kept in `floors.toml` as `name = count` lines.

use std::collections::HashMap;

const FLOORS: &str = include_str!("../floors.toml");

/// Floors by suite name. Lines that are no `name = count` are comments.
pub(crate) fn read() -> HashMap<&'static str, usize> {
    FLOORS
        .lines()
        .filter_map(|line| {
            let (name, count) = line.split_once('=')?;
            Some((name.trim().trim_matches('"'), count.trim().parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_floor_is_that_of_a_suite() {
        for name in super::read().keys() {
            assert!(crate::suites::SUITES.iter().any(|suite| suite.name == *name), "{name} is no suite");
        }
    }
}
