//! The journal on disk: an append-only log of batches, and snapshots that replace it.
//!
//! Files in the data folder, `R` being a revision in sixteen hexadecimal digits:
//!
//! - `log-R`: batches whose revisions are all above R. A batch is `u32` length, `u32` CRC-32C of the payload, payload.
//!   The payload is a run of records: `u8` kind (1 put, 2 delete), `u64` revision, then collection, namespace, name,
//!   each a `u16` length and bytes, then `u32` length and the object's JSON. All numbers little-endian.
//! - `snapshot-R`: the same batches, puts only, all objects at revision R; the last batch is one record of kind 3,
//!   which says that the file is whole. It is written under another name, synced and renamed.
//! - `lock`: locked while a server has the folder open.
//!
//! A start reads the newest whole snapshot, then every log from its revision on, in order. A batch that is cut short or
//! fails its checksum at the end of the last log was never acknowledged and is cut off; anywhere else it is an error.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};

use super::journal::{Journal, Record, SnapshotSource};
use super::object::ObjectKey;

/// A log is never replaced before it has this size.
const SNAPSHOT_AFTER_BYTES: u64 = 16 << 20;
/// A batch longer than this cannot have been written by us.
const MAX_BATCH_BYTES: usize = 256 << 20;
/// The log grows in steps of zeros, so that a sync rarely has to write the file's size too.
const GROW_BYTES: u64 = 1 << 20;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const END: u8 = 3;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is in use by another server")]
    InUse { path: PathBuf },
    #[error("{path}: damaged at byte {offset}: {what}; restore the file or move it away")]
    Damaged { path: PathBuf, offset: u64, what: &'static str },
}

/// The open log of one data folder.
pub struct Log {
    folder: PathBuf,
    file: File,
    /// End of the last whole batch. Zeros may follow.
    length: u64,
    allocated: u64,
    snapshot_bytes: Arc<AtomicU64>,
    /// Set when a failed write could not be taken back: nothing can be written any more.
    broken: bool,
    compaction: Option<std::thread::JoinHandle<()>>,
    _lock: File,
}

