//! Ctrl-C and SIGTERM as one future.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the user (or a supervisor) asks the process to end. A second request ends it at once.
pub(crate) async fn ended_by_user() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the default action of the signals ends the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // The record of started processes stays: the next start ends what this leaves.
        std::process::exit(130);
    });
}
