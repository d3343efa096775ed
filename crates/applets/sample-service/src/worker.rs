//! `worker`: takes entries from a Redis list, one after the other, and spends a known time on each.

use std::time::Duration;

use clap::Args;
use redis::AsyncConnectionConfig;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::service::RunError;

/// The server is asked to wait this long for an entry; an end is noticed after it at the latest.
const WAIT: Duration = Duration::from_secs(1);
const RECONNECT: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct Options {
    /// Where Redis listens, as host:port.
    #[arg(long, value_name = "HOST:PORT", env = "REDIS_ADDRESS", default_value = "127.0.0.1:6379")]
    redis: String,
    /// The list to take entries from.
    #[arg(long, env = "LIST", default_value = "work")]
    list: String,
    /// Milliseconds that each entry takes.
    #[arg(long = "work", value_name = "MS", env = "WORK_MS", default_value_t = 100.0, value_parser = crate::milliseconds)]
    work_ms: f64,
}

/// Works until SIGTERM; the entry in hand is finished first.
pub(crate) async fn run(options: Options) -> Result<(), RunError> {
    let ended = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let on_signal = ended.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        on_signal.cancel();
    });
    let client = redis::Client::open(format!("redis://{}", options.redis)).map_err(RunError::Queue)?;
    println!("worker takes from {} at {}", options.list, without_password(&options.redis));
    let mut done = 0u64;
    while !ended.is_cancelled() {
        if let Err(error) = work(&client, &options, &ended, &mut done).await {
            eprintln!("queue: {error}; trying again");
            let _ = ended.run_until_cancelled(tokio::time::sleep(RECONNECT)).await;
        }
    }
    println!("worker ended after {done} entries");
    Ok(())
}

/// The address may be that of a URL, `user:password@host:port`; a log is no place for the first half.
fn without_password(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(_, host)| host)
}

/// Takes entries over one connection until it breaks or the end comes.
async fn work(
    client: &redis::Client,
    options: &Options,
    ended: &CancellationToken,
    done: &mut u64,
) -> redis::RedisResult<()> {
    let patient = AsyncConnectionConfig::new().set_response_timeout(Some(WAIT * 10));
    let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await?;
    while !ended.is_cancelled() {
        let mut command = redis::cmd("BLPOP");
        command.arg(&options.list).arg(WAIT.as_secs());
        // Not cut by the end: an entry that was taken must be worked on.
        let taken: Option<(String, Vec<u8>)> = command.query_async(&mut connection).await?;
        if taken.is_some() {
            tokio::time::sleep(Duration::from_secs_f64(options.work_ms / 1000.0)).await;
            *done += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_printed() {
        assert_eq!(without_password("me:se@cret@redis:6379/2"), "redis:6379/2");
        assert_eq!(without_password("redis:6379"), "redis:6379");
    }
}
