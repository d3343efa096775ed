//! The conditions of ScaledObjects and ScaledJobs: each kind once, in the order they are listed.

use super::types::Condition;

pub const READY: &str = "Ready";
pub const ACTIVE: &str = "Active";
pub const FALLBACK: &str = "Fallback";
pub const PAUSED: &str = "Paused";

/// A condition's status, reason and message.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Verdict {
    pub fn new(status: &'static str, reason: &'static str, message: impl Into<String>) -> Verdict {
        Verdict { status, reason, message: message.into() }
    }

    pub fn active(is_active: bool) -> Verdict {
        if is_active {
            Verdict::new("True", "ScalerActive", "Scaling is performed because triggers are active")
        } else {
            Verdict::new(
                "False",
                "ScalerNotActive",
                "Scaling is not performed because triggers are not active",
            )
        }
    }

    pub fn cooling_down() -> Verdict {
        Verdict::new("False", "ScalerCooldown", "Scaler cooling down because triggers are not active")
    }

    pub fn fallback(has_fallen_back: bool) -> Verdict {
        if has_fallen_back {
            Verdict::new(
                "True",
                "FallbackExists",
                "At least one trigger is falling back on this scaled object",
            )
        } else {
            Verdict::new("False", "NoFallbackFound", "No fallbacks are active on this scaled object")
        }
    }
}

/// What Ready says of `what`. `polled` is there after a poll and says whether anything is active. That a trigger fails is
/// known from polls alone, so between them their word stands (`None`): a status that changes back and forth would be
/// written, seen and written again without a pause.
pub fn readiness(
    what: &str,
    reason: &'static str,
    error: Option<&str>,
    polled: Option<bool>,
) -> Option<Verdict> {
    match (error, polled) {
        (None, _) => {
            let message = format!("{what} is defined correctly and is ready for scaling");
            Some(Verdict::new("True", reason, message))
        }
        (Some(_), None) => None,
        (Some(error), Some(true)) => {
            let message = format!("Some triggers defined in {what} are not working correctly: {error}");
            Some(Verdict::new("Unknown", "PartialTriggerError", message))
        }
        (Some(error), Some(false)) => {
            let message = format!("Triggers defined in {what} are not working correctly: {error}");
            Some(Verdict::new("False", "TriggerError", message))
        }
    }
}

/// Sets a condition; gives whether its status changed. The kinds in `all` are added when they are missing.
pub fn set(conditions: &mut Vec<Condition>, all: &[&str], kind: &str, verdict: Verdict) -> bool {
    for missing in all {
        if !conditions.iter().any(|condition| condition.kind == *missing) {
            conditions.push(Condition {
                kind: (*missing).into(),
                status: "Unknown".into(),
                ..Condition::default()
            });
        }
    }
    let Some(condition) = conditions.iter_mut().find(|condition| condition.kind == kind) else {
        return false;
    };
    let changed = condition.status != verdict.status;
    condition.status = verdict.status.into();
    condition.reason = verdict.reason.into();
    condition.message = verdict.message;
    changed
}

/// Sets Ready to what [`readiness`] says; true when that made it True.
pub fn became_ready(conditions: &mut Vec<Condition>, all: &[&str], verdict: Option<Verdict>) -> bool {
    verdict.is_some_and(|verdict| {
        let is_ready = verdict.status == "True";
        set(conditions, all, READY, verdict) && is_ready
    })
}

/// The status of a condition; `Unknown` when it is not there.
pub fn status<'a>(conditions: &'a [Condition], kind: &str) -> &'a str {
    conditions
        .iter()
        .find(|condition| condition.kind == kind)
        .map_or("Unknown", |condition| condition.status.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_trigger_is_not_ready_until_a_poll_succeeds() {
        let mut conditions = Vec::new();
        let mut look = |error: Option<&str>, polled: Option<bool>| {
            if let Some(verdict) = readiness("ScaledObject", "ScaledObjectReady", error, polled) {
                set(&mut conditions, &[READY], READY, verdict);
            }
            status(&conditions, READY).to_owned()
        };
        assert_eq!(look(None, None), "True");
        assert_eq!(look(Some("refused"), Some(false)), "False");
        assert_eq!(look(Some("refused"), None), "False");
        assert_eq!(look(Some("refused"), Some(true)), "Unknown");
        assert_eq!(look(Some("refused"), None), "Unknown");
        assert_eq!(look(None, Some(true)), "True");
    }
}
