//! Objects by name: a thin, bounded, blocking layer over `object_store`.

use std::fs;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use futures::StreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;

use crate::client::Connector;
use crate::config::{ConfigError, Kind, ObjectStorage, wrong};

/// Why an object cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BucketError {
    /// There is none of this name.
    #[error("object {name} does not exist")]
    NotFound {
        /// Its name.
        name: String,
    },
    /// The storage refused, or cannot be reached.
    #[error("{action} object {name}: {reason}")]
    Storage {
        /// What was being done.
        action: &'static str,
        /// The object's name.
        name: String,
        /// Why it failed.
        reason: String,
    },
    /// A local file cannot be read or written.
    #[error("{action} {path}: {reason}")]
    File {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: String,
        /// Why it failed.
        reason: String,
    },
    /// What an object holds is not what it should.
    #[error("object {name}: {reason}")]
    Content {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

impl BucketError {
    pub(crate) fn file(action: &'static str, path: &FilePath) -> impl FnOnce(std::io::Error) -> BucketError {
        let path = path.display().to_string();
        move |error| BucketError::File { action, path, reason: error.to_string() }
    }
}

/// Objects larger than this are uploaded in parts of this many bytes.
const PART_BYTES: usize = 16 << 20;
/// An object that is held in memory as a whole has at most so many bytes.
const MOST_WHOLE_BYTES: u64 = 64 << 20;
/// Objects asked for at the same time.
const PARALLEL: usize = 16;

/// An object and what the listing says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) modified_ms: i64,
}

/// A place for objects. Calls block, and must not be made on a thread that drives the runtime. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
    part_bytes: usize,
    name: Arc<str>,
}

impl Bucket {
    /// Opens a storage; requests run on `runtime`.
    ///
    /// # Errors
    /// When the configuration is wrong, or a local folder cannot be made.
    pub fn open(storage: &ObjectStorage, runtime: Handle) -> Result<Bucket, ConfigError> {
        storage.check()?;
        let (store, name): (Box<dyn ObjectStore>, String) = match storage.kind {
            Kind::Filesystem => {
                let directory = &storage.config.directory;
                fs::create_dir_all(directory).map_err(|error| {
                    wrong("config.directory", format!("cannot make {directory}: {error}"))
                })?;
                let store = LocalFileSystem::new_with_prefix(directory)
                    .map_err(|error| wrong("config.directory", error.to_string()))?;
                (Box::new(store.with_automatic_cleanup(true)), directory.clone())
            }
            Kind::S3 => (Box::new(s3(storage)?), storage.config.bucket.clone()),
        };
        let prefix = storage.prefix.trim_matches('/');
        let store: Arc<dyn ObjectStore> =
            if prefix.is_empty() { Arc::from(store) } else { Arc::new(PrefixStore::new(store, prefix)) };
        let part_bytes = storage.config.part_size.map_or(PART_BYTES, |bytes| bytes as usize);
        Ok(Bucket { store, runtime, part_bytes, name: Arc::from(name) })
    }

    /// Over a storage that is open already, such as one in memory.
    pub fn over(store: Arc<dyn ObjectStore>, runtime: Handle, name: &str) -> Bucket {
        Bucket { store, runtime, part_bytes: PART_BYTES, name: Arc::from(name) }
    }

