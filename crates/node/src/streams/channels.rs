//! exec and attach over WebSocket channels: 0 stdin, 1 stdout, 2 stderr, 3 the outcome, 4 window sizes, 255 closing.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::{Options, Socket};
use crate::logs::Stream;
use crate::runtime::{Attachment, RuntimeError, Session};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const OUTCOME: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

const CHUNK: usize = 32 * 1024;
const WAITING_CHUNKS: usize = 16;
/// What a command has started in the background may hold its output open; it is listened to this long.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs until the command has ended or the client has gone.
pub(super) async fn exec(
    socket: Socket,
    session: Result<Session, RuntimeError>,
    options: &Options,
    can_close: bool,
) {
    let (mut sink, messages) = socket.split();
    greet(&mut sink, options).await;
    let session = match session {
        Ok(session) => session,
        Err(error) => {
            let message = format!("error executing command in container: {error}");
            return finish(sink, internal_error(&message)).await;
        }
    };
    let Session { stdin, outputs, resize, exit, hang_up } = session;
    let (send, mut waiting) = mpsc::channel::<Bytes>(WAITING_CHUNKS);
    for (stream, output) in outputs {
        let wanted = match stream {
            Stream::Stdout => options.stdout || options.tty,
            Stream::Stderr => options.stderr,
        };
        let channel = if stream == Stream::Stdout { STDOUT } else { STDERR };
        // What nobody wants is read all the same, so that the command does not block on it.
        tokio::spawn(forward_output(output, channel, wanted.then(|| send.clone())));
    }
    drop(send);
    let resize = move |columns, rows| {
        if let Some(terminal) = &resize {
            terminal.resize(columns, rows);
        }
    };
    let mut client_gone =
        tokio::spawn(take_messages(messages, stdin.filter(|_| options.stdin), can_close, resize, || {}));
    let output = async {
        let mut exit = std::pin::pin!(exit);
        let mut code = None;
        let mut deadline = None;
        loop {
            let late = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                chunk = waiting.recv() => match chunk {
                    Some(chunk) => {
                        if sink.send(Message::Binary(chunk)).await.is_err() {
                            return None;
                        }
                    }
                    None if code.is_some() => break,
                    None => {
                        code = Some((&mut exit).await.unwrap_or(137));
                        break;
                    }
                },
                ended = &mut exit, if code.is_none() => {
                    code = Some(ended.unwrap_or(137));
                    deadline = Some(tokio::time::Instant::now() + DRAIN);
                }
                _ = late => break,
            }
        }
        Some((sink, code.unwrap_or(137)))
    };
    tokio::select! {
        done = output => {
            if let Some((sink, code)) = done {
                finish(sink, outcome(code)).await;
            }
        }
        // Without a client nobody sees what the command does.
        _ = &mut client_gone => {}
    }
    client_gone.abort();
    drop(hang_up);
}

/// Runs until the container has ended or the client has gone.
/// `stdin_ended` is told when the client closes its input.
pub(super) async fn attach(
    socket: Socket,
    attachment: Attachment,
    options: &Options,
    can_close: bool,
    stdin_ended: impl Fn() + Send + 'static,
) {
    let (mut sink, messages) = socket.split();
    greet(&mut sink, options).await;
    let Attachment { mut output, stdin, mut exit } = attachment;
    let stdin =
        stdin.filter(|_| options.stdin).map(|stdin| Box::new(stdin) as Box<dyn AsyncWrite + Send + Unpin>);
    let mut client_gone = tokio::spawn(take_messages(messages, stdin, can_close, |_, _| {}, stdin_ended));
    let shown = async {
        let mut over = std::pin::pin!(async move {
            let _ = exit.wait_for(Option::is_some).await.map(drop);
        });
        loop {
            tokio::select! {
                biased;
                chunk = output.recv() => {
                    let (stream, data) = match chunk {
                        Ok(chunk) => chunk,
                        Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => continue,
                        Err(tokio::sync::broadcast::error::RecvError::Closed) => break,
                    };
                    let (channel, wanted) = match stream {
                        Stream::Stdout => (STDOUT, options.stdout),
                        Stream::Stderr => (STDERR, options.stderr),
                    };
                    if wanted && sink.send(Message::Binary(message(channel, &data))).await.is_err() {
                        return None;
                    }
                }
                // The log is complete when the end is told, so nothing is missed.
                () = &mut over => break,
            }
        }
        Some(sink)
    };
    tokio::select! {
        done = shown => {
            if let Some(sink) = done {
                finish(sink, outcome(0)).await;
            }
        }
        _ = &mut client_gone => {}
    }
    client_gone.abort();
}

