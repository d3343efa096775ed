//! `localize`: writes the copy that the engine puts together, and checks that it builds to the same.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command};
use gantry_kustomize::localize::{Localized, Request, localize};
use gantry_kustomize::remote::Repository;
use gantry_kustomize::{Disk, Doors, Source};

use crate::builds::{Builder, stream};
use crate::doors::{DEFAULT_PROGRAM_TIME, Processes};
use crate::{fetcher, flag, option, remote_arguments, text};

pub(crate) fn command() -> Command {
    Command::new("localize")
        .about("Copy a kustomization with all that it names, so that nothing in the copy is remote")
        .long_about(
            "Copy a kustomization with all that it names, so that nothing in the copy is remote.\n\n\
             What was remote is in folders named localized-files, each beside the kustomization that names it. The \
             copy's kustomization files have their fields sorted and no comments. Whatever fails, no half of a copy \
             is left.",
        )
        .after_help(
            "Examples:\n  gantry kustomize localize\n  \
             gantry kustomize localize overlays/dev copy --scope .\n  \
             gantry kustomize localize 'https://github.com/org/repo//overlays/dev?ref=v1.2'",
        )
        .arg(
            Arg::new("target")
                .value_name("TARGET")
                .default_value(".")
                .help("Directory with a kustomization.yaml, or the address of one in a repository, with its ref"),
        )
        .arg(Arg::new("destination").value_name("DESTINATION").help(
            "The new directory, in one that is there [default: localized-<TARGET>, or localized-<TARGET>-<ref>]",
        ))
        .arg(option("scope", "DIR", "The directory that local references may not leave [default: TARGET]"))
        .arg(flag("no-verify", "Do not check that TARGET and the copy build to the same"))
        .args(remote_arguments())
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), String> {
    let target = text(matches, "target").unwrap_or(".");
    let given = text(matches, "destination").map(PathBuf::from);
    let fetcher = fetcher(matches.get_flag("offline"), text(matches, "lock-file").map(Path::new))?;
    let builder = Builder::plain(fetcher, DEFAULT_PROGRAM_TIME);
    if let Some(given) = &given {
        check_new(given)?;
    }
    let copy = copy_of(&builder, target, text(matches, "scope"))?;
    builder.fetcher.save_lock()?;
    let destination = given.unwrap_or_else(|| PathBuf::from(&copy.default_name));
    check_new(&destination)?;
    write(&copy, &destination)?;
    let shown = std::fs::canonicalize(&destination).unwrap_or(destination);
    if !matches.get_flag("no-verify") {
        verify(&builder, target, &shown.join(&copy.target))?;
        eprintln!(
            "VERIFICATION SUCCESS: `kustomize build` for {target} and {} are the same after localization.",
            shown.display()
        );
    }
    eprintln!("SUCCESS: localized {target:?} to directory {}", shown.display());
    Ok(())
}

fn copy_of(builder: &Builder, target: &str, scope: Option<&str>) -> Result<Localized, String> {
    let absolute = |path: &str| std::path::absolute(path).map_err(|error| format!("'{path}': {error}"));
    let scope = scope.map(absolute).transpose()?;
    let processes = Processes::new(DEFAULT_PROGRAM_TIME);
    let doors = Doors { remote: &builder.fetcher, programs: &processes };
    let copy = |source: Source<'_>| {
        let request = Request { source, shown: target, scope: scope.as_deref() };
        localize(&Disk, doors, request).map_err(|error| error.to_string())
    };
    match Repository::parse(target) {
        Ok(repository) => copy(Source::Repository(&repository)),
        Err(_) => copy(Source::Directory(&absolute(target)?)),
    }
}

fn check_new(destination: &Path) -> Result<(), String> {
    // A link that leads nowhere is there too.
    if destination.symlink_metadata().is_ok() {
        let shown = destination.display().to_string();
        return Err(format!(
            "invalid localize destination {shown:?}: it already exists; name a new directory"
        ));
    }
    Ok(())
}

/// Writes all of the copy, or leaves nothing.
fn write(copy: &Localized, destination: &Path) -> Result<(), String> {
    std::fs::create_dir(destination).map_err(|error| {
        let shown = destination.display().to_string();
        format!(
            "invalid localize destination {shown:?}: unable to create localize destination directory: {error}"
        )
    })?;
    let written = write_below(copy, destination);
    if written.is_err()
        && let Err(error) = std::fs::remove_dir_all(destination)
    {
        eprintln!("unable to clean localize destination: {error}");
    }
    written
}

fn write_below(copy: &Localized, destination: &Path) -> Result<(), String> {
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    for folder in &copy.folders {
        let path = destination.join(folder);
        std::fs::create_dir_all(&path).map_err(|error| failed(&path, error))?;
    }
    for (file, content) in &copy.files {
        let path = destination.join(file);
        let folder = path.parent().unwrap_or(destination);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, content))
            .map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// Builds both and compares.
fn verify(builder: &Builder, target: &str, copy: &Path) -> Result<(), String> {
    let built = |folder: &str| {
        let built = builder.build(&Disk, folder).map_err(|message| {
            format!(
                "{message}\nthe copy is there but was not verified: with --no-verify it is not built; build both with \
                 the flags that they need and compare"
            )
        })?;
        Ok::<String, String>(stream(&[built]))
    };
    let copy = copy.display().to_string();
    let (original, localized) = (built(target)?, built(&copy)?);
    let lines = original.lines().map(Some).chain([None]).zip(localized.lines().map(Some).chain([None]));
    match lines.enumerate().find(|(_, (original, localized))| original != localized) {
        None => Ok(()),
        Some((index, (original, localized))) => Err(format!(
            "VERIFICATION FAILED: `kustomize build` for {target} and {copy} are different after localization: at line {} \
             of the output {target} has {original:?} and the copy {localized:?}",
            index + 1
        )),
    }
}
