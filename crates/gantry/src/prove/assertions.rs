//! What a scenario's `prove:` key asserts, and the pure judgement of it over what a run observed.
//!
//! Thresholds on the load itself and on metrics are the load engine's; here is what only the whole loop can see.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

/// The `prove:` key. Everything in it is optional; what is absent is not judged.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Assertions {
    #[serde(default)]
    pub replicas: Vec<ReplicaPath>,
    #[serde(default)]
    pub recover: Option<Recover>,
}

/// The counts of replicas an object must have passed through, in this order. Others may lie between.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ReplicaPath {
    /// `deployment/NAME`, in any namespace of the build.
    pub target: String,
    /// `1`, `>=3`, `<=2` …
    pub path: Vec<Condition>,
}

/// After the load every replica path must reach its last count and everything must be ready again.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Recover {
    #[serde(deserialize_with = "go_duration")]
    pub within: Duration,
}

/// A comparison with a number: `== 0`, `<0.25`, or a bare number for equality.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Condition {
    operator: Operator,
    number: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

const OPERATORS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

/// One assertion with its outcome, as both reports show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub name: String,
    /// What was observed, in one line.
    pub observed: String,
    pub passed: bool,
}

// === impl Condition ===

impl Condition {
    pub(super) fn holds(self, value: f64) -> bool {
        match self.operator {
            Operator::Equal => value == self.number,
            Operator::NotEqual => value != self.number,
            Operator::Less => value < self.number,
            Operator::LessOrEqual => value <= self.number,
            Operator::Greater => value > self.number,
            Operator::GreaterOrEqual => value >= self.number,
        }
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Condition, String> {
        let text = text.trim();
        let (operator, rest) = OPERATORS
            .iter()
            .find_map(|(sign, operator)| text.strip_prefix(sign).map(|rest| (*operator, rest)))
            .unwrap_or((Operator::Equal, text));
        let number = rest.trim().parse::<f64>().ok().filter(|number| !number.is_nan());
        let number = number.ok_or_else(|| {
            format!("{text:?} is not a comparison with a number, such as `== 0`, `>=3` or `< 0.25`")
        })?;
        Ok(Condition { operator, number })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign =
            OPERATORS.iter().find(|(_, operator)| *operator == self.operator).map_or("", |(sign, _)| sign);
        write!(f, "{sign} {}", self.number)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Condition, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Condition;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a comparison such as `>=3`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Condition, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Condition, E> {
                Ok(Condition { operator: Operator::Equal, number: number as f64 })
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Condition, E> {
                Ok(Condition { operator: Operator::Equal, number: number as f64 })
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Condition, E> {
                Ok(Condition { operator: Operator::Equal, number })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

fn go_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    gantry_clock::parse_go_duration_unsigned(&text).map_err(de::Error::custom)
}

// === judgement ===

/// The counts an object had, oldest first, against the path it should have taken.
pub(super) fn judge_path(assertion: &ReplicaPath, counts: &[i64]) -> Verdict {
    let mut wanted = assertion.path.iter().peekable();
    for count in counts {
        // A count may satisfy two conditions in a row (`1`, `>=1`), but each needs a count of its own.
        if wanted.peek().is_some_and(|condition| condition.holds(*count as f64)) {
            wanted.next();
        }
    }
    let path = assertion.path.iter().map(ToString::to_string).collect::<Vec<_>>().join(" → ");
    let seen = counts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" → ");
    Verdict {
        name: format!("{} replicas go {path}", assertion.target),
        observed: if seen.is_empty() { "the object was never seen".to_owned() } else { seen },
        passed: wanted.peek().is_none(),
    }
}

/// How long it took after the load; `None` when it did not come back at all.
pub(super) fn judge_recovery(assertion: &Recover, took: Option<Duration>) -> Verdict {
    Verdict {
        name: format!("recovered within {} s of the load's end", assertion.within.as_secs_f64()),
        observed: match took {
            Some(took) => format!("{:.1} s", took.as_secs_f64()),
            None => format!("not within {} s", assertion.within.as_secs_f64()),
        },
        passed: took.is_some_and(|took| took <= assertion.within),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(conditions: &[&str]) -> ReplicaPath {
        let path = conditions.iter().map(|text| text.parse().unwrap()).collect();
        ReplicaPath { target: "deployment/web".to_owned(), path }
    }

    #[test]
    fn a_path_is_taken_in_order_with_anything_between() {
        let assertion = path(&["1", ">=3", "1"]);
        assert!(judge_path(&assertion, &[1, 2, 4, 3, 1]).passed);
        assert!(!judge_path(&assertion, &[1, 2, 1]).passed);
        assert!(!judge_path(&assertion, &[3, 1]).passed);
        assert!(!judge_path(&assertion, &[]).passed);
    }

    #[test]
    fn a_condition_is_read_and_shown() {
        assert!("< 0.25".parse::<Condition>().unwrap().holds(0.2));
        assert!(!"==0".parse::<Condition>().unwrap().holds(1.0));
        assert_eq!(">=3".parse::<Condition>().unwrap().to_string(), ">= 3");
        assert!("=> 3".parse::<Condition>().is_err());
        assert!("NaN".parse::<Condition>().is_err());
    }

    #[test]
    fn the_key_is_read_from_yaml_with_places_in_errors() {
        let text =
            "replicas:\n- target: deployment/catalog\n  path: [1, '>=3', 1]\nrecover: {within: 1m30s}\n";
        let assertions: Assertions = gantry_yaml::from_str("load.yaml", text).unwrap();
        assert_eq!(assertions.recover.unwrap().within, Duration::from_secs(90));
        assert_eq!(assertions.replicas[0].path.len(), 3);
        let error = gantry_yaml::from_str::<Assertions>("load.yaml", "recovr: {within: 1s}\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("load.yaml:1:1") && error.contains("recover"), "{error}");
    }
}
