//! `compact`: merges, coarsens and removes the blocks of a bucket.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};
use gantry_bucket::compact::{
    CompactError, Compactor, CompactorOptions, Pass, Planner, RANGES_MS, Retention,
};
use gantry_clock::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::flags::{self, LOG, OBJECT_STORAGE, Value, with_switches, with_values};
use crate::store::milliseconds;

const VALUES: [Value; 7] = [
    ("data-dir", "./data", "A folder for blocks under work"),
    ("consistency-delay", "30m", "Fresh blocks younger than this are not touched"),
    ("retention.resolution-raw", "0d", "How long raw blocks are kept; 0d for ever"),
    ("retention.resolution-5m", "0d", "How long blocks of 5 minutes are kept; 0d for ever"),
    ("retention.resolution-1h", "0d", "How long blocks of an hour are kept; 0d for ever"),
    ("delete-delay", "48h", "Blocks are removed this long after they were marked"),
    ("wait-interval", "5m", "With --wait: between two passes"),
];

const SWITCHES: [(&str, &str); 2] = [
    ("wait", "Go on with further passes until told to end"),
    ("downsampling.disable", "Make no coarser versions"),
];

pub(crate) fn command() -> Command {
    let command = Command::new("compact")
        .about("Merge, downsample and remove the blocks of a bucket; run one per bucket, and none beside Thanos' own");
    let command = with_values(with_values(with_values(command, &LOG), &OBJECT_STORAGE), &VALUES);
    with_switches(command, &SWITCHES)
        .arg(
            Arg::new("compact.enable-vertical-compaction")
                .long("compact.enable-vertical-compaction")
                .action(ArgAction::SetTrue)
                .hide(true)
                .help("Merge blocks that overlap"),
        )
        .arg(
            Arg::new("debug.max-compaction-level")
                .long("debug.max-compaction-level")
                .default_value("4")
                .hide(true)
                .help("The highest level that blocks are merged to"),
        )
}

fn options(matches: &ArgMatches) -> Result<CompactorOptions, String> {
    let level = usize::try_from(flags::number(matches, "debug.max-compaction-level")?).unwrap_or(usize::MAX);
    if level == 0 || level >= RANGES_MS.len() {
        return Err(format!(
            "--debug.max-compaction-level must be 1 to {}, it is {level}",
            RANGES_MS.len() - 1
        ));
    }
    Ok(CompactorOptions {
        dir: PathBuf::from(flags::value(matches, "data-dir")).join("compact"),
        planner: Planner { ranges: RANGES_MS[..=level].to_vec(), ..Planner::default() },
        vertical: matches.get_flag("compact.enable-vertical-compaction"),
        downsample: !matches.get_flag("downsampling.disable"),
        retention: Retention {
            raw_ms: flags::duration(matches, "retention.resolution-raw")?,
            five_minutes_ms: flags::duration(matches, "retention.resolution-5m")?,
            hour_ms: flags::duration(matches, "retention.resolution-1h")?,
        },
        consistency_delay_ms: flags::duration(matches, "consistency-delay")?,
        delete_delay_ms: flags::duration(matches, "delete-delay")?,
    })
}

fn report(pass: &Pass) {
    tracing::info!(
        compacted = ?pass.compacted,
        downsampled = ?pass.downsampled,
        marked = ?pass.marked,
        deleted = ?pass.deleted,
        "pass done"
    );
}

pub(crate) async fn run(matches: &ArgMatches, stop: CancellationToken) -> Result<(), String> {
    let options = options(matches)?;
    let every = milliseconds(flags::duration(matches, "wait-interval")?);
    let compactor = Arc::new(Compactor::new(flags::bucket(matches)?, options));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    loop {
        let (working, now_ms) = (compactor.clone(), clock.now_ms());
        let pass = tokio::task::spawn_blocking(move || working.pass(now_ms));
        let pass = tokio::select! {
            pass = pass => pass.map_err(|error| format!("the pass failed: {error}"))?,
            // What was uploaded without its meta is removed by a later pass.
            () = stop.cancelled() => return Ok(()),
        };
        match pass {
            Ok(pass) => report(&pass),
            Err(error) if !matches.get_flag("wait") => return Err(error.to_string()),
            // The bucket may be back at the next pass; a mistake in it will not go away.
            Err(error @ CompactError::Bucket(_)) => tracing::error!(%error, "the pass ended early"),
            Err(error) => return Err(error.to_string()),
        }
        if !matches.get_flag("wait") {
            return Ok(());
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(every) => {}
        }
    }
}
