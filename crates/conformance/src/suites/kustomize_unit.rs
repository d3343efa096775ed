//! Kustomize's table tests of single parts: rows of inputs with what upstream's function makes of them.
//!
//! Every row is judged through the function that a build calls (`gantry_kustomize::parts` and `remote`). A table of
//! another shape than known here is a failed case, so that nothing is passed over.

use std::collections::BTreeMap;
use std::path::Path;

use gantry_kustomize::edit::split_image;
use gantry_kustomize::parts::{self, Gvk, ResId};
use gantry_kustomize::remote::Repository;
use gantry_yaml::{FileId, Node, Span, parse_documents};
use serde_json::Value;

use super::Case;

type Check = fn(&Value) -> Result<(), String>;

/// A table of a file: its name without that of the Go test's variable, and how its rows are judged.
type Table = (&'static str, Check);

/// Addresses of repositories.
pub(crate) fn repositories(data: &Path) -> Option<Vec<Case>> {
    const TABLES: &[Table] = &[
        ("TestNewRepoSpecFromUrl_Permute", permuted_address),
        ("TestNewRepoSpecFromUrlErrors", refused_address),
        ("TestNewRepoSpecFromUrl_Smoke", whole_address),
        ("TestParseQuery", query),
    ];
    run(data, &["api__internal__git__repospec"], TABLES)
}

/// Names, tags and digests of images.
pub(crate) fn images(data: &Path) -> Option<Vec<Case>> {
    const TABLES: &[Table] = &[("TestIsImageMatched", image_matched), ("TestSplit", image_split)];
    run(data, &["api__internal__image__image"], TABLES)
}

/// Kinds and identities.
pub(crate) fn identities(data: &Path) -> Option<Vec<Case>> {
    const TABLES: &[Table] = &[
        (":equalsTests", |row| same("equality", gvk(&row["x1"]) == gvk(&row["x2"]), true)),
        (":lessThanTests", before),
        (":stringTests", gvk_texts),
        ("TestApiVersion", |row| {
            same("apiVersion", gvk(&row["x"]).api_version().as_str(), text(&row["exp"]))
        }),
        // Any kind can be written and read.
        ("BenchmarkApiVersion", |row| {
            let gvk = gvk(row);
            same("kind", Gvk::new(&gvk.api_version(), &gvk.kind), gvk)
        }),
        ("TestParseGroupVersion", group_version),
        ("TestSelectByGVK", selected_gvk),
        ("TestIsClusterScoped", cluster_scoped),
        (":resIdStringTests", |row| same("text", id(&row["x"]).to_string().as_str(), text(&row["s"]))),
        ("TestResIdEquals", ids_equal),
        (":ids", id_reads_back),
        ("TestResIdIsSelected", selected_ids),
        ("TestEffectiveNamespace", effective_namespace),
    ];
    run(data, &["kyaml__resid__gvk", "kyaml__resid__resid"], TABLES)
}

/// Suffixes from content.
pub(crate) fn hashes(data: &Path) -> Option<Vec<Case>> {
    const TABLES: &[Table] = &[
        ("TestConfigMapHash", hash),
        ("TestSecretHash", hash),
        ("TestBasicHash", hash),
        ("TestEncodeConfigMap", hashed_text),
        ("TestEncodeSecret", hashed_text),
    ];
    run(data, &["api__hasher__hasher"], TABLES)
}

/// Strategic merge patches.
pub(crate) fn merges(data: &Path) -> Option<Vec<Case>> {
    const TABLES: &[Table] = &[
        (":elementTestCases", merged),
        (":listTestCases", merged),
        (":mapTestCases", merged),
        (":scalarTestCases", merged),
        ("Test_determineSmpDirective", merged),
    ];
    let files = ["element", "list", "map", "scalar", "smpdirective"]
        .map(|part| format!("kyaml__yaml__merge2__{part}"));
    run(data, &files.each_ref().map(String::as_str), TABLES)
}

/// Three-way merges.
pub(crate) fn three_way_merges(data: &Path) -> Option<Vec<Case>> {
    const TABLES: &[Table] = &[
        (":elementTestCases", merged_three_way),
        (":listTestCases", merged_three_way),
        (":mapTestCases", merged_three_way),
        (":scalarTestCases", merged_three_way),
        (":kustomizationTestCases", merged_three_way),
    ];
    let files = ["element", "list", "map", "scalar", "kustomization"]
        .map(|part| format!("kyaml__yaml__merge3__{part}"));
    run(data, &files.each_ref().map(String::as_str), TABLES)
}

/// Replacements.
pub(crate) fn replacements(data: &Path) -> Option<Vec<Case>> {
    const TABLES: &[Table] = &[("TestFilter", replaced), ("TestValueInlineStructuredData", replaced)];
    run(data, &["api__filters__replacement__replacement"], TABLES)
}

/// Variables.
pub(crate) fn expansions(data: &Path) -> Option<Vec<Case>> {
    let file = "api__filters__refvar__expand";
    let mut cases = run(data, &[file], &[("TestMapping", expanded), ("TestMapReference", |_| Ok(()))])?;
    // The rows of this table build upon each other: they are one case.
    cases.retain(|case| !case.name.contains("TestMapReference"));
    let tables = read(data, file).unwrap_or_default();
    cases.push(Case::new("TestMapReference", expanded_in_order(&tables)));
    Some(cases)
}

fn read(data: &Path, file: &str) -> Result<Value, String> {
    let path = data.join(format!("kustomize/unit/{file}_test.json"));
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn run(data: &Path, files: &[&str], tables: &[Table]) -> Option<Vec<Case>> {
    data.join("kustomize/unit").is_dir().then_some(())?;
    let mut cases = Vec::new();
    for file in files {
        let found = match read(data, file) {
            Ok(found) => found,
            Err(error) => {
                cases.push(Case::new(*file, Err(error)));
                continue;
            }
        };
        for (name, value) in found.as_object().into_iter().flatten() {
            let table =
                tables.iter().find(|(known, _)| name == known || name.starts_with(&format!("{known}:")));
            let mut rows = Vec::new();
            rows_of(value, "", &mut rows);
            match table {
                Some((table, check)) => {
                    cases.extend(rows.iter().enumerate().map(|(index, (row_name, row))| {
                        Case::new(format!("{file}/{table}/{index} {row_name}"), check(row))
                    }))
                }
                None => {
                    cases.push(Case::new(name.as_str(), Err("a table that is not known here".to_owned())))
                }
            }
        }
    }
    Some(cases)
}

/// The rows of a table: items of lists of lists, or the values of one mapping by name in a list.
fn rows_of<'v>(value: &'v Value, name: &str, rows: &mut Vec<(String, &'v Value)>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| rows_of(item, name, rows)),
        Value::Object(fields)
            if !fields.is_empty()
                && fields.values().all(Value::is_object)
                && !["x", "x1", "id1"].iter().any(|key| fields.contains_key(*key)) =>
        {
            fields.iter().for_each(|(name, row)| rows.push((name.clone(), row)));
        }
        Value::Object(fields) => {
            let names = ["name", "testName", "desc", "description", "raw", "s", "input"];
            let own = names.iter().find_map(|key| fields.get(*key)?.as_str());
            rows.push((own.unwrap_or(name).to_owned(), value));
        }
        _ => {}
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}")) }
}

fn documents(text: &str) -> Result<Vec<Node>, String> {
    let documents = parse_documents(FileId(0), text).map_err(|error| error.to_string())?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

fn document(text: &str) -> Result<Node, String> {
    documents(text)?.into_iter().next().ok_or_else(|| "no document".to_owned())
}

// === repositories ===

fn permuted_address(row: &Value) -> Result<(), String> {
    for repository in ["someOrg/someRepo", "kubernetes/website"] {
        for folder in ["README.md", "foo/krusty.txt", ""] {
            for reference in ["someBranch", "master", "v0.1.0", ""] {
                let slash = if folder.is_empty() { "" } else { "/" };
                let query = if reference.is_empty() { String::new() } else { format!("?ref={reference}") };
                let address = format!("{}{repository}{slash}{folder}{query}", text(&row["raw"]));
                let found = Repository::parse(&address).map_err(|error| format!("{address}: {error}"))?;
                let url = format!("{}{repository}", text(&row["normalized"]));
                same(&address, found.url(), url)?;
                same(&address, found.root(), folder)?;
                same(&address, found.reference(), reference)?;
            }
        }
    }
    Ok(())
}

fn refused_address(row: &Value) -> Result<(), String> {
    match Repository::parse(text(&row["url"])) {
        Ok(_) => Err(format!("was read, an error is expected: {}", text(&row["error"]))),
        Err(error) if error.contains(text(&row["error"])) => Ok(()),
        Err(error) => Err(format!("message: {error}, wanted: {}", text(&row["error"]))),
    }
}

fn whole_address(row: &Value) -> Result<(), String> {
    let found = Repository::parse(text(&row["input"]))?;
    let (url, root, reference) = (found.url(), found.root(), found.reference());
    let spec = &row["repoSpec"];
    if let Some(expected) = row["cloneSpec"].as_str() {
        same("cloneSpec", url.as_str(), expected)?;
    }
    if let (Some(host), Some(path)) = (spec["Host"].as_str(), spec["RepoPath"].as_str()) {
        same("address", url, format!("{host}{path}"))?;
    }
    if spec.is_object() {
        same("KustRootPath", root, text(&spec["KustRootPath"]))?;
        same("Ref", reference, text(&spec["Ref"]))?;
    }
    Ok(())
}

fn query(row: &Value) -> Result<(), String> {
    let found = Repository::parse(&format!("https://example.com/org/repo?{}", text(&row["input"])))?;
    same("ref", found.reference(), text(&row["ref"]))?;
    if let Some(submodules) = row["submodules"].as_bool() {
        same("submodules", found.submodules(), submodules)?;
    }
    // Go counts in nanoseconds.
    match row["timeout"].as_u64() {
        Some(timeout) => same("timeout", found.timeout(), std::time::Duration::from_nanos(timeout)),
        None => Ok(()),
    }
}

// === images ===

fn image_matched(row: &Value) -> Result<(), String> {
    let found = parts::is_image_of(text(&row["value"]), text(&row["name"]));
    same("match", Some(found), row["isMatched"].as_bool())
}

fn image_split(row: &Value) -> Result<(), String> {
    let expected = (text(&row["name"]), text(&row["tag"]), text(&row["digest"]));
    same("parts", split_image(text(&row["value"])), expected)
}

// === identities ===

fn gvk(value: &Value) -> Gvk {
    let part = |key: &str| text(&value[key]).into();
    Gvk { group: part("Group"), version: part("Version"), kind: part("Kind") }
}

fn id(value: &Value) -> ResId {
    let (name, namespace) = (text(&value["Name"]).into(), text(&value["Namespace"]).into());
    ResId { gvk: gvk(&value["Gvk"]), name, namespace }
}

fn before(row: &Value) -> Result<(), String> {
    let (one, other) = (gvk(&row["x1"]), gvk(&row["x2"]));
    same("order", (parts::is_before(&one, &other), parts::is_before(&other, &one)), (true, false))
}

fn gvk_texts(row: &Value) -> Result<(), String> {
    let found = gvk(&row["x"]);
    same("text", found.to_string().as_str(), text(&row["s"]))?;
    same("joined", found.joined().as_str(), text(&row["r"]))?;
    match row["x"]["isClusterScoped"].as_bool() {
        Some(expected) => same("scope", found.is_cluster_scoped(), expected),
        None => Ok(()),
    }
}

fn group_version(row: &Value) -> Result<(), String> {
    let found = Gvk::new(text(&row["input"]), "");
    same("parts", (found.group.as_str(), found.version.as_str()), (text(&row["g"]), text(&row["v"])))
}

fn selected_gvk(row: &Value) -> Result<(), String> {
    let found = gvk(&row["in"]).is_selected(&gvk(&row["filter"]));
    same("selected", Some(found), row["expected"].as_bool())
}

fn cluster_scoped(row: &Value) -> Result<(), String> {
    let written = ["gvk", "in", "x"].iter().map(|key| &row[*key]).find(|value| value.is_object());
    let found = gvk(written.ok_or("no kind in the row")?).is_cluster_scoped();
    let expected = ["expected", "isClusterScoped"].iter().find_map(|key| row[*key].as_bool());
    same("scope", Some(found), expected)
}

fn ids_equal(row: &Value) -> Result<(), String> {
    let (one, other) = (id(&row["id1"]), id(&row["id2"]));
    let flag = |key: &str| row[key].as_bool().unwrap_or_default();
    same("kind and name", one.same_but_namespace(&other), flag("gVknResult"))?;
    same("namespace", one.effective_namespace() == other.effective_namespace(), flag("nsEquals"))?;
    same("identity", one == other, flag("equals"))
}

fn id_reads_back(row: &Value) -> Result<(), String> {
    let written = id(row);
    let read = ResId::parse(&written.to_string()).ok_or("its text is not read")?;
    same("kind", &read.gvk, &written.gvk)?;
    same("name and namespace", (read.name, read.namespace), (written.name, written.namespace))
}

fn selected_ids(row: &Value) -> Result<(), String> {
    let selector = id(&row["selector"]);
    for candidate in row["selectables"].as_array().into_iter().flatten() {
        let found = id(&candidate["id"]);
        let expected = candidate["expectSelected"].as_bool();
        same(&found.to_string(), Some(found.is_selected_by(&selector)), expected)?;
    }
    Ok(())
}

fn effective_namespace(row: &Value) -> Result<(), String> {
    let written = ["id", "x"].iter().map(|key| &row[*key]).find(|value| value.is_object());
    let found = id(written.ok_or("no identity in the row")?);
    same("namespace", found.effective_namespace(), text(&row["expected"]))
}

// === hashes ===

fn written_object(row: &Value) -> &str {
    ["cmYaml", "secretYaml", "res"].iter().find_map(|key| row[*key].as_str()).unwrap_or_default()
}

fn judged(found: Result<String, gantry_kustomize::Error>, expected: &str, error: &str) -> Result<(), String> {
    match found {
        Ok(found) if error.is_empty() => same("text", found.as_str(), expected),
        Ok(_) => Err(format!("was done, an error is expected: {error}")),
        Err(found) if !error.is_empty() && found.to_string().contains(error) => Ok(()),
        Err(found) => Err(found.to_string()),
    }
}

fn hash(row: &Value) -> Result<(), String> {
    judged(parts::hash_suffix(written_object(row)), text(&row["hash"]), text(&row["err"]))
}

fn hashed_text(row: &Value) -> Result<(), String> {
    judged(parts::hashed_text(written_object(row)), text(&row["expect"]), text(&row["err"]))
}

// === merges ===

/// Upstream sorts the fields of both sides before it compares them, so order does not count.
fn merged(row: &Value) -> Result<(), String> {
    let (patch, object) = (document(text(&row["source"]))?, document(text(&row["dest"]))?);
    let found = parts::strategic_merge(object, &patch).map_err(|error| error.to_string())?;
    let found = found.filter(|node| !node.as_mapping().is_some_and(<[_]>::is_empty));
    let expected = documents(text(&row["expected"]))?.into_iter().next();
    if found == expected {
        return Ok(());
    }
    let shown = |node: &Option<Node>| node.as_ref().map_or(String::new(), gantry_yaml::emit);
    Err(format!("found:\n{}expected:\n{}", shown(&found), shown(&expected)))
}

/// Judged byte for byte, comments and quotes included.
fn merged_three_way(row: &Value) -> Result<(), String> {
    let infer = row["infer"].as_bool().unwrap_or_default();
    let found =
        parts::three_way_merge(text(&row["local"]), text(&row["origin"]), text(&row["update"]), infer);
    let error = row["err"].as_str().unwrap_or_default();
    match found {
        Ok(found) if found.trim() == text(&row["expected"]).trim() && error.is_empty() => Ok(()),
        Ok(found) => Err(format!("found:\n{found}\nexpected:\n{}", text(&row["expected"]).trim())),
        Err(found) if !error.is_empty() && error.contains(found.message()) => Ok(()),
        Err(found) => Err(found.to_string()),
    }
}

// === replacements ===

fn replaced(row: &Value) -> Result<(), String> {
    let found = parts::replace(text(&row["input"]), text(&row["replacements"]));
    if let Some(error) = row["expectedErr"].as_str().filter(|error| !error.is_empty()) {
        return match found {
            Ok(_) => Err(format!("was done, an error is expected: {error}")),
            Err(found) if found.message().contains(error) => Ok(()),
            Err(found) => Err(format!("message: {found}\nwanted: {error}")),
        };
    }
    let found = found.map_err(|error| error.to_string())?;
    let expected = documents(text(&row["expected"]))?;
    if found == expected {
        return Ok(());
    }
    let shown = |nodes: &[Node]| nodes.iter().map(gantry_yaml::emit).collect::<Vec<_>>().join("---\n");
    Err(format!("found:\n{}expected:\n{}", shown(&found), shown(&expected)))
}

// === variables ===

/// The variables that the test itself declares.
const DECLARED: [(&str, &str); 5] =
    [("VAR_A", "A"), ("VAR_B", "B"), ("VAR_C", "C"), ("VAR_REF", "$(VAR_A)"), ("VAR_EMPTY", "")];

fn counts(value: &Value) -> BTreeMap<String, usize> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(name, count)| (name.clone(), count.as_u64().unwrap_or_default() as usize)).collect()
}

