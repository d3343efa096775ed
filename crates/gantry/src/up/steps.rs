//! What a person (or a script) sees while `up` works: each step as it completes, with its time.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use serde_json::json;

/// How a command talks on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// Lines for a person; colour only on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Voice {
    Aloud(Output),
    Silent,
}

pub(crate) struct Steps {
    voice: Voice,
    colour: bool,
    began: Instant,
    step_began: Instant,
}

impl Steps {
    pub(crate) fn new(output: Output) -> Steps {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Steps { voice: Voice::Aloud(output), colour, began: Instant::now(), step_began: Instant::now() }
    }

    /// Says nothing: for cleaning up after an error that is about to be told.
    pub(crate) fn silent() -> Steps {
        Steps { voice: Voice::Silent, colour: false, began: Instant::now(), step_began: Instant::now() }
    }

    /// Time since the command began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Says that the work since the last call is done: `what` in a few words, `detail` with the facts.
    pub(crate) fn done(&mut self, what: &str, detail: &str) {
        let took = self.step_began.elapsed();
        self.step_began = Instant::now();
        match self.voice {
            Voice::Silent => {}
            Voice::Aloud(Output::Json) => {
                self.line(&json!({"step": what, "detail": detail, "ms": millis(took)}).to_string())
            }
            Voice::Aloud(Output::Text) => {
                let mark = self.paint("32", "✓");
                let time = self.paint("2", &format!("{:>7}", human(took)));
                self.line(&format!("{mark} {what:<14} {time}  {detail}"));
            }
        }
    }

    /// What is done next is timed from now.
    pub(crate) fn restart_clock(&mut self) {
        self.step_began = Instant::now();
    }

    /// Work that was tried and refused, with the reason; what ran before goes on.
    pub(crate) fn failed(&mut self, what: &str, reason: &str) {
        match self.voice {
            Voice::Silent => {}
            Voice::Aloud(Output::Json) => self.line(&json!({"failed": what, "error": reason}).to_string()),
            Voice::Aloud(Output::Text) => self.line(&format!("{} {what}: {reason}", self.paint("31", "✗"))),
        }
    }

    /// One of several things that the step just told consists of.
    pub(crate) fn item(&self, value: &serde_json::Value, text: &str) {
        match self.voice {
            Voice::Silent => {}
            Voice::Aloud(Output::Json) => self.line(&value.to_string()),
            Voice::Aloud(Output::Text) => self.line(&format!("    {text}")),
        }
    }

    /// Something the user should know that stops nothing.
    pub(crate) fn warn(&self, message: &str) {
        match self.voice {
            Voice::Silent => {}
            Voice::Aloud(Output::Json) => self.line(&json!({"warning": message}).to_string()),
            Voice::Aloud(Output::Text) => self.line(&format!("{} {message}", self.paint("33", "!"))),
        }
    }

    /// A closing block: in JSON the value, as text the lines.
    pub(crate) fn report(&self, value: &serde_json::Value, text: &str) {
        match self.voice {
            Voice::Silent => {}
            Voice::Aloud(Output::Json) => self.line(&value.to_string()),
            Voice::Aloud(Output::Text) => self.line(text),
        }
    }

    /// A line that the next one replaces; only where someone watches. `None` clears it.
    pub(crate) fn progress(&self, line: Option<&str>) {
        if self.voice == Voice::Aloud(Output::Text) && std::io::stdout().is_terminal() {
            let mut out = std::io::stdout().lock();
            let _ = write!(out, "\r\x1b[2K{}", line.unwrap_or_default());
            let _ = out.flush();
        }
    }

    pub(crate) fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(&self, line: &str) {
        // A closed pipe is the reader's choice, not our failure.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn human(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "<1 ms".to_owned(),
        ms if ms < 1000 => format!("{ms} ms"),
        _ => format!("{:.2} s", duration.as_secs_f64()),
    }
}