/// What a start found on disk.
pub struct Recovered {
    /// Objects of the snapshot, all at or below its revision.
    pub snapshot: Vec<Record>,
    pub snapshot_revision: u64,
    /// Changes since, in order.
    pub changes: Vec<Record>,
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

impl Log {
    /// Opens the folder, creating it if need be (readable by the owner alone).
    pub fn open(folder: &Path) -> Result<(Log, Recovered), Error> {
        create_private_folder(folder).map_err(io_error(folder))?;
        let lock_path = folder.join("lock");
        let lock = private_file(&lock_path, false).map_err(io_error(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { path: folder.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(Error::Io { path: lock_path, source }),
        }
        let mut snapshots = Vec::new();
        let mut logs = Vec::new();
        for entry in fs::read_dir(folder).map_err(io_error(folder))? {
            let entry = entry.map_err(io_error(folder))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(revision) = numbered(name, "snapshot-") {
                snapshots.push(revision);
            } else if let Some(revision) = numbered(name, "log-") {
                logs.push(revision);
            } else if name.ends_with(".tmp") {
                fs::remove_file(entry.path()).map_err(io_error(&entry.path()))?;
            }
        }
        snapshots.sort_unstable();
        logs.sort_unstable();
        let mut recovered = Recovered { snapshot: Vec::new(), snapshot_revision: 0, changes: Vec::new() };
        let mut snapshot_bytes = 0;
        if let Some(revision) = snapshots.last() {
            let path = snapshot_path(folder, *revision);
            let contents = read_batches(&path, false)?;
            if !contents.ended {
                return Err(Error::Damaged {
                    path,
                    offset: contents.length,
                    what: "the end mark is missing",
                });
            }
            snapshot_bytes = contents.length;
            recovered.snapshot = contents.records;
            recovered.snapshot_revision = *revision;
        }
        let mut current = None;
        let last_log = logs.last().copied();
        for revision in logs {
            let path = log_path(folder, revision);
            let is_last = Some(revision) == last_log;
            if revision < recovered.snapshot_revision && !is_last {
                // All of it is in the snapshot unless a batch crosses; those records are filtered below.
            }
            let contents = read_batches(&path, is_last)?;
            let new =
                contents.records.into_iter().filter(|record| record.revision > recovered.snapshot_revision);
            recovered.changes.extend(new);
            if is_last {
                current = Some((path, contents.length));
            }
        }
        let (path, length) = match current {
            Some(current) => current,
            None => (log_path(folder, recovered.snapshot_revision), 0),
        };
        let file = private_file(&path, true).map_err(io_error(&path))?;
        file.set_len(length).and_then(|()| file.sync_all()).map_err(io_error(&path))?;
        sync_folder(folder).map_err(io_error(folder))?;
        let log = Log {
            folder: folder.to_owned(),
            file,
            length,
            allocated: length,
            snapshot_bytes: Arc::new(AtomicU64::new(snapshot_bytes)),
            broken: false,
            compaction: None,
            _lock: lock,
        };
        Ok((log, recovered))
    }

    fn write_batch(&mut self, batch: &[u8]) -> io::Result<()> {
        let end = self.length + batch.len() as u64;
        if end > self.allocated {
            let allocated = end.next_multiple_of(GROW_BYTES);
            self.file.set_len(allocated)?;
            self.allocated = allocated;
        }
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(batch)?;
        self.file.sync_data()
    }
}

impl Journal for Log {
    fn append(&mut self, records: &[Record]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other(
                "an earlier write failed and could not be taken back; restart the server",
            ));
        }
        let batch = encode_batch(records)?;
        if let Err(error) = self.write_batch(&batch) {
            // What reached the file must not come back: cut it off, or refuse to go on.
            let cut = self.file.set_len(self.length).and_then(|()| self.file.sync_data());
            self.allocated = self.length;
            self.broken = cut.is_err();
            return Err(error);
        }
        self.length += batch.len() as u64;
        Ok(())
    }

    fn wants_snapshot(&self) -> bool {
        let running = self.compaction.as_ref().is_some_and(|thread| !thread.is_finished());
        let enough = SNAPSHOT_AFTER_BYTES.max(2 * self.snapshot_bytes.load(Ordering::Relaxed));
        !running && !self.broken && self.length > enough
    }

