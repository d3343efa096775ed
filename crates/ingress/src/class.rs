//! Which objects are ours.

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// The class to serve.
#[derive(Clone, Debug)]
pub(crate) struct Class<'a> {
    pub(crate) name: &'a str,
    /// Whether objects that name no class are ours too.
    pub(crate) is_default: bool,
}

fn annotated(meta: &ObjectMeta) -> Option<&str> {
    meta.annotations.as_ref()?.get(CLASS_ANNOTATION).map(String::as_str)
}

impl Class<'_> {
    pub(crate) fn claims(&self, ingress: &Ingress) -> bool {
        let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
        self.is(annotated(&ingress.metadata).or(named))
    }

    /// Whether an object that can name its class in an annotation only is ours.
    pub(crate) fn claims_annotated(&self, meta: &ObjectMeta) -> bool {
        self.is(annotated(meta))
    }

    fn is(&self, class: Option<&str>) -> bool {
        class.map_or(self.is_default, |class| class == self.name)
    }
}

/// Whether `class` takes Ingresses that name none.
pub(crate) fn is_default(class: &IngressClass) -> bool {
    let annotations = class.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(DEFAULT_ANNOTATION)).is_some_and(|value| value == "true")
}
