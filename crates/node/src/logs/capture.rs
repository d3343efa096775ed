//! Reads a container's two pipes into its log until the container has ended and the pipes are empty.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use k8s_openapi::jiff::Timestamp;
use tokio::net::unix::pipe;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::{LogWriter, Stream};

/// The named pipes of one container.
#[derive(Clone, Debug)]
pub struct Pipes {
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Pipes {
    /// Makes the pipes in `container_dir` where they are not there yet.
    pub fn create(container_dir: &Path) -> io::Result<Pipes> {
        std::fs::create_dir_all(container_dir)?;
        let pipes =
            Pipes { stdout: container_dir.join("stdout.pipe"), stderr: container_dir.join("stderr.pipe") };
        for path in [&pipes.stdout, &pipes.stderr] {
            match rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(pipes)
    }

    /// The container's ends, for its stdout and stderr.
    pub fn writers(&self) -> io::Result<(File, File)> {
        let open = |path| OpenOptions::new().read(true).write(true).open(path);
        Ok((open(&self.stdout)?, open(&self.stderr)?))
    }

    /// The container's standard input, and the end that feeds it: without a writer a reader would see the end at once.
    pub fn stdin(container_dir: &Path) -> io::Result<(File, File)> {
        let path = container_dir.join("stdin.pipe");
        // Nothing that an earlier run did not read may reach this one.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
        // Each side opens at once because the other is there.
        let both = OpenOptions::new().read(true).write(true).open(&path)?;
        let reader = OpenOptions::new().read(true).open(&path)?;
        let writer = OpenOptions::new().write(true).open(&path)?;
        drop(both);
        Ok((reader, writer))
    }

    fn readers(&self) -> io::Result<(pipe::Receiver, pipe::Receiver)> {
        let open = |path| pipe::OpenOptions::new().read_write(true).open_receiver(path);
        Ok((open(&self.stdout)?, open(&self.stderr)?))
    }
}

/// The reading side, opened before the container starts so that no byte is lost.
pub struct Capture {
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
    writer: LogWriter,
}

const CHUNK: usize = 64 * 1024;

impl Capture {
    pub fn open(pipes: &Pipes, writer: LogWriter) -> io::Result<Capture> {
        let (stdout, stderr) = pipes.readers()?;
        Ok(Capture { stdout, stderr, writer })
    }

    /// Runs until `ended` fires and both pipes are empty. Every write is announced through `grown`, and shown to those
    /// who are attached as it comes.
    pub async fn run(
        mut self,
        ended: CancellationToken,
        grown: watch::Sender<u64>,
        attached: broadcast::Sender<(Stream, Bytes)>,
    ) {
        let mut buffer = vec![0u8; CHUNK];
        let mut failed = false;
        loop {
            let over = ended.is_cancelled();
            let mut read = 0;
            for (stream, from) in [(Stream::Stdout, &self.stdout), (Stream::Stderr, &self.stderr)] {
                let Ok(n) = from.try_read(&mut buffer) else { continue };
                read += n;
                if n > 0 && attached.receiver_count() > 0 {
                    let _ = attached.send((stream, Bytes::copy_from_slice(&buffer[..n])));
                }
                if let Err(error) = self.writer.push(stream, &buffer[..n], Timestamp::now())
                    && !std::mem::replace(&mut failed, true)
                {
                    // The pipe is still emptied: a full disk must not stop the container.
                    tracing::warn!(%error, "cannot write a container's log");
                }
            }
            if read > 0 {
                grown.send_modify(|n| *n = n.wrapping_add(1));
                continue;
            }
            if over {
                break;
            }
            tokio::select! {
                _ = self.stdout.readable() => {}
                _ = self.stderr.readable() => {}
                _ = ended.cancelled() => {}
            }
        }
        if let Err(error) = self.writer.finish(Timestamp::now()) {
            tracing::warn!(%error, "cannot write the end of a container's log");
        }
        grown.send_modify(|n| *n = n.wrapping_add(1));
    }
}
