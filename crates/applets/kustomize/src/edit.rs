//! `create` and `edit`: the command line of changes to a kustomization file.

use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};
use gantry_kustomize::edit::{
    self, Addition, Create, GeneratorChange, GeneratorSources, LabelChange, Outcome, PatchEntry, Removal,
    Setting,
};
use gantry_kustomize::{Doors, FileSystem};

use crate::arguments;
use crate::{flag, text};

const VALUES: &str = "values";

pub(crate) fn create_command() -> Command {
    Command::new("create")
        .visible_alias("init")
        .about("Make a kustomization in the current directory")
        .after_help(
            "Examples:\n  gantry kustomize create --autodetect --recursive\n  \
             gantry kustomize create --resources deployment.yaml,../base --namespace staging --nameprefix acme-",
        )
        .arg(option("resources", "PATHS", "Files and directories to list, with commas between them; patterns are expanded"))
        .arg(option("namespace", "NAMESPACE", "Set the field namespace"))
        .arg(option("nameprefix", "PREFIX", "Set the field namePrefix").allow_hyphen_values(true))
        .arg(option("namesuffix", "SUFFIX", "Set the field nameSuffix").allow_hyphen_values(true))
        .arg(option("annotations", "PAIRS", "Common annotations as key:value, with commas between them"))
        .arg(option("labels", "PAIRS", "Common labels as key:value, with commas between them"))
        .arg(flag("autodetect", "List the files in this directory that hold Kubernetes objects"))
        .arg(flag("recursive", "With --autodetect: look in the directories below too"))
}

pub(crate) fn edit_command() -> Command {
    Command::new("edit")
        .about("Change the kustomization file in the current directory")
        .long_about(
            "Change the kustomization file in the current directory.\n\n\
             Only what is named changes: comments, order and blank lines stay as they are.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(add_command())
        .subcommand(set_command())
        .subcommand(remove_command())
        .subcommand(
            Command::new("fix")
                .about("Move deprecated fields to those that replace them, and fill in apiVersion and kind")
                .arg(flag(
                    "vars",
                    "Turn vars into replacements too; this writes to the files that use them, so run it where a change \
                     can be undone",
                )),
        )
}

fn verb(name: &'static str, about: &'static str, value_name: &'static str) -> Command {
    Command::new(name).about(about).arg(Arg::new(VALUES).value_name(value_name).num_args(0..))
}

fn option(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value_name).help(help)
}

fn add_command() -> Command {
    Command::new("add")
        .about("Add an item to the kustomization file")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(verb("resource", "Add files, directories or URLs to resources", "PATH").arg(flag(
            "no-verify",
            "Add paths and URLs as they are, without looking whether they can be read",
        )))
        .subcommand(verb("component", "Add directories to components", "PATH"))
        .subcommand(verb("base", "Add directories, with commas between them, to resources", "PATHS"))
        .subcommand(verb("transformer", "Add files to transformers", "PATH"))
        .subcommand(verb("generator", "Add files to generators", "PATH"))
        .subcommand(patch_command("Add a patch by file or by content"))
        .subcommand(
            sources(verb("configmap", "Add a ConfigMap generator, or sources to one that is there", "NAME"))
                .arg(option(
                    "behavior",
                    "BEHAVIOR",
                    "create, merge or replace: what happens to a ConfigMap of that name",
                )),
        )
        .subcommand(
            sources(verb("secret", "Add a Secret generator, or sources to one that is there", "NAME"))
                .arg(option("type", "TYPE", "Type of a new Secret").default_value("Opaque")),
        )
        .subcommand(
            reach(verb("label", "Add common labels as key:value", "PAIR"))
                .arg(flag("force", "Give a label that is there the new value").short('f')),
        )
        .subcommand(
            verb("annotation", "Add common annotations as key:value", "PAIR")
                .arg(flag("force", "Give an annotation that is there the new value").short('f')),
        )
        .subcommand(verb("buildmetadata", "Add buildMetadata options, with commas between them", "OPTIONS"))
}

