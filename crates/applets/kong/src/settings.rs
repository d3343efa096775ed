//! Settings: `kong.conf` and `KONG_*`, under the names and with the meaning Kong gives them.

use gantry_gateway::KeepAlive;
use gantry_gateway::net::IpRange;
use gantry_gateway::router::Flavour;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What this machine trusts.
const SYSTEM: &str = "system";
/// Where that lies, by distribution, as Kong looks for it.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];

/// One address of `proxy_listen` or `admin_listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub address: SocketAddr,
    pub is_tls: bool,
}

/// What the server is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub prefix: PathBuf,
    pub proxy_listen: Vec<Listen>,
    pub admin_listen: Vec<Listen>,
    pub declarative_config: Option<PathBuf>,
    /// Whether entities are kept under the prefix and changed through the Admin API.
    pub has_database: bool,
    pub flavour: Flavour,
    pub trusted_ips: Vec<IpRange>,
    pub keepalive: KeepAlive,
    pub log_level: String,
    pub ssl_cert: Option<PathBuf>,
    pub ssl_cert_key: Option<PathBuf>,
    /// Whom services with `tls_verify` trust that name no authorities of their own: `system` or files.
    pub trusted: Vec<String>,
    /// As they were given, for the Admin API; only what is understood, because anything else may be a secret.
    pub shown: Map<String, Value>,
    /// Name and place of settings that have no effect here.
    pub ignored: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Settings {
        let at =
            |port: u16, is_tls: bool| Listen { address: SocketAddr::from(([127, 0, 0, 1], port)), is_tls };
        Settings {
            prefix: PathBuf::from(".gantry/kong"),
            proxy_listen: vec![at(8000, false), at(8443, true)],
            admin_listen: vec![at(8001, false)],
            declarative_config: None,
            has_database: true,
            flavour: Flavour::default(),
            trusted_ips: Vec::new(),
            keepalive: KeepAlive::default(),
            log_level: "info".to_owned(),
            ssl_cert: None,
            ssl_cert_key: None,
            trusted: vec![SYSTEM.to_owned()],
            shown: Map::new(),
            ignored: Vec::new(),
        }
    }
}

/// Where a setting was given, for errors.
type Given = BTreeMap<String, (String, String)>;

fn from_file(file: &Path, given: &mut Given) -> Result<(), String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{}:{}", file.display(), i + 1);
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| format!("{place}:1: found {line:?}, expected name = value"))?;
        let value = match value.find(" #") {
            Some(at) => &value[..at],
            None => value,
        };
        let value = value.trim().trim_matches(|c| c == '"' || c == '\'');
        given.insert(name.trim().to_ascii_lowercase(), (value.to_owned(), place));
    }
    Ok(())
}

fn listens(value: &str, place: &str) -> Result<Vec<Listen>, String> {
    if value == "off" {
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    for part in value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let mut words = part.split_whitespace();
        let address = words.next().unwrap_or_default();
        let address = address
            .parse()
            .map_err(|_| format!("{place}: {address:?} is not address:port, such as 127.0.0.1:8000"))?;
        let mut listen = Listen { address, is_tls: false };
        for word in words {
            match word {
                "ssl" => listen.is_tls = true,
                // HTTP/2 is spoken wherever a client asks for it; the rest is about nginx's processes.
                "http2" | "reuseport" | "deferred" | "bind" => {}
                word if word.starts_with("backlog=")
                    || word.starts_with("ipv6only=")
                    || word.starts_with("so_keepalive=") => {}
                "proxy_protocol" => return Err(format!("{place}: proxy_protocol is not supported")),
                other => return Err(format!("{place}: {other:?} is not an option of a listener")),
            }
        }
        out.push(listen);
    }
    Ok(out)
}

