//! The command line: the server with Grafana's own flags, and `render` for pictures without a server.

use std::collections::BTreeSet;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use gantry_clock::{Clock, SystemClock};
use gantry_dashboards::{
    Dashboard, Locale, PanelView, Request, Scene, Theme, ViewOptions, parse_time, terminal, view,
};

use crate::datasource::{Datasources, Entry};
use crate::settings::{Settings, Values};

const EXAMPLES: &str = "\
Examples:
  gantry grafana --prometheus http://127.0.0.1:9090
  gantry grafana --config grafana.ini --homepath /usr/share/grafana
  gantry grafana render board.json --panel 2 --prometheus http://127.0.0.1:9090 -o panel.png

Settings are read from --config and from GF_SECTION_KEY variables: server.http_addr, server.http_port, paths.data,
paths.provisioning.";

pub(crate) fn command() -> Command {
    let prometheus = || {
        Arg::new("prometheus")
            .long("prometheus")
            .value_name("URL")
            .help("A Prometheus to ask, as the default data source")
    };
    Command::new("grafana")
        .about("Show Grafana dashboards: their files, provisioning, API and pictures")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("A grafana.ini"),
        )
        .arg(
            Arg::new("homepath")
                .long("homepath")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Relative paths of the settings are below this folder"),
        )
        .arg(prometheus())
        .arg(
            Arg::new("configmaps").long("configmaps").action(ArgAction::SetTrue).help(
                "Also show the dashboards in the cluster's ConfigMaps that are labelled grafana_dashboard",
            ),
        )
        .subcommand(
            Command::new("render")
                .about("Draw one panel of a dashboard file as PNG or SVG, or as text into the terminal")
                .arg(
                    Arg::new("file")
                        .value_name("FILE")
                        .required(true)
                        .value_parser(value_parser!(PathBuf))
                        .help("A dashboard's JSON"),
                )
                .arg(prometheus().required(true))
                .arg(
                    Arg::new("panel")
                        .long("panel")
                        .value_name("ID")
                        .value_parser(value_parser!(i64))
                        .help("The panel; all of them as text without it"),
                )
                .arg(
                    Arg::new("from")
                        .long("from")
                        .value_name("TIME")
                        .help("Such as now-1h [default: the dashboard's]"),
                )
                .arg(Arg::new("to").long("to").value_name("TIME").help("Such as now"))
                .arg(
                    Arg::new("var")
                        .long("var")
                        .value_name("NAME=VALUE")
                        .action(ArgAction::Append)
                        .help("The value of a variable; may be repeated"),
                )
                .arg(
                    Arg::new("width")
                        .long("width")
                        .value_name("PIXELS")
                        .default_value("1000")
                        .value_parser(value_parser!(u32))
                        .help("Of the picture"),
                )
                .arg(
                    Arg::new("height")
                        .long("height")
                        .value_name("PIXELS")
                        .default_value("500")
                        .value_parser(value_parser!(u32))
                        .help("Of the picture"),
                )
                .arg(
                    Arg::new("theme")
                        .long("theme")
                        .value_name("NAME")
                        .default_value("dark")
                        .value_parser(["dark", "light"])
                        .help("The ground of the picture"),
                )
                .arg(
                    Arg::new("output")
                        .long("output")
                        .short('o')
                        .value_name("FILE")
                        .value_parser(value_parser!(PathBuf))
                        .help("A .png or .svg; text to standard output without it"),
                ),
        )
}

pub(crate) fn log_to_stderr() {
    let builder = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A larger program may have set up logging already: then that stays.
    let _ = builder.try_init();
}

/// From the file and the environment.
pub(crate) fn settings(matches: &ArgMatches) -> Result<Settings, String> {
    let mut values = Values::default();
    if let Some(file) = matches.get_one::<PathBuf>("config") {
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        values.read_ini(&file.display().to_string(), &text)?;
    }
    values.read_environment(
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    );
    let unused = values.without_effect();
    if !unused.is_empty() {
        tracing::info!(settings = unused.join(", "), "these settings have no effect here");
    }
    let mut settings = values.settings()?;
    if let Some(home) = matches.get_one::<PathBuf>("homepath") {
        settings.data_dir = home.join(&settings.data_dir);
        settings.provisioning_dir = home.join(&settings.provisioning_dir);
    }
    Ok(settings)
}

pub(crate) fn prometheus(matches: &ArgMatches) -> Option<String> {
    matches.get_one::<String>("prometheus").cloned()
}

