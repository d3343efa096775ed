//! The merge rules in force: those of the built-in kinds, or of the OpenAPI document that the build names.

use std::collections::HashMap;

use gantry_apimachinery::strategic_merge::{self, Schema};
use gantry_yaml::Node;

/// The name of a key that items pair by.
pub(crate) type SmolKey = smol_str::SmolStr;

/// A type of the schema in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TypeId {
    Builtin(strategic_merge::TypeId),
    Custom(usize),
    /// The kustomization file itself, whose generators pair by name.
    Kustomization,
}

/// Fields of a kustomization file whose items pair by name.
const GENERATORS: [&str; 2] = ["configMapGenerator", "secretGenerator"];

/// How a field merges.
#[derive(Clone, Debug, Default)]
pub(crate) struct Field {
    pub(crate) value: Option<TypeId>,
    pub(crate) merges: bool,
    pub(crate) list_keys: Vec<SmolKey>,
}

/// Merge rules by kind.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    custom: Option<Custom>,
}

/// What an OpenAPI document says of its own kinds.
#[derive(Debug, Default)]
struct Custom {
    kinds: HashMap<(String, String), usize>,
    fields: Vec<HashMap<String, Field>>,
}

impl Rules {
    /// The type of an object that says what it is.
    pub(crate) fn of_object(&self, node: &Node) -> Option<TypeId> {
        let api_version = node.get("apiVersion")?.text()?;
        let kind = node.get("kind")?.text()?;
        if kind == "Kustomization" && api_version == crate::kustomization::api_version_of(kind) {
            return Some(TypeId::Kustomization);
        }
        let custom = self.custom.as_ref();
        custom
            .and_then(|custom| custom.kinds.get(&(api_version.to_owned(), kind.to_owned())))
            .map(|place| TypeId::Custom(*place))
            .or_else(|| Schema::builtin().resource(api_version, kind).map(TypeId::Builtin))
    }

    pub(crate) fn field(&self, owner: TypeId, name: &str) -> Option<Field> {
        match owner {
            TypeId::Builtin(owner) => {
                let field = Schema::builtin().field(owner, name)?;
                Some(Field {
                    value: field.value.map(TypeId::Builtin),
                    merges: field.merges,
                    list_keys: field.list_keys.iter().map(|key| SmolKey::new_static(key)).collect(),
                })
            }
            TypeId::Kustomization => GENERATORS.contains(&name).then(|| Field {
                value: None,
                merges: true,
                list_keys: vec![SmolKey::new_static("name")],
            }),
            TypeId::Custom(owner) => self.custom.as_ref()?.fields.get(owner)?.get(name).cloned(),
        }
    }

    /// Takes the rules of an OpenAPI (swagger 2) document before the built-in ones.
    pub(crate) fn read_openapi(&mut self, document: &Node) {
        let definitions = document.get("definitions").and_then(Node::as_mapping).unwrap_or_default();
        let mut reader =
            Reader { definitions, places: HashMap::new(), custom: Custom::default(), by_list_type: false };
        for (name, definition) in definitions {
            let kinds = definition.get("x-kubernetes-group-version-kind").and_then(Node::as_sequence);
            for kind in kinds.unwrap_or_default() {
                let part = |key: &str| kind.get(key).and_then(Node::text).unwrap_or_default();
                let (group, version) = (part("group"), part("version"));
                let api_version =
                    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
                let place = reader.definition(name.text().unwrap_or_default(), definition);
                reader.custom.kinds.insert((api_version, part("kind").to_owned()), place);
            }
        }
        self.custom = Some(reader.custom);
    }

    /// Takes the rules of a custom resource's definition: a list of type `map` pairs its items by its keys, one of type
    /// `set` by value. Kinds that have rules already keep them.
    pub(crate) fn read_definition(&mut self, definition: &Node) {
        let text = |path: &[&str]| definition.text_at(path).unwrap_or_default();
        let (group, kind) = (text(&["spec", "group"]), text(&["spec", "names", "kind"]));
        let mut reader = Reader {
            definitions: &[],
            places: HashMap::new(),
            custom: self.custom.take().unwrap_or_default(),
            by_list_type: true,
        };
        let versions = definition.at(&["spec", "versions"]).and_then(Node::as_sequence);
        for version in versions.unwrap_or_default() {
            let name = version.text_at(&["name"]).unwrap_or_default();
            let schema = version
                .at(&["schema", "openAPIV3Schema"])
                .or_else(|| definition.at(&["spec", "validation", "openAPIV3Schema"]));
            let key = (format!("{group}/{name}"), kind.to_owned());
            if let Some(schema) = schema.filter(|_| !reader.custom.kinds.contains_key(&key)) {
                let place = reader.reserve();
                reader.fill(place, schema);
                reader.custom.kinds.insert(key, place);
            }
        }
        self.custom = Some(reader.custom);
    }
}