    /// The folder or bucket, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on the runtime, and waits for it here.
    fn wait<T: Send + 'static>(
        &self,
        action: &'static str,
        name: &str,
        work: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T, BucketError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.runtime.spawn(async move {
            let _ = sender.send(work.await);
        });
        let stopped =
            || BucketError::Storage { action, name: name.to_owned(), reason: "the program is ending".into() };
        receiver.recv().map_err(|_| stopped())?.map_err(|error| match error {
            object_store::Error::NotFound { .. } => BucketError::NotFound { name: name.to_owned() },
            other => BucketError::Storage { action, name: name.to_owned(), reason: other.to_string() },
        })
    }

    /// The whole object, into memory. What may be large is read with [`get_ranges`](Self::get_ranges) or
    /// [`get_file`](Self::get_file).
    ///
    /// # Errors
    /// When there is none, it is larger than 64 MiB, or it cannot be read.
    pub fn get(&self, name: &str) -> Result<Bytes, BucketError> {
        let (store, path) = (self.store.clone(), Path::from(name));
        let read = self.wait("get", name, async move {
            let found = store.get(&path).await?;
            let size = found.meta.size;
            if size > MOST_WHOLE_BYTES { Ok(Err(size)) } else { found.bytes().await.map(Ok) }
        });
        read?.map_err(|size| BucketError::Content {
            name: name.to_owned(),
            reason: format!("it has {size} bytes, at most {MOST_WHOLE_BYTES} are read at once"),
        })
    }

    /// Ranges of an object, in the order asked, all asked for at once.
    ///
    /// # Errors
    /// When there is no such object, or it cannot be read.
    pub fn get_ranges(&self, name: &str, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>, BucketError> {
        let (store, path) = (self.store.clone(), Path::from(name));
        self.wait("get", name, async move {
            let one = |range: Range<u64>| {
                let (store, path) = (store.clone(), path.clone());
                async move { store.get_range(&path, range).await }
            };
            let all: Vec<object_store::Result<Bytes>> =
                futures::stream::iter(ranges).map(one).buffered(PARALLEL).collect().await;
            all.into_iter().collect()
        })
    }

    /// Whether there is an object of this name.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn exists(&self, name: &str) -> Result<bool, BucketError> {
        let (store, path) = (self.store.clone(), Path::from(name));
        match self.wait("look for", name, async move { store.head(&path).await }) {
            Ok(_) => Ok(true),
            Err(BucketError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes an object.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, name: &str, content: impl Into<Bytes>) -> Result<(), BucketError> {
        let (store, path, content) = (self.store.clone(), Path::from(name), content.into());
        self.wait("put", name, async move { store.put(&path, PutPayload::from_bytes(content)).await })?;
        Ok(())
    }

    /// Writes a local file as an object, in parts when it is large.
    ///
    /// # Errors
    /// When the file cannot be read or the object not be written.
    pub fn put_file(&self, name: &str, file: &FilePath) -> Result<u64, BucketError> {
        let (store, path, part_bytes) = (self.store.clone(), Path::from(name), self.part_bytes);
        let file = file.to_path_buf();
        self.wait("put", name, async move {
            let generic = |error: std::io::Error| object_store::Error::Generic {
                store: "local file",
                source: Box::new(error),
            };
            let mut input = tokio::fs::File::open(&file).await.map_err(generic)?;
            let mut output = BufWriter::with_capacity(store, path, part_bytes);
            let bytes = match tokio::io::copy(&mut input, &mut output).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    let _ = output.abort().await;
                    return Err(generic(error));
                }
            };
            output.shutdown().await.map_err(generic)?;
            Ok(bytes)
        })
    }

    /// Writes an object to a local file.
    ///
    /// # Errors
    /// When the object cannot be read or the file not be written.
    pub fn get_file(&self, name: &str, file: &FilePath) -> Result<u64, BucketError> {
        let (store, path, file) = (self.store.clone(), Path::from(name), file.to_path_buf());
        self.wait("get", name, async move {
            let generic = |error: std::io::Error| object_store::Error::Generic {
                store: "local file",
                source: Box::new(error),
            };
            let mut input = store.get(&path).await?.into_stream();
            let mut output = tokio::fs::File::create(&file).await.map_err(generic)?;
            let mut bytes = 0;
            while let Some(part) = input.next().await {
                let part = part?;
                bytes += part.len() as u64;
                output.write_all(&part).await.map_err(generic)?;
            }
            output.sync_all().await.map_err(generic)?;
            Ok(bytes)
        })
    }

    /// Removes an object; one that is not there is removed already.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn delete(&self, name: &str) -> Result<(), BucketError> {
        let (store, path) = (self.store.clone(), Path::from(name));
        match self.wait("delete", name, async move { store.delete(&path).await }) {
            Ok(()) | Err(BucketError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All objects whose names begin with `folder` and a slash, all objects when it is empty.
    pub(crate) fn list(&self, folder: &str) -> Result<Vec<Listed>, BucketError> {
        let (store, path) = (self.store.clone(), Path::from(folder));
        let all = !folder.is_empty();
        self.wait("list", folder, async move {
            let mut found = Vec::new();
            let mut listed = store.list(all.then_some(&path));
            while let Some(object) = listed.next().await {
                let object = object?;
                found.push(Listed {
                    name: object.location.to_string(),
                    bytes: object.size,
                    modified_ms: object.last_modified.timestamp_millis(),
                });
            }
            Ok(found)
        })
    }
}

fn s3(storage: &ObjectStorage) -> Result<object_store::aws::AmazonS3, ConfigError> {
    let settings = &storage.config;
    let mut builder = AmazonS3Builder::new()
        .with_http_connector(Connector::new(&settings.http_config.tls_config.ca_file)?)
        .with_bucket_name(&settings.bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_allow_http(settings.insecure)
        .with_region(if settings.region.is_empty() { "us-east-1" } else { &settings.region })
        .with_virtual_hosted_style_request(settings.bucket_lookup_type == "virtual-hosted");
    if !settings.endpoint.is_empty() {
        let scheme = if settings.insecure { "http" } else { "https" };
        let host = match settings.bucket_lookup_type.as_str() {
            "virtual-hosted" => format!("{scheme}://{}.{}", settings.bucket, settings.endpoint),
            _ => format!("{scheme}://{}", settings.endpoint),
        };
        builder = builder.with_endpoint(host);
    }
    if !settings.access_key.is_empty() {
        builder =
            builder.with_access_key_id(&settings.access_key).with_secret_access_key(&settings.secret_key.0);
    }
    if !settings.session_token.0.is_empty() {
        builder = builder.with_token(&settings.session_token.0);
    }
    builder = match settings.sse_config.kind.as_str() {
        "SSE-S3" => {
            let key: AmazonS3ConfigKey = "aws_server_side_encryption"
                .parse()
                .map_err(|error: object_store::Error| wrong("config.sse_config", error.to_string()))?;
            builder.with_config(key, "AES256")
        }
        "SSE-KMS" => builder.with_sse_kms_encryption(&settings.sse_config.kms_key_id),
        _ => builder,
    };
    builder.build().map_err(|error| wrong("config", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_is_too_large_for_memory_is_refused() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let bucket =
            Bucket::over(Arc::new(object_store::memory::InMemory::new()), runtime.handle().clone(), "b");
        bucket.put("small", vec![7u8; 100]).unwrap();
        assert_eq!(bucket.get("small").unwrap().len(), 100);
        bucket.put("large", vec![0u8; MOST_WHOLE_BYTES as usize + 1]).unwrap();
        let error = bucket.get("large").unwrap_err().to_string();
        assert_eq!(error, "object large: it has 67108865 bytes, at most 67108864 are read at once");
    }
}