    fn snapshot(&mut self, source: SnapshotSource) -> io::Result<()> {
        // New writes go to a new log from here on; the old one goes once the snapshot is on disk.
        let path = log_path(&self.folder, source.revision);
        let file = private_file(&path, true)?;
        file.set_len(0)?;
        file.sync_all()?;
        sync_folder(&self.folder)?;
        self.file = file;
        self.length = 0;
        self.allocated = 0;
        let folder = self.folder.clone();
        let bytes = self.snapshot_bytes.clone();
        let thread = std::thread::Builder::new().name("apiserver-snapshot".into()).spawn(move || {
            match write_snapshot(&folder, &source).and_then(|length| remove_older(&folder, source.revision).map(|()| length)) {
                Ok(length) => bytes.store(length, Ordering::Relaxed),
                Err(error) => tracing::error!(%error, folder = %folder.display(), "writing a snapshot failed; the logs stay"),
            }
        })?;
        self.compaction = Some(thread);
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(thread) = self.compaction.take() {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

fn write_snapshot(folder: &Path, source: &SnapshotSource) -> io::Result<u64> {
    let temporary = folder.join(format!("snapshot-{:016x}.tmp", source.revision));
    let file = private_file(&temporary, false)?;
    file.set_len(0)?;
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    let mut length = 0;
    for records in source.objects.chunks(256) {
        let batch = encode_batch(records)?;
        length += batch.len() as u64;
        writer.write_all(&batch)?;
    }
    let end = frame(&[END])?;
    writer.write_all(&end)?;
    let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    fs::rename(&temporary, snapshot_path(folder, source.revision))?;
    sync_folder(folder)?;
    Ok(length + end.len() as u64)
}

fn remove_older(folder: &Path, revision: u64) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let number = numbered(name, "snapshot-").or_else(|| numbered(name, "log-"));
        if number.is_some_and(|number| number < revision) {
            fs::remove_file(entry.path())?;
        }
    }
    sync_folder(folder)
}

// === the bytes ===

fn encode_batch(records: &[Record]) -> io::Result<Vec<u8>> {
    let size: usize = records.iter().map(|record| record.object.len() + record.collection.len() + 160).sum();
    let mut payload = Vec::with_capacity(size);
    for record in records {
        payload.push(if record.deleted { DELETE } else { PUT });
        payload.extend_from_slice(&record.revision.to_le_bytes());
        for text in [record.collection.as_str(), &record.key.namespace, &record.key.name] {
            let length =
                u16::try_from(text.len()).map_err(|_| io::Error::other("a name is too long for the log"))?;
            payload.extend_from_slice(&length.to_le_bytes());
            payload.extend_from_slice(text.as_bytes());
        }
        let length = u32::try_from(record.object.len())
            .map_err(|_| io::Error::other("an object is too long for the log"))?;
        payload.extend_from_slice(&length.to_le_bytes());
        payload.extend_from_slice(&record.object);
    }
    frame(&payload)
}

fn frame(payload: &[u8]) -> io::Result<Vec<u8>> {
    if payload.len() > MAX_BATCH_BYTES {
        return Err(io::Error::other("a batch is too long for the log"));
    }
    let mut out = Vec::with_capacity(payload.len() + 8);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    out.extend_from_slice(payload);
    Ok(out)
}

struct Contents {
    records: Vec<Record>,
    /// End of the last whole batch.
    length: u64,
    ended: bool,
}

fn read_batches(path: &Path, tail_may_be_cut: bool) -> Result<Contents, Error> {
    let mut text = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut text)).map_err(io_error(path))?;
    let all = Bytes::from(text);
    let mut contents = Contents { records: Vec::new(), length: 0, ended: false };
    loop {
        let offset = contents.length as usize;
        let rest = all.slice(offset..);
        if rest.iter().all(|byte| *byte == 0) {
            return Ok(contents);
        }
        let Some(payload) = next_payload(&rest) else {
            if tail_may_be_cut {
                tracing::warn!(path = %path.display(), offset, "an unfinished write at the end of the log is dropped");
                return Ok(contents);
            }
            return Err(Error::Damaged {
                path: path.to_owned(),
                offset: offset as u64,
                what: "checksum or length",
            });
        };
        contents.length += 8 + payload.len() as u64;
        if payload[..] == [END] {
            contents.ended = true;
            continue;
        }
        // The checksum held, so a record that cannot be read is a defect, not a torn write.
        decode_payload(payload, &mut contents.records).ok_or_else(|| Error::Damaged {
            path: path.to_owned(),
            offset: offset as u64,
            what: "unreadable record",
        })?;
    }
}

fn next_payload(rest: &Bytes) -> Option<Bytes> {
    let mut header = rest.get(..8)?;
    let length = header.get_u32_le() as usize;
    let checksum = header.get_u32_le();
    let payload = (length > 0 && length <= MAX_BATCH_BYTES && rest.len() - 8 >= length)
        .then(|| rest.slice(8..8 + length))?;
    (crc32c::crc32c(&payload) == checksum).then_some(payload)
}

