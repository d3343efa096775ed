//! One line on a terminal, rewritten every second.

use std::io::Write;
use std::time::Duration;

use gantry_load::Snapshot;

const BAR: usize = 24;

pub(crate) struct Progress {
    total: Duration,
    shown: bool,
}

impl Progress {
    pub(crate) fn new(total: Duration) -> Progress {
        Progress { total, shown: false }
    }

    pub(crate) fn show(&mut self, snapshot: &Snapshot) {
        // Clears to the end of the line, so that a longer one before leaves nothing behind.
        eprint!("\r{}\x1b[K", line(snapshot, self.total));
        let _ = std::io::stderr().flush();
        self.shown = true;
    }

    pub(crate) fn end(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
            let _ = std::io::stderr().flush();
        }
    }
}

fn line(snapshot: &Snapshot, total: Duration) -> String {
    let share = (snapshot.elapsed / total.as_secs_f64().max(0.001)).clamp(0.0, 1.0);
    let full = (share * BAR as f64).round() as usize;
    let bar = format!("{}{}", "━".repeat(full), "╌".repeat(BAR - full));
    let time = |ms: Option<f64>| ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1} ms"));
    format!(
        "{bar} {:>4.0}/{:.0} s  {:.0} req/s  p50 {}  p99 {}  {} users  {} in flight  {} failed",
        snapshot.elapsed,
        total.as_secs_f64(),
        snapshot.rate,
        time(snapshot.intended.p50_ms),
        time(snapshot.intended.p99_ms),
        snapshot.users,
        snapshot.in_flight,
        snapshot.total_failed,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_is_a_dash_and_the_bar_is_never_overfull() {
        let snapshot = Snapshot { elapsed: 12.0, rate: 99.6, ..Snapshot::default() };
        let text = line(&snapshot, Duration::from_secs(10));
        assert!(text.starts_with(&"━".repeat(BAR)) && text.contains("100 req/s  p50 –"), "{text}");
    }
}
