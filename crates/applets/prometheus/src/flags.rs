//! The command line, with the names and defaults of Prometheus' own flags.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use gantry_clock::parse_prometheus_duration;

/// What the flags say.
#[derive(Debug, Clone)]
pub(crate) struct Flags {
    pub(crate) config_file: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) web_config: Option<PathBuf>,
    pub(crate) retention_ms: i64,
    /// 0 for no limit.
    pub(crate) retention_bytes: u64,
    pub(crate) min_block_ms: i64,
    pub(crate) max_block_ms: Option<i64>,
    pub(crate) snappy: bool,
    pub(crate) enable_lifecycle: bool,
    pub(crate) remote_write_receiver: bool,
    /// 0 for no bound.
    pub(crate) read_samples: usize,
    pub(crate) read_frame_bytes: usize,
    pub(crate) query_timeout: Duration,
    pub(crate) query_concurrency: usize,
    pub(crate) query_max_samples: usize,
    pub(crate) lookback: Duration,
    pub(crate) outage_tolerance_ms: i64,
    pub(crate) for_grace_period_ms: i64,
    pub(crate) resend_delay_ms: i64,
    pub(crate) concurrent_rules: usize,
    pub(crate) notification_queue: usize,
    pub(crate) notification_batch: usize,
    pub(crate) drain_notifications: bool,
    /// Without a slash at the end.
    pub(crate) external_url: String,
    pub(crate) log_level: String,
    pub(crate) log_json: bool,
    /// All flags as `status/flags` shows them.
    pub(crate) all: BTreeMap<String, String>,
}

/// Flags with a value: name, default, what it is for.
const VALUES: [(&str, &str, &str); 24] = [
    (
        "config.file",
        "prometheus.yml",
        "The configuration: what is scraped, how often, and how it is relabelled",
    ),
    (
        "storage.tsdb.path",
        "data/",
        "The folder of the samples; Prometheus can be started on it, and we on its",
    ),
    ("storage.tsdb.retention.time", "15d", "How long samples are kept, such as 6h, 15d or 1y"),
    (
        "storage.tsdb.retention.size",
        "0B",
        "Blocks and log together take at most this, such as 512MB or 20GB; the oldest blocks go first; 0 for no limit",
    ),
    ("storage.tsdb.min-block-duration", "2h", "How long a block is when it leaves memory"),
    (
        "storage.tsdb.max-block-duration",
        "",
        "How long a merged block may be [default: a tenth of the retention, at most 31d]",
    ),
    ("web.listen-address", "127.0.0.1:9090", "Where the API is served; loopback unless you ask for more"),
    ("web.config.file", "", "TLS, users with passwords, and headers of answers [default: none of these]"),
    ("web.max-connections", "512", "Connections at the same time"),
    (
        "web.external-url",
        "",
        "Where people reach this server; links in alerts begin with it [default: this machine's name and the first port]",
    ),
    ("rules.alert.for-outage-tolerance", "1h", "After a longer outage the state of alerts is not restored"),
    (
        "rules.alert.for-grace-period",
        "10m",
        "An alert that is restored waits at least this long before it fires; only for alerts whose `for` is longer",
    ),
    ("rules.alert.resend-delay", "1m", "An alert that goes on is sent again after this long"),
    (
        "rules.max-concurrent-evals",
        "4",
        "Rules evaluated at the same time beside those of their groups' own turns, where neither reads what the other writes",
    ),
    (
        "alertmanager.notification-queue-capacity",
        "10000",
        "Alerts that wait for one Alertmanager; when there are more, the oldest go",
    ),
    ("alertmanager.notification-batch-size", "256", "Alerts in one delivery"),
    (
        "storage.remote.read-sample-limit",
        "50000000",
        "Samples in the answer to one remote read; 0 for no bound; streamed answers have none",
    ),
    ("storage.remote.read-max-bytes-in-frame", "1048576", "Bytes of a frame of a streamed remote read"),
    ("query.timeout", "2m", "A query that takes longer is ended"),
    ("query.max-concurrency", "20", "Queries that run at the same time; others wait"),
    ("query.max-samples", "50000000", "A query that would hold more samples is refused"),
    ("query.lookback-delta", "5m", "How old a sample may be and still count as the current one"),
    ("log.level", "info", "debug, info, warn or error"),
    ("log.format", "logfmt", "logfmt or json"),
];

