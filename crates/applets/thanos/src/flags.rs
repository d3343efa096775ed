//! Flags that several components share, with the names and defaults of Thanos' own.

use std::io::IsTerminal as _;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};
use gantry_bucket::{Bucket, ObjectStorage};
use gantry_clock::parse_prometheus_duration;
use tokio::runtime::Handle;

/// A flag with a value: name, default (none when empty), what it is for.
pub(crate) type Value = (&'static str, &'static str, &'static str);

pub(crate) const LOG: [Value; 2] =
    [("log.level", "info", "debug, info, warn or error"), ("log.format", "logfmt", "logfmt or json")];

pub(crate) const HTTP: Value =
    ("http-address", "127.0.0.1:10902", "Where HTTP is served; loopback unless you ask for more");

pub(crate) const GRPC: Value =
    ("grpc-address", "127.0.0.1:10901", "Where the StoreAPI is served; loopback unless you ask for more");

pub(crate) const OBJECT_STORAGE: [Value; 2] = [
    ("objstore.config-file", "", "The object storage: Thanos' own YAML file with type, config and prefix"),
    ("objstore.config", "", "The same, as text"),
];

/// A command with these flags, each of which may be given several times; readers take the last or all.
pub(crate) fn with_values(command: Command, values: &[Value]) -> Command {
    values.iter().fold(command, |command, (name, default, help)| {
        let arg = Arg::new(*name).long(*name).value_name("VALUE").help(*help).action(ArgAction::Append);
        command.arg(if default.is_empty() { arg } else { arg.default_value(*default) })
    })
}

/// A command with flags that are on or off.
pub(crate) fn with_switches(command: Command, switches: &[(&'static str, &'static str)]) -> Command {
    switches.iter().fold(command, |command, (name, help)| {
        command.arg(Arg::new(*name).long(*name).help(*help).action(ArgAction::SetTrue))
    })
}

/// The last value of a flag; empty when it was not given.
pub(crate) fn value(matches: &ArgMatches, name: &str) -> String {
    values(matches, name).pop().unwrap_or_default()
}

/// All values of a flag.
pub(crate) fn values(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches.get_many::<String>(name).into_iter().flatten().cloned().collect()
}

/// A duration, in milliseconds.
pub(crate) fn duration(matches: &ArgMatches, name: &str) -> Result<i64, String> {
    duration_of(&value(matches, name)).map_err(|reason| format!("--{name}: {reason}"))
}

/// A duration, in milliseconds; 0 may have any unit.
pub(crate) fn duration_of(text: &str) -> Result<i64, String> {
    if matches!(text, "0" | "0ms" | "0s" | "0m" | "0h" | "0d") {
        return Ok(0);
    }
    parse_prometheus_duration(text).map_err(|error| error.to_string())
}

/// A whole number.
pub(crate) fn number(matches: &ArgMatches, name: &str) -> Result<u64, String> {
    let text = value(matches, name);
    text.parse().map_err(|_| format!("--{name} must be a whole number, it is {text:?}"))
}

/// An address to listen on; `:port` means every address, as it does for Thanos.
pub(crate) fn address(matches: &ArgMatches, name: &str) -> Result<SocketAddr, String> {
    let text = value(matches, name);
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.clone() };
    let mut found = full.to_socket_addrs().map_err(|error| format!("--{name} {text:?}: {error}"))?;
    found.next().ok_or_else(|| format!("--{name} {text:?} has no address"))
}

/// The object storage that the flags name, if they name one.
pub(crate) fn object_storage(matches: &ArgMatches) -> Result<Option<ObjectStorage>, String> {
    let (file, text) = (value(matches, "objstore.config-file"), value(matches, "objstore.config"));
    let storage = match (file.as_str(), text.as_str()) {
        ("", "") => return Ok(None),
        ("", text) => ObjectStorage::parse("objstore.config", text),
        (file, "") => {
            let text = std::fs::read_to_string(Path::new(file))
                .map_err(|error| format!("--objstore.config-file: cannot read {file}: {error}"))?;
            ObjectStorage::parse(file, &text)
        }
        _ => return Err("--objstore.config-file and --objstore.config are given both; one is enough".into()),
    };
    storage.map(Some).map_err(|error| error.to_string())
}

/// The bucket that the flags name.
pub(crate) fn bucket(matches: &ArgMatches) -> Result<Bucket, String> {
    let storage = object_storage(matches)?
        .ok_or("no object storage: give --objstore.config-file or --objstore.config")?;
    Bucket::open(&storage, Handle::current()).map_err(|error| error.to_string())
}

/// Sets up logging as the flags say.
pub(crate) fn log_to_stderr(matches: &ArgMatches) -> Result<(), String> {
    let level = value(matches, "log.level");
    if !matches!(level.as_str(), "debug" | "info" | "warn" | "error") {
        return Err(format!("--log.level must be debug, info, warn or error, it is {level:?}"));
    }
    let filter = tracing_subscriber::EnvFilter::new(level);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A larger program may have set up logging already: then that stays.
    let _ = match value(matches, "log.format").as_str() {
        "json" => builder.json().try_init(),
        "logfmt" => builder.try_init(),
        other => return Err(format!("--log.format must be logfmt or json, it is {other:?}")),
    };
    Ok(())
}
