//! Merge keys and patch strategies of the built-in types, for strategic merge patch.

use gantry_apimachinery::strategic_patch::{FieldMerge, MergeSchema};
use gantry_apimachinery::value::SmolStr;

/// A type of the table; empty for one that it does not know.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TypeName(SmolStr);

pub(crate) struct BuiltInTypes;

impl TypeName {
    pub(crate) fn of_kind(kind: &str) -> TypeName {
        TypeName(kind.into())
    }
}

/// Field, merge key (empty for scalars). Holds for a field of that name wherever it stands, which is how the built-in
/// types use these names.
const KEYED: &[(&str, &str)] = &[
    ("containers", "name"),
    ("initContainers", "name"),
    ("ephemeralContainers", "name"),
    ("env", "name"),
    ("volumes", "name"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("imagePullSecrets", "name"),
    ("hostAliases", "ip"),
    ("topologySpreadConstraints", "topologyKey"),
    ("ownerReferences", "uid"),
    ("conditions", "type"),
    ("finalizers", ""),
    ("taints", "key"),
    ("addresses", "type"),
];

impl MergeSchema for BuiltInTypes {
    type Type = TypeName;

    fn field(&self, of: &TypeName, field: &str) -> (FieldMerge, TypeName) {
        let inner = if of.0 == "Service" && field == "spec" { TypeName("ServiceSpec".into()) } else if field == "containers" || field == "initContainers" { TypeName("Container".into()) } else { TypeName(SmolStr::default()) };
        let key = match (of.0.as_str(), field) {
            ("ServiceSpec", "ports") => Some("port"),
            ("Container", "ports") => Some("containerPort"),
            _ => KEYED.iter().find(|(name, _)| *name == field).map(|(_, key)| *key),
        };
        let rule = FieldMerge {
            merge: key.is_some(),
            retain_keys: matches!(field, "volumes" | "strategy"),
            merge_key: key.filter(|key| !key.is_empty()).map(SmolStr::new),
        };
        (rule, inner)
    }
}
