//! `build --watch`: builds again when a file changes that a build looked at, and says what came of it when that is new.
//!
//! Ends as any program does when it is told to (Ctrl-C), also while it builds, and when nobody reads its output any more.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use gantry_kustomize::watch::{Recording, Watcher};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::builds::{Builder, all_or_why, stream};
use crate::{put_out, replace};

/// Saving several files, or one in several steps, is one change.
const SETTLE: Duration = Duration::from_millis(10);

/// What the last builds came to.
type Shown = Option<Result<String, String>>;

pub(crate) fn watch(builder: &Builder, folders: &[String], output: Option<&Path>) -> Result<(), String> {
    if let Some(folder) = output.filter(|path| path.is_dir()) {
        return Err(format!(
            "--watch writes one stream: '{}' is a directory, name a file or leave -o out",
            folder.display()
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(follow(builder, folders, output)).map_err(|error| format!("--watch: {error}"))
}

async fn follow(builder: &Builder, folders: &[String], output: Option<&Path>) -> io::Result<()> {
    #[expect(
        deprecated,
        reason = "the descriptor is the watcher's own for as long as it lives, as `register` asks"
    )]
    let mut watcher = AsyncFd::new(Watcher::new()?)?;
    let mut shown = None;
    loop {
        let started = Instant::now();
        let recording = Recording::default();
        let outcomes = builder.build_all(&recording, folders);
        let is_whole = outcomes.iter().all(Result::is_ok);
        let outcome = all_or_why(folders, outcomes).map(|builds| stream(&builds));
        if let Err(message) = builder.fetcher.save_lock() {
            return Err(io::Error::other(message));
        }
        if !show(&mut shown, outcome, output, started)? {
            return Ok(());
        }
        // A build that broke off has not seen everything that counts.
        let inner = watcher.get_mut();
        if is_whole {
            inner.watch(recording)?
        } else {
            inner.watch_more(recording)?
        }
        tokio::select! {
            changed = change(&mut watcher) => changed?,
            () = unread(), if output.is_none() => return Ok(()),
        }
    }
}

/// Writes what is new; `false` when nobody reads any more.
fn show(
    shown: &mut Shown,
    outcome: Result<String, String>,
    output: Option<&Path>,
    started: Instant,
) -> io::Result<bool> {
    if shown.as_ref() == Some(&outcome) {
        return Ok(true);
    }
    let is_first = !matches!(shown, Some(Ok(_)));
    let mut is_read = true;
    match &outcome {
        Err(message) => eprintln!("Error: {message}"),
        Ok(text) => {
            // After an error the output may be what was written before it.
            match output {
                Some(path) => replace(path, text)?,
                // One stream of documents, however often it is built.
                None if is_first => is_read = put_out(text)?,
                None => is_read = put_out(&format!("---\n{text}"))?,
            }
            eprintln!("# built in {} ms", started.elapsed().as_millis());
        }
    }
    *shown = Some(outcome);
    Ok(is_read)
}

/// Until a file that counts has changed, and nothing more has for a moment.
async fn change(watcher: &mut AsyncFd<Watcher>) -> io::Result<()> {
    if !watcher.get_mut().changed()?.is_empty() {
        return Ok(());
    }
    loop {
        let mut ready = watcher.readable_mut().await?;
        let changed = ready.get_inner_mut().changed()?;
        ready.clear_ready();
        if !changed.is_empty() {
            break;
        }
    }
    while let Ok(ready) = tokio::time::timeout(SETTLE, watcher.readable_mut()).await {
        let mut ready = ready?;
        ready.get_inner_mut().changed()?;
        ready.clear_ready();
    }
    Ok(())
}

/// Until the other end of the standard output is closed; never where that cannot be told, as for a file.
async fn unread() {
    #[expect(deprecated, reason = "the standard output is open for as long as the process lives")]
    let out = AsyncFd::with_interest(io::stdout(), Interest::ERROR);
    match out {
        Ok(out) => drop(out.ready(Interest::ERROR).await),
        Err(_) => std::future::pending().await,
    }
}
