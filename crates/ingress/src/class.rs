//! Which Ingresses are ours.

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// The class to serve.
#[derive(Clone, Debug)]
pub(crate) struct Class<'a> {
    pub(crate) name: &'a str,
    /// Whether Ingresses that name no class are ours too.
    pub(crate) is_default: bool,
}

impl Class<'_> {
    pub(crate) fn claims(&self, ingress: &Ingress) -> bool {
        let annotations = ingress.metadata.annotations.as_ref();
        let annotated = annotations.and_then(|all| all.get(CLASS_ANNOTATION)).map(String::as_str);
        let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
        match annotated.or(named) {
            Some(class) => class == self.name,
            None => self.is_default,
        }
    }
}

/// Whether `class` takes Ingresses that name none.
pub(crate) fn is_default(class: &IngressClass) -> bool {
    let annotations = class.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(DEFAULT_ANNOTATION)).is_some_and(|value| value == "true")
}