struct Reader<'a> {
    definitions: &'a [(Node, Node)],
    places: HashMap<String, usize>,
    custom: Custom,
    /// Lists merge by their type, as server-side apply merges them, and not only by a patch strategy.
    by_list_type: bool,
}

impl Reader<'_> {
    fn definition(&mut self, name: &str, definition: &Node) -> usize {
        if let Some(&place) = self.places.get(name) {
            return place;
        }
        let place = self.reserve();
        self.places.insert(name.to_owned(), place);
        self.fill(place, definition);
        place
    }

    fn reserve(&mut self) -> usize {
        self.custom.fields.push(HashMap::new());
        self.custom.fields.len() - 1
    }

    fn fill(&mut self, place: usize, definition: &Node) {
        for (name, property) in definition.get("properties").and_then(Node::as_mapping).unwrap_or_default() {
            let strategy = property.text_at(&["x-kubernetes-patch-strategy"]).unwrap_or_default();
            let merge_key = property.text_at(&["x-kubernetes-patch-merge-key"]);
            let map_keys = property.get("x-kubernetes-list-map-keys").and_then(Node::as_sequence);
            let list_keys = match map_keys {
                Some(keys) => keys.iter().filter_map(|key| key.text().map(SmolKey::new)).collect(),
                None => merge_key.map(SmolKey::new).into_iter().collect(),
            };
            let field = Field {
                value: self.value_of(property),
                merges: strategy.split(',').any(|word| word == "merge")
                    || self.by_list_type
                        && matches!(property.text_at(&["x-kubernetes-list-type"]), Some("map" | "set")),
                list_keys,
            };
            if let Some(name) = name.text() {
                self.custom.fields[place].insert(name.to_owned(), field);
            }
        }
    }

    fn value_of(&mut self, schema: &Node) -> Option<TypeId> {
        if let Some(reference) = schema.get("$ref").and_then(Node::text) {
            let name = reference.strip_prefix("#/definitions/")?;
            let definitions = self.definitions;
            return match definitions.iter().find(|(key, _)| key.text() == Some(name)) {
                Some((_, definition)) => Some(TypeId::Custom(self.definition(name, definition))),
                None => builtin(name),
            };
        }
        if let Some(items) = schema.get("items").or_else(|| schema.get("additionalProperties")) {
            return self.value_of(items);
        }
        schema.get("properties")?;
        let place = self.reserve();
        self.fill(place, schema);
        Some(TypeId::Custom(place))
    }
}

/// The field that a schema by itself describes, with the types that are built in; `None` when it describes none.
pub(crate) fn described(schema: &Node) -> Option<Field> {
    let reference = |node: &Node| builtin(node.get("$ref")?.text()?.strip_prefix("#/definitions/")?);
    let text = |key: &str| schema.get(key).and_then(Node::text).unwrap_or_default();
    let keys = match schema.get("x-kubernetes-list-map-keys").and_then(Node::as_sequence) {
        Some(keys) => keys.iter().filter_map(|key| key.text().map(SmolKey::new)).collect(),
        None => schema
            .get("x-kubernetes-patch-merge-key")
            .and_then(Node::text)
            .map(SmolKey::new)
            .into_iter()
            .collect(),
    };
    let field = Field {
        value: reference(schema).or_else(|| schema.get("items").and_then(reference)),
        merges: text("x-kubernetes-patch-strategy").split(',').any(|word| word == "merge"),
        list_keys: keys,
    };
    (field.merges || field.value.is_some()).then_some(field)
}

/// A type that the document names without defining it.
fn builtin(name: &str) -> Option<TypeId> {
    let prefixes = ["io.k8s.api.", "io.k8s.apimachinery.pkg.apis.", "io.k8s.kube-aggregator.pkg.apis."];
    let short = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    Schema::builtin().named(short).map(TypeId::Builtin)
}
