//! Kustomize's `edit` commands: tables of command lines, each with a file before and what it says after.
//!
//! Where a table gives the whole file, an entry that no change touches may keep its own form: files are compared by
//! what they say. Only `fix`, which writes all that it gives, is compared byte for byte.

use std::path::Path;

use gantry_kustomize::Memory;
use gantry_yaml::{FileId, Node, parse_documents};
use serde_json::Value;

use super::Case;

const DIR: &str = "/app";
const FILE: &str = "/app/kustomization.yaml";
/// The file where a table gives none.
const DEFAULT_TEXT: &str =
    "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamePrefix: some-prefix\n";

type Check = fn(&Value) -> Result<(), String>;

/// `kustomize/unit/kustomize__commands__edit__*.json`.
pub(crate) fn cases(data: &Path) -> Option<Vec<Case>> {
    const TABLES: [(&str, Check); 13] = [
        ("add__addconfigmap", |row| generators_added(row, "configmap", "configMapGenerator")),
        ("add__addsecret", |row| generators_added(row, "secret", "secretGenerator")),
        ("add__addmetadata", labels_added),
        ("fix__fix", fixed),
        ("remove__removecomponent", |row| paths_removed(row, "component", "components")),
        ("remove__removeresource", |row| paths_removed(row, "resource", "resources")),
        ("remove__removetransformer", |row| paths_removed(row, "transformer", "transformers")),
        ("remove__removeconfigmap", |row| generators_removed(row, "configmap")),
        ("remove__removesecret", |row| generators_removed(row, "secret")),
        ("set__setconfigmap", |row| generator_set(row, "configmap", "configMapGenerator")),
        ("set__setsecret", |row| generator_set(row, "secret", "secretGenerator")),
        ("set__setimage", |row| lines_set(row, "image", "infileImages")),
        ("set__setreplicas", |row| lines_set(row, "replicas", "infileReplicas")),
    ];
    let folder = data.join("kustomize/unit");
    folder.is_dir().then_some(())?;
    let mut cases = Vec::new();
    for (table, check) in TABLES {
        let path = folder.join(format!("kustomize__commands__edit__{table}_test.json"));
        let rows = std::fs::read_to_string(path).map_err(|error| error.to_string());
        let rows =
            rows.and_then(|text| serde_json::from_str::<Value>(&text).map_err(|error| error.to_string()));
        match rows {
            Ok(tables) => {
                let mut found = Vec::new();
                for (_, value) in tables.as_object().into_iter().flatten() {
                    rows_of(value, "", &mut found);
                }
                for (index, (name, row)) in found.into_iter().enumerate() {
                    cases.push(Case::new(format!("{table}/{index} {name}"), check(row)));
                }
            }
            Err(error) => cases.push(Case::new(table, Err(error))),
        }
    }
    Some(cases)
}

/// The rows of a table: items of lists of lists, or the values of a mapping by name.
fn rows_of<'v>(value: &'v Value, name: &str, rows: &mut Vec<(String, &'v Value)>) {
    const ROW_KEYS: [&str; 8] =
        ["name", "Name", "Description", "description", "given", "input", "args", "expectedErr"];
    match value {
        Value::Array(items) => items.iter().for_each(|item| rows_of(item, name, rows)),
        Value::Object(fields) if ROW_KEYS.iter().any(|key| fields.contains_key(*key)) => {
            let names = ["name", "Name", "Description", "description"];
            let own = names.iter().find_map(|key| fields.get(*key)?.as_str());
            rows.push((own.unwrap_or(name).to_owned(), value));
        }
        Value::Object(fields) => fields.iter().for_each(|(name, row)| rows_of(row, name, rows)),
        _ => {}
    }
}

/// The file after a command, or the message that refused it.
fn run(files: &[(&str, &str)], arguments: &[String]) -> Result<Result<String, String>, String> {
    let mut fs = Memory::default();
    let mut text = String::new();
    for (name, content) in files {
        fs.insert(format!("{DIR}/{name}"), *content);
        if *name == "kustomization.yaml" {
            text = (*content).to_owned();
        }
    }
    let words = ["kustomize", "edit"].into_iter().chain(arguments.iter().map(String::as_str));
    let matches =
        gantry_applet_kustomize::command().try_get_matches_from(words).map_err(|error| error.to_string())?;
    Ok(gantry_applet_kustomize::outcome(&fs, Path::new(DIR), &matches).map(|outcome| {
        let written = outcome.writes.into_iter().find(|(path, _)| path == Path::new(FILE));
        written.map_or(text, |(_, text)| text)
    }))
}

