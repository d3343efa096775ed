//! `locust.conf`, `~/.locust.conf`, `pyproject.toml [tool.locust]` and `--config`: options that the command line and the
//! environment do not give.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, FromArgMatches};

use crate::flags::Cli;

const MOST_BYTES: u64 = 1024 * 1024;

/// One option of a file.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    key: String,
    values: Vec<String>,
}

/// The options as the command line, the environment and the files together give them.
///
/// # Errors
/// A file that cannot be read, an option or value that does not exist, or options that do not fit together.
pub(crate) fn with_files(command: Command, matches: &ArgMatches, home: Option<&Path>) -> Result<Cli, String> {
    let given = Cli::from_arg_matches(matches).map_err(|error| error.to_string())?;
    let mut files: Vec<(PathBuf, bool)> = Vec::new();
    if let Some(home) = home {
        files.push((home.join(".locust.conf"), false));
    }
    files.extend([(PathBuf::from("locust.conf"), false), (PathBuf::from("pyproject.toml"), false)]);
    files.extend(given.config.clone().map(|path| (path, true)));
    let mut extra: Vec<OsString> = Vec::new();
    for (path, required) in files {
        if !required && !path.is_file() {
            continue;
        }
        for setting in read(&path)? {
            extra.extend(argument(&command, matches, &path, &setting)?);
        }
    }
    if extra.is_empty() {
        return given.check().map(|()| given);
    }
    let mut all = vec![OsString::from("locust")];
    // A later file wins over an earlier one, and what was given wins over both: it comes last and overrides.
    all.extend(extra);
    let parsed =
        command.args_override_self(true).try_get_matches_from(all).map_err(|error| error.to_string())?;
    let files = Cli::from_arg_matches(&parsed).map_err(|error| error.to_string())?;
    let merged = merge(given, &files, matches);
    merged.check().map(|()| merged)
}

/// The arguments a setting stands for; none when the command line or the environment gives it already.
fn argument(
    command: &Command,
    matches: &ArgMatches,
    path: &Path,
    setting: &Setting,
) -> Result<Vec<OsString>, String> {
    let name = setting.key.trim_start_matches('-').replace('_', "-");
    let place = path.display();
    let found = command.get_arguments().find(|arg| {
        arg.get_long() == Some(&name) || (name.len() == 1 && arg.get_short() == name.chars().next())
    });
    let arg = found.ok_or_else(|| format!("{place}: {}: there is no such option", setting.key))?;
    let source = matches.value_source(arg.get_id().as_str());
    if matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
        return Ok(Vec::new());
    }
    let long = format!("--{}", arg.get_long().unwrap_or(&name));
    if !arg.get_action().takes_values() {
        let value = setting.values.first().map_or("true", String::as_str);
        return match value.to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" | "" => Ok(vec![long.into()]),
            "false" | "no" | "0" => Ok(Vec::new()),
            other => Err(format!("{place}: {}: expected true or false, found {other:?}", setting.key)),
        };
    }
    let mut out = Vec::new();
    if setting.values.len() == 1 {
        out.push(format!("{long}={}", setting.values[0]).into());
    } else {
        out.push(long.into());
        out.extend(setting.values.iter().map(OsString::from));
    }
    Ok(out)
}

