//! `cfg`: looks at packages, folders of files with objects, without building anything.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use gantry_kustomize::package::{self, Fields, Object, Printing, Query, Structure};
use gantry_kustomize::{Disk, FileSystem};

use crate::{flag, many, option, text, texts, write_out};

/// Longer input is not read.
const MOST_INPUT: u64 = 256 << 20;
/// Styles that a whole object cannot have: they are taken and change nothing, as upstream does.
const SCALAR_STYLES: [&str; 3] = ["DoubleQuotedStyle", "LiteralStyle", "FoldedStyle"];

/// Fields that `tree` shows of every container.
const OF_CONTAINERS: [(&str, &str); 7] = [
    ("name", "name"),
    ("image", "image"),
    ("command", "command"),
    ("args", "args"),
    ("env", "env"),
    ("resources", "resources"),
    ("ports", "ports"),
];
/// And of objects.
const OF_OBJECTS: [(&str, &str); 2] = [("replicas", "spec.replicas"), ("ports", "spec.ports")];

pub(crate) fn command() -> Command {
    Command::new("cfg")
        .about("Look at packages: folders of files with objects")
        .long_about(
            "Look at packages: folders of files with objects. Nothing is built and nothing is changed; without a \
             folder the objects come from the standard input.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(cat_command())
        .subcommand(
            Command::new("count")
                .about("Count the objects of a package")
                .arg(folders("[DIR]").num_args(0..=1))
                .arg(switch("kind", "true", "Count by kind"))
                .arg(
                    switch("recurse-subpackages", "true", "Each package below on its own too").short('R'),
                ),
        )
        .subcommand(
            Command::new("grep")
                .about("Print the objects that have a value")
                .after_help(
                    "Examples:\n  gantry kustomize cfg grep kind=Deployment DIR\n  \
                     gantry kustomize cfg grep 'spec.replicas>=3' DIR\n  \
                     gantry kustomize cfg grep 'spec.template.spec.containers[name=web].image=web:1\\.2' DIR",
                )
                .arg(Arg::new("query").value_name("QUERY").required(true).help(
                    "A path, as spec.replicas, or one with =PATTERN, or compared by < <= > >= with a quantity",
                ))
                .arg(folders("[DIR]..."))
                .arg(include_subpackages())
                .arg(switch("annotate", "true", "Say in annotations where each object was read"))
                .arg(flag("invert-match", "Those that do not have it").short('v')),
        )
        .subcommand(tree_command())
}

fn cat_command() -> Command {
    Command::new("cat")
        .about("Print the objects of packages")
        .arg(folders("[DIR]..."))
        .arg(include_subpackages())
        .arg(switch("format", "true", "Sort the fields of each object as people expect them"))
        .arg(switch("annotate", "false", "Say in annotations where each object was read"))
        .arg(option("wrap-kind", "KIND", "Print one list of this kind"))
        .arg(option("wrap-version", "VERSION", "The apiVersion of that list"))
        .arg(option("function-config", "FILE", "An object that the list has as its functionConfig"))
        .arg(many("style", "STYLE", "FlowStyle prints each object in braces").value_delimiter(','))
        .arg(flag("strip-comments", "Leave comments out"))
        .args(local_arguments())
        .arg(option("dest", "FILE", "Write to this file"))
}

fn tree_command() -> Command {
    let shows = |name: &'static str| flag(name, "Show this field of every object or container that has it");
    let names = ["name", "image", "command", "args", "env", "replicas", "resources", "ports"];
    Command::new("tree")
        .about("Print a package as a tree")
        .arg(folders("[DIR]").num_args(0..=1))
        .arg(include_subpackages())
        .args(names.map(shows))
        .arg(flag("all", "Show all of these"))
        .arg(many("field", "PATH", "Show this field, as spec.selector").value_delimiter(','))
        .args(local_arguments())
        .arg(
            option("graph-structure", "STRUCTURE", "Folders or owners; owners where an object has one")
                .value_parser(["directory", "owners"]),
        )
}

fn folders(value_name: &'static str) -> Arg {
    Arg::new("folders").value_name(value_name).num_args(0..).help("Folders, or files with objects")
}

/// A flag that may be given a value, as `--format=false`.
pub(crate) fn switch(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("true|false")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value(default)
        .value_parser(value_parser!(bool))
        .action(ArgAction::Set)
        .help(help)
}

fn include_subpackages() -> Arg {
    switch("include-subpackages", "true", "The objects of packages below too")
}

fn local_arguments() -> [Arg; 2] {
    [
        flag("include-local", "Objects that are local configuration too"),
        flag("exclude-non-local", "Without the others"),
    ]
}

pub(crate) fn is_on(matches: &ArgMatches, name: &str) -> bool {
    matches.get_one::<bool>(name).copied().unwrap_or_default()
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), String> {
    match matches.subcommand() {
        Some(("cat", matches)) => {
            let printed = cat(&input(matches)?, matches)?;
            write_out(text(matches, "dest").map(Path::new), printed)
        }
        Some(("count", matches)) => write_out(None, count(matches)?),
        Some(("grep", matches)) => write_out(None, grep(&input(matches)?, matches)?),
        Some(("tree", matches)) => write_out(None, tree(matches)?),
        _ => Err("choose what to do: cat, count, grep or tree".to_owned()),
    }
}

pub(crate) fn absolute(path: &str) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("'{path}': {error}"))
}

