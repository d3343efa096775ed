//! The kustomize command line, with upstream's verbs and flags.
#![forbid(unsafe_code)]

mod arguments;
mod builds;
mod cfg;
mod edit;
mod explain;
mod functions;
mod localize;
mod validate;
mod version;
mod watching;

pub mod doors;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use doors::{Cache, DEFAULT_PROGRAM_TIME, Fetcher, Processes};
use gantry_kustomize::{Build, Disk, Doors, FunctionOptions, HelmOptions, LoadRestrictor, Options, Order};

use builds::Builder;

pub use edit::{outcome, outcome_with};

/// The version of Kustomize whose behaviour this applet has.
pub const VERSION: &str = "v5.8.1";

/// The `kustomize` command with its verbs.
pub fn command() -> Command {
    Command::new("kustomize")
        .about("Vary Kubernetes manifests without templates")
        .long_about(
            "Vary Kubernetes manifests without templates.\n\n\
             A directory with a kustomization.yaml names its resources and what to change in them; an overlay names \
             another directory and changes that. `build` prints the result, byte for byte as kustomize does.",
        )
        .after_help("Example:\n  gantry kustomize build examples/shop/overlays/dev | kubectl apply -f -")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(build_command())
        .subcommand(explain::command())
        .subcommand(edit::create_command())
        .subcommand(edit::edit_command())
        .subcommand(localize::command())
        .subcommand(cfg::command())
        .subcommand(functions::command())
        .subcommand(version::command())
}

fn build_command() -> Command {
    Command::new("build")
        .about("Print what the kustomization in a directory stands for")
        .after_help(
            "What is remote is fetched by git (host/org/repo//path?ref=v1) or HTTP, once per build, and kept in \
             $XDG_CACHE_HOME/gantry/kustomize (~/.cache without it).\n\n\
             Kustomize itself takes one DIR and no --watch; these are ours. Several are built side by side, and what \
             they share is fetched and parsed once; their output is one stream in the order of the arguments. When one \
             fails it is named, and nothing is written. With -o and a directory each gets a directory of its own \
             there.\n\n\
             Examples:\n  gantry kustomize build 'github.com/org/repo//overlays/dev?ref=v1.2'\n  \
             gantry kustomize build --lock-file remote.lock overlays/dev\n  \
             gantry kustomize build overlays/dev overlays/staging overlays/prod\n  \
             gantry kustomize build --watch overlays/dev -o dev.yaml\n  \
             gantry kustomize build --enable-helm --helm-kube-version 1.33 overlays/dev\n  \
             gantry kustomize build --validate overlays/dev",
        )
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .num_args(0..)
                .default_value(".")
                .help("Directories with a kustomization.yaml, or addresses of such in repositories"),
        )
        .arg(flag("watch", "Go on: build again when a file changes, and write the output when it is another"))
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .value_name("PATH")
                .help("Write to this file; to one file per object when it is a directory"),
        )
        .arg(load_restrictor_argument())
        .arg(crd_merge_keys_argument())
        .arg(flag(
            "validate",
            "Refuse objects that do not fit the schemas of the built-in kinds or of the definitions in the build",
        ))
        .arg(
            Arg::new("reorder")
                .long("reorder")
                .value_name("ORDER")
                .value_parser(["legacy", "none"])
                .hide(true)
                .help("Order of the output where the kustomization does not say (use sortOptions instead)"),
        )
        .args(remote_arguments())
        .args(helm_arguments())
        .args(function_arguments())
        .arg(flag("strict", "Refuse a patch or replacement that hits nothing, instead of warning of it"))
        .arg(flag("enable-managedby-label", "Label every object app.kubernetes.io/managed-by").hide(true))
}

fn load_restrictor_argument() -> Arg {
    option("load-restrictor", "RULE", "Whether a kustomization may name files outside its own directory")
        .default_value("LoadRestrictionsRootOnly")
        .value_parser(["LoadRestrictionsRootOnly", "LoadRestrictionsNone", "rootOnly", "none"])
}

fn crd_merge_keys_argument() -> Arg {
    flag(
        "crd-merge-keys",
        "Merge lists of custom resources by the keys in their definitions in the build (kustomize replaces them)",
    )
}

fn remote_arguments() -> [Arg; 2] {
    [
        flag("offline", "Use only what was fetched before"),
        option(
            "lock-file",
            "FILE",
            "Pin remote bases and files: what is in it is used, what is not is added",
        ),
    ]
}

fn helm_arguments() -> [Arg; 5] {
    [
        flag("enable-helm", "Render Helm charts with the program helm"),
        option("helm-command", "PROGRAM", "The program to render charts with").default_value("helm"),
        many("helm-api-versions", "VERSION", "API version that charts find (.Capabilities.APIVersions)"),
        option(
            "helm-kube-version",
            "VERSION",
            "Kubernetes version that charts find (.Capabilities.KubeVersion)",
        ),
        flag("helm-debug", "Have helm say more when it fails"),
    ]
}

