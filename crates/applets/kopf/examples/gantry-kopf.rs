//! The applet by itself: for measuring it, and for working on it without building everything else.

use std::process::ExitCode;

fn main() -> ExitCode {
    match gantry_applet_kopf::command().try_get_matches() {
        Ok(matches) => gantry_applet_kopf::run(&matches),
        Err(error) => error.exit(),
    }
}
