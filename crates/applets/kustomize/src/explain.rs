//! `kustomize explain`: which file and line set a value, and what each layer changed, for a person or as JSON.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command};
use gantry_apimachinery::difference::{hidden, in_short, is_secret};
use gantry_apimachinery::field_path::Missing;
use gantry_apimachinery::{FieldPath, Value, kind_names};
use gantry_kustomize::explain::{Explained, History, NotFound, ObjectStep, Wanted, WantedKind, explain};
use gantry_kustomize::remote::Repository;
use gantry_kustomize::{Disk, Doors, Source, Step};
use gantry_yaml::Span;
use serde_json::json;

use crate::doors::Processes;

/// A value on a line of its own may be this long.
const MOST_VALUE_CHARS: usize = 100;
/// Names that are there instead of one that is not are listed up to this many.
const MOST_NAMES: usize = 12;

pub(crate) fn command() -> Command {
    Command::new("explain")
        .about("Tell which file and line set a value, and what each layer changed")
        .override_usage("gantry kustomize explain [OPTIONS] [DIR] OBJECT [FIELD]")
        .after_help(
            "OBJECT is named as for kubectl: deployment/web, deploy/web, deployments.apps/web, apps/v1/Deployment/web; by \
             the name it has in the end or by one it had before (without prefix or hash).\n\
             FIELD is a path: spec.replicas, spec.template.spec.containers[name=web].image, metadata.labels[app.kubernetes.io/name]. \
             Without it every step that changed the object is told.\n\n\
             Examples:\n  \
             gantry kustomize explain overlays/dev deployment/web\n  \
             gantry kustomize explain overlays/dev deployment/web spec.replicas\n  \
             gantry kustomize explain deploy/web 'spec.template.spec.containers[name=web].image' -n shop",
        )
        .arg(
            Arg::new("words")
                .value_names(["DIR", "OBJECT", "FIELD"])
                .num_args(1..=3)
                .required(true)
                .help("Directory with a kustomization.yaml [default: .], the object, and the field"),
        )
        .arg(super::option("namespace", "NAME", "The namespace of the object, where several have its name").short('n'))
        .arg(
            super::option("output", "FORMAT", "text for a person, or json")
                .short('o')
                .value_parser(["text", "json"])
                .default_value("text"),
        )
        .args(super::build_arguments())
}

/// What the words of the command line mean.
#[derive(Debug, PartialEq)]
struct Asked<'m> {
    dir: &'m str,
    object: &'m str,
    field: Option<&'m str>,
}

impl<'m> Asked<'m> {
    /// The directory comes first where there is one: the word after it is an object then.
    fn parse(words: &[&'m str], is_dir: impl Fn(&str) -> bool) -> Result<Asked<'m>, String> {
        match *words {
            [dir, object, field] => Ok(Asked { dir, object, field: Some(field) }),
            [dir, object] if looks_like_object(object) && is_dir(dir) => {
                Ok(Asked { dir, object, field: None })
            }
            [object, field] => Ok(Asked { dir: ".", object, field: Some(field) }),
            [object] => Ok(Asked { dir: ".", object, field: None }),
            _ => Err("an object is missing, such as deployment/web".to_owned()),
        }
    }
}

fn looks_like_object(word: &str) -> bool {
    word.split_once('/')
        .is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty() && !kind.contains(['[', ' ']))
}

/// The text that answers what the command line asks, and warnings of the build.
pub(crate) fn run(matches: &ArgMatches) -> Result<(String, Vec<String>), String> {
    let words: Vec<&str> =
        matches.get_many::<String>("words").into_iter().flatten().map(String::as_str).collect();
    let is_dir = |word: &str| Path::new(word).is_dir() || Repository::parse(word).is_ok();
    let asked = Asked::parse(&words, is_dir)?;
    let fetcher = super::fetcher_of(matches)?;
    let processes = Processes::new(super::program_time(matches)?);
    let doors = Doors { remote: &fetcher, programs: &processes };
    let options = super::options(matches);
    let explained = match Repository::parse(asked.dir) {
        Ok(repository) => explain(&Disk, doors, Source::Repository(&repository), &options),
        Err(_) => {
            let dir = std::path::absolute(asked.dir).map_err(|error| format!("'{}': {error}", asked.dir))?;
            explain(&Disk, doors, Source::Directory(&dir), &options)
        }
    };
    let explained = explained.map_err(|error| error.to_string())?;
    let here = std::env::current_dir().and_then(std::fs::canonicalize).unwrap_or_default();
    let teller = Teller { explained: &explained, here };
    let namespace = super::text(matches, "namespace");
    let as_json = super::text(matches, "output") == Some("json");
    let answer = teller.answer(asked.object, asked.field, namespace, as_json)?;
    Ok((answer, explained.warnings.clone()))
}

/// What a word names: kinds and a name.
fn wanted<'w>(
    word: &'w str,
    namespace: Option<&'w str>,
    explained: &Explained,
) -> Result<Wanted<'w>, String> {
    let parts: Vec<&str> = word.split('/').collect();
    let (kinds, name) = match parts[..] {
        [kind, name] => (kinds_of(kind, explained), name),
        [version, kind, name] => (vec![exactly("", version, kind)], name),
        [group, version, kind, name] => (vec![exactly(group, version, kind)], name),
        _ => return Err(format!("'{word}' is no object: name it KIND/NAME, such as deployment/web")),
    };
    if name.is_empty() || parts.iter().any(|part| part.is_empty()) {
        return Err(format!("'{word}' is no object: name it KIND/NAME, such as deployment/web"));
    }
    Ok(Wanted { kinds, name, namespace })
}