pub(crate) fn read(path: &str, own_only: bool) -> Result<Vec<Object>, String> {
    package::read(&Disk, &absolute(path)?, own_only).map_err(|error| error.to_string())
}

pub(crate) fn standard_input() -> Result<Vec<Object>, String> {
    let mut text = String::new();
    let mut input = std::io::stdin().lock().take(MOST_INPUT + 1);
    input.read_to_string(&mut text).map_err(|error| format!("standard input: {error}"))?;
    if text.len() as u64 > MOST_INPUT {
        return Err(format!("standard input: at most {MOST_INPUT} bytes are read"));
    }
    package::read_stream(&text).map_err(|error| error.to_string())
}

/// The objects of the folders, or else of the standard input.
fn input(matches: &ArgMatches) -> Result<Vec<Object>, String> {
    let folders = texts(matches, "folders");
    if folders.is_empty() {
        return standard_input();
    }
    let mut objects = Vec::new();
    for folder in folders {
        objects.extend(read(&folder, !is_on(matches, "include-subpackages"))?);
    }
    Ok(objects)
}

fn keep_local(objects: &mut Vec<Object>, matches: &ArgMatches) {
    let (local, others) = (matches.get_flag("include-local"), !matches.get_flag("exclude-non-local"));
    objects.retain(|object| if object.is_local() { local } else { others });
}

fn cat(objects: &[Object], matches: &ArgMatches) -> Result<String, String> {
    let mut objects = objects.to_vec();
    keep_local(&mut objects, matches);
    let styles = texts(matches, "style");
    if let Some(style) =
        styles.iter().find(|style| *style != "FlowStyle" && !SCALAR_STYLES.contains(&style.as_str()))
    {
        return Err(format!(
            "--style {style} is not supported; known are FlowStyle, {}",
            SCALAR_STYLES.join(", ")
        ));
    }
    let config = match text(matches, "function-config") {
        None => None,
        Some(path) => {
            let mut found = read(path, false)?;
            let number = found.len();
            let only = found.pop().filter(|_| number == 1);
            Some(only.ok_or_else(|| format!("expected exactly 1 functionConfig, found {number}"))?)
        }
    };
    let wrap = text(matches, "wrap-kind")
        .filter(|kind| !kind.is_empty())
        .map(|kind| (kind.to_owned(), text(matches, "wrap-version").unwrap_or_default().to_owned()));
    let printing = Printing {
        format: is_on(matches, "format"),
        annotate: is_on(matches, "annotate"),
        strip_comments: matches.get_flag("strip-comments"),
        flow: styles.iter().any(|style| style == "FlowStyle"),
        wrap,
        ..Printing::default()
    };
    Ok(package::print(&objects, &printing, config.as_ref()))
}

