//! Locust's flags and environment variables, as release 2.47 has them, and the few that are ours.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Parser};
use gantry_load::locust::LOCUST_VERSION;

const AFTER_HELP: &str = "Examples:
  gantry locust -f my_test.py -H https://www.example.com
  gantry locust --headless -u 100 -t 20m --processes 4 MyHttpUser AnotherUser
  gantry locust --master -f my_test.py        stock workers join with: locust -f - --worker
  gantry locust --worker -f my_test.py --master-host 10.0.0.5

The users of a locustfile run in the locust package of the user's own Python, under this master. Scenario files run
natively: gantry load.";

/// Developer friendly load testing: locustfiles, Locust's master, workers and web API.
#[derive(Parser, Clone, Debug)]
#[command(name = "locust", version = LOCUST_VERSION, disable_version_flag = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// The Python file that contains your test; several with commas, a folder, or - (a worker asks its master)
    #[arg(
        short = 'f',
        long,
        value_name = "FILENAME",
        default_value = "locustfile.py",
        env = "LOCUST_LOCUSTFILE"
    )]
    pub(crate) locustfile: String,
    /// File to read additional configuration from
    #[arg(long, value_name = "FILENAME")]
    pub(crate) config: Option<PathBuf>,
    /// Host to load test, as https://www.example.com
    #[arg(short = 'H', long, value_name = "BASE URL", env = "LOCUST_HOST")]
    pub(crate) host: Option<String>,
    /// Peak number of concurrent users
    #[arg(short = 'u', long = "users", value_name = "INT", env = "LOCUST_USERS")]
    pub(crate) num_users: Option<u32>,
    /// Rate to start users at (users per second)
    #[arg(short = 'r', long, value_name = "FLOAT", env = "LOCUST_SPAWN_RATE", value_parser = rate)]
    pub(crate) spawn_rate: Option<f64>,
    /// Stop after this time: 300s, 20m, 3h, 1h30m
    #[arg(short = 't', long, value_name = "TIME", env = "LOCUST_RUN_TIME", value_parser = timespan)]
    pub(crate) run_time: Option<u64>,
    /// Show the user classes of the locustfile and exit
    #[arg(short = 'l', long = "list")]
    pub(crate) list_commands: bool,
    /// Settings of user classes, as JSON or a .json file
    #[arg(long, value_name = "JSON", num_args = 0.., env = "LOCUST_CONFIG_USERS")]
    pub(crate) config_users: Vec<String>,

    /// Host to bind the web interface to [default: all interfaces]
    #[arg(
        long,
        value_name = "IP",
        default_value = "",
        env = "LOCUST_WEB_HOST",
        hide_default_value = true,
        help_heading = "Web UI options"
    )]
    pub(crate) web_host: String,
    /// Port on which to run the web interface
    #[arg(
        short = 'P',
        long,
        value_name = "PORT",
        default_value_t = 8089,
        env = "LOCUST_WEB_PORT",
        help_heading = "Web UI options"
    )]
    pub(crate) web_port: u16,
    /// No web interface, start the test at once
    #[arg(long, env = "LOCUST_HEADLESS", value_parser = BoolishValueParser::new(), help_heading = "Web UI options")]
    pub(crate) headless: bool,
    #[arg(long, env = "LOCUST_HEADFUL", value_parser = BoolishValueParser::new(), hide = true)]
    pub(crate) headful: bool,
    /// Start the test at once, with the web interface
    #[arg(long, env = "LOCUST_AUTOSTART", value_parser = BoolishValueParser::new(), help_heading = "Web UI options")]
    pub(crate) autostart: bool,
    /// Quit this many seconds after the run is over; only with --autostart
    #[arg(long, value_name = "SECONDS", env = "LOCUST_AUTOQUIT", help_heading = "Web UI options")]
    pub(crate) autoquit: Option<u32>,
    /// Accept a choice of user classes from the web interface
    #[arg(long, env = "LOCUST_USERCLASS_PICKER", value_parser = BoolishValueParser::new(), help_heading = "Web UI options")]
    pub(crate) class_picker: bool,
    /// TLS certificate to serve the web interface over HTTPS
    #[arg(long, value_name = "FILENAME", env = "LOCUST_TLS_CERT", help_heading = "Web UI options")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// TLS private key to serve the web interface over HTTPS
    #[arg(long, value_name = "FILENAME", env = "LOCUST_TLS_KEY", help_heading = "Web UI options")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Base path of the web interface, such as /locust
    #[arg(
        long,
        value_name = "PATH",
        default_value = "",
        env = "LOCUST_WEB_BASE_PATH",
        hide_default_value = true,
        help_heading = "Web UI options"
    )]
    pub(crate) web_base_path: String,
    #[arg(long, env = "LOCUST_WEB_HOST_DISPLAY_NAME", hide = true)]
    pub(crate) web_host_display_name: Option<String>,

    /// Launch as a master node, to which worker nodes connect
    #[arg(long, env = "LOCUST_MODE_MASTER", value_parser = BoolishValueParser::new(), help_heading = "Master options")]
    pub(crate) master: bool,
    /// Address for the master to listen on [default: all interfaces]
    #[arg(
        long,
        value_name = "IP",
        default_value = "*",
        env = "LOCUST_MASTER_BIND_HOST",
        hide_default_value = true,
        help_heading = "Master options"
    )]
    pub(crate) master_bind_host: String,
    /// Port for the master to listen on
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 5557,
        env = "LOCUST_MASTER_BIND_PORT",
        help_heading = "Master options"
    )]
    pub(crate) master_bind_port: u16,
    /// Start the test when this many workers have connected; with --headless or --autostart
    #[arg(long, value_name = "INT", default_value_t = 1, env = "LOCUST_EXPECT_WORKERS", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Master options")]
    pub(crate) expect_workers: u32,
    /// Give up after waiting this many seconds for workers; 0: never
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0,
        env = "LOCUST_EXPECT_WORKERS_MAX_WAIT",
        help_heading = "Master options"
    )]
    pub(crate) expect_workers_max_wait: u32,
    /// Give the users of a worker that is lost to the others at once, and new workers their share
    #[arg(long, help_heading = "Master options")]
    pub(crate) enable_rebalancing: bool,

    /// Run as a worker of a master
    #[arg(long, env = "LOCUST_MODE_WORKER", value_parser = BoolishValueParser::new(), help_heading = "Worker options")]
    pub(crate) worker: bool,
    /// How many worker processes to run; -1: one per core
    #[arg(
        long,
        value_name = "INT",
        env = "LOCUST_PROCESSES",
        allow_negative_numbers = true,
        help_heading = "Worker options"
    )]
    pub(crate) processes: Option<i32>,
    /// Host of the master to connect to
    #[arg(
        long,
        value_name = "HOSTNAME",
        default_value = "127.0.0.1",
        env = "LOCUST_MASTER_NODE_HOST",
        help_heading = "Worker options"
    )]
    pub(crate) master_host: String,
    /// Port of the master to connect to
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 5557,
        env = "LOCUST_MASTER_NODE_PORT",
        help_heading = "Worker options"
    )]
    pub(crate) master_port: u16,
    /// Which engine runs the locustfile
    #[arg(long, value_name = "ENGINE", value_enum, default_value_t = Engine::Auto, help_heading = "Worker options")]
    pub(crate) engine: Engine,
    /// Interpreter whose locust package runs the locustfile [default: that of the active virtual environment, or python3]
    #[arg(long, value_name = "FILENAME", env = "GANTRY_LOCUST_PYTHON", help_heading = "Worker options")]
    pub(crate) python: Option<PathBuf>,

    /// Run only tasks with one of these tags
    #[arg(short = 'T', long, value_name = "TAG", num_args = 0.., value_delimiter = ' ', env = "LOCUST_TAGS", help_heading = "Tag options")]
    pub(crate) tags: Option<Vec<String>>,
    /// Run only tasks with none of these tags
    #[arg(short = 'E', long, value_name = "TAG", num_args = 0.., value_delimiter = ' ', env = "LOCUST_EXCLUDE_TAGS", help_heading = "Tag options")]
    pub(crate) exclude_tags: Option<Vec<String>>,

    /// Write FILENAME_stats.csv, _stats_history.csv, _failures.csv and _exceptions.csv
    #[arg(
        long = "csv",
        value_name = "FILENAME",
        env = "LOCUST_CSV",
        help_heading = "Request statistics options"
    )]
    pub(crate) csv_prefix: Option<String>,
    /// Every entry in the history file, and not only the total
    #[arg(long = "csv-full-history", env = "LOCUST_CSV_FULL_HISTORY", value_parser = BoolishValueParser::new(), help_heading = "Request statistics options")]
    pub(crate) stats_history_enabled: bool,
    /// Print statistics now and then although there is a web interface
    #[arg(long, env = "LOCUST_PRINT_STATS", value_parser = BoolishValueParser::new(), help_heading = "Request statistics options")]
    pub(crate) print_stats: bool,
    /// Print statistics only at the end
    #[arg(long, env = "LOCUST_ONLY_SUMMARY", value_parser = BoolishValueParser::new(), help_heading = "Request statistics options")]
    pub(crate) only_summary: bool,
    /// Set the statistics to zero once all users are started
    #[arg(long, env = "LOCUST_RESET_STATS", value_parser = BoolishValueParser::new(), help_heading = "Request statistics options")]
    pub(crate) reset_stats: bool,
    /// Write the HTML report; {u}, {r} and {t} stand for users, spawn rate and run time
    #[arg(
        long = "html",
        value_name = "FILENAME",
        env = "LOCUST_HTML",
        help_heading = "Request statistics options"
    )]
    pub(crate) html_file: Option<String>,
    /// Print the final statistics as JSON to standard output
    #[arg(long, help_heading = "Request statistics options")]
    pub(crate) json: bool,
    /// Write the final statistics as JSON to FILENAME.json
    #[arg(long, value_name = "FILENAME", help_heading = "Request statistics options")]
    pub(crate) json_file: Option<String>,

    /// No log of our own
    #[arg(long, env = "LOCUST_SKIP_LOG_SETUP", value_parser = BoolishValueParser::new(), help_heading = "Logging options")]
    pub(crate) skip_log_setup: bool,
    /// DEBUG, INFO, WARNING, ERROR or CRITICAL
    #[arg(short = 'L', long, value_name = "LEVEL", default_value = "INFO", env = "LOCUST_LOGLEVEL", ignore_case = true, value_parser = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], help_heading = "Logging options")]
    pub(crate) loglevel: String,
    /// Log there instead of to standard error
    #[arg(long, value_name = "FILENAME", env = "LOCUST_LOGFILE", help_heading = "Logging options")]
    pub(crate) logfile: Option<PathBuf>,

    /// Print how the users' time is shared among tasks and exit
    #[arg(long, help_heading = "Other options")]
    pub(crate) show_task_ratio: bool,
    /// The same as JSON
    #[arg(long, help_heading = "Other options")]
    pub(crate) show_task_ratio_json: bool,
    /// Show the version and exit
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = "Other options")]
    version: Option<bool>,
    /// Exit code when a result contains any failure or error
    #[arg(
        long,
        value_name = "INT",
        default_value_t = 1,
        env = "LOCUST_EXIT_CODE_ON_ERROR",
        help_heading = "Other options"
    )]
    pub(crate) exit_code_on_error: u8,
    /// Seconds a user may take to complete its task before it is stopped
    #[arg(short = 's', long, value_name = "TIME", default_value = "0", env = "LOCUST_STOP_TIMEOUT", value_parser = timespan, help_heading = "Other options")]
    pub(crate) stop_timeout: u64,
    /// Every task the same weight
    #[arg(long, help_heading = "Other options")]
    pub(crate) equal_weights: bool,
    /// A name that groups runs
    #[arg(long, value_name = "NAME", help_heading = "Other options")]
    pub(crate) profile: Option<String>,

    /// User classes to use [default: all of the locustfile]
    #[arg(value_name = "UserClass")]
    pub(crate) user_classes: Vec<String>,
}