fn exactly(group: &str, version: &str, kind: &str) -> WantedKind {
    WantedKind { group: Some(group.to_owned()), version: Some(version.to_owned()), kind: kind.to_owned() }
}

/// Every kind that a word may stand for: a built-in one, one that a definition in the build brings, or one that is called
/// like the word.
fn kinds_of(word: &str, explained: &Explained) -> Vec<WantedKind> {
    let mut kinds: Vec<WantedKind> = kind_names::named(word)
        .into_iter()
        .map(|kind| WantedKind {
            group: Some(kind.group.to_owned()),
            version: None,
            kind: kind.kind.to_owned(),
        })
        .collect();
    let (name, group) = word.split_once('.').unwrap_or((word, ""));
    for definition in explained.objects() {
        if definition.str_at(&["kind"]) != Some("CustomResourceDefinition") {
            continue;
        }
        let text = |path: &[&str]| definition.str_at(path).unwrap_or_default();
        let short = definition.at(&["spec", "names", "shortNames"]).and_then(Value::as_array);
        let called = [text(&["spec", "names", "plural"]), text(&["spec", "names", "singular"])]
            .into_iter()
            .chain(short.into_iter().flatten().filter_map(Value::as_str))
            .any(|own| own.eq_ignore_ascii_case(name));
        if called && (group.is_empty() || group.ends_with(text(&["spec", "group"]))) {
            kinds.push(WantedKind {
                group: Some(text(&["spec", "group"]).to_owned()),
                version: None,
                kind: text(&["spec", "names", "kind"]).to_owned(),
            });
        }
    }
    let of_group = (!group.is_empty()).then(|| group.to_owned());
    let singular = name.strip_suffix("ies").map(|stem| format!("{stem}y"));
    for like in [
        Some(name.to_owned()),
        name.strip_suffix('s').map(str::to_owned),
        name.strip_suffix("es").map(str::to_owned),
        singular,
    ] {
        kinds.extend(like.map(|kind| WantedKind { group: of_group.clone(), version: None, kind }));
    }
    kinds
}

struct Teller<'e> {
    explained: &'e Explained,
    /// Files below it are told relative to it.
    here: PathBuf,
}

