//! Whole builds, judged byte for byte; a refused build is judged by what its message contains.
//!
//! Nothing is fetched: what a case names on the web is played by the file of its folder that has the same content.
//! These cases cannot pass, for a reason that lies in how upstream recorded them:
//!
//! | case | reason |
//! |---|---|
//! | `managedbylabel-TestAddManagedbyLabel`, `…-2` | the label is the version of upstream's own test binary, `(test)`; a release writes its number |
//! | `plugin-NamespaceTransformer-TestNamespaceTransformer1` | one transformer alone; in a build name references follow it, with which real kustomize prints what we print |
//! | `plugin-SecretGenerator-TestSecretGenerator` | one generator alone, with `behavior: merge`; in a build there is nothing to merge into, which real kustomize refuses as we do |

use std::path::{Path, PathBuf};

use gantry_applet_kustomize::doors::{DEFAULT_PROGRAM_TIME, Processes};
use gantry_kustomize::door::{Closed, FetchError, Remote};
use gantry_kustomize::remote::Repository;
use gantry_kustomize::{Disk, Doors, FunctionOptions, LoadRestrictor, Options, Order, Source, build_with};
use serde::Deserialize;

use super::Case;

#[derive(Deserialize)]
struct Meta {
    run: String,
    #[serde(default)]
    cli_flags: Vec<String>,
    #[serde(default)]
    error_match: Vec<ErrorMatch>,
}

#[derive(Deserialize)]
struct ErrorMatch {
    mode: String,
    text: String,
}

/// `kustomize/cases`: a tree of files, the directory to build, the output or the error.
pub(crate) fn cases(data: &Path) -> Option<Vec<Case>> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(data.join("kustomize/cases"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    let name = |folder: &Path| {
        folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    Some(folders.iter().map(|folder| Case::new(name(folder), case(folder))).collect())
}

/// `kustomize/yaml-quirks`: one object with every oddity of the output.
pub(crate) fn yaml_quirks(data: &Path) -> Option<Vec<Case>> {
    let folder = data.join("kustomize/yaml-quirks");
    let expected = std::fs::read_to_string(folder.join("expected-kubectl-5.5.0.yaml")).ok()?;
    let outcome = built(&folder, &Options::default()).and_then(|found| same(&found, &expected));
    Some(vec![Case::new("yaml-quirks", outcome)])
}

/// The web as a case's folder has it: addresses by their last part, and the file with the same content.
const MIRRORED: [(&str, &str); 1] = [("/api/krusty/testdata/customschema.json", "mycrd_schema.json")];

struct Mirror<'a> {
    folder: &'a Path,
}

impl Remote for Mirror<'_> {
    fn tree(&self, repository: &Repository) -> Result<PathBuf, FetchError> {
        Closed.tree(repository)
    }

    fn file(&self, address: &str) -> Result<PathBuf, FetchError> {
        let mirrored = MIRRORED.iter().find(|(end, _)| address.ends_with(end));
        let path = mirrored.map(|(_, name)| self.folder.join(name)).filter(|path| path.is_file());
        path.map_or_else(|| Closed.file(address), Ok)
    }
}

fn built(dir: &Path, options: &Options) -> Result<String, String> {
    let dir = std::path::absolute(dir).map_err(|error| error.to_string())?;
    // Functions run; nothing is fetched from anywhere.
    let programs = Processes::new(DEFAULT_PROGRAM_TIME);
    let doors = Doors { remote: &Mirror { folder: &dir }, programs: &programs };
    let built = build_with(&Disk, doors, Source::Directory(&dir), options);
    built.map(|built| built.to_yaml()).map_err(|error| error.to_string())
}

fn same(found: &str, expected: &str) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let (mut found_lines, mut expected_lines) = (found.lines(), expected.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (found_lines.next(), expected_lines.next()) {
            (None, None) => return Err("the ends differ".to_owned()),
            (found, expected) if found == expected => {}
            (found, expected) => {
                return Err(format!("line {number}: found {found:?}, expected {expected:?}"));
            }
        }
    }
}

fn case(folder: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(folder.join("meta.json")).map_err(|error| error.to_string())?;
    let meta: Meta = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let has = |flag: &str| meta.cli_flags.iter().any(|have| have == flag);
    let options = Options {
        order: if has("--reorder=none") { Order::None } else { Order::Legacy },
        load_restrictor: if has("--load-restrictor=LoadRestrictionsNone") {
            LoadRestrictor::None
        } else {
            LoadRestrictor::RootOnly
        },
        managed_by_label: has("--enable-managedby-label"),
        functions: FunctionOptions {
            enabled: has("--enable-alpha-plugins"),
            exec: has("--enable-exec"),
            ..FunctionOptions::default()
        },
        ..Options::default()
    };
    let files = std::path::absolute(folder.join("files")).map_err(|error| error.to_string())?;
    let found = built(&files.join(meta.run.trim_start_matches('/')), &options);
    match (found, std::fs::read_to_string(folder.join("expected.yaml"))) {
        (Ok(found), Ok(expected)) => same(&found, &expected),
        (Err(error), Ok(_)) => Err(error),
        (Ok(_), Err(_)) => Err("was built, an error is expected".to_owned()),
        (Err(error), Err(_)) => {
            let message = error.replace(&*files.to_string_lossy(), "");
            meta.error_match.iter().try_for_each(|wanted| wanted.check(&message))
        }
    }
}

impl ErrorMatch {
    fn check(&self, message: &str) -> Result<(), String> {
        let fits = if self.mode == "regexp" {
            let pattern = self.text.replace("/@TMP", "(/@TMP)?");
            regex::Regex::new(&pattern).map_err(|error| error.to_string())?.is_match(message)
        } else {
            message.contains(&self.text)
        };
        if fits { Ok(()) } else { Err(format!("message: {message}\nwanted ({}): {}", self.mode, self.text)) }
    }
}