fn set_command() -> Command {
    Command::new("set")
        .about("Set a value in the kustomization file")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            verb("image", "Set new names, tags or digests of images", "IMAGE").after_help(
                "Each IMAGE is <image>=<newimage>:<newtag>@<digest> with some of the parts; * keeps what the file has.\n\n\
                 Example:\n  gantry kustomize edit set image node:8.15.0 mysql=mariadb web='*:v2'",
            ),
        )
        .subcommand(verb("namespace", "Set the field namespace", "NAMESPACE"))
        .subcommand(verb("nameprefix", "Set the field namePrefix", "PREFIX"))
        .subcommand(verb("namesuffix", "Set the field nameSuffix; write -- before one with a dash", "SUFFIX"))
        .subcommand(verb("replicas", "Set replica counts as name=count", "REPLICAS"))
        .subcommand(reach(verb("label", "Set common labels as key:value", "PAIR")))
        .subcommand(verb("annotation", "Set common annotations as key:value", "PAIR"))
        .subcommand(literals(verb("configmap", "Change values or the namespace of a ConfigMap generator", "NAME")))
        .subcommand(literals(verb("secret", "Change values or the namespace of a Secret generator", "NAME")))
        .subcommand(verb("buildmetadata", "Set buildMetadata to these options, with commas between them", "OPTIONS"))
}

fn remove_command() -> Command {
    let lenient = || flag("ignore-non-existence", "Do nothing about a key that is not there").short('i');
    let namespace = || option("namespace", "NAMESPACE", "Namespace of the generators; none means default");
    Command::new("remove")
        .about("Remove items from the kustomization file")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(verb("resource", "Remove the resources that fit a pattern", "PATTERN"))
        .subcommand(verb("component", "Remove the components that fit a pattern", "PATTERN"))
        .subcommand(verb("transformer", "Remove the transformers that fit a pattern", "PATTERN"))
        .subcommand(patch_command("Remove the patch that is exactly this one"))
        .subcommand(verb("label", "Remove labels by key, with commas between them", "KEYS").arg(lenient()))
        .subcommand(
            verb("annotation", "Remove common annotations by key, with commas between them", "KEYS")
                .arg(lenient()),
        )
        .subcommand(verb(
            "buildmetadata",
            "Remove buildMetadata options, with commas between them",
            "OPTIONS",
        ))
        .subcommand(
            verb("configmap", "Remove ConfigMap generators by name, with commas between them", "NAMES")
                .arg(namespace()),
        )
        .subcommand(
            verb("secret", "Remove Secret generators by name, with commas between them", "NAMES")
                .arg(namespace()),
        )
}

fn patch_command(about: &'static str) -> Command {
    Command::new("patch")
        .about(about)
        .arg(option("path", "FILE", "The file with the patch"))
        .arg(option("patch", "TEXT", "The patch itself").allow_hyphen_values(true))
        .arg(option("group", "GROUP", "API group of the target"))
        .arg(option("version", "VERSION", "API version of the target"))
        .arg(option("kind", "KIND", "Kind of the target"))
        .arg(option("name", "NAME", "Name of the target"))
        .arg(option("namespace", "NAMESPACE", "Namespace of the target"))
        .arg(option("annotation-selector", "SELECTOR", "Annotations of the target"))
        .arg(option("label-selector", "SELECTOR", "Labels of the target"))
}

fn sources(command: Command) -> Command {
    command
        .arg(
            option(
                "from-file",
                "[KEY=]PATH",
                "A file whose content is a value; its name is the key unless one is given",
            )
            .action(ArgAction::Append)
            .value_delimiter(','),
        )
        .arg(literal())
        .arg(option("from-env-file", "PATH", "A file with lines of key=value"))
        .arg(flag("disableNameSuffixHash", "Leave the hash of the content off the name"))
        .arg(option("namespace", "NAMESPACE", "Namespace of the generator"))
}

fn literals(command: Command) -> Command {
    command
        .arg(literal())
        .arg(option("namespace", "NAMESPACE", "Namespace of the generator; none means default"))
        .arg(option("new-namespace", "NAMESPACE", "Namespace that it is to have"))
}

fn literal() -> Arg {
    option("from-literal", "KEY=VALUE", "A key with its value").action(ArgAction::Append)
}

fn reach(command: Command) -> Command {
    command
        .arg(flag(
            "without-selector",
            "Under labels instead of commonLabels, so that selectors stay as they are",
        ))
        .arg(flag("include-templates", "With --without-selector: label templates too"))
}

/// [`outcome_with`] where nothing is fetched.
pub fn outcome(fs: &dyn FileSystem, dir: &Path, matches: &ArgMatches) -> Result<Outcome, String> {
    outcome_with(fs, Doors::closed(), dir, matches)
}

