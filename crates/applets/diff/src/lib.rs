//! `gantry diff`: two builds, or a build and a cluster, compared by object and field; ends as `diff` does.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod objects;
mod pairing;
pub mod report;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use gantry_operator::{Rule, explain};
use objects::Objects;
use report::Report;

/// Nothing differs, something does, it could not be found out.
const SAME: u8 = 0;
const DIFFERENT: u8 = 1;
const FAILED: u8 = 2;

pub fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("diff")
        .about("Compare two builds, or a build and a cluster, by object and field")
        .override_usage(
            "gantry diff [OPTIONS] OLD NEW\n       gantry diff [OPTIONS] DIR --cluster\n       gantry diff [OPTIONS] -k DIR | -f FILE",
        )
        .long_about(
            "Compare two builds, or a build and a cluster, by object and field.\n\n\
             A directory with a kustomization is built, any other is read as a folder of manifests. Objects are the same by \
             kind, name and namespace, or else by the name they had before prefixes, namespaces and hashes. Against a cluster \
             the server is asked what applying each object would make of it, without writing anything.",
        )
        .after_help(
            "Ends with 0 when nothing differs, 1 when something does, 2 on an error.\n\n\
             Examples:\n  gantry diff overlays/dev overlays/prod\n  gantry diff overlays/dev --cluster --context staging\n  \
             gantry diff -f deployment.yaml -o json",
        )
        .arg(
            Arg::new("dirs")
                .value_names(["OLD", "NEW"])
                .num_args(0..=2)
                .help("Directories with a kustomization or with manifests, or addresses in a repository"),
        )
        .arg(
            Arg::new("filename")
                .short('f')
                .long("filename")
                .value_name("FILE")
                .action(ArgAction::Append)
                .conflicts_with("dirs")
                .help("A manifest, a folder of manifests, or - for standard input, to compare with the cluster"),
        )
        .arg(
            Arg::new("kustomize")
                .short('k')
                .long("kustomize")
                .value_name("DIR")
                .conflicts_with_all(["dirs", "filename"])
                .help("A kustomization, to compare with the cluster"),
        )
        .arg(flag("recursive", "Also take manifests in folders below").short('R'))
        .arg(flag("cluster", "Compare with the cluster of the kubeconfig"))
        .arg(Arg::new("context").long("context").value_name("NAME").help("The kubeconfig context to use"))
        .arg(Arg::new("kubeconfig").long("kubeconfig").value_name("FILE").help("The kubeconfig to use [default: $KUBECONFIG or ~/.kube/config]"))
        .arg(flag("server-side", "Ask for server-side apply, instead of the rule by which kubectl apply merges"))
        .arg(flag("force-conflicts", "With --server-side: also over fields that others own").requires("server-side"))
        .arg(
            Arg::new("field-manager")
                .long("field-manager")
                .value_name("NAME")
                .default_value("kubectl")
                .help("Who would apply"),
        )
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .value_name("FORMAT")
                .value_parser(["text", "json"])
                .default_value("text")
                .help("text for a person, or json"),
        )
        .args(gantry_applet_kustomize::build_arguments())
}

/// Runs what [`command`] parsed.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let report = match compare(matches) {
        Ok(report) => report,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(FAILED);
        }
    };
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut out = std::io::stdout().lock();
    match out.write_all(printed(&report, matches, colour).as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads may stop early.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("error: standard output: {error}");
            ExitCode::from(FAILED)
        }
        _ => ExitCode::from(if report.is_empty() { SAME } else { DIFFERENT }),
    }
}

/// The report in the form that was asked for.
pub fn printed(report: &Report, matches: &ArgMatches, colour: bool) -> String {
    match text(matches, "output") {
        Some("json") => report.to_json(),
        _ => report.to_text(colour),
    }
}

/// What differs between the two sides that the command line names.
pub fn compare(matches: &ArgMatches) -> Result<Report, String> {
    let recursive = matches.get_flag("recursive");
    let texts =
        |name: &str| -> Vec<String> { matches.get_many(name).into_iter().flatten().cloned().collect() };
    let (dirs, files) = (texts("dirs"), texts("filename"));
    let asks_cluster = matches.get_flag("cluster")
        || ["context", "kubeconfig"].iter().any(|name| matches.contains_id(name))
        || matches.get_flag("server-side");
    let objects = match (&dirs[..], &files[..], text(matches, "kustomize")) {
        ([old, new], [], None) => {
            if asks_cluster {
                return Err(
                    "two directories are compared with each other: name one to compare with the cluster"
                        .to_owned(),
                );
            }
            let old = noted(Objects::of_directory(old, matches, recursive)?);
            let new = noted(Objects::of_directory(new, matches, recursive)?);
            return Ok(Report::of(&old, &new));
        }
        ([_], [], None) if !asks_cluster => {
            return Err("what to compare with is missing: another directory, or --cluster".to_owned());
        }
        ([dir], [], None) => Objects::of_directory(dir, matches, recursive)?,
        ([], [], Some(dir)) => Objects::of_kustomization(dir, matches)?,
        ([], [_, ..], None) => Objects::of_files(&files, recursive)?,
        _ => return Err("what to compare is missing: two directories, or one and --cluster".to_owned()),
    };
    let objects = noted(objects);
    let rule = match matches.get_flag("server-side") {
        true => Rule::ServerSide { force: matches.get_flag("force-conflicts") },
        false => Rule::ThreeWay,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime does not start: {error}"))?;
    runtime.block_on(async {
        let kubeconfig = text(matches, "kubeconfig").map(Path::new);
        let client = gantry_operator::connect(kubeconfig, text(matches, "context")).await;
        let client = client.map_err(|error| explain(&error))?;
        cluster::compare(client, &objects, rule, text(matches, "field-manager").unwrap_or_default()).await
    })
}

fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

/// Warnings of a build go beside the report.
fn noted(objects: Objects) -> Objects {
    for warning in &objects.warnings {
        eprintln!("{warning}");
    }
    objects
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_sound() {
        super::command().debug_assert();
    }
}