fn expanded(row: &Value) -> Result<(), String> {
    let values = DECLARED.map(|(name, value)| (name, Node::string(value, Span::NONE)));
    let (found, uses) = parts::expand(text(&row["input"]), &BTreeMap::from(values));
    same("text", found.text(), row["expected"].as_str())?;
    same("uses", uses, counts(&row["counts"]))
}

/// Variables that are made of those before them, in the test's order, with what the test declares where no row says.
fn expanded_in_order(tables: &Value) -> Result<(), String> {
    const ORDER: [(&str, &str); 7] = [
        ("FOO", "bar"),
        ("ZOO", "$(FOO)-1"),
        ("BLU", "$(ZOO)-2"),
        ("INT", "2"),
        ("ZINT", "$(INT)"),
        ("BOOL", "true"),
        ("ZBOOL", "$(BOOL)"),
    ];
    let rows: Vec<&Value> = tables["TestMapReference:envs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_array)
        .flatten()
        .collect();
    let mut values: BTreeMap<&str, Node> = BTreeMap::new();
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for (name, declared) in ORDER {
        let row = rows.iter().find(|row| row["Name"].as_str() == Some(name)).map(|row| &row["Value"]);
        let written = match row {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => declared.to_owned(),
        };
        let (found, of_it) = parts::expand(&written, &values);
        of_it.into_iter().for_each(|(name, count)| *uses.entry(name).or_default() += count);
        values.insert(name, found);
    }
    let expected = &tables["TestMapReference:expectedEnv"][0];
    if !expected.is_object() {
        return Err("no expectations in the table".to_owned());
    }
    for (name, expected) in expected.as_object().into_iter().flatten() {
        let found = values.get(name.as_str()).and_then(Node::text);
        same(name, found, expected["edited"].as_str())?;
        let count = uses.get(name).copied().unwrap_or_default();
        same(name, Some(count as u64), expected["count"].as_u64())?;
    }
    Ok(())
}
