//! The kustomize command line: `build`, `create`, `edit` and `version`, with upstream's flags.
#![forbid(unsafe_code)]

mod arguments;
mod edit;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use gantry_kustomize::{Build, Disk, LoadRestrictor, Options, Order, build};

pub use edit::outcome;

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
        .subcommand(edit::create_command())
        .subcommand(edit::edit_command())
        .subcommand(Command::new("version").about("Print the version of Kustomize that this behaves like"))
}

fn build_command() -> Command {
    Command::new("build")
        .about("Print what the kustomization in a directory stands for")
        .arg(Arg::new("dir").value_name("DIR").default_value(".").help("Directory with a kustomization.yaml"))
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .value_name("PATH")
                .help("Write to this file; to one file per object when it is a directory"),
        )
        .arg(
            Arg::new("load-restrictor")
                .long("load-restrictor")
                .value_name("RULE")
                .default_value("LoadRestrictionsRootOnly")
                .value_parser(["LoadRestrictionsRootOnly", "LoadRestrictionsNone", "rootOnly", "none"])
                .help("Whether a kustomization may name files outside its own directory"),
        )
        .arg(
            Arg::new("reorder")
                .long("reorder")
                .value_name("ORDER")
                .value_parser(["legacy", "none"])
                .hide(true)
                .help("Order of the output where the kustomization does not say (use sortOptions instead)"),
        )
        .arg(flag("enable-helm", "Render Helm charts (not supported: run `helm template` first)"))
        .arg(flag("enable-alpha-plugins", "Accepted for compatibility; only built-in plugins run").hide(true))
        .arg(flag("enable-exec", "Accepted for compatibility; nothing is executed").hide(true))
        .arg(flag("enable-managedby-label", "Label every object app.kubernetes.io/managed-by").hide(true))
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// Runs what [`command`] parsed.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let outcome = match matches.subcommand() {
        Some(("build", matches)) => run_build(matches),
        Some(("create" | "edit", _)) => run_edit(matches),
        Some(("version", _)) => write_out(None, VERSION.to_owned() + "\n"),
        _ => Err("choose a verb: build, create, edit or version".to_owned()),
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

fn run_build(matches: &ArgMatches) -> Result<(), String> {
    if matches.get_flag("enable-helm") {
        return Err(
            "--enable-helm is not supported: render the chart with `helm template` and list the file under 'resources'"
                .to_owned(),
        );
    }
    let restrictor = match text(matches, "load-restrictor") {
        Some("LoadRestrictionsNone" | "none") => LoadRestrictor::None,
        _ => LoadRestrictor::RootOnly,
    };
    let options = Options {
        load_restrictor: restrictor,
        order: if text(matches, "reorder") == Some("none") { Order::None } else { Order::Legacy },
        managed_by_label: matches.get_flag("enable-managedby-label"),
    };
    let dir = text(matches, "dir").unwrap_or(".");
    let dir = std::path::absolute(dir).map_err(|error| format!("'{dir}': {error}"))?;
    let built = build(&Disk, &dir, &options).map_err(|error| error.to_string())?;
    for warning in &built.warnings {
        eprintln!("{warning}");
    }
    match text(matches, "output").map(PathBuf::from) {
        Some(path) if path.is_dir() => write_each(&path, &built),
        path => write_out(path.as_deref(), built.to_yaml()),
    }
}

/// Works in the current directory, as upstream does.
fn run_edit(matches: &ArgMatches) -> Result<(), String> {
    let dir = std::env::current_dir().map_err(|error| format!("current directory: {error}"))?;
    let outcome = outcome(&Disk, &dir, matches)?;
    for note in &outcome.notes {
        eprintln!("{note}");
    }
    for (path, text) in &outcome.writes {
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    for path in &outcome.removals {
        std::fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    write_out(None, outcome.report)
}

fn write_out(path: Option<&Path>, text: String) -> Result<(), String> {
    match path {
        Some(path) => std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display())),
        None => {
            let mut out = std::io::stdout().lock();
            match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                // Whoever reads may stop early.
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.to_string()),
                _ => Ok(()),
            }
        }
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
