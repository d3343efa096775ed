//! The annotations that pause, force and hand over.

use std::collections::BTreeMap;

type Annotations = BTreeMap<String, String>;

const PAUSED: &str = "autoscaling.keda.sh/paused";
const PAUSED_REPLICAS: &str = "autoscaling.keda.sh/paused-replicas";
const PAUSED_SCALE_IN: &str = "autoscaling.keda.sh/paused-scale-in";
const PAUSED_SCALE_OUT: &str = "autoscaling.keda.sh/paused-scale-out";
const FORCE_ACTIVATION: &str = "autoscaling.keda.sh/force-activation";
const TRANSFER_HPA: &str = "scaledobject.keda.sh/transfer-hpa-ownership";
const EXCLUDED_LABELS: &str = "scaledobject.keda.sh/hpa-excluded-labels";
const VALIDATE_HPA: &str = "validations.keda.sh/hpa-ownership";

/// What kubectl keeps for itself; an HPA that carried it would be pruned as the ScaledObject's double.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A switch: anything but a clear no is a yes.
fn is_on(annotations: &Annotations, name: &str) -> bool {
    annotations
        .get(name)
        .is_some_and(|value| !matches!(value.as_str(), "false" | "False" | "FALSE" | "f" | "F" | "0"))
}

/// The loop stops and the HPA is deleted.
pub fn is_paused(annotations: &Annotations) -> bool {
    is_on(annotations, PAUSED) || annotations.contains_key(PAUSED_REPLICAS)
}

/// The size to pause at.
pub fn paused_replicas(annotations: &Annotations) -> Result<Option<i32>, String> {
    let Some(text) = annotations.get(PAUSED_REPLICAS) else { return Ok(None) };
    let count = text.parse::<i32>().ok().filter(|count| *count >= 0);
    count.map(Some).ok_or_else(|| format!("annotation {PAUSED_REPLICAS}: {text:?} is no number of replicas"))
}

pub fn is_scale_in_paused(annotations: &Annotations) -> bool {
    is_on(annotations, PAUSED_SCALE_IN)
}

pub fn is_scale_out_paused(annotations: &Annotations) -> bool {
    is_on(annotations, PAUSED_SCALE_OUT)
}

pub fn forces_activation(annotations: &Annotations) -> bool {
    is_on(annotations, FORCE_ACTIVATION)
}

/// An HPA of the wanted name that is nobody's becomes ours.
pub fn takes_over_hpa(annotations: &Annotations) -> bool {
    is_on(annotations, TRANSFER_HPA)
}

/// Whether another autoscaler of the same target is a mistake.
pub fn checks_hpa(annotations: &Annotations) -> bool {
    annotations.get(VALIDATE_HPA).is_none_or(|value| value != "false")
}

/// Labels that are not copied to the HPA.
pub fn excluded_labels(annotations: &Annotations) -> Vec<&str> {
    annotations.get(EXCLUDED_LABELS).map(|text| text.split(',').map(str::trim).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_on_unless_it_says_no() {
        let of = |value: &str| [(PAUSED.to_owned(), value.to_owned())].into();
        assert!(is_paused(&of("true")) && is_paused(&of("")) && is_paused(&of("nonsense")));
        assert!(!is_paused(&of("false")) && !is_paused(&Annotations::new()));
    }

    #[test]
    fn a_number_of_replicas_pauses_too() {
        let of = |value: &str| [(PAUSED_REPLICAS.to_owned(), value.to_owned())].into();
        assert!(is_paused(&of("4")));
        assert_eq!(paused_replicas(&of("4")), Ok(Some(4)));
        assert!(paused_replicas(&of("-4")).is_err() && paused_replicas(&of("many")).is_err());
    }
}
