//! What a run leaves behind: CSV files while it goes on, tables on the terminal, the report and JSON at its end.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_load::locust::{
    CsvTables, HISTORY_INTERVAL, MasterHandle, State, error_table, percentile_table, stats_table,
};

use crate::flags::Cli;
use crate::logging::LogLines;

const PRINT_EVERY: Duration = Duration::from_secs(2);
const WIDEST_NAME: usize = 80;

/// The four CSV files of a run.
pub(crate) struct CsvFiles {
    stats: Rewritten,
    history: std::fs::File,
    failures: Rewritten,
    exceptions: Rewritten,
    full_history: bool,
    last_second: i64,
}

/// A file whose rows below the header are replaced each time.
struct Rewritten {
    file: std::fs::File,
    start: u64,
}

// === impl CsvFiles ===

impl CsvFiles {
    /// Creates the files (and their folder) with their headers.
    ///
    /// # Errors
    /// Which file could not be made.
    pub(crate) fn create(prefix: &str, full_history: bool) -> Result<CsvFiles, String> {
        if let Some(folder) = Path::new(prefix).parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let rewritten = |name: &str, header: String| -> Result<Rewritten, String> {
            let (file, start) = create(prefix, name, &header)?;
            Ok(Rewritten { file, start })
        };
        Ok(CsvFiles {
            stats: rewritten("stats", CsvTables::stats_header())?,
            history: create(prefix, "stats_history", &CsvTables::history_header())?.0,
            failures: rewritten("failures", CsvTables::failures_header())?,
            exceptions: rewritten("exceptions", CsvTables::exceptions_header())?,
            full_history,
            last_second: 0,
        })
    }

    pub(crate) fn history_path(prefix: &str) -> PathBuf {
        PathBuf::from(format!("{prefix}_stats_history.csv"))
    }

    /// Brings all files up to date; adds to the history at most once a second.
    fn write(&mut self, master: &MasterHandle) -> io::Result<()> {
        let now = master.now();
        // Composed under the lock, written without it.
        let (stats, history, failures, exceptions) = {
            let locked = master.lock();
            let stats = &locked.stats;
            (
                CsvTables::stats_rows(stats),
                CsvTables::history_rows(stats, now, locked.user_count(), self.full_history),
                CsvTables::failures_rows(stats),
                CsvTables::exceptions_rows(locked.exceptions()),
            )
        };
        self.stats.replace(&stats)?;
        self.failures.replace(&failures)?;
        self.exceptions.replace(&exceptions)?;
        if now as i64 > self.last_second {
            self.last_second = now as i64;
            self.history.write_all(history.as_bytes())?;
        }
        Ok(())
    }

    /// Writes every second until it is dropped.
    pub(crate) async fn keep_writing(&mut self, master: &MasterHandle) {
        let mut ticks = tokio::time::interval(HISTORY_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.write_now(master);
        }
    }

    pub(crate) fn write_now(&mut self, master: &MasterHandle) {
        if let Err(error) = self.write(master) {
            tracing::error!(target: "locust.stats", "CSV files could not be written: {error}");
        }
    }
}

fn create(prefix: &str, name: &str, header: &str) -> Result<(std::fs::File, u64), String> {
    let path = format!("{prefix}_{name}.csv");
    let problem = |error: io::Error| format!("{path}: {error}");
    let mut file = std::fs::File::create(&path).map_err(problem)?;
    file.write_all(header.as_bytes()).map_err(problem)?;
    Ok((file, header.len() as u64))
}

impl Rewritten {
    fn replace(&mut self, rows: &str) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.start))?;
        self.file.write_all(rows.as_bytes())?;
        self.file.set_len(self.start + rows.len() as u64)
    }
}

/// The width of a name in the tables: less on a narrow terminal.
fn name_width() -> usize {
    let size = terminal_size::terminal_size_of(io::stderr());
    size.map_or(WIDEST_NAME, |(columns, _)| usize::from(columns.0).saturating_sub(80).min(WIDEST_NAME))
}

/// Prints the table of the requests every two seconds until it is dropped, once a run has begun: empty tables would hide
/// why none begins.
pub(crate) async fn keep_printing(master: &MasterHandle, log: &LogLines) {
    let mut ticks = tokio::time::interval(PRINT_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if master.lock().state() == State::Ready {
            continue;
        }
        let mut lines = stats_table(&master.lock().stats, true, name_width());
        lines.push(String::new());
        log.print(lines);
    }
}

/// The last tables, the JSON and the report.
///
/// # Errors
/// Which file could not be written; the others are.
pub(crate) fn finish(
    cli: &Cli,
    master: &MasterHandle,
    log: &LogLines,
    locustfile: &str,
) -> Result<(), String> {
    let mut problems = Vec::new();
    if let Some(name) = &cli.html_file {
        master.lock().remember_last(master.now());
        let page = crate::report::html(&master.lock(), locustfile, cli.profile.as_deref());
        problems.extend(write(Path::new(&html_name(cli, name)), &page).err());
    }
    let locked = master.lock();
    if cli.json || cli.json_file.is_some() {
        let text = crate::json::indented(&locked.stats.serialized());
        if cli.json {
            // Whoever reads may stop early; the exit code is still that of the run.
            let _ = writeln!(io::stdout(), "{text}");
        }
        if let Some(name) = &cli.json_file {
            problems.extend(write(Path::new(&format!("{name}.json")), &text).err());
        }
    }
    let has_run = locked.state() != State::Ready;
    if has_run && cli.json_file.is_none() && !(cli.json && cli.skip_log_setup) {
        let width = name_width();
        let mut lines = stats_table(&locked.stats, false, width);
        lines.push(String::new());
        lines.extend(percentile_table(&locked.stats, width));
        lines.push(String::new());
        lines.extend(error_table(&locked.stats, width));
        log.print(lines);
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

/// `{u}`, `{r}` and `{t}` in the name of the report.
fn html_name(cli: &Cli, name: &str) -> String {
    let plain = |value: Option<f64>| {
        value.map(|value| if value.fract() == 0.0 { format!("{value:.0}") } else { value.to_string() })
    };
    let parts = [
        ("{u}", plain(cli.num_users.map(f64::from))),
        ("{r}", plain(cli.spawn_rate)),
        ("{t}", plain(cli.run_time.map(|seconds| seconds as f64))),
    ];
    let mut name = name.to_owned();
    for (mark, value) in parts {
        if let Some(value) = value {
            name = name.replace(mark, &value);
        }
    }
    name
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn the_report_is_named_after_the_run() {
        let cli = Cli::parse_from(["locust", "-u", "100", "-r", "2.5", "-t", "1m"]);
        assert_eq!(html_name(&cli, "r_{u}_{r}_{t}.html"), "r_100_2.5_60.html");
        assert_eq!(html_name(&Cli::parse_from(["locust"]), "r_{u}.html"), "r_{u}.html");
    }
}
