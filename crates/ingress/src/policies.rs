//! KongUpstreamPolicies: how the upstreams of a Service choose among their targets.

use crate::annotations::Annotations;
use crate::kinds::UpstreamPolicySpec;
use crate::subject::{Kind, Subject};
use crate::translate::Building;
use gantry_gateway::entities::{Algorithm, Upstream};
use k8s_openapi::api::core::v1::Service;

/// What of a policy is not done here.
fn unsupported(spec: &UpstreamPolicySpec) -> Vec<&'static str> {
    let fields = [
        (spec.hash_on.is_some(), "hashOn"),
        (spec.hash_on_fallback.is_some(), "hashOnFallback"),
        (spec.healthchecks.is_some(), "healthchecks"),
        (spec.sticky_sessions.is_some(), "stickySessions"),
    ];
    fields.into_iter().filter(|(is_given, _)| *is_given).map(|(_, name)| name).collect()
}

impl Building<'_> {
    /// Changes an upstream as the policy of the Service says; what is not done is told at the Service.
    pub(crate) fn apply_upstream_policy(&mut self, service: &Service, upstream: &mut Upstream) {
        let Some(name) = Annotations::of(&service.metadata).upstream_policy() else { return };
        let subject = Subject::of(Kind::Service, &service.metadata);
        let namespace = service.metadata.namespace.as_deref();
        let is_meant = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
            meta.name.as_deref() == Some(name) && meta.namespace.as_deref() == namespace
        };
        let policies = &self.input.upstream_policies;
        let Some(policy) = policies.iter().find(|policy| is_meant(&policy.metadata)) else {
            let namespace = namespace.unwrap_or_default();
            self.problem(
                &subject,
                format!("failed fetching KongUpstreamPolicy {namespace}/{name}: not found"),
            );
            return;
        };
        let spec = &policy.spec;
        upstream.slots = spec.slots.unwrap_or(upstream.slots);
        match spec.algorithm.as_deref() {
            None | Some("round-robin") => {}
            Some("least-connections") => upstream.algorithm = Algorithm::LeastConnections,
            Some(other) => {
                let message = format!(
                    "KongUpstreamPolicy {name:?}: algorithm: found {other:?}, this gateway does round-robin or least-connections; round-robin is used"
                );
                self.problem(&subject, message);
            }
        }
        let fields = unsupported(spec);
        if !fields.is_empty() {
            let fields = fields.join(", ");
            self.problem(
                &subject,
                format!("KongUpstreamPolicy {name:?}: {fields}: not done by this gateway"),
            );
        }
    }
}