fn decode_payload(mut payload: Bytes, records: &mut Vec<Record>) -> Option<()> {
    while payload.has_remaining() {
        let kind = payload.try_get_u8().ok()?;
        let revision = payload.try_get_u64_le().ok()?;
        let mut text = || -> Option<String> {
            let length = payload.try_get_u16_le().ok()? as usize;
            let bytes = (payload.remaining() >= length).then(|| payload.split_to(length))?;
            String::from_utf8(bytes.to_vec()).ok()
        };
        let collection = text()?;
        let key = ObjectKey { namespace: text()?.into(), name: text()?.into() };
        let length = payload.try_get_u32_le().ok()? as usize;
        // A copy, so that one live object does not keep the whole file in memory.
        let object =
            (payload.remaining() >= length).then(|| Bytes::copy_from_slice(&payload.split_to(length)))?;
        let deleted = match kind {
            PUT => false,
            DELETE => true,
            _ => return None,
        };
        records.push(Record { revision, collection, key, object, deleted });
    }
    Some(())
}

// === files ===

fn numbered(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

fn log_path(folder: &Path, revision: u64) -> PathBuf {
    folder.join(format!("log-{revision:016x}"))
}

fn snapshot_path(folder: &Path, revision: u64) -> PathBuf {
    folder.join(format!("snapshot-{revision:016x}"))
}

/// Creates the folder and its parents; the folder itself can be entered by the owner alone.
pub(crate) fn create_private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        other => other,
    }
}

fn private_file(path: &Path, read: bool) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().read(read).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(revision: u64, name: &str) -> Record {
        Record {
            revision,
            collection: "/configmaps".into(),
            key: ObjectKey { namespace: "ns".into(), name: name.into() },
            object: Bytes::from(format!("{{\"n\":{revision}}}")),
            deleted: false,
        }
    }

    #[test]
    fn what_was_appended_is_read_back_and_a_torn_tail_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, recovered) = Log::open(folder.path()).unwrap();
        assert!(recovered.changes.is_empty());
        log.append(&[record(1, "a"), record(2, "b")]).unwrap();
        let gone = Record { deleted: true, ..record(3, "a") };
        log.append(std::slice::from_ref(&gone)).unwrap();
        let whole = log.length;
        drop(log);
        let path = log_path(folder.path(), 0);
        let bytes = fs::read(&path).unwrap();
        for cut in [whole - 1, whole - 9, whole - 20] {
            fs::write(&path, &bytes[..cut as usize]).unwrap();
            let (_, recovered) = Log::open(folder.path()).unwrap();
            assert_eq!(recovered.changes, [record(1, "a"), record(2, "b")]);
        }
        fs::write(&path, &bytes).unwrap();
        let (mut log, recovered) = Log::open(folder.path()).unwrap();
        assert_eq!(recovered.changes, [record(1, "a"), record(2, "b"), gone]);
        log.append(&[record(4, "c")]).unwrap();
        drop(log);
        assert_eq!(Log::open(folder.path()).unwrap().1.changes.len(), 4);
    }

    #[test]
    fn a_snapshot_replaces_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(folder.path()).unwrap();
        log.append(&[record(1, "a"), record(2, "b")]).unwrap();
        log.snapshot(SnapshotSource { revision: 2, objects: vec![record(2, "b")] }).unwrap();
        log.append(&[record(3, "c")]).unwrap();
        drop(log);
        assert!(!log_path(folder.path(), 0).exists());
        let (_log, recovered) = Log::open(folder.path()).unwrap();
        assert_eq!(recovered.snapshot, [record(2, "b")]);
        assert_eq!(recovered.snapshot_revision, 2);
        assert_eq!(recovered.changes, [record(3, "c")]);
    }

    #[test]
    fn damage_in_the_middle_is_reported_and_a_second_server_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(folder.path()).unwrap();
        log.append(&[record(1, "a")]).unwrap();
        log.snapshot(SnapshotSource { revision: 1, objects: vec![record(1, "a")] }).unwrap();
        assert!(matches!(Log::open(folder.path()), Err(Error::InUse { .. })));
        drop(log);
        let path = snapshot_path(folder.path(), 1);
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(Log::open(folder.path()), Err(Error::Damaged { .. })));
    }
}