const DRAIN: &str = "alertmanager.drain-notification-queue-on-shutdown";

/// Flags that are on or off.
const SWITCHES: [(&str, &str); 6] = [
    ("web.enable-lifecycle", "Allow reload and quit over HTTP"),
    ("web.enable-admin-api", "Accepted; the admin API is not served yet"),
    ("web.enable-remote-write-receiver", "Take samples that others write remotely, at /api/v1/write"),
    (
        DRAIN,
        "Deliver at the end what still waits (on by default; --no-alertmanager.drain-notification-queue-on-shutdown)",
    ),
    ("storage.tsdb.no-lockfile", "Accepted; the folder is always locked"),
    ("storage.tsdb.wal-compression", "Compress the log (on by default; --no-storage.tsdb.wal-compression)"),
];

const EXAMPLES: &str = "\
Examples:
  gantry prometheus --config.file=prometheus.yml
  gantry prometheus --config.file=prometheus.yml --storage.tsdb.path=data --web.listen-address=127.0.0.1:9090
  promtool query instant http://127.0.0.1:9090 up

The configuration is read again on SIGHUP, and on POST /-/reload with --web.enable-lifecycle.
The data folder is in Prometheus' own format: either of the two can be started on it.";

pub(crate) fn command() -> Command {
    let mut command = Command::new("prometheus")
        .about("Scrape, store and query metrics: Prometheus' configuration, API, language and files")
        .after_help(EXAMPLES);
    for (name, default, help) in VALUES {
        let arg = Arg::new(name).long(name).value_name("VALUE").help(help);
        let arg = if name == "web.listen-address" { arg.action(ArgAction::Append) } else { arg };
        command = command.arg(if default.is_empty() { arg } else { arg.default_value(default) });
    }
    for (name, help) in SWITCHES {
        command = command.arg(Arg::new(name).long(name).action(ArgAction::SetTrue).help(help));
    }
    for off in ["no-storage.tsdb.wal-compression", "no-alertmanager.drain-notification-queue-on-shutdown"] {
        command = command.arg(Arg::new(off).long(off).action(ArgAction::SetTrue).hide(true));
    }
    command.arg(
        Arg::new("enable-feature")
            .long("enable-feature")
            .value_name("NAMES")
            .action(ArgAction::Append)
            .help("Accepted; features are on where they are built"),
    )
}

fn duration(matches: &ArgMatches, name: &str) -> Result<i64, String> {
    let text = value(matches, name);
    let parsed = parse_prometheus_duration(&text).map_err(|error| format!("--{name}: {error}"))?;
    if parsed <= 0 { Err(format!("--{name} must be greater than 0, it is {text:?}")) } else { Ok(parsed) }
}

/// A size as Prometheus writes it: a whole number and a unit of powers of 1024.
fn bytes(matches: &ArgMatches, name: &str) -> Result<u64, String> {
    let text = value(matches, name);
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "B" | "" => Some(0),
        "KB" | "KiB" => Some(10),
        "MB" | "MiB" => Some(20),
        "GB" | "GiB" => Some(30),
        "TB" | "TiB" => Some(40),
        "PB" | "PiB" => Some(50),
        "EB" | "EiB" => Some(60),
        _ => None,
    };
    let size = number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(1 << unit));
    size.ok_or_else(|| {
        format!(
            "--{name} must be a number with a unit (B, KB, MB, GB, TB, PB, EB), such as 512MB, it is {text:?}"
        )
    })
}

