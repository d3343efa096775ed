//! The words about built-in types, from the schemas of the typed API: for `kubectl explain`.

use std::collections::HashMap;

use gantry_apiserver::{TypeDoc, TypeDocs};
use k8s_openapi::api::{
    admissionregistration, apps, authentication, authorization, autoscaling, batch, certificates,
    coordination, core, discovery, events, flowcontrol, networking, node, policy, rbac, resource, scheduling,
    storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// Makes the schemas of a group and version when they are asked for, and keeps none.
pub(crate) struct PublishedDocs;

macro_rules! kinds {
    ($generator:ident: $($module:ident::$version:ident::{$($kind:ident),*};)*) => {{
        $($($generator.subschema_for::<$module::$version::$kind>();)*)*
    }};
}

impl TypeDocs for PublishedDocs {
    fn of_group_version(&self, group: &str, version: &str) -> HashMap<String, TypeDoc> {
        let mut generator = SchemaSettings::openapi3().into_generator();
        add_kinds(&mut generator, group, version);
        generator
            .take_definitions(false)
            .iter()
            .map(|(name, schema)| (name.clone(), doc_of(schema)))
            .collect()
    }
}

fn add_kinds(g: &mut SchemaGenerator, group: &str, version: &str) {
    match (group, version) {
        ("", "v1") => {
            kinds!(g: core::v1::{Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node,
            PersistentVolume, PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret,
            Service, ServiceAccount};)
        }
        ("admissionregistration.k8s.io", "v1") => {
            kinds!(g: admissionregistration::v1::{MutatingWebhookConfiguration,
            ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration};)
        }
        ("apiextensions.k8s.io", "v1") => kinds!(g: apiextensions::v1::{CustomResourceDefinition};),
        ("apiregistration.k8s.io", "v1") => kinds!(g: apiregistration::v1::{APIService};),
        ("apps", "v1") => {
            kinds!(g: apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};)
        }
        ("authentication.k8s.io", "v1") => {
            kinds!(g: authentication::v1::{SelfSubjectReview, TokenRequest, TokenReview};)
        }
        ("authorization.k8s.io", "v1") => kinds!(g: authorization::v1::{LocalSubjectAccessReview,
            SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview};),
        ("autoscaling", "v1") => kinds!(g: autoscaling::v1::{HorizontalPodAutoscaler, Scale};),
        ("autoscaling", "v2") => kinds!(g: autoscaling::v2::{HorizontalPodAutoscaler};),
        ("batch", "v1") => kinds!(g: batch::v1::{CronJob, Job};),
        ("certificates.k8s.io", "v1") => kinds!(g: certificates::v1::{CertificateSigningRequest};),
        ("coordination.k8s.io", "v1") => kinds!(g: coordination::v1::{Lease};),
        ("discovery.k8s.io", "v1") => kinds!(g: discovery::v1::{EndpointSlice};),
        ("events.k8s.io", "v1") => kinds!(g: events::v1::{Event};),
        ("flowcontrol.apiserver.k8s.io", "v1") => {
            kinds!(g: flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};)
        }
        ("networking.k8s.io", "v1") => {
            kinds!(g: networking::v1::{Ingress, IngressClass, IPAddress, NetworkPolicy, ServiceCIDR};)
        }
        ("node.k8s.io", "v1") => kinds!(g: node::v1::{RuntimeClass};),
        ("policy", "v1") => kinds!(g: policy::v1::{Eviction, PodDisruptionBudget};),
        ("rbac.authorization.k8s.io", "v1") => {
            kinds!(g: rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};)
        }
        ("resource.k8s.io", "v1") => {
            kinds!(g: resource::v1::{DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice};)
        }
        ("scheduling.k8s.io", "v1") => kinds!(g: scheduling::v1::{PriorityClass};),
        ("storage.k8s.io", "v1") => {
            kinds!(g: storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass,
            VolumeAttachment, VolumeAttributesClass};)
        }
        // Custom resources still have the metadata of every object.
        _ => drop(g.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>()),
    }
}

fn doc_of(schema: &Value) -> TypeDoc {
    let text = |schema: &Value| schema["description"].as_str().unwrap_or_default().to_owned();
    let properties = schema["properties"].as_object();
    let fields = properties.into_iter().flatten().map(|(name, field)| (name.clone(), text(field)));
    TypeDoc { text: text(schema), fields: fields.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_fields_have_words() {
        let docs = PublishedDocs.of_group_version("apps", "v1");
        let deployment = &docs["io.k8s.api.apps.v1.Deployment"];
        assert!(!deployment.text.is_empty() && deployment.fields.contains_key("spec"));
        assert!(docs.contains_key("io.k8s.api.core.v1.Container"));
        let custom = PublishedDocs.of_group_version("play.example.com", "v1");
        assert!(custom.contains_key("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"));
    }
}
