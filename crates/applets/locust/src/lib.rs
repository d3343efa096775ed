//! The Locust command line: a master that stock workers join, workers, local runs, and Locust's web API.
//!
//! Invariant: what this prints, writes and answers is what Locust 2.47 prints, writes and answers; what is ours beside it
//! (exact percentiles, the page, the choice of an engine) takes nothing away from it.

#![forbid(unsafe_code)]

mod api;
mod config_file;
mod files;
mod flags;
mod json;
mod logging;
mod output;
mod python;
mod report;
mod run;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory;

use crate::flags::Cli;
use crate::python::Python;

pub fn command() -> clap::Command {
    Cli::command()
}

pub fn run(matches: &clap::ArgMatches) -> ExitCode {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cli = match config_file::with_files(Cli::command(), matches, home.as_deref()) {
        Ok(cli) => cli,
        Err(message) => {
            eprintln!("locust: error: {message}");
            return ExitCode::from(2);
        }
    };
    match execute(cli) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(1)
        }
    }
}

/// The exit code of the run.
fn execute(mut cli: Cli) -> Result<u8, String> {
    if cli.headful {
        cli.headless = false;
    }
    if cli.autoquit.is_some() && !cli.autostart {
        return Err("--autoquit is only meaningful in combination with --autostart".to_owned());
    }
    if !cli.web_base_path.is_empty() && !cli.web_base_path.starts_with('/') {
        return Err(format!("--web-base-path {:?}: it must start with a slash", cli.web_base_path));
    }
    cli.web_base_path = cli.web_base_path.trim_end_matches('/').to_owned();
    if cli.user_classes.is_empty()
        && let Ok(names) = std::env::var("LOCUST_USER_CLASSES")
    {
        cli.user_classes = names.split_whitespace().map(str::to_owned).collect();
    }
    if cli.processes.is_some() && cli.master {
        return Err("--master cannot be combined with --processes: it is implied where --worker is not set"
            .to_owned());
    }
    if cli.list_commands || cli.show_task_ratio || cli.show_task_ratio_json {
        return about_the_file(&cli);
    }
    let log = logging::start(&cli.loglevel, cli.logfile.as_deref(), cli.skip_log_setup)?;
    tracing::info!(target: "locust.main", "Starting Locust {}", gantry_load::locust::LOCUST_VERSION);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    if cli.worker { runtime.block_on(worker::run(cli)) } else { runtime.block_on(run::run(cli, log)) }
}

/// `--list`, `--show-task-ratio`: answered by the locust package, which has the whole language to read the file with.
fn about_the_file(cli: &Cli) -> Result<u8, String> {
    let python = find_python(cli)?;
    let mut arguments = vec!["-f".to_owned(), cli.locustfile.clone()];
    for (wanted, flag) in [
        (cli.list_commands, "--list"),
        (cli.show_task_ratio, "--show-task-ratio"),
        (cli.show_task_ratio_json, "--show-task-ratio-json"),
    ] {
        if wanted {
            arguments.push(flag.to_owned());
        }
    }
    if let Some(users) = cli.num_users {
        arguments.extend(["-u".to_owned(), users.to_string()]);
    }
    arguments.extend(cli.user_classes.iter().cloned());
    Ok(u8::try_from(python.run_locust(&arguments)?).unwrap_or(1))
}

fn find_python(cli: &Cli) -> Result<Python, String> {
    let virtual_env = std::env::var_os("VIRTUAL_ENV").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    Python::find(cli.python.as_deref(), virtual_env.as_deref().map(Path::new)).map_err(|problems| {
        format!("{}: no Python with the locust package ({problems}); name one with --python", cli.locustfile)
    })
}

/// How many worker processes `--processes` means.
fn process_count(cli: &Cli) -> Result<u32, String> {
    match cli.processes {
        None | Some(0) => Ok(1),
        Some(-1) => Ok(std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)),
        Some(count) => u32::try_from(count).map_err(|_| format!("Invalid --processes count {count}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        command().debug_assert();
    }
}