fn number(matches: &ArgMatches, name: &str) -> Result<usize, String> {
    let text = value(matches, name);
    match text.parse::<usize>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("--{name} must be a number above 0, it is {text:?}")),
    }
}

/// As given, or this machine's name with the port of the first listener; without a slash at the end.
fn external_url(text: &str, listen: &[SocketAddr]) -> Result<String, String> {
    if text.is_empty() {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = if name.trim().is_empty() { "localhost" } else { name.trim() };
        let port = listen.first().map_or(9090, SocketAddr::port);
        return Ok(format!("http://{name}:{port}"));
    }
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    if host.is_none_or(|host| host.is_empty() || host.starts_with('/')) {
        return Err(format!(
            "--web.external-url must be a URL such as https://prometheus.example.com/, it is {text:?}"
        ));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn value(matches: &ArgMatches, name: &str) -> String {
    matches.get_one::<String>(name).cloned().unwrap_or_default()
}

fn addresses(text: &str) -> Result<Vec<SocketAddr>, String> {
    // `:9090` means every address, as it does for Prometheus.
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    let found = full.to_socket_addrs().map_err(|error| format!("--web.listen-address {text:?}: {error}"))?;
    found.into_iter().next().map(|address| vec![address]).ok_or_else(|| format!("{text:?} has no address"))
}

impl Flags {
    pub(crate) fn read(matches: &ArgMatches) -> Result<Flags, String> {
        let mut all = BTreeMap::new();
        for (name, _, _) in VALUES {
            let values = matches.get_many::<String>(name).into_iter().flatten().cloned().collect::<Vec<_>>();
            all.insert(name.to_owned(), values.join(","));
        }
        for (name, _) in SWITCHES {
            all.insert(name.to_owned(), matches.get_flag(name).to_string());
        }
        let snappy = !matches.get_flag("no-storage.tsdb.wal-compression");
        all.insert("storage.tsdb.wal-compression".into(), snappy.to_string());
        let mut listen = Vec::new();
        for text in matches.get_many::<String>("web.listen-address").into_iter().flatten() {
            listen.extend(addresses(text)?);
        }
        let log_json = match value(matches, "log.format").as_str() {
            "json" => true,
            "logfmt" => false,
            other => return Err(format!("--log.format must be logfmt or json, it is {other:?}")),
        };
        let log_level = value(matches, "log.level");
        if !matches!(log_level.as_str(), "debug" | "info" | "warn" | "error") {
            return Err(format!("--log.level must be debug, info, warn or error, it is {log_level:?}"));
        }
        let min_block_ms = duration(matches, "storage.tsdb.min-block-duration")?;
        let max_block = "storage.tsdb.max-block-duration";
        let max_block_ms =
            if value(matches, max_block).is_empty() { None } else { Some(duration(matches, max_block)?) };
        if let Some(max) = max_block_ms.filter(|max| *max < min_block_ms) {
            return Err(format!(
                "--{max_block} must not be less than --storage.tsdb.min-block-duration, {max} ms is less than {min_block_ms} ms"
            ));
        }
        let drain_notifications = !matches.get_flag("no-alertmanager.drain-notification-queue-on-shutdown");
        all.insert(DRAIN.into(), drain_notifications.to_string());
        let external_url = external_url(&value(matches, "web.external-url"), &listen)?;
        all.insert("web.external-url".into(), external_url.clone());
        let ms = |ms: i64| Duration::from_millis(ms.unsigned_abs());
        Ok(Flags {
            config_file: value(matches, "config.file").into(),
            data_dir: value(matches, "storage.tsdb.path").into(),
            listen,
            web_config: Some(value(matches, "web.config.file"))
                .filter(|file| !file.is_empty())
                .map(PathBuf::from),
            retention_ms: duration(matches, "storage.tsdb.retention.time")?,
            retention_bytes: bytes(matches, "storage.tsdb.retention.size")?,
            min_block_ms,
            max_block_ms,
            snappy,
            enable_lifecycle: matches.get_flag("web.enable-lifecycle"),
            remote_write_receiver: matches.get_flag("web.enable-remote-write-receiver"),
            read_samples: value(matches, "storage.remote.read-sample-limit")
                .parse()
                .map_err(|_| "--storage.remote.read-sample-limit must be a number".to_owned())?,
            read_frame_bytes: number(matches, "storage.remote.read-max-bytes-in-frame")?,
            query_timeout: ms(duration(matches, "query.timeout")?),
            query_concurrency: number(matches, "query.max-concurrency")?,
            query_max_samples: number(matches, "query.max-samples")?,
            lookback: ms(duration(matches, "query.lookback-delta")?),
            outage_tolerance_ms: duration(matches, "rules.alert.for-outage-tolerance")?,
            for_grace_period_ms: duration(matches, "rules.alert.for-grace-period")?,
            resend_delay_ms: duration(matches, "rules.alert.resend-delay")?,
            concurrent_rules: number(matches, "rules.max-concurrent-evals")?,
            notification_queue: number(matches, "alertmanager.notification-queue-capacity")?,
            notification_batch: number(matches, "alertmanager.notification-batch-size")?,
            drain_notifications,
            external_url,
            log_level,
            log_json,
            all,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Flags, String> {
        let matches =
            command().try_get_matches_from([&["prometheus"], args].concat()).map_err(|e| e.to_string())?;
        Flags::read(&matches)
    }

    #[test]
    fn defaults_and_upstream_spelling() {
        let flags = read(&[]).unwrap();
        assert_eq!(flags.retention_ms, 15 * 86_400_000);
        assert!(flags.snappy && !flags.enable_lifecycle);
        assert_eq!((flags.outage_tolerance_ms, flags.for_grace_period_ms), (3_600_000, 600_000));
        assert_eq!((flags.resend_delay_ms, flags.notification_queue), (60_000, 10_000));
        assert!(flags.drain_notifications && flags.external_url.ends_with(":9090"), "{}", flags.external_url);
        let told = read(&["--web.external-url=https://p.example/x/"]).unwrap();
        assert_eq!(told.external_url, "https://p.example/x");
        assert!(read(&["--web.external-url=p.example"]).unwrap_err().contains("external-url"));
        assert_eq!((flags.retention_bytes, flags.min_block_ms, flags.max_block_ms), (0, 7_200_000, None));
        let sized =
            read(&["--storage.tsdb.retention.size=2GB", "--storage.tsdb.max-block-duration=2h"]).unwrap();
        assert_eq!((sized.retention_bytes, sized.max_block_ms), (2 << 30, Some(7_200_000)));
        let flags = read(&[
            "--config.file=a.yml",
            "--storage.tsdb.path",
            "d",
            "--web.listen-address=:9091",
            "--web.enable-lifecycle",
            "--query.timeout=5s",
            "--no-storage.tsdb.wal-compression",
        ])
        .unwrap();
        assert_eq!(flags.listen, ["0.0.0.0:9091".parse().unwrap()]);
        assert_eq!(flags.query_timeout, Duration::from_secs(5));
        assert!(!flags.snappy && flags.enable_lifecycle);
        assert_eq!(flags.all["query.timeout"], "5s");
    }

    #[test]
    fn wrong_values_are_named() {
        assert!(read(&["--query.timeout=x"]).unwrap_err().contains("--query.timeout"));
        assert!(read(&["--query.max-concurrency=0"]).unwrap_err().contains("above 0"));
        assert!(read(&["--storage.tsdb.retention.size=5 apples"]).unwrap_err().contains("512MB"));
        assert!(read(&["--storage.tsdb.max-block-duration=1h"]).unwrap_err().contains("min-block-duration"));
        assert!(read(&["--log.level=loud"]).unwrap_err().contains("log.level"));
    }
}