fn function_arguments() -> [Arg; 8] {
    [
        flag("enable-alpha-plugins", "Run generators, transformers and validators that are functions"),
        flag("enable-exec", "Let functions be programs of this machine: only for files that you trust"),
        flag("network", "Give a network to functions in containers that ask for one"),
        option("network-name", "NAME", "The network they get, instead of this machine's"),
        many("mount", "MOUNT", "What functions in containers see: type=bind,src=PATH,dst=PATH[,rw=true]"),
        many("env", "KEY[=VALUE]", "Variable for functions in containers").short('e'),
        flag("as-current-user", "Run functions in containers as yourself, not as nobody"),
        option("program-timeout", "DURATION", "How long helm or a function may take [default: 5m]"),
    ]
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn many(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    option(name, value, help).action(ArgAction::Append)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// Runs what [`command`] parsed.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let outcome = match matches.subcommand() {
        Some(("build", matches)) => run_build(matches),
        Some(("explain", _)) => run_answer(matches),
        Some(("create" | "edit", _)) => run_edit(matches),
        Some(("localize", matches)) => localize::run(matches),
        Some(("cfg", matches)) => cfg::run(matches),
        Some(("fn", matches)) => functions::run(matches),
        Some(("version", matches)) => version::run(matches),
        _ => Err("choose a verb: build, explain, create, edit, localize, cfg, fn or version".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("Error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

fn texts(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches.get_many::<String>(name).into_iter().flatten().cloned().collect()
}

/// What `build` or `explain` prints, and what it notes beside that.
pub fn answer(matches: &ArgMatches) -> Result<(String, Vec<String>), String> {
    match matches.subcommand() {
        Some(("build", matches)) => {
            let folders = texts(matches, "dir");
            let builds = builds::all_or_why(&folders, builder(matches)?.build_all(&Disk, &folders))?;
            let text = builds::stream(&builds);
            Ok((text, builds.into_iter().flat_map(|built| built.warnings).collect()))
        }
        Some(("explain", matches)) => explain::run(matches),
        _ => Err("choose build or explain".to_owned()),
    }
}

fn run_answer(matches: &ArgMatches) -> Result<(), String> {
    let (text, notes) = answer(matches)?;
    for note in notes {
        eprintln!("{note}");
    }
    write_out(None, text)
}

fn load_restrictor(matches: &ArgMatches) -> LoadRestrictor {
    match text(matches, "load-restrictor") {
        Some("LoadRestrictionsNone" | "none") => LoadRestrictor::None,
        _ => LoadRestrictor::RootOnly,
    }
}

/// What a build needs to know besides its directory: for other verbs that build.
pub fn build_arguments() -> Vec<Arg> {
    let mut arguments = vec![load_restrictor_argument(), crd_merge_keys_argument()];
    arguments.extend(remote_arguments());
    arguments.extend(helm_arguments());
    arguments.extend(function_arguments());
    arguments
}

/// Builds a directory, or an address in a repository, with the [`build_arguments`] that were given.
pub fn build(dir: &str, matches: &ArgMatches) -> Result<Build, String> {
    let builder = Builder::new(options(matches), fetcher_of(matches)?, program_time(matches)?);
    let built = builder.build(&Disk, dir)?;
    builder.fetcher.save_lock()?;
    Ok(built)
}

/// What the [`build_arguments`] say.
fn options(matches: &ArgMatches) -> Options {
    Options {
        load_restrictor: load_restrictor(matches),
        helm: helm_options(matches),
        functions: function_options(matches),
        merge_by_definitions: matches.get_flag("crd-merge-keys"),
        ..Options::default()
    }
}

/// What `build` says.
fn builder(matches: &ArgMatches) -> Result<Builder, String> {
    let options = Options {
        order: if text(matches, "reorder") == Some("none") { Order::None } else { Order::Legacy },
        managed_by_label: matches.get_flag("enable-managedby-label"),
        strict: matches.get_flag("strict"),
        ..options(matches)
    };
    let is_shared = matches.get_flag("watch") || texts(matches, "dir").len() > 1;
    let make = if is_shared { Builder::shared } else { Builder::new };
    let builder = make(options, fetcher_of(matches)?, program_time(matches)?);
    Ok(if matches.get_flag("validate") { builder.validating() } else { builder })
}

fn run_build(matches: &ArgMatches) -> Result<(), String> {
    let builder = builder(matches)?;
    let folders = texts(matches, "dir");
    let output = text(matches, "output").map(Path::new);
    if matches.get_flag("watch") {
        return watching::watch(&builder, &folders, output);
    }
    builds::build_once(&builder, &folders, output)
}

fn helm_options(matches: &ArgMatches) -> Option<HelmOptions> {
    let of = |name: &str| text(matches, name).unwrap_or_default().to_owned();
    matches.get_flag("enable-helm").then(|| HelmOptions {
        command: of("helm-command"),
        api_versions: texts(matches, "helm-api-versions"),
        kube_version: of("helm-kube-version"),
        debug: matches.get_flag("helm-debug"),
    })
}

fn function_options(matches: &ArgMatches) -> FunctionOptions {
    FunctionOptions {
        enabled: matches.get_flag("enable-alpha-plugins"),
        exec: matches.get_flag("enable-exec"),
        network: matches.get_flag("network"),
        network_name: text(matches, "network-name").unwrap_or_default().to_owned(),
        mounts: texts(matches, "mount"),
        environment: texts(matches, "env"),
        as_current_user: matches.get_flag("as-current-user"),
    }
}

fn program_time(matches: &ArgMatches) -> Result<Duration, String> {
    let Some(duration) = text(matches, "program-timeout") else { return Ok(DEFAULT_PROGRAM_TIME) };
    let parsed = gantry_clock::parse_go_duration_unsigned(duration);
    parsed.map_err(|error| format!("--program-timeout: {error}"))
}

fn fetcher_of(matches: &ArgMatches) -> Result<Fetcher, String> {
    fetcher(matches.get_flag("offline"), text(matches, "lock-file").map(Path::new))
}

/// The cache is where the user's caches are; without such a place it is for this build alone.
fn fetcher(offline: bool, lock_file: Option<&Path>) -> Result<Fetcher, String> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let cache = match folder {
        Some(folder) => Cache::at(folder.join("gantry").join("kustomize")),
        None => Cache::temporary().map_err(|error| format!("cache: {error}"))?,
    };
    Fetcher::new(cache, offline, lock_file)
}

/// Works in the current directory, as upstream does.
fn run_edit(matches: &ArgMatches) -> Result<(), String> {
    let dir = std::env::current_dir().map_err(|error| format!("current directory: {error}"))?;
    let fetcher = fetcher(false, None)?;
    let doors = Doors { remote: &fetcher, programs: &Processes::new(DEFAULT_PROGRAM_TIME) };
    let outcome = outcome_with(&Disk, doors, &dir, matches)?;
    for note in &outcome.notes {
        eprintln!("{note}");
    }
    for (path, text) in &outcome.writes {
        replace(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    for path in &outcome.removals {
        std::fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    write_out(None, outcome.report)
}

/// All of the new text or all of the old one, also when the disk is full; what a link leads to is replaced, not the link.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    let permissions = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.permissions(),
        Err(_) => std::os::unix::fs::PermissionsExt::from_mode(0o644),
    };
    file.as_file().set_permissions(permissions)?;
    file.persist(&path).map(drop).map_err(|error| error.error)
}

fn write_out(path: Option<&Path>, text: String) -> Result<(), String> {
    match path {
        Some(path) => std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display())),
        // Whoever reads may stop early.
        None => put_out(&text).map(drop).map_err(|error| error.to_string()),
    }
}

/// Writes to the standard output; `false` when nobody reads it any more.
fn put_out(text: &str) -> std::io::Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// One file per object, named by group, version, kind and name as upstream does.
fn write_each(dir: &Path, built: &Build) -> Result<(), String> {
    for object in &built.objects {
        let part = |path: &[&str]| object.str_at(path).unwrap_or_default().to_lowercase();
        let api_version = part(&["apiVersion"]).replace('/', "_");
        let mut name = format!("{api_version}_{}_{}.yaml", part(&["kind"]), part(&["metadata", "name"]));
        let namespace = part(&["metadata", "namespace"]);
        if !namespace.is_empty() {
            name = format!("{namespace}_{name}");
        }
        // A name is one path component, whatever the object says.
        let path = dir.join(name.replace('/', "_"));
        let text = gantry_yaml::emit(object);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> ArgMatches {
        let line = ["kustomize", "build"].iter().chain(arguments);
        let mut matches = command().try_get_matches_from(line).unwrap();
        matches.remove_subcommand().unwrap().1
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn helm_is_off_until_it_is_asked_for() {
        assert!(helm_options(&parsed(&["--helm-debug", "dir"])).is_none());
        let line = ["--enable-helm", "--helm-api-versions", "a/v1", "--helm-api-versions=b/v1", "dir"];
        let helm = helm_options(&parsed(&line)).unwrap();
        assert_eq!((helm.command.as_str(), helm.api_versions.len(), helm.debug), ("helm", 2, false));
    }

    #[test]
    fn functions_get_what_the_command_line_says() {
        let line = [
            "--enable-alpha-plugins",
            "--network",
            "-e",
            "A=1",
            "--env",
            "B",
            "--mount",
            "type=bind,src=a,dst=b",
        ];
        let functions = function_options(&parsed(&line));
        assert!(functions.enabled && functions.network && !functions.exec && !functions.as_current_user);
        assert_eq!((functions.environment.len(), functions.mounts.len()), (2, 1));
        assert_eq!(program_time(&parsed(&["--program-timeout", "90s"])), Ok(Duration::from_secs(90)));
        assert_eq!(program_time(&parsed(&[])), Ok(DEFAULT_PROGRAM_TIME));
        assert!(program_time(&parsed(&["--program-timeout", "soon"])).is_err());
    }
}