/// What `create` or `edit` comes to, as [`crate::command`] parsed it. Nothing is written.
pub fn outcome_with(
    fs: &dyn FileSystem,
    doors: Doors<'_>,
    dir: &Path,
    matches: &ArgMatches,
) -> Result<Outcome, String> {
    let outcome = match matches.subcommand() {
        Some(("create", matches)) => edit::create_with(fs, doors, dir, &create(matches)?),
        Some(("edit", matches)) => match matches.subcommand() {
            Some(("add", matches)) => edit::add_with(fs, doors, dir, &addition(matches)?),
            Some(("set", matches)) => edit::set(fs, dir, &setting(matches)?),
            Some(("remove", matches)) => edit::remove(fs, dir, &removal(matches)?),
            Some(("fix", matches)) => edit::fix(fs, dir, matches.get_flag("vars")),
            Some(("alpha-list-builtin-plugin", _)) => {
                return Ok(Outcome { report: builtin_plugins(), ..Outcome::default() });
            }
            _ => return Err("choose what to edit: add, set, remove or fix".to_owned()),
        },
        _ => return Err("choose a verb: create or edit".to_owned()),
    };
    outcome.map_err(|error| error.to_string())
}

fn builtin_plugins() -> String {
    let lines: String = gantry_kustomize::builtin_plugins().map(|name| format!(" * {name}\n")).collect();
    format!("Builtin plugins:\n\n{lines}")
}

fn values(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches.get_many::<String>(name).map(|values| values.cloned().collect()).unwrap_or_default()
}

fn owned(matches: &ArgMatches, name: &str) -> String {
    text(matches, name).unwrap_or_default().to_owned()
}

fn split(list: &str) -> Vec<String> {
    if list.is_empty() { Vec::new() } else { list.split(',').map(str::to_owned).collect() }
}

fn at_least_one(values: Vec<String>, what: &str) -> Result<Vec<String>, String> {
    if values.is_empty() { Err(format!("must specify {what}")) } else { Ok(values) }
}

fn only(values: Vec<String>, message: &str) -> Result<String, String> {
    let [only] = <[String; 1]>::try_from(values).map_err(|_| message.to_owned())?;
    Ok(only)
}

fn create(matches: &ArgMatches) -> Result<Create, String> {
    Ok(Create {
        resources: split(&owned(matches, "resources")),
        namespace: owned(matches, "namespace"),
        name_prefix: owned(matches, "nameprefix"),
        name_suffix: owned(matches, "namesuffix"),
        annotations: arguments::pairs(&split(&owned(matches, "annotations")), "annotation")?,
        labels: arguments::pairs(&split(&owned(matches, "labels")), "label")?,
        autodetect: matches.get_flag("autodetect"),
        recursive: matches.get_flag("recursive"),
    })
}

fn addition(matches: &ArgMatches) -> Result<Addition, String> {
    let Some((what, matches)) = matches.subcommand() else { return Err("choose what to add".to_owned()) };
    if what == "patch" {
        return Ok(Addition::Patch(patch_entry(matches)));
    }
    let values = values(matches, VALUES);
    Ok(match what {
        "resource" => Addition::Resources {
            patterns: at_least_one(values, "a resource file")?,
            verify: !matches.get_flag("no-verify"),
        },
        "component" => Addition::Components(at_least_one(values, "a component file")?),
        "base" => Addition::Bases(split(&only(values, "must specify a base directory")?)),
        "transformer" => Addition::Transformers(at_least_one(
            values,
            "a yaml file which contains a transformer plugin resource",
        )?),
        "generator" => Addition::Generators(at_least_one(
            values,
            "a yaml file which contains a generator plugin resource",
        )?),
        "configmap" => Addition::ConfigMap(GeneratorSources {
            behavior: owned(matches, "behavior"),
            ..generator_sources(matches, values)?
        }),
        "secret" => Addition::Secret(GeneratorSources {
            secret_type: owned(matches, "type"),
            ..generator_sources(matches, values)?
        }),
        "label" => Addition::Labels(LabelChange {
            force: matches.get_flag("force"),
            ..label_change(matches, values)?
        }),
        "annotation" => Addition::Annotations {
            pairs: arguments::pairs(&at_least_one(values, "annotation")?, "annotation")?,
            force: matches.get_flag("force"),
        },
        "buildmetadata" => Addition::BuildMetadata(arguments::build_metadata(&values)?),
        other => return Err(format!("'{other}' cannot be added")),
    })
}

