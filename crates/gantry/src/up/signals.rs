//! Ctrl-C and SIGTERM as one future.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// What comes this soon after a request is the same one: `timeout` signals the process and then its whole group.
const ONE_REQUEST: Duration = Duration::from_millis(300);

/// Resolves when the user (or a supervisor) asks the process to end. A second request ends it at once.
pub(crate) async fn ended_by_user() {
    if !requested().await {
        // Without handlers the default action of the signals ends the process.
        return std::future::pending().await;
    }
    tokio::spawn(async {
        tokio::time::sleep(ONE_REQUEST).await;
        if requested().await {
            // The record of started processes stays: the next start ends what this leaves.
            std::process::exit(130);
        }
    });
}

/// The next request from now on; false when the signals cannot be handled.
async fn requested() -> bool {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return false;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    true
}
