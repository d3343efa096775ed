//! Objects against the schemas of their kinds: the built-in ones, and those that definitions among the objects bring.
//!
//! Nothing of this is loaded until it is asked for.

use std::collections::{BTreeMap, HashMap};

use gantry_apimachinery::check::{MAX_FINDINGS, check, unknown_field};
use gantry_apimachinery::field_path::{FieldPath, Step};
use gantry_apimachinery::structural::{self, Structural, Trouble};
use gantry_apimachinery::types::{TypeId, Types};
use gantry_apimachinery::{Kind, Value, kind_names};
use gantry_yaml::{Span, nearest};

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Problem {
    /// `Deployment/web in shop`.
    pub object: String,
    /// Empty for the object as a whole.
    pub path: String,
    /// Where the field stands, or what it is missing in.
    pub at: Span,
    pub why: String,
}

/// What came of looking at all objects.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub problems: Vec<Problem>,
    /// Kinds for which there is no schema here, as `example.com/v1 Widget`.
    pub unchecked: Vec<String>,
}

/// Everything wrong with the objects by their schemas.
pub fn validate(objects: &[Value]) -> Verdict {
    let mut verdict = Verdict::default();
    let definitions = Definitions::read(objects, &mut verdict);
    let mut unchecked = BTreeMap::new();
    for object in objects {
        let text = |path: &[&str]| object.str_at(path).unwrap_or_default();
        let (api_version, kind) = (text(&["apiVersion"]), text(&["kind"]));
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let mut one = Findings { object, problems: Vec::new() };
        match Types::built_in().kind(group, version, kind) {
            Some(of) => {
                one.served(group, version, kind);
                one.built_in(of);
            }
            None => match definitions.kinds.get(&(group.to_owned(), kind.to_owned())) {
                Some(versions) => one.custom(version, versions),
                None => {
                    one.metadata();
                    if !one.misspelt(group, version, kind) {
                        unchecked.insert(format!("{api_version} {kind}"), ());
                    }
                }
            },
        }
        verdict.problems.extend(one.problems);
    }
    verdict.unchecked = unchecked.into_keys().collect();
    verdict
}

/// The versions of a kind that is defined; one without a schema takes anything.
type Versions = BTreeMap<String, Option<Structural>>;

#[derive(Default)]
struct Definitions {
    /// By group and kind.
    kinds: HashMap<(String, String), Versions>,
}

impl Definitions {
    fn read(objects: &[Value], verdict: &mut Verdict) -> Definitions {
        let mut definitions = Definitions::default();
        for object in objects {
            let text = |path: &[&str]| object.str_at(path).unwrap_or_default().to_owned();
            let is_definition = text(&["kind"]) == "CustomResourceDefinition"
                && text(&["apiVersion"]).starts_with("apiextensions.k8s.io/");
            if !is_definition {
                continue;
            }
            let mut versions = Versions::new();
            let listed = object.at(&["spec", "versions"]).and_then(Value::as_array);
            for (index, version) in listed.into_iter().flatten().enumerate() {
                let schema = version.at(&["schema", "openAPIV3Schema"]);
                let at = format!("spec.versions[{index}].schema.openAPIV3Schema");
                let schema = schema.or_else(|| object.at(&["spec", "validation", "openAPIV3Schema"]));
                let read = match schema.map(Structural::parse).transpose() {
                    Ok(read) => read,
                    Err(error) => {
                        verdict.problems.push(Problem {
                            object: shown(object),
                            path: at,
                            at: schema.map_or(object.span, |schema| schema.span),
                            why: error.to_string(),
                        });
                        None
                    }
                };
                versions.insert(version.str_at(&["name"]).unwrap_or_default().to_owned(), read);
            }
            let kind = (text(&["spec", "group"]), text(&["spec", "names", "kind"]));
            definitions.kinds.insert(kind, versions);
        }
        definitions
    }
}

fn joined(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// `Deployment/web in shop`.
fn shown(object: &Value) -> String {
    let text = |path: &[&str]| object.str_at(path).unwrap_or_default();
    let namespace = match text(&["metadata", "namespace"]) {
        "" => String::new(),
        namespace => format!(" in {namespace}"),
    };
    format!("{}/{}{namespace}", text(&["kind"]), text(&["metadata", "name"]))
}

struct Findings<'v> {
    object: &'v Value,
    problems: Vec<Problem>,
}

