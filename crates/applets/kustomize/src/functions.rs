//! `fn run`: functions over the objects of a package, and the package with what they made of it.

use std::path::Path;

use clap::{Arg, ArgMatches, Command};
use gantry_kustomize::package::{self, Changes, Object, Printing, Ran, Run};
use gantry_kustomize::{Disk, Doors, FunctionOptions};

use crate::cfg::{absolute, is_on, read, standard_input, switch};
use crate::doors::{DEFAULT_PROGRAM_TIME, Processes};
use crate::{fetcher, flag, many, option, replace, text, texts, write_out};

pub(crate) fn command() -> Command {
    Command::new("fn")
        .about("Run functions over packages")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("run")
                .about("Run the functions that a package declares over its objects")
                .long_about(
                    "Run the functions that a package declares over its objects.\n\n\
                     An object with the annotation config.kubernetes.io/function is a function for the objects beside \
                     it and in folders below (from a folder named functions: for the folder above). Files in which \
                     nothing changed stay as they are; when a function fails nothing is written. Without DIR the \
                     objects come from the standard input and the result is printed.",
                )
                .after_help(
                    "Examples:\n  gantry kustomize fn run DIR\n  \
                     gantry kustomize fn run DIR --image example.com/set-label:v1 -- app=web\n  \
                     gantry kustomize fn run DIR --enable-exec --exec-path ./check.sh --dry-run",
                )
                .arg(Arg::new("folder").value_name("DIR").help("The package"))
                .arg(
                    Arg::new("data")
                        .value_name("KIND | KEY=VALUE")
                        .num_args(0..)
                        .last(true)
                        .help("With --image or --exec-path: what the function gets as its configuration"),
                )
                .arg(switch("include-subpackages", "true", "The objects of packages below too"))
                .arg(flag("dry-run", "Print the result and write nothing"))
                .arg(flag("global-scope", "Every function sees all objects"))
                .arg(
                    many("fn-path", "DIR", "Run the functions in these folders, and not those of the package")
                        .value_delimiter(','),
                )
                .arg(option("image", "IMAGE", "Run this image, and not the functions of the package"))
                .arg(
                    option("exec-path", "FILE", "Run this program, and not the functions of the package")
                        .requires("enable-exec")
                        .conflicts_with("image"),
                )
                .arg(flag(
                    "enable-exec",
                    "Let functions be programs of this machine: only for files that you trust",
                ))
                .arg(flag("enable-star", "Starlark functions are not supported").hide(true))
                .args(["star-path", "star-url", "star-name"].map(|name| {
                    option(name, "VALUE", "Starlark functions are not supported").hide(true)
                }))
                .arg(option("results-dir", "DIR", "Write what functions say to files in this folder"))
                .arg(flag("network", "Give a network to functions that ask for one"))
                .arg(many(
                    "mount",
                    "MOUNT",
                    "What functions in containers see: type=bind,src=PATH,dst=PATH[,rw=true]",
                ))
                .arg(many("env", "KEY[=VALUE]", "Variable for functions in containers").short('e'))
                .arg(flag("as-current-user", "Run functions in containers as yourself, not as nobody"))
                .arg(flag("log-steps", "Say which function runs")),
        )
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), String> {
    match matches.subcommand() {
        Some(("run", matches)) => run_functions(matches),
        _ => Err("choose what to do: run".to_owned()),
    }
}

fn run_functions(matches: &ArgMatches) -> Result<(), String> {
    let has_star = ["star-path", "star-url", "star-name"].iter().any(|name| text(matches, name).is_some());
    if has_star || matches.get_flag("enable-star") {
        return Err("starlark functions are not supported; known are --exec-path and --image".to_owned());
    }
    let folder = text(matches, "folder");
    let objects = match folder {
        Some(folder) => read(folder, !is_on(matches, "include-subpackages"))?,
        None => standard_input()?,
    };
    let before = objects.clone();
    let ran = ran(objects, matches)?;
    for note in &ran.notes {
        eprintln!("{note}");
    }
    write_results(&ran, text(matches, "results-dir").map(Path::new))?;
    match folder.filter(|_| !matches.get_flag("dry-run")) {
        Some(folder) => write(Path::new(folder), &package::changes(&before, &ran.objects)),
        None => write_out(None, package::print(&ran.objects, &Printing::default(), None)),
    }
}

