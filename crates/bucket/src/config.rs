//! Where objects are kept: Thanos' configuration (`type`, `config`, `prefix`), read strictly.

use serde::Deserialize;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not YAML of this form.
    #[error("{0}")]
    Yaml(#[from] gantry_yaml::Error),
    /// A value is missing, misplaced or not supported.
    #[error("object storage: {field}: {reason}")]
    Value {
        /// Which value.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

pub(crate) fn wrong(field: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value { field, reason: reason.into() }
}

/// Kinds of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Kind {
    /// A local folder.
    #[serde(rename = "FILESYSTEM", alias = "filesystem")]
    Filesystem,
    /// S3, or what speaks as it does.
    #[serde(rename = "S3", alias = "s3")]
    S3,
}

/// A storage and where in it our objects are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectStorage {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Its settings.
    #[serde(default)]
    pub config: Settings,
    /// Put before the name of every object.
    #[serde(default)]
    pub prefix: String,
}

/// A secret, which no message shows.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}

/// The settings of all kinds; those of another kind are refused by [`ObjectStorage::check`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// FILESYSTEM: the folder.
    pub directory: String,
    /// S3: the bucket.
    pub bucket: String,
    /// S3: host and port of the server, without a scheme.
    pub endpoint: String,
    /// S3: the region.
    pub region: String,
    /// S3: who we are.
    pub access_key: String,
    /// S3: how that is proven.
    pub secret_key: Secret,
    /// S3: for credentials that end.
    pub session_token: Secret,
    /// S3: HTTP without TLS.
    pub insecure: bool,
    /// S3: how a bucket is addressed: `auto`, `path` or `virtual-hosted`.
    pub bucket_lookup_type: String,
    /// S3: bytes of a part of a large upload.
    pub part_size: Option<u64>,
    /// S3: encryption on the server.
    pub sse_config: Sse,
    /// S3: only `v2`, which we use.
    pub list_objects_version: String,
    /// S3: not supported.
    pub signature_version2: bool,
    /// S3: not supported.
    pub aws_sdk_auth: bool,
    /// S3: how the server is reached.
    pub http_config: HttpConfig,
}

/// Encryption on the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sse {
    /// `SSE-S3` or `SSE-KMS`; empty for none.
    #[serde(rename = "type")]
    pub kind: String,
    /// The key of `SSE-KMS`.
    pub kms_key_id: String,
}

/// How a server is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Whom we trust.
    pub tls_config: TlsConfig,
}

/// Whom we trust.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// A file of certificates; those of the system when empty.
    pub ca_file: String,
}

impl ObjectStorage {
    /// Reads a configuration; `file` is its name for errors.
    ///
    /// # Errors
    /// When it is not YAML of this form, or lacks what its kind needs.
    pub fn parse(file: &str, text: &str) -> Result<ObjectStorage, ConfigError> {
        let storage: ObjectStorage = gantry_yaml::from_str(file, text)?;
        storage.check()?;
        Ok(storage)
    }

    /// Whether the settings are those of the kind.
    ///
    /// # Errors
    /// Which setting is missing, misplaced or not supported.
    pub fn check(&self) -> Result<(), ConfigError> {
        let settings = &self.config;
        match self.kind {
            Kind::Filesystem => {
                let other = Settings { directory: String::new(), ..settings.clone() };
                if other != Settings::default() {
                    return Err(wrong("config", "type FILESYSTEM takes only `directory`"));
                }
                if settings.directory.is_empty() {
                    return Err(wrong("config.directory", "type FILESYSTEM needs it"));
                }
            }
            Kind::S3 => self.check_s3()?,
        }
        if self.prefix.split('/').any(|part| part == "..") {
            return Err(wrong("prefix", format!("{:?} must not hold `..`", self.prefix)));
        }
        Ok(())
    }

    fn check_s3(&self) -> Result<(), ConfigError> {
        let settings = &self.config;
        if !settings.directory.is_empty() {
            return Err(wrong("config.directory", "it belongs to type FILESYSTEM"));
        }
        if settings.bucket.is_empty() {
            return Err(wrong("config.bucket", "type S3 needs it"));
        }
        if settings.endpoint.contains("://") {
            return Err(wrong(
                "config.endpoint",
                "write host and port without a scheme; `insecure: true` is HTTP",
            ));
        }
        if settings.endpoint.is_empty() && settings.region.is_empty() {
            return Err(wrong("config.endpoint", "type S3 needs it, or a region"));
        }
        if settings.access_key.is_empty() != settings.secret_key.0.is_empty() {
            return Err(wrong("config.access_key", "access_key and secret_key are given both, or neither"));
        }
        if !matches!(settings.bucket_lookup_type.as_str(), "" | "auto" | "path" | "virtual-hosted") {
            return Err(wrong("config.bucket_lookup_type", "auto, path and virtual-hosted are known"));
        }
        if !matches!(settings.sse_config.kind.as_str(), "" | "SSE-S3" | "SSE-KMS") {
            return Err(wrong("config.sse_config.type", "SSE-S3 and SSE-KMS are supported"));
        }
        if settings.sse_config.kind == "SSE-KMS" && settings.sse_config.kms_key_id.is_empty() {
            return Err(wrong("config.sse_config.kms_key_id", "SSE-KMS needs it"));
        }
        if !matches!(settings.list_objects_version.as_str(), "" | "v2") {
            return Err(wrong("config.list_objects_version", "only v2 is supported"));
        }
        if settings.signature_version2 {
            return Err(wrong("config.signature_version2", "only version 4 is supported"));
        }
        if settings.aws_sdk_auth {
            return Err(wrong("config.aws_sdk_auth", "it is not supported; give access_key and secret_key"));
        }
        if settings.part_size.is_some_and(|bytes| bytes < 5 << 20) {
            return Err(wrong("config.part_size", "S3 takes parts of at least 5242880 bytes"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        ObjectStorage::parse("bucket.yml", text).unwrap_err().to_string()
    }

    #[test]
    fn thanos_files_are_read() {
        let storage =
            ObjectStorage::parse("f", "type: FILESYSTEM\nconfig:\n  directory: /data\nprefix: a/b\n")
                .unwrap();
        assert_eq!((storage.kind, storage.prefix.as_str()), (Kind::Filesystem, "a/b"));
        let text = "type: S3\nconfig:\n  bucket: b\n  endpoint: localhost:9000\n  access_key: k\n  secret_key: hunter2\n  insecure: true\n  part_size: 67108864\n  sse_config: {type: SSE-S3}\n";
        let storage = ObjectStorage::parse("f", text).unwrap();
        assert_eq!(storage.config.part_size, Some(64 << 20));
        assert!(!format!("{storage:?}").contains("hunter2"));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let unknown = error("type: S3\nconfig:\n  bukcet: b\n");
        assert!(unknown.contains("bucket.yml:3:3") && unknown.contains("did you mean `bucket`"), "{unknown}");
        let kind = error("type: GCS\nconfig: {}\n");
        assert!(kind.contains("bucket.yml:1:") && kind.contains("FILESYSTEM"), "{kind}");
        assert!(error("type: FILESYSTEM\nconfig: {bucket: b, directory: d}\n").contains("only `directory`"));
        assert!(error("type: S3\nconfig: {bucket: b}\n").contains("config.endpoint"));
        assert!(error("type: S3\nconfig: {bucket: b, endpoint: e, access_key: k}\n").contains("both"));
        assert!(error("type: FILESYSTEM\nconfig: {directory: d}\nprefix: a/../b\n").contains("prefix"));
    }
}