impl Settings {
    /// Reads a file, if one is named, and the environment, which wins.
    pub fn read(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Settings, String> {
        let mut given = Given::new();
        if let Some(file) = file {
            from_file(file, &mut given)?;
        }
        for (name, value) in environment {
            if let Some(setting) = name.strip_prefix("KONG_") {
                given.insert(setting.to_ascii_lowercase(), (value, name.clone()));
            }
        }
        let mut settings = Settings::default();
        for (name, (value, place)) in &given {
            if !settings.set(name, value, place)? {
                settings.ignored.push((name.clone(), place.clone()));
            } else if name != "ssl_cert_key" {
                settings.shown.insert(name.clone(), Value::from(value.clone()));
            }
        }
        if settings.declarative_config.is_some() && settings.has_database {
            return Err("declarative_config is only read with database = off".to_owned());
        }
        settings.shown.entry("database").or_insert(Value::from(if settings.has_database {
            "embedded"
        } else {
            "off"
        }));
        Ok(settings)
    }

    /// False when the setting has no effect.
    fn set(&mut self, name: &str, value: &str, place: &str) -> Result<bool, String> {
        let number =
            || value.parse::<u64>().map_err(|_| format!("{place}: {name}: {value:?} is not a number"));
        let path = || (!value.is_empty()).then(|| PathBuf::from(value));
        match name {
            "prefix" => self.prefix = PathBuf::from(value),
            "proxy_listen" => self.proxy_listen = listens(value, place)?,
            "admin_listen" => self.admin_listen = listens(value, place)?,
            "declarative_config" => self.declarative_config = path(),
            "database" => {
                self.has_database = match value {
                    "off" => false,
                    "embedded" => true,
                    other => {
                        return Err(format!(
                            "{place}: database: {other:?} is not supported, use off or embedded (the default)"
                        ));
                    }
                }
            }
            "router_flavor" => {
                self.flavour = match value {
                    "traditional" => Flavour::Traditional,
                    "traditional_compatible" => Flavour::TraditionalCompatible,
                    other => {
                        return Err(format!(
                            "{place}: router_flavor: {other:?} is not supported, use traditional or traditional_compatible"
                        ));
                    }
                }
            }
            "trusted_ips" => {
                for text in value.split(',').map(str::trim).filter(|text| !text.is_empty()) {
                    self.trusted_ips.push(text.parse().map_err(|error| format!("{place}: {name}: {error}"))?);
                }
            }
            "upstream_keepalive_pool_size" => self.keepalive.pool_size = number()? as usize,
            "upstream_keepalive_max_requests" => {
                self.keepalive.max_requests = u32::try_from(number()?).unwrap_or(u32::MAX);
            }
            "upstream_keepalive_idle_timeout" => self.keepalive.idle_timeout = Duration::from_secs(number()?),
            "log_level" => {
                self.log_level = match value {
                    "debug" => "debug",
                    "info" | "notice" => "info",
                    "warn" => "warn",
                    "error" | "crit" | "alert" | "emerg" => "error",
                    other => return Err(format!("{place}: log_level: {other:?} is not a level")),
                }
                .to_owned();
            }
            "ssl_cert" => self.ssl_cert = path(),
            "ssl_cert_key" => self.ssl_cert_key = path(),
            "lua_ssl_trusted_certificate" => {
                let all = value.split(',').map(|text| text.trim().to_owned());
                self.trusted = all.filter(|text| !text.is_empty()).collect();
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The authorities that `trusted` names, in PEM; `None` when there are none.
    pub fn trusted_certificates(&self) -> Result<Option<String>, String> {
        let mut all = String::new();
        for name in &self.trusted {
            let read = |file: &Path| std::fs::read_to_string(file);
            let text = match name.as_str() {
                // A machine without a bundle trusts nobody.
                SYSTEM => {
                    SYSTEM_BUNDLES.iter().find_map(|file| read(Path::new(file)).ok()).unwrap_or_default()
                }
                file => read(Path::new(file))
                    .map_err(|error| format!("lua_ssl_trusted_certificate: cannot read {file}: {error}"))?,
            };
            all.push_str(&text);
            all.push('\n');
        }
        Ok(Some(all).filter(|text| !text.trim().is_empty()))
    }

    /// The certificate presented where no other fits, and its key: the one named, or one made for this run.
    pub fn certificate(&self) -> Result<(String, String), String> {
        let read = |name: &str, file: &Path| {
            std::fs::read_to_string(file)
                .map_err(|error| format!("{name}: cannot read {}: {error}", file.display()))
        };
        match (&self.ssl_cert, &self.ssl_cert_key) {
            (Some(cert), Some(key)) => Ok((read("ssl_cert", cert)?, read("ssl_cert_key", key)?)),
            (None, None) => {
                let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
                    .map_err(|error| format!("cannot make a certificate: {error}"))?;
                Ok((made.cert.pem(), made.signing_key.serialize_pem()))
            }
            _ => Err("ssl_cert and ssl_cert_key must be given together".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(None, pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn settings_have_kongs_names() {
        let settings = with(&[
            ("KONG_PROXY_LISTEN", "127.0.0.1:0 reuseport backlog=16384, [::1]:9443 http2 ssl"),
            ("KONG_DATABASE", "off"),
            ("KONG_DECLARATIVE_CONFIG", "kong.yml"),
            ("KONG_TRUSTED_IPS", "10.0.0.0/8, ::1"),
            ("KONG_PG_DSN", "hidden"),
            ("KONG_UPSTREAM_KEEPALIVE_POOL_SIZE", "7"),
            ("HOME", "/"),
        ])
        .unwrap();
        assert_eq!(settings.proxy_listen.len(), 2);
        assert!(settings.proxy_listen[1].is_tls && !settings.has_database);
        assert_eq!(settings.trusted_ips.len(), 2);
        assert!(!settings.shown.contains_key("pg_dsn"));
        assert_eq!(settings.ignored, [("pg_dsn".to_owned(), "KONG_PG_DSN".to_owned())]);
        assert_eq!(settings.shown["upstream_keepalive_pool_size"], "7");
        assert_eq!(settings.shown["database"], "off");
    }

    #[test]
    fn a_file_that_is_trusted_must_be_there() {
        let missing = with(&[("KONG_LUA_SSL_TRUSTED_CERTIFICATE", "/nowhere/ca.pem")]).unwrap();
        assert!(missing.trusted_certificates().unwrap_err().contains("/nowhere/ca.pem"));
        let nobody = with(&[("KONG_LUA_SSL_TRUSTED_CERTIFICATE", "")]).unwrap();
        assert_eq!(nobody.trusted_certificates(), Ok(None));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        assert!(with(&[("KONG_DATABASE", "postgres")]).unwrap_err().contains("KONG_DATABASE: database"));
        assert!(with(&[("KONG_ADMIN_LISTEN", "8001")]).unwrap_err().contains("address:port"));
        assert!(with(&[("KONG_PROXY_LISTEN", "127.0.0.1:0 sll")]).unwrap_err().contains("sll"));
        assert!(with(&[("KONG_DECLARATIVE_CONFIG", "kong.yml")]).is_err());
        assert!(with(&[("KONG_ROUTER_FLAVOR", "expressions")]).is_err());
    }
}
