//! `version`: the Kustomize whose behaviour this has.

use clap::{Arg, ArgMatches, Command};

use crate::{VERSION, flag, text, write_out};

pub(crate) fn command() -> Command {
    Command::new("version")
        .about("Print the version of Kustomize that this behaves like")
        .arg(flag("short", "The version in upstream's old short form").hide(true))
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .value_name("FORMAT")
                .conflicts_with("short")
                .value_parser(["yaml", "json"])
                .help("yaml or json, with the system it runs on"),
        )
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), String> {
    if matches.get_flag("short") {
        eprintln!("Flag --short has been deprecated, and will be removed in the future.");
    }
    write_out(None, printed(matches.get_flag("short"), text(matches, "output")))
}

/// Commit and date of a build are upstream's and not ours to claim: they are left out.
fn printed(short: bool, format: Option<&str>) -> String {
    let (system, machine) = (std::env::consts::OS, go_machine(std::env::consts::ARCH));
    match format {
        Some("yaml") => format!("version: {VERSION}\ngoOs: {system}\ngoArch: {machine}\n\n"),
        Some(_) => {
            format!(
                "{{\n  \"version\": \"{VERSION}\",\n  \"goOs\": \"{system}\",\n  \"goArch\": \"{machine}\"\n}}\n"
            )
        }
        None if short => format!("{{{VERSION}     }}\n"),
        None => format!("{VERSION}\n"),
    }
}

fn go_machine(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_upstreams_forms() {
        assert_eq!(printed(false, None), "v5.8.1\n");
        assert_eq!(printed(true, None), "{v5.8.1     }\n");
        assert!(printed(false, Some("yaml")).starts_with("version: v5.8.1\ngoOs: "));
        assert!(printed(false, Some("json")).starts_with("{\n  \"version\": \"v5.8.1\",\n"));
        let both = command().try_get_matches_from(["version", "--short", "-o", "json"]);
        assert!(both.is_err(), "they exclude each other");
    }
}