fn setting(matches: &ArgMatches) -> Result<Setting, String> {
    let Some((what, matches)) = matches.subcommand() else { return Err("choose what to set".to_owned()) };
    let values = values(matches, VALUES);
    Ok(match what {
        "image" => Setting::Images(arguments::images(&values)?),
        "namespace" => Setting::Namespace(only(values, "must specify exactly one namespace value")?),
        "nameprefix" => Setting::NamePrefix(only(values, "must specify exactly one prefix value")?),
        "namesuffix" => Setting::NameSuffix(only(values, "must specify exactly one suffix value")?),
        "replicas" => Setting::Replicas(arguments::replicas(&values)?),
        "label" => Setting::Labels(label_change(matches, values)?),
        "annotation" => {
            let pairs = arguments::pairs(&at_least_one(values, "annotation")?, "annotation")?;
            if let Some(key) = pairs.keys().find(|key| !arguments::is_annotation_key(key)) {
                return Err(format!(
                    "invalid annotation key '{key}': it is a name of at most 63 letters, digits, '-', '_' or '.', after \
                     an optional domain and '/'"
                ));
            }
            Setting::Annotations(pairs)
        }
        "configmap" => Setting::ConfigMap(generator_change(matches, values)?),
        "secret" => Setting::Secret(generator_change(matches, values)?),
        "buildmetadata" => Setting::BuildMetadata(arguments::build_metadata(&values)?),
        other => return Err(format!("'{other}' cannot be set")),
    })
}

fn removal(matches: &ArgMatches) -> Result<Removal, String> {
    let Some((what, matches)) = matches.subcommand() else { return Err("choose what to remove".to_owned()) };
    if what == "patch" {
        return Ok(Removal::Patch(patch_entry(matches)));
    }
    let values = values(matches, VALUES);
    Ok(match what {
        "resource" => Removal::Resources(at_least_one(values, "a resource file")?),
        "component" => Removal::Components(at_least_one(values, "a component file")?),
        "transformer" => Removal::Transformers(at_least_one(values, "a transformer file")?),
        "label" => Removal::Labels {
            keys: arguments::comma_separated(&values, "label")?,
            ignore_missing: matches.get_flag("ignore-non-existence"),
        },
        "annotation" => Removal::Annotations {
            keys: arguments::comma_separated(&values, "annotation")?,
            ignore_missing: matches.get_flag("ignore-non-existence"),
        },
        "buildmetadata" => Removal::BuildMetadata(arguments::build_metadata(&values)?),
        "configmap" => Removal::ConfigMaps {
            names: arguments::names(&values, "configmap")?,
            namespace: owned(matches, "namespace"),
        },
        "secret" => Removal::Secrets {
            names: arguments::names(&values, "secret")?,
            namespace: owned(matches, "namespace"),
        },
        other => return Err(format!("'{other}' cannot be removed")),
    })
}

fn patch_entry(matches: &ArgMatches) -> PatchEntry {
    PatchEntry {
        path: owned(matches, "path"),
        patch: owned(matches, "patch"),
        group: owned(matches, "group"),
        version: owned(matches, "version"),
        kind: owned(matches, "kind"),
        name: owned(matches, "name"),
        namespace: owned(matches, "namespace"),
        annotation_selector: owned(matches, "annotation-selector"),
        label_selector: owned(matches, "label-selector"),
    }
}

const NAMED_ONCE: &str = "failed to validate flags: name must be specified once";

fn generator_sources(matches: &ArgMatches, names: Vec<String>) -> Result<GeneratorSources, String> {
    Ok(GeneratorSources {
        name: only(names, NAMED_ONCE)?,
        namespace: owned(matches, "namespace"),
        files: values(matches, "from-file"),
        literals: values(matches, "from-literal"),
        env_file: owned(matches, "from-env-file"),
        disable_name_suffix_hash: matches.get_flag("disableNameSuffixHash"),
        ..GeneratorSources::default()
    })
}

fn generator_change(matches: &ArgMatches, names: Vec<String>) -> Result<GeneratorChange, String> {
    Ok(GeneratorChange {
        name: only(names, NAMED_ONCE)?,
        namespace: owned(matches, "namespace"),
        literals: values(matches, "from-literal"),
        new_namespace: owned(matches, "new-namespace"),
    })
}

fn label_change(matches: &ArgMatches, values: Vec<String>) -> Result<LabelChange, String> {
    let values = at_least_one(values, "label")?;
    let without_selector = matches.get_flag("without-selector");
    let include_templates = matches.get_flag("include-templates");
    if include_templates && !without_selector {
        return Err("--without-selector flag must be specified for --include-templates to work".to_owned());
    }
    let pairs = arguments::pairs(&values, "label")?;
    Ok(LabelChange { pairs, force: false, without_selector, include_templates })
}