impl Findings<'_> {
    fn push(&mut self, path: String, at: Span, why: String) {
        if self.problems.len() < MAX_FINDINGS {
            self.problems.push(Problem { object: shown(self.object), path, at, why });
        }
    }

    fn built_in(&mut self, of: TypeId) {
        for finding in check(self.object, of) {
            self.push(finding.path.to_string(), finding.value.span, finding.why);
        }
    }

    /// Says so when servers have the kind only in other versions by now.
    fn served(&mut self, group: &str, version: &str, kind: &str) {
        let rows = kind_names::all().filter(|row| row.group == group && row.kind == kind);
        let mut versions: Vec<&str> = rows.map(|row| row.version).collect();
        versions.dedup();
        if !versions.is_empty() && !versions.contains(&version) {
            let known: Vec<String> = versions.iter().map(|version| joined(group, version)).collect();
            let at = self.object.get("apiVersion").map_or(self.object.span, |value| value.span);
            let why = format!(
                "Kubernetes 1.36 does not serve {kind} in {}, known is {}",
                joined(group, version),
                known.join(", ")
            );
            self.push("apiVersion".to_owned(), at, why);
        }
    }

    /// Metadata has the same fields in every object.
    fn metadata(&mut self) {
        let of = Types::built_in().named("meta.v1.ObjectMeta");
        if let (Some(of), Some(metadata)) = (of, self.object.get("metadata")) {
            for finding in check(metadata, of) {
                self.push(format!("metadata.{}", finding.path), finding.value.span, finding.why);
            }
        }
    }

    /// Says so when a kind of a group that is known here is none; false for a group that is not known.
    fn misspelt(&mut self, group: &str, version: &str, kind: &str) -> bool {
        let of_group: Vec<_> = kind_names::all().filter(|row| row.group == group).collect();
        if of_group.is_empty() {
            return false;
        }
        let versions: Vec<String> =
            of_group.iter().filter(|row| row.kind == kind).map(|row| joined(group, row.version)).collect();
        let (path, why) = if versions.is_empty() {
            let kinds: Vec<&str> = of_group.iter().map(|row| row.kind).collect();
            let hint = nearest(kind, &kinds).map_or(String::new(), |near| format!(", did you mean {near}?"));
            let group = if group.is_empty() { version } else { group };
            ("kind", format!("there is no {kind} in {group}{hint}"))
        } else {
            let (asked, known) = (joined(group, version), versions.join(", "));
            ("apiVersion", format!("there is no {kind} in {asked}, known is {known}"))
        };
        let at = self.object.get(path).map_or(self.object.span, |value| value.span);
        self.push(path.to_owned(), at, why);
        true
    }

    fn custom(&mut self, version: &str, versions: &Versions) {
        self.metadata();
        let schema = match versions.get(version) {
            Some(Some(schema)) => schema,
            Some(None) => return,
            None => {
                let known: Vec<&str> = versions.keys().map(String::as_str).collect();
                let at = self.object.get("apiVersion").map_or(self.object.span, |value| value.span);
                let why = format!("its definition has no version {version}, known is {}", known.join(", "));
                return self.push("apiVersion".to_owned(), at, why);
            }
        };
        // The schema's defaults come before its checks, as on a server.
        let mut object = self.object.clone();
        for path in structural::fit(&mut object, schema).unwrap_or_default() {
            if path.starts_with("metadata.") {
                continue;
            }
            let why = match FieldPath::parse(&path) {
                Ok(parsed) => match parsed.steps() {
                    [outer @ .., Step::Field(name)] => unknown_field(name, &known_at(schema, outer)),
                    _ => "unknown field".to_owned(),
                },
                Err(_) => "unknown field".to_owned(),
            };
            self.push(path.clone(), self.place(&path), why);
        }
        let mut problems = structural::validate(&object, None, schema);
        problems.extend(structural::duplicates(&object, schema));
        if schema.has_rules() && !problems.iter().any(|problem| problem.trouble.blocks_rules()) {
            problems.extend(structural::broken_rules(&object, None, schema));
        }
        for problem in problems {
            let at = self.place(&problem.path);
            self.push(problem.path, at, in_words(&problem.trouble));
        }
    }

    /// Where a field stands, or what is nearest around it.
    fn place(&self, path: &str) -> Span {
        let found = FieldPath::parse(path).map(|path| path.nearest(self.object).span);
        found.ok().filter(|span| !span.is_none()).unwrap_or(self.object.span)
    }
}

/// The fields that a schema knows at a place.
fn known_at<'s>(schema: &'s Structural, steps: &[Step]) -> Vec<&'s str> {
    let mut schema = schema;
    for step in steps {
        let next = match step {
            Step::Field(name) => schema.properties.get(name).or(schema.additional.as_deref()),
            _ => schema.items.as_deref(),
        };
        match next {
            Some(next) => schema = next,
            None => return Vec::new(),
        }
    }
    schema.properties.keys().map(smol_str::SmolStr::as_str).collect()
}

fn in_words(trouble: &Trouble) -> String {
    let text = |value: &Value| match &value.kind {
        Kind::String(text) => format!("{text:?}"),
        _ => format!("{value:?}"),
    };
    match trouble {
        Trouble::Required => "missing, its schema requires it".to_owned(),
        Trouble::NotSupported { value, supported } => {
            let words: Vec<&str> = supported.iter().filter_map(Value::as_str).collect();
            let near = value.as_str().and_then(|word| nearest(word, &words));
            let hint = near.map_or_else(
                || format!("supported are {}", supported.iter().map(text).collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean {near:?}?"),
            );
            format!("{} is not supported, {hint}", text(value))
        }
        Trouble::Invalid { value, why } => format!("{}: {}", short(&text(value)), without_body(why)),
        Trouble::Type { why, .. } => without_body(why).to_owned(),
        Trouble::TooLong { max } => format!("may not be longer than {max} characters"),
        Trouble::TooMany { found, max } => format!("has {found} elements, {max} at most"),
        Trouble::Duplicate { value } => format!("{} is there twice", short(&text(value))),
        Trouble::Rule { message, .. } => message.clone(),
    }
}

/// The server's words without the path in front, which is said already.
fn without_body(why: &str) -> &str {
    why.split_once(" in body ").map_or(why, |(_, rest)| rest)
}

fn short(text: &str) -> String {
    const MOST_CHARS: usize = 60;
    let mut short: String = text.chars().take(MOST_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