impl Teller<'_> {
    fn answer(
        &self,
        object: &str,
        field: Option<&str>,
        namespace: Option<&str>,
        as_json: bool,
    ) -> Result<String, String> {
        let wanted = wanted(object, namespace, self.explained)?;
        let history = self.explained.object(&wanted).map_err(|error| match error {
            NotFound::Removed { at, .. } => format!("{error}\n  at {}", self.place(at)),
            _ => error.to_string(),
        })?;
        let answer = match (field, as_json) {
            (None, false) => self.object_text(&history),
            (None, true) => self.object_json(&history),
            (Some(field), as_json) => {
                let path = FieldPath::parse(field).map_err(|error| error.to_string())?;
                let found =
                    history.fields(&path).map_err(|missing| no_field(&name(history.object()), &missing))?;
                let mut text = String::new();
                let mut all = Vec::new();
                for field in &found {
                    match as_json {
                        false => self.field_text(&history, field, &mut text),
                        true => all.push(self.field_json(&history, field)),
                    }
                }
                match as_json {
                    false => format!("{}\n{text}", name(history.object())),
                    true => lines(&json!({ "object": identity(history.object()), "fields": all })),
                }
            }
        };
        Ok(answer)
    }

    /// `file:line:col`, or a dash for what the program makes up.
    fn place(&self, at: Span) -> String {
        match self.explained.file(at) {
            Some(file) => format!("{}:{}:{}", self.path(file), at.line(), at.column()),
            None => "-".to_owned(),
        }
    }

    fn path(&self, path: &Path) -> String {
        match path.strip_prefix(&self.here) {
            Ok(below) if below.as_os_str().is_empty() => ".".to_owned(),
            Ok(below) => below.display().to_string(),
            Err(_) => self.explained.files.shown(path),
        }
    }

    fn layer(&self, step: &Step) -> (&'static str, String) {
        self.explained
            .layer(step)
            .map_or(("", String::new()), |layer| (layer.kind.name(), self.path(&layer.dir)))
    }

    fn object_text(&self, history: &History<'_>) -> String {
        let mut text = name(history.object()) + "\n";
        let mut last = None;
        for step in &history.steps() {
            let (kind, dir) = self.layer(step.step);
            if last != Some(step.step.layer) {
                let _ = writeln!(text, "{kind} {dir}");
                last = Some(step.step.layer);
            }
            let place = self.place(place_of(step));
            let made = if step.made_at.is_some() { "  made the object" } else { "" };
            let _ = writeln!(text, "  {}  {place}{made}", step.step.field);
            for change in step.changes {
                let at = self.place(change.at);
                let at = if at == place || at == "-" { String::new() } else { format!("  ({at})") };
                let (old, new) =
                    values(history.kind(), &change.path, change.old.as_ref(), change.new.as_ref());
                let _ = writeln!(text, "    {}: {old} → {new}{at}", change.path);
            }
        }
        text
    }

    fn object_json(&self, history: &History<'_>) -> String {
        let steps: Vec<serde_json::Value> = history
            .steps()
            .iter()
            .map(|step| {
                let (kind, dir) = self.layer(step.step);
                let changes: Vec<serde_json::Value> = step
                    .changes
                    .iter()
                    .map(|change| {
                        json!({
                            "path": change.path.to_string(),
                            "old": value_json(history.kind(), &change.path, change.old.as_ref()),
                            "new": value_json(history.kind(), &change.path, change.new.as_ref()),
                            "at": self.place(change.at),
                        })
                    })
                    .collect();
                json!({
                    "layer": { "kind": kind, "dir": dir },
                    "field": step.step.field,
                    "at": self.place(place_of(step)),
                    "made": step.made_at.is_some(),
                    "changes": changes,
                })
            })
            .collect();
        lines(&json!({ "object": identity(history.object()), "steps": steps }))
    }

    fn field_text(
        &self,
        history: &History<'_>,
        field: &gantry_kustomize::explain::FieldHistory<'_>,
        text: &mut String,
    ) {
        let shown = values(history.kind(), &field.path, None, Some(field.value)).1;
        let _ = writeln!(text, "{}: {shown}\n  set at {}", field.path, self.place(field.set_at));
        let rows: Vec<[String; 4]> = field
            .steps
            .iter()
            .map(|step| {
                let (kind, dir) = self.layer(step.step);
                let (old, new) = values(history.kind(), &step.path, step.old, step.new);
                let change = if step.old.is_none() { new } else { format!("{old} → {new}") };
                let below = if step.path == field.path { String::new() } else { format!("{}: ", step.path) };
                [
                    format!("{kind} {dir}"),
                    step.step.field.clone(),
                    self.place(step.at),
                    format!("{below}{change}"),
                ]
            })
            .collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2)];
        for [layer, by, place, change] in &rows {
            let _ = writeln!(
                text,
                "  {layer:0$}  {by:1$}  {place:2$}  {change}",
                widths[0], widths[1], widths[2]
            );
        }
    }

    fn field_json(
        &self,
        history: &History<'_>,
        field: &gantry_kustomize::explain::FieldHistory<'_>,
    ) -> serde_json::Value {
        let steps: Vec<serde_json::Value> = field
            .steps
            .iter()
            .map(|step| {
                let (kind, dir) = self.layer(step.step);
                json!({
                    "layer": { "kind": kind, "dir": dir },
                    "field": step.step.field,
                    "path": step.path.to_string(),
                    "old": value_json(history.kind(), &step.path, step.old),
                    "new": value_json(history.kind(), &step.path, step.new),
                    "at": self.place(step.at),
                })
            })
            .collect();
        json!({
            "path": field.path.to_string(),
            "value": value_json(history.kind(), &field.path, Some(field.value)),
            "setAt": self.place(field.set_at),
            "steps": steps,
        })
    }
}