fn ran(objects: Vec<Object>, matches: &ArgMatches) -> Result<Ran, String> {
    let mut functions = Vec::new();
    for path in texts(matches, "fn-path") {
        functions.extend(read(&path, false)?);
    }
    functions.extend(named_function(matches)?);
    if functions.is_empty() && !texts(matches, "data").is_empty() {
        return Err("must specify --image or --exec-path with arguments after --".to_owned());
    }
    let options = FunctionOptions {
        enabled: true,
        exec: matches.get_flag("enable-exec"),
        network: matches.get_flag("network"),
        network_name: String::new(),
        mounts: texts(matches, "mount"),
        environment: texts(matches, "env"),
        as_current_user: matches.get_flag("as-current-user"),
    };
    let directory = absolute(".")?;
    let fetcher = fetcher(true, None)?;
    let doors = Doors { remote: &fetcher, programs: &Processes::new(DEFAULT_PROGRAM_TIME) };
    let global = matches.get_flag("global-scope");
    let run = Run { objects, functions, global, options, directory: &directory };
    let ran = package::run(&Disk, doors, run).map_err(|error| error.to_string())?;
    if matches.get_flag("log-steps") {
        ran.names.iter().for_each(|name| eprintln!("Running {name}"));
    }
    Ok(ran)
}

/// The function of `--image` or `--exec-path`, with the words after `--` as its data.
fn named_function(matches: &ArgMatches) -> Result<Option<Object>, String> {
    let spec = match (text(matches, "image"), text(matches, "exec-path")) {
        (Some(image), _) if matches.get_flag("network") => {
            format!("container:\n  image: {image:?}\n  network: true\n")
        }
        (Some(image), _) => format!("container:\n  image: {image:?}\n"),
        (None, Some(path)) => format!("exec:\n  path: {path:?}\n"),
        (None, None) => return Ok(None),
    };
    let (mut kind, mut data) = ("ConfigMap".to_owned(), Vec::new());
    for (index, word) in texts(matches, "data").into_iter().enumerate() {
        match word.split_once('=') {
            Some((key, value)) => data.push((key.to_owned(), value.to_owned())),
            None if index == 0 => kind = word,
            None => return Err(format!("'{word}': args must have keys and values separated by =")),
        }
    }
    Ok(Some(package::function_object(&spec, &kind, &data)))
}

/// To files where a folder is named, else to the error stream.
fn write_results(ran: &Ran, folder: Option<&Path>) -> Result<(), String> {
    for (index, results) in ran.results.iter().enumerate().filter(|(_, results)| !results.is_empty()) {
        let Some(folder) = folder else {
            eprint!("{results}");
            continue;
        };
        let path = folder.join(format!("results-{index}.yaml"));
        std::fs::create_dir_all(folder)
            .and_then(|()| replace(&path, results))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn write(folder: &Path, changes: &Changes) -> Result<(), String> {
    // A file that is named itself has its path from the folder that it is in.
    let root = if folder.is_dir() { folder } else { folder.parent().unwrap_or(Path::new("")) };
    let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
    let real = root.canonicalize().map_err(|error| format!("{}: {error}", root.display()))?;
    for (file, text) in &changes.writes {
        let path = real.join(file);
        let above = path.parent().unwrap_or(&real);
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        std::fs::create_dir_all(above).map_err(failed)?;
        // Links in the package must not lead out of it.
        let place = path.canonicalize().or_else(|_| above.canonicalize()).map_err(failed)?;
        if !place.starts_with(&real) {
            return Err(format!("{}: this leads out of the package, to {}", path.display(), place.display()));
        }
        replace(&path, text).map_err(failed)?;
    }
    for file in &changes.removals {
        let path = real.join(file);
        std::fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