#[cfg(test)]
mod tests {
    use gantry_kustomize::Memory;

    use super::*;

    /// The kustomization file after a command line.
    fn after(text: &str, line: &[&str]) -> Result<String, String> {
        let mut fs = Memory::default();
        fs.insert("/app/kustomization.yaml", text);
        let words = ["kustomize"].iter().chain(line);
        let matches = crate::command().try_get_matches_from(words).map_err(|error| error.to_string())?;
        let outcome = outcome(&fs, Path::new("/app"), &matches)?;
        Ok(outcome.writes.into_iter().next().map_or(text.to_owned(), |(_, text)| text))
    }

    #[test]
    fn words_become_changes() {
        let text = "namespace: a # here\n";
        let cases: [(&[&str], &str); 8] = [
            (&["set", "namespace", "b"], "namespace: b # here\n"),
            (&["set", "namesuffix", "--", "-x"], "namespace: a # here\nnameSuffix: -x\n"),
            (&["set", "replicas", "web=3"], "namespace: a # here\nreplicas:\n- count: 3\n  name: web\n"),
            (
                &["set", "image", "web=*:2", "db@sha256:00"],
                "namespace: a # here\nimages:\n- digest: sha256:00\n  name: db\n- name: web\n  newTag: \"2\"\n",
            ),
            (
                &["add", "label", "-f", "--without-selector", "--include-templates", "a:b", "c:\"d\""],
                "namespace: a # here\nlabels:\n- includeTemplates: true\n  pairs:\n    a: b\n    c: d\n",
            ),
            (
                &[
                    "add",
                    "configmap",
                    "cm",
                    "--from-literal=a=b,c",
                    "--from-literal",
                    "d=e",
                    "--behavior=merge",
                ],
                "namespace: a # here\nconfigMapGenerator:\n- behavior: merge\n  literals:\n  - a=b,c\n  - d=e\n  name: cm\n",
            ),
            (
                &["add", "patch", "--path", "p.yaml", "--kind", "Pod", "--label-selector", "a=b"],
                "namespace: a # here\npatches:\n- path: p.yaml\n  target:\n    kind: Pod\n    labelSelector: a=b\n",
            ),
            (&["remove", "annotation", "-i", "x,y"], text),
        ];
        for (line, expected) in cases {
            let line: Vec<&str> = ["edit"].iter().chain(line).copied().collect();
            assert_eq!(after(text, &line).as_deref(), Ok(expected), "{line:?}");
        }
    }

    #[test]
    fn the_built_in_plugins_are_listed_once_each() {
        let list = builtin_plugins();
        assert!(
            list.starts_with("Builtin plugins:\n\n * AnnotationsTransformer\n * ConfigMapGenerator\n"),
            "{list}"
        );
        assert!(list.ends_with(" * SuffixTransformer\n * ValueAddTransformer\n"), "{list}");
        let names: std::collections::BTreeSet<&str> = list.lines().skip(2).collect();
        assert_eq!(names.len(), list.lines().count() - 2);
    }

    #[test]
    fn words_that_are_missing_or_wrong_are_named() {
        let cases: [(&[&str], &str); 12] = [
            (&["add", "resource"], "must specify a resource file"),
            (&["add", "label"], "must specify label"),
            (&["add", "label", "--include-templates", "a:b"], "--without-selector flag must be specified"),
            (&["add", "patch"], "must provide either patch or path"),
            (&["add", "secret", "s"], "at least from-env-file, or from-file or from-literal must be set"),
            (&["add", "buildmetadata", "x"], "invalid buildMetadata option: x"),
            (&["set", "image", "web"], "invalid format of image 'web'"),
            (&["set", "replicas", "web=x"], "invalid format of replica 'web=x'"),
            (&["set", "annotation", "-a:b"], "unexpected argument"),
            (&["set", "annotation", "a/b/c:d"], "invalid annotation key 'a/b/c'"),
            (&["remove", "label", "a", "b"], "labels must be comma-separated, with no spaces"),
            (&["remove", "secret", "a", "b"], "too many arguments: [a b]"),
        ];
        for (line, expected) in cases {
            let line: Vec<&str> = ["edit"].iter().chain(line).copied().collect();
            let message = after("namespace: a\n", &line).expect_err("an error");
            assert!(message.contains(expected), "{line:?}: {message}");
        }
    }
}