/// What was given, with the files' values where nothing was.
fn merge(given: Cli, files: &Cli, matches: &ArgMatches) -> Cli {
    let mut merged = given;
    let is_given = |id: &str| {
        matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    macro_rules! take {
        ($($field:ident),* $(,)?) => {
            $(if !is_given(stringify!($field)) { merged.$field = files.$field.clone(); })*
        };
    }
    take!(
        locustfile,
        host,
        num_users,
        spawn_rate,
        run_time,
        list_commands,
        config_users,
        web_host,
        web_port,
        headless,
        headful,
        autostart,
        autoquit,
        class_picker,
        tls_cert,
        tls_key,
        web_base_path,
        web_host_display_name,
        master,
        master_bind_host,
        master_bind_port,
        expect_workers,
        expect_workers_max_wait,
        enable_rebalancing,
        worker,
        processes,
        master_host,
        master_port,
        engine,
        python,
        tags,
        exclude_tags,
        csv_prefix,
        stats_history_enabled,
        print_stats,
        only_summary,
        reset_stats,
        html_file,
        json,
        json_file,
        skip_log_setup,
        loglevel,
        logfile,
        show_task_ratio,
        show_task_ratio_json,
        exit_code_on_error,
        stop_timeout,
        equal_weights,
        profile,
        user_classes,
    );
    merged
}

fn read(path: &Path) -> Result<Vec<Setting>, String> {
    let place = path.display();
    let size = std::fs::metadata(path).map_err(|error| format!("{place}: {error}"))?.len();
    if size > MOST_BYTES {
        return Err(format!("{place}: larger than 1 MiB"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{place}: {error}"))?;
    let is_toml = path.extension().is_some_and(|extension| extension == "toml");
    parse(&text, is_toml).map_err(|(line, reason)| format!("{place}:{line}: {reason}"))
}

fn parse(text: &str, is_toml: bool) -> Result<Vec<Setting>, (usize, String)> {
    let mut settings = Vec::new();
    // A TOML file is everybody's; only one table of it is ours.
    let mut ours = !is_toml;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) || line == "---" {
            continue;
        }
        if line.starts_with('[') && line.ends_with(']') {
            ours = !is_toml || line == "[tool.locust]";
            continue;
        }
        if !ours {
            continue;
        }
        let split = line.find(['=', ':']).or_else(|| line.find(char::is_whitespace));
        let (key, value) = match split {
            Some(at) => (line[..at].trim(), line[at + 1..].trim()),
            None => (line, "true"),
        };
        if key.is_empty() {
            return Err((index + 1, "expected KEY = VALUE".to_owned()));
        }
        settings.push(Setting {
            key: unquote(key),
            values: values(value).map_err(|reason| (index + 1, reason))?,
        });
    }
    Ok(settings)
}

fn values(text: &str) -> Result<Vec<String>, String> {
    let Some(list) = text.strip_prefix('[') else { return Ok(vec![unquote(text)]) };
    let Some(list) = list.strip_suffix(']') else {
        return Err("a list must end on the line on which it begins".to_owned());
    };
    Ok(list.split(',').map(|item| unquote(item.trim())).filter(|item| !item.is_empty()).collect())
}

fn unquote(text: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner.to_owned();
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn matches(args: &[&str]) -> ArgMatches {
        Cli::command().try_get_matches_from(args).unwrap()
    }

    #[test]
    fn a_file_fills_what_was_not_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("load.conf");
        std::fs::write(
            &path,
            "# a comment\nusers = 30\nspawn-rate: 2.5\nheadless = true\ntags = [a, b]\nhost=http://x\n",
        )
        .unwrap();
        let args = ["locust", "--config", path.to_str().unwrap(), "-u", "7"];
        let cli = with_files(Cli::command(), &matches(&args), None).unwrap();
        assert_eq!((cli.num_users, cli.spawn_rate, cli.headless), (Some(7), Some(2.5), true));
        assert_eq!(cli.tags, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(cli.host.as_deref(), Some("http://x"));
    }

    #[test]
    fn an_unknown_option_names_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("load.conf");
        std::fs::write(&path, "usrs = 30\n").unwrap();
        let error =
            with_files(Cli::command(), &matches(&["locust", "--config", path.to_str().unwrap()]), None)
                .unwrap_err();
        assert!(error.ends_with("load.conf: usrs: there is no such option"), "{error}");
    }

    #[test]
    fn options_need_each_other_wherever_they_come_from() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("load.conf");
        let read = |text: &str, more: &[&str]| {
            std::fs::write(&path, text).unwrap();
            let args = [&["locust", "--config", path.to_str().unwrap()], more].concat();
            with_files(Cli::command(), &matches(&args), None)
        };
        let cli = read("csv-full-history = true\n", &["--csv", "out"]).unwrap();
        assert_eq!((cli.stats_history_enabled, cli.csv_prefix.as_deref()), (true, Some("out")));
        assert!(read("tls-cert = c.pem\n", &["--tls-key", "k.pem"]).is_ok());
        for (text, more, message) in [
            ("csv-full-history = true\n", &[][..], "requires '--csv'"),
            ("", &["--tls-key", "k.pem"], "need each other"),
            ("master = true\n", &["--worker"], "cannot be combined with --worker"),
        ] {
            let error = read(text, more).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn only_one_table_of_a_toml_file_is_read() {
        let text =
            "[project]\nname = \"x\"\n[tool.locust]\nusers = 3\nhost = \"http://y\"\n[other]\nusers = 9\n";
        let settings = parse(text, true).unwrap();
        let keys: Vec<_> = settings.iter().map(|setting| setting.key.as_str()).collect();
        assert_eq!(keys, ["users", "host"]);
        assert_eq!(settings[1].values, ["http://y"]);
    }
}