/// An empty message tells the client that the connection stands.
async fn greet(sink: &mut SplitSink<Socket, Message>, options: &Options) {
    let channel = match (options.stdout, options.stderr) {
        (true, _) => STDOUT,
        (false, true) => STDERR,
        (false, false) => OUTCOME,
    };
    let _ = sink.send(Message::Binary(message(channel, &[]))).await;
}

async fn finish(mut sink: SplitSink<Socket, Message>, status: serde_json::Value) {
    let text = serde_json::to_vec(&status).unwrap_or_default();
    let _ = sink.send(Message::Binary(message(OUTCOME, &text))).await;
    let _ = sink.send(Message::Close(Some(super::normal_closure()))).await;
    let _ = sink.flush().await;
}

fn message(channel: u8, data: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(1 + data.len());
    message.put_u8(channel);
    message.put_slice(data);
    message.freeze()
}

async fn forward_output(
    mut from: Box<dyn AsyncRead + Send + Unpin>,
    channel: u8,
    to: Option<mpsc::Sender<Bytes>>,
) {
    let mut buffer = BytesMut::with_capacity(CHUNK);
    loop {
        buffer.clear();
        buffer.reserve(CHUNK);
        buffer.put_u8(channel);
        match from.read_buf(&mut buffer).await {
            Ok(1..) => {}
            _ => return,
        }
        if let Some(to) = &to
            && to.send(buffer.split().freeze()).await.is_err()
        {
            return;
        }
    }
}

/// Returns when the client has gone.
async fn take_messages(
    mut messages: SplitStream<Socket>,
    mut stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    can_close: bool,
    resize: impl Fn(u16, u16) + Send,
    stdin_ended: impl Fn() + Send,
) {
    while let Some(Ok(message)) = messages.next().await {
        let Message::Binary(data) = message else { continue };
        let Some((channel, data)) = data.split_first() else { continue };
        match *channel {
            STDIN => {
                let written = match &mut stdin {
                    Some(stdin) => {
                        let all = stdin.write_all(data).await;
                        if all.is_ok() { stdin.flush().await } else { all }
                    }
                    None => Ok(()),
                };
                // The command no longer reads; its outcome is still to come.
                if written.is_err() {
                    stdin = None;
                }
            }
            RESIZE => {
                if let Some((columns, rows)) = window_size(data) {
                    resize(columns, rows);
                }
            }
            CLOSE if can_close && data.first() == Some(&STDIN) => {
                if let Some(mut stdin) = stdin.take() {
                    let _ = stdin.shutdown().await;
                    drop(stdin);
                    stdin_ended();
                }
            }
            _ => {}
        }
    }
}

fn window_size(json: &[u8]) -> Option<(u16, u16)> {
    let size: serde_json::Value = serde_json::from_slice(json).ok()?;
    let side = |name: &str| u16::try_from(size.get(name)?.as_u64()?).ok();
    Some((side("Width")?, side("Height")?))
}

/// The `Status` of a command that has run.
fn outcome(code: i32) -> serde_json::Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn internal_error(message: &str) -> serde_json::Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {message}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_refused() {
        assert_eq!(window_size(br#"{"Width":80,"Height":24}"#), Some((80, 24)));
        for bad in ["", "{}", r#"{"Width":-1,"Height":2}"#, r#"{"Width":99999,"Height":2}"#, "[1]"] {
            assert_eq!(window_size(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn an_exit_code_is_told_as_kubectl_reads_it() {
        assert_eq!(outcome(0)["status"], "Success");
        let status = outcome(3);
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
    }
}
