//! `check web-config`.

use std::io::{Result, Write};
use std::path::PathBuf;

use gantry_applet_prometheus::WebConfig;

/// Checks web configuration files and gives the exit code: 0, or 1 when one is wrong.
///
/// # Errors
/// When the outcome cannot be written.
pub fn check_web_config(files: &[PathBuf], out: &mut dyn Write, err: &mut dyn Write) -> Result<u8> {
    let mut code = 0;
    for file in files {
        let name = file.display();
        match WebConfig::load(file) {
            Ok(_) => writeln!(out, "{name} SUCCESS")?,
            Err(reason) => {
                writeln!(err, "{name} FAILED: {reason}")?;
                code = 1;
            }
        }
    }
    Ok(code)
}