fn count(matches: &ArgMatches) -> Result<String, String> {
    let by_kind = is_on(matches, "kind");
    let counted = |objects: &[Object]| {
        if by_kind {
            package::count(objects).iter().map(|(kind, count)| format!("{kind}: {count}\n")).collect()
        } else {
            format!("{}\n", objects.len())
        }
    };
    let folders = texts(matches, "folders");
    let Some(folder) = folders.first() else { return Ok(counted(&standard_input()?)) };
    let root = absolute(folder)?;
    let is_recursive = is_on(matches, "recurse-subpackages");
    let packages = if is_recursive && Disk.is_dir(&root) {
        package::packages(&Disk, &root).map_err(|error| error.to_string())?
    } else {
        vec![root.clone()]
    };
    let mut sections = Vec::with_capacity(packages.len());
    for path in packages {
        let shown = match path.strip_prefix(&root) {
            Ok(below) if below.as_os_str().is_empty() => folder.clone(),
            Ok(below) => format!("{}/{}", folder.trim_end_matches('/'), below.display()),
            Err(_) => path.display().to_string(),
        };
        match package::read(&Disk, &path, true) {
            Ok(objects) => sections.push(format!("{shown}/\n{}", counted(&objects))),
            // The other packages count all the same.
            Err(error) if is_recursive => sections.push(format!("{shown}/\n{error}\n")),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(sections.join("\n"))
}

fn grep(objects: &[Object], matches: &ArgMatches) -> Result<String, String> {
    let query =
        Query::parse(text(matches, "query").unwrap_or_default()).map_err(|error| error.to_string())?;
    let inverted = matches.get_flag("invert-match");
    let mut selected = Vec::new();
    for object in objects {
        if query.selects(object).map_err(|error| error.to_string())? != inverted {
            selected.push(object.clone());
        }
    }
    let printing = Printing { annotate: is_on(matches, "annotate"), ..Printing::default() };
    Ok(package::print(&selected, &printing, None))
}

fn tree(matches: &ArgMatches) -> Result<String, String> {
    let folders = texts(matches, "folders");
    let root = folders.first().map_or(".", |folder| folder.trim_end_matches('/'));
    let root = if root.is_empty() { "/" } else { root };
    let (mut objects, shown) = match root {
        "-" => (standard_input()?, "."),
        root => (read(root, !is_on(matches, "include-subpackages"))?, root),
    };
    keep_local(&mut objects, matches);
    let mut fields = Fields::default();
    let all = matches.get_flag("all");
    for path in texts(matches, "field") {
        fields.add(&path).map_err(|error| error.to_string())?;
    }
    for (name, field) in OF_CONTAINERS {
        if all || matches.get_flag(name) {
            fields.add_of_containers(field);
        }
    }
    for (name, path) in OF_OBJECTS {
        if all || matches.get_flag(name) {
            fields.add(path).map_err(|error| error.to_string())?;
        }
    }
    let structure = match text(matches, "graph-structure") {
        Some("owners") => Structure::Owners,
        None if package::has_owners(&objects) => Structure::Owners,
        _ => Structure::Directory,
    };
    let is_package = |folder: &str| Path::new(root).join(folder).join(package::PACKAGE_FILE).exists();
    package::tree(&objects, shown, structure, &fields, &is_package).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &[&str]) -> ArgMatches {
        let words = ["cfg"].iter().chain(line);
        command().try_get_matches_from(words).unwrap().remove_subcommand().unwrap().1
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    const WEB: &str = "kind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: 3\n";
    const LOCAL: &str = "apiVersion: v1\nkind: Local\nmetadata:\n  annotations:\n    config.kubernetes.io/local-config: \"true\"\n";

    #[test]
    fn a_package_is_printed_counted_and_searched() {
        let package = folder(&[
            ("a.yaml", &format!("{WEB}---\n{LOCAL}")),
            ("sub/Krmfile", ""),
            ("sub/b.yaml", "kind: B\n"),
        ]);
        let path = package.path().to_str().unwrap();
        let matches = parsed(&["cat", path]);
        assert_eq!(cat(&input(&matches).unwrap(), &matches).unwrap(), format!("{WEB}---\nkind: B\n"));
        let matches = parsed(&["cat", path, "--include-local", "--exclude-non-local"]);
        assert_eq!(cat(&input(&matches).unwrap(), &matches).unwrap(), LOCAL);
        let found = count(&parsed(&["count", path])).unwrap();
        assert_eq!(found, format!("{path}/\nDeployment: 1\nLocal: 1\n\n{path}/sub/\nB: 1\n"));
        assert_eq!(
            count(&parsed(&["count", path, "--kind=false", "-R=false"])).unwrap(),
            format!("{path}/\n2\n")
        );
        let matches = parsed(&["grep", "spec.replicas>2", path, "--annotate=false"]);
        assert_eq!(grep(&input(&matches).unwrap(), &matches).unwrap(), WEB);
        let matches = parsed(&["grep", "-v", "kind=B|D|L", path]);
        assert_eq!(grep(&input(&matches).unwrap(), &matches).unwrap(), "");
    }

    #[test]
    fn a_package_is_a_tree() {
        let package = folder(&[
            ("a.yaml", &format!("{WEB}---\n{LOCAL}")),
            ("sub/Krmfile", ""),
            ("sub/b.yaml", "kind: B\n"),
        ]);
        let path = package.path().to_str().unwrap();
        let found = tree(&parsed(&["tree", path, "--replicas"])).unwrap();
        let expected = format!(
            "{path}\n├── [a.yaml]  Deployment web\n│   └── spec.replicas: 3\n└── Pkg: sub\n    └── [b.yaml]  B \n"
        );
        assert_eq!(found, expected);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let package = folder(&[("a.yaml", WEB)]);
        let path = package.path().to_str().unwrap();
        let matches = parsed(&["cat", path, "--style", "TaggedStyle"]);
        assert!(cat(&[], &matches).unwrap_err().contains("--style TaggedStyle is not supported"));
        let matches = parsed(&["cat", path, "--function-config", "/no/such/file"]);
        assert!(cat(&[], &matches).is_err());
        let matches = parsed(&["grep", "a=b=c", path]);
        assert!(grep(&[], &matches).unwrap_err().contains("ambiguous match"));
    }
}