pub(crate) fn wants_cluster(matches: &ArgMatches) -> bool {
    matches.get_flag("configmaps")
}

/// `gantry grafana render`
pub(crate) async fn render(matches: &ArgMatches) -> Result<(), String> {
    let file = matches.get_one::<PathBuf>("file").ok_or("a dashboard file is missing")?;
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let dashboard = Dashboard::parse(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let sources = Datasources::new(None);
    let url = prometheus(matches).unwrap_or_default();
    sources.put(Entry {
        name: "Prometheus".into(),
        kind: "prometheus".into(),
        url,
        is_default: true,
        ..Entry::default()
    })?;
    let locale = Locale { now_ms: SystemClock::new().now_ms(), utc_offset_min: 0 };
    let word = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let mut request = Request { from: word("from"), to: word("to"), locale, ..Request::default() };
    for pair in matches.get_many::<String>("var").into_iter().flatten() {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| format!("--var {pair}: expected NAME=VALUE"))?;
        request.variables.entry(name.to_owned()).or_default().push(value.to_owned());
    }
    check(&dashboard, &request)?;
    let panel = matches.get_one::<i64>("panel").copied();
    let size = |name: &str| matches.get_one::<u32>(name).copied().unwrap_or(500);
    let theme = if word("theme") == "light" { Theme::Light } else { Theme::Dark };
    let options = ViewOptions {
        request,
        theme,
        width: size("width"),
        only: panel.into_iter().collect::<BTreeSet<i64>>(),
        ..ViewOptions::default()
    };
    let seen = view(&dashboard, &options, &sources).await;
    let found = seen.panels.iter().find(|one| panel.is_none_or(|id| id == one.id));
    let found = found.ok_or_else(|| match panel {
        Some(id) => format!("{}: no panel {id}", file.display()),
        None => format!("{}: the dashboard has no panels", file.display()),
    })?;
    let Some(output) = matches.get_one::<PathBuf>("output") else {
        return print(&seen.panels, locale);
    };
    let scene = Scene::of(found, size("width"), size("height"), theme, locale);
    let bytes = match output.extension().and_then(|extension| extension.to_str()) {
        Some("png") => scene.png(1.0).map_err(|error| error.to_string())?,
        Some("svg") => scene.svg().into_bytes(),
        _ => return Err(format!("{}: expected a name that ends in .png or .svg", output.display())),
    };
    write(output, &bytes)
}

/// What would be left out without a word is a mistake here: nobody looks at an address with its parameters.
fn check(dashboard: &Dashboard, request: &Request) -> Result<(), String> {
    for (flag, text) in [("--from", &request.from), ("--to", &request.to)] {
        if !text.is_empty() && parse_time(text, request.locale, false).is_none() {
            return Err(format!(
                "{flag} {text}: expected now, now-1h, now/d, a date such as 2026-01-31 or milliseconds"
            ));
        }
    }
    let names: Vec<&str> = dashboard.variables.iter().map(|variable| variable.name.as_str()).collect();
    match request.variables.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) if names.is_empty() => Err(format!("--var {name}: the dashboard has no variables")),
        Some(name) => {
            Err(format!("--var {name}: the dashboard has no such variable; it has {}", names.join(", ")))
        }
        None => Ok(()),
    }
}

/// All panels as text. Whoever reads may stop early.
fn print(panels: &[PanelView], locale: Locale) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let colored = out.is_terminal();
    for panel in panels {
        match writeln!(out, "{}", terminal(panel, 100, 14, colored, locale)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(format!("cannot write to the standard output: {error}")),
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dashboard_does_not_have_is_refused_by_name() {
        let text = r#"{"title": "T", "schemaVersion": 39, "panels": [],
            "templating": {"list": [{"name": "pod", "type": "custom", "query": "a,b"}]}}"#;
        let dashboard = Dashboard::parse(text).unwrap();
        let asked = |from: &str, name: &str| {
            let mut request = Request { from: from.into(), ..Request::default() };
            request.variables.insert(name.into(), vec!["a".into()]);
            check(&dashboard, &request)
        };
        assert_eq!(asked("", "pod"), Ok(()));
        assert_eq!(asked("now-1h", "pod"), Ok(()));
        assert!(asked("yesterday", "pod").unwrap_err().starts_with("--from yesterday: expected now"));
        assert_eq!(
            asked("", "pot").unwrap_err(),
            "--var pot: the dashboard has no such variable; it has pod"
        );
    }
}