/// What runs the users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Engine {
    /// Whatever can run the locustfile: today Python.
    Auto,
    /// The locust package of the user's Python.
    Python,
}

// === impl Cli ===

impl Cli {
    /// What options ask of each other. Not by the parser: one may come from a file and the other from the command line.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.worker && self.master {
            return Err("The --master argument cannot be combined with --worker".to_owned());
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err("--tls-cert and --tls-key need each other".to_owned());
        }
        if self.stats_history_enabled && self.csv_prefix.is_none() {
            return Err("'--csv-full-history' requires '--csv'.".to_owned());
        }
        Ok(())
    }
}

/// Seconds: `20`, `20s`, `3m`, `2h`, `1h20m`, `3h30m10s`.
pub(crate) fn timespan(text: &str) -> Result<u64, String> {
    let wrong =
        || "Invalid time span format. Valid formats: 20, 20s, 3m, 2h, 1h20m, 3h30m10s, etc.".to_owned();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| wrong());
    }
    let (mut rest, mut seconds, mut any) = (text, 0_u64, false);
    for (unit, factor) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((number, after)) = rest.split_once(unit) {
            let value: u64 = number.parse().map_err(|_| wrong())?;
            seconds =
                value.checked_mul(factor).and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
            (rest, any) = (after, true);
        }
    }
    if any && rest.is_empty() { Ok(seconds) } else { Err(wrong()) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.trim().parse().map_err(|_| format!("invalid float value: '{text}'"))?;
    if !rate.is_finite() {
        return Err("must be a finite number".to_owned());
    }
    if rate > 0.0 { Ok(rate) } else { Err("must be > 0".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_read_as_locust_does() {
        for (text, seconds) in
            [("20", 20), ("20s", 20), ("3m", 180), ("2h", 7200), ("1h20m", 4800), ("3h30m10s", 12610)]
        {
            assert_eq!(timespan(text), Ok(seconds), "{text}");
        }
        for text in ["", "x", "5x", "10s3m", "-1", "1.5m", "h", "99999999999999999999h"] {
            assert!(timespan(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_positive_and_finite() {
        assert_eq!(rate("0.5"), Ok(0.5));
        assert!(["0", "-1", "nan", "inf", "x"].iter().all(|text| rate(text).is_err()));
    }
}