/// Where a step is said: the made object's place, the field's, or else that of what it changed.
fn place_of(step: &ObjectStep<'_>) -> Span {
    let said = step.made_at.unwrap_or(step.step.place);
    if said.is_none() { step.changes.first().map_or(Span::NONE, |change| change.at) } else { said }
}

fn lines(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// `Deployment/web in shop`.
fn name(object: &Value) -> String {
    let text = |path: &[&str]| object.str_at(path).unwrap_or_default();
    let namespace = match text(&["metadata", "namespace"]) {
        "" => String::new(),
        namespace => format!(" in {namespace}"),
    };
    format!("{}/{}{namespace}", text(&["kind"]), text(&["metadata", "name"]))
}

fn identity(object: &Value) -> serde_json::Value {
    let text = |path: &[&str]| object.str_at(path);
    json!({
        "apiVersion": text(&["apiVersion"]),
        "kind": text(&["kind"]),
        "namespace": text(&["metadata", "namespace"]),
        "name": text(&["metadata", "name"]),
    })
}

/// Both sides of a change for a person.
fn values(kind: &str, path: &FieldPath, old: Option<&Value>, new: Option<&Value>) -> (String, String) {
    if is_secret(kind, path) {
        (hidden(old), hidden(new))
    } else {
        (in_short(old, MOST_VALUE_CHARS), in_short(new, MOST_VALUE_CHARS))
    }
}

fn value_json(kind: &str, path: &FieldPath, value: Option<&Value>) -> serde_json::Value {
    match value {
        None => serde_json::Value::Null,
        Some(_) if is_secret(kind, path) => hidden(value).into(),
        Some(value) => serde_json::to_value(value).unwrap_or_default(),
    }
}

fn no_field(object: &str, missing: &Missing) -> String {
    let known: Vec<&str> = missing.known.iter().map(String::as_str).collect();
    let hint = match gantry_yaml::nearest(&missing.step, &known) {
        Some(near) => format!(", did you mean {near}?"),
        None if known.is_empty() => String::new(),
        None if known.len() <= MOST_NAMES => format!(", there are {}", known.join(", ")),
        None => {
            format!(", there are {} and {} more", known[..MOST_NAMES].join(", "), known.len() - MOST_NAMES)
        }
    };
    let place = if missing.reached.is_empty() { String::new() } else { format!(" in {}", missing.reached) };
    format!("{object}: there is no {}{place}{hint}", missing.step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_comes_first_where_there_is_one() {
        let parse = |words: &[&'static str]| {
            Asked::parse(words, |word| word == "over/dev" || word == "deployment/web")
        };
        let asked = |dir, object, field| Ok(Asked { dir, object, field });
        assert_eq!(parse(&["deployment/web"]), asked(".", "deployment/web", None));
        assert_eq!(parse(&["over/dev", "deployment/web"]), asked("over/dev", "deployment/web", None));
        assert_eq!(parse(&["deploy/web", "spec.replicas"]), asked(".", "deploy/web", Some("spec.replicas")));
        // A directory of this name does not make an object of a field.
        let label = "metadata.labels[app.kubernetes.io/name]";
        assert_eq!(parse(&["deployment/web", label]), asked(".", "deployment/web", Some(label)));
        assert_eq!(parse(&["over/dev", "svc/a", "spec"]), asked("over/dev", "svc/a", Some("spec")));
    }

    #[test]
    fn what_a_secret_holds_is_not_told() {
        let path = FieldPath::parse("data.password").unwrap();
        let value: Value = "aHVudGVyMg==".into();
        assert_eq!(values("Secret", &path, None, Some(&value)), ("–".to_owned(), "(…)".to_owned()));
        assert_eq!(value_json("Secret", &path, Some(&value)), "(…)");
        assert_eq!(value_json("ConfigMap", &path, Some(&value)), "aHVudGVyMg==");
    }
}