fn edited(text: &str, arguments: &[String]) -> Result<Result<String, String>, String> {
    run(&[("kustomization.yaml", text)], arguments)
}

fn succeeded(text: &str, arguments: &[String]) -> Result<String, String> {
    edited(text, arguments)?
}

fn must_fail(outcome: Result<String, String>, message: &str) -> Result<(), String> {
    match outcome {
        Ok(_) => Err(format!("was done, an error is expected: {message}")),
        Err(found) if found.contains(message) => Ok(()),
        Err(found) => Err(format!("message: {found}\nwanted: {message}")),
    }
}

fn words(first: &[&str], value: &Value) -> Vec<String> {
    let rest = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    first.iter().copied().chain(rest).map(str::to_owned).collect()
}

fn strings(value: &Value) -> Vec<String> {
    words(&[], value)
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn tree(text: &str) -> Result<Node, String> {
    let documents = parse_documents(FileId(0), text).map_err(|error| error.to_string())?;
    documents.into_iter().next().ok_or_else(|| "the file is empty".to_owned())
}

fn list_at(node: &Node, path: &[&str]) -> Vec<String> {
    let items = node.at(path).and_then(Node::as_sequence).unwrap_or_default();
    items.iter().filter_map(|item| item.text().map(str::to_owned)).collect()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}")) }
}

fn same_content(found: &str, expected: &str) -> Result<(), String> {
    if tree(found)? == tree(expected)? {
        Ok(())
    } else {
        Err(format!("found:\n{found}\nexpected:\n{expected}"))
    }
}

fn generators_added(row: &Value, what: &str, field: &str) -> Result<(), String> {
    let name = [&row["configMapName"], &row["secretName"]].into_iter().find_map(Value::as_str);
    let mut arguments = words(&["add", what, name.unwrap_or_default()], &Value::Null);
    let namespace = [&row["configMapNamespace"], &row["secretNamespace"]].into_iter().find_map(Value::as_str);
    if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
        arguments.push(format!("--namespace={namespace}"));
    }
    arguments
        .extend(strings(&row["literalSources"]).iter().map(|literal| format!("--from-literal={literal}")));
    let found = tree(&succeeded(text_of(&row["initialArgs"]), &arguments)?)?;
    let entries = found.get(field).and_then(Node::as_sequence).unwrap_or_default();
    let expected = row["expectedResult"].as_array().map(Vec::as_slice).unwrap_or_default();
    same("generators", entries.len(), expected.len())?;
    for (entry, expected) in entries.iter().zip(expected) {
        let expected = &expected["GeneratorArgs"];
        let text = |key: &str| entry.text_at(&[key]).unwrap_or_default().to_owned();
        same("name", text("name"), text_of(&expected["Name"]).to_owned())?;
        same("namespace", text("namespace"), text_of(&expected["Namespace"]).to_owned())?;
        let sources = &expected["KvPairSources"];
        for (key, wanted) in
            [("literals", "LiteralSources"), ("files", "FileSources"), ("envs", "EnvSources")]
        {
            same(key, list_at(entry, &[key]), strings(&sources[wanted]))?;
        }
    }
    Ok(())
}

/// An entry of `labels` in the originals' words: `Pairs`, `IncludeSelectors`, `IncludeTemplates`.
fn label_entries(labels: &Value) -> Value {
    let entry = |label: &Value| {
        serde_json::json!({
            "pairs": label["Pairs"],
            "includeSelectors": label["IncludeSelectors"].as_bool().unwrap_or_default(),
            "includeTemplates": label["IncludeTemplates"].as_bool().unwrap_or_default(),
        })
    };
    labels.as_array().map(|labels| labels.iter().map(entry).collect()).unwrap_or_default()
}

