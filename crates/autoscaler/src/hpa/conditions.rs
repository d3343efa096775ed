//! The conditions of an autoscaler and how they are set.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(crate) const ABLE_TO_SCALE: &str = "AbleToScale";
pub(crate) const SCALING_ACTIVE: &str = "ScalingActive";
pub(crate) const SCALING_LIMITED: &str = "ScalingLimited";

/// Conditions in the order in which they were first set, the newest first as upstream has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions(pub Vec<HorizontalPodAutoscalerCondition>);

impl Conditions {
    pub fn set(&mut self, name: &str, status: bool, reason: &str, message: impl Into<String>, now: &Time) {
        let status = if status { "True" } else { "False" };
        let condition = match self.0.iter_mut().find(|c| c.type_ == name) {
            Some(known) => known,
            None => {
                let new = HorizontalPodAutoscalerCondition { type_: name.into(), ..Default::default() };
                self.0.push(new);
                let last = self.0.len() - 1;
                &mut self.0[last]
            }
        };
        if condition.status != status {
            condition.last_transition_time = Some(now.clone());
        }
        condition.status = status.into();
        condition.reason = Some(reason.into());
        condition.message = Some(message.into());
    }

    pub fn get(&self, name: &str) -> Option<&HorizontalPodAutoscalerCondition> {
        self.0.iter().find(|c| c.type_ == name)
    }
}
