//! The log in Locust's format: to standard error or a file, and the newest lines for the web interface.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

const MOST_LINES: usize = 500;

/// The newest lines; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct LogLines {
    lines: Arc<Mutex<VecDeque<String>>>,
}

struct LocustLayer {
    level: Level,
    hostname: String,
    lines: LogLines,
    file: Option<Mutex<std::fs::File>>,
    quiet: bool,
}

// === impl LogLines ===

impl LogLines {
    pub(crate) fn all(&self) -> Vec<String> {
        self.lines.lock().iter().cloned().collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.lines.lock();
        if lines.len() >= MOST_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Prints lines of the statistics, without time and level, and keeps them.
    pub(crate) fn print(&self, lines: impl IntoIterator<Item = String>) {
        let mut text = String::new();
        for line in lines {
            text.push_str(&line);
            text.push('\n');
            self.push(line);
        }
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Begins to log; at most one log per process, a later one is silently the earlier.
///
/// # Errors
/// When the file cannot be opened.
pub(crate) fn start(level: &str, file: Option<&Path>, quiet: bool) -> Result<LogLines, String> {
    let level = match level.to_ascii_uppercase().as_str() {
        "DEBUG" => Level::DEBUG,
        "WARNING" => Level::WARN,
        "ERROR" | "CRITICAL" => Level::ERROR,
        _ => Level::INFO,
    };
    let file = match file {
        None => None,
        Some(path) => {
            if let Some(folder) = path.parent() {
                let _ = std::fs::create_dir_all(folder);
            }
            let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
            Some(Mutex::new(opened.map_err(|error| format!("{}: {error}", path.display()))?))
        }
    };
    let lines = LogLines::default();
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let hostname = hostname.trim();
    let hostname = hostname.split('.').next().unwrap_or_default().to_owned();
    let layer = LocustLayer { level, hostname, lines: lines.clone(), file, quiet };
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
    Ok(lines)
}

// === impl LocustLayer ===

impl<S: Subscriber> Layer<S> for LocustLayer {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.level() <= &self.level
            && (metadata.target().starts_with("locust") || metadata.level() <= &Level::WARN)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = match *event.metadata().level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            _ => "DEBUG",
        };
        let now_ms = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |time| time.as_millis() as i64);
        let line = format!(
            "[{}] {}/{level}/{}: {}{}",
            gantry_load::locust::log_time(now_ms),
            self.hostname,
            event.metadata().target(),
            text.message,
            text.fields
        );
        if !self.quiet {
            match &self.file {
                Some(file) => drop(writeln!(file.lock(), "{line}")),
                None => drop(writeln!(std::io::stderr().lock(), "{line}")),
            }
        }
        self.lines.push(line);
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let _ = write!(self.fields, " {}={value:?}", field.name());
        }
    }
}