fn labels_added(row: &Value) -> Result<(), String> {
    let options = &row["options"];
    let mut arguments = words(&["add", "label"], &Value::Null);
    for (option, word) in [
        ("labelsWithoutSelector", "--without-selector"),
        ("includeTemplates", "--include-templates"),
        ("force", "--force"),
    ] {
        if options[option] == Value::Bool(true) {
            arguments.push(word.to_owned());
        }
    }
    for (key, value) in options["metadata"].as_object().into_iter().flatten() {
        arguments.push(format!("{key}:{}", text_of(value)));
    }
    // JSON is YAML: on one line, as a list in brackets.
    let text = format!("{DEFAULT_TEXT}labels: {}\n", label_entries(&row["baseLabels"]));
    let outcome = edited(&text, &arguments)?;
    if let Some(message) = row["expectedErr"].as_str().filter(|message| !message.is_empty()) {
        return must_fail(outcome, message);
    }
    let found = tree(&outcome?)?;
    let expected = label_entries(&row["expected"]);
    let entries = found.get("labels").and_then(Node::as_sequence).unwrap_or_default();
    same("labels", entries.len(), expected.as_array().map_or(0, Vec::len))?;
    for (entry, expected) in entries.iter().zip(expected.as_array().into_iter().flatten()) {
        let pairs: Vec<(String, String)> = entry
            .get("pairs")
            .and_then(Node::as_mapping)
            .unwrap_or_default()
            .iter()
            .map(|(key, value)| {
                (key.text().unwrap_or_default().into(), value.text().unwrap_or_default().into())
            })
            .collect();
        let wanted = expected["pairs"].as_object().into_iter().flatten();
        let wanted = wanted.map(|(key, value)| (key.clone(), text_of(value).to_owned())).collect();
        same("pairs", pairs, wanted)?;
        for key in ["includeSelectors", "includeTemplates"] {
            let is_set = entry.text_at(&[key]) == Some("true");
            same(key, is_set, expected[key] == Value::Bool(true))?;
        }
    }
    Ok(())
}

fn fixed(row: &Value) -> Result<(), String> {
    let mut files = vec![("kustomization.yaml", text_of(&row["input"]))];
    for (name, content) in row["files"].as_object().into_iter().flatten() {
        files.push((name, text_of(content)));
    }
    let found = run(&files, &words(&["fix"], &Value::Null))??;
    same("file", found.as_str(), text_of(&row["expected"]))
}

fn paths_removed(row: &Value, what: &str, field: &str) -> Result<(), String> {
    let given = &row["Given"];
    let items: String = strings(&given["Items"]).iter().map(|item| format!("- {item}\n")).collect();
    let text = format!("{DEFAULT_TEXT}{field}:\n{items}");
    let outcome = edited(&text, &words(&["remove", what], &given["RemoveArgs"]))?;
    let expected = &row["Expected"];
    if let Some(message) = expected["Err"].as_str() {
        return must_fail(outcome, message);
    }
    let mut found = list_at(&tree(&outcome?)?, &[field]);
    let mut wanted = strings(&expected["Items"]);
    found.sort();
    wanted.sort();
    same(field, found, wanted)
}

fn generators_removed(row: &Value, what: &str) -> Result<(), String> {
    let input = row["input"].as_str().unwrap_or(DEFAULT_TEXT);
    let outcome = edited(input, &words(&["remove", what], &row["args"]))?;
    if row["wantErr"] == Value::Bool(true) {
        return must_fail(outcome, text_of(&row["expectedErr"]));
    }
    same_content(&outcome?, text_of(&row["expectedOutput"]))
}

fn generator_set(row: &Value, what: &str, field: &str) -> Result<(), String> {
    let text = text_of(&row["KustomizationFileContent"]);
    let arguments = words(&["set", what], &row["Args"]);
    let outcome = edited(text, &arguments)?;
    if let Some(message) = row["ExpectedErrorMsg"].as_str() {
        return must_fail(outcome, message);
    }
    let found = tree(&outcome?)?;
    let name = row["Args"][0].as_str();
    let entries = found.get(field).and_then(Node::as_sequence).unwrap_or_default();
    let entry =
        entries.iter().find(|entry| entry.text_at(&["name"]) == name).ok_or("the generator is gone")?;
    if let Some(namespace) = row["ExpectedNamespace"].as_str() {
        same("namespace", entry.text_at(&["namespace"]), Some(namespace))?;
    }
    if row["ExpectedLiterals"].is_array() {
        let (mut found, mut wanted) = (list_at(entry, &["literals"]), strings(&row["ExpectedLiterals"]));
        found.sort();
        wanted.sort();
        same("literals", found, wanted)?;
    }
    Ok(())
}

fn lines_set(row: &Value, what: &str, infile: &str) -> Result<(), String> {
    let lines = strings(&row["given"][infile]);
    let text = if lines.is_empty() { DEFAULT_TEXT.to_owned() } else { lines.join("\n") };
    let outcome = edited(&text, &words(&["set", what], &row["given"]["args"]))?;
    let expected = &row["expected"];
    if !expected["err"].is_null() {
        return must_fail(outcome, expected["err"].as_str().unwrap_or_default());
    }
    let (found, wanted) = (outcome?, strings(&expected["fileOutput"]).join("\n"));
    if found.contains(&wanted) { Ok(()) } else { Err(format!("found:\n{found}\nwanted in it:\n{wanted}")) }
}
