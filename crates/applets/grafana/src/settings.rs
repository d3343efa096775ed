//! `grafana.ini` and the `GF_SECTION_KEY` variables that override it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The settings that have an effect. Keys that have none are accepted and named once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    pub provisioning_dir: PathBuf,
    /// `db` in `/api/health`'s company: the version that clients are told.
    pub app_url: String,
}

const KNOWN: [(&str, &str); 5] = [
    ("server", "http_addr"),
    ("server", "http_port"),
    ("server", "root_url"),
    ("paths", "data"),
    ("paths", "provisioning"),
];

/// The values of a file and of the environment, by section and key.
#[derive(Debug, Default)]
pub(crate) struct Values(BTreeMap<(String, String), String>);

impl Values {
    /// Reads the text of a `grafana.ini`.
    ///
    /// # Errors
    /// Which line is neither a section nor a key with a value.
    pub(crate) fn read_ini(&mut self, file: &str, text: &str) -> Result<(), String> {
        let mut section = String::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.trim().to_lowercase();
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                return Err(format!(
                    "{file}:{}: expected [section] or key = value, found {line:?}",
                    index + 1
                ));
            };
            self.0.insert(
                (section.clone(), key.trim().to_lowercase()),
                value.trim().trim_matches('"').to_owned(),
            );
        }
        Ok(())
    }

    /// Takes `GF_SERVER_HTTP_PORT=…` and its like.
    pub(crate) fn read_environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix("GF_") else { continue };
            if let Some((section, key)) = rest.to_lowercase().split_once('_') {
                self.0.insert((section.to_owned(), key.to_owned()), value);
            }
        }
    }

    fn get(&self, section: &str, key: &str) -> Option<&str> {
        let value = self.0.get(&(section.to_owned(), key.to_owned()))?;
        (!value.is_empty()).then_some(value)
    }

    /// Keys that were set and do nothing here.
    pub(crate) fn without_effect(&self) -> Vec<String> {
        let is_known =
            |(section, key): &&(String, String)| !KNOWN.contains(&(section.as_str(), key.as_str()));
        self.0.keys().filter(is_known).map(|(section, key)| format!("{section}.{key}")).collect()
    }

    /// The settings, with defaults for what is not said.
    ///
    /// # Errors
    /// Which value is not what its key takes.
    pub(crate) fn settings(&self) -> Result<Settings, String> {
        let address = self.get("server", "http_addr").unwrap_or("127.0.0.1");
        let ip =
            address.parse().map_err(|_| format!("server.http_addr: {address:?} is not an IP address"))?;
        let port = self.get("server", "http_port").unwrap_or("3000");
        let port = port.parse().map_err(|_| format!("server.http_port: {port:?} is not a port"))?;
        let path = |section: &str, key: &str, default: &str| {
            PathBuf::from(self.get(section, key).unwrap_or(default))
        };
        Ok(Settings {
            listen: SocketAddr::new(ip, port),
            data_dir: path("paths", "data", "data"),
            provisioning_dir: path("paths", "provisioning", "conf/provisioning"),
            app_url: self.get("server", "root_url").unwrap_or("").to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_overrides_the_file() {
        let mut values = Values::default();
        values
            .read_ini(
                "g.ini",
                "; comment\n[server]\nhttp_port = 3001\n[paths]\ndata = /var/lib/g\n[auth]\nx=1",
            )
            .unwrap();
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        values.read_environment(
            [set("GF_SERVER_HTTP_PORT", "4000"), set("GF_PATHS_PROVISIONING", "p"), set("HOME", "/")]
                .into_iter(),
        );
        let settings = values.settings().unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:4000");
        assert_eq!((settings.data_dir, settings.provisioning_dir), ("/var/lib/g".into(), "p".into()));
        assert_eq!(values.without_effect(), ["auth.x"]);
        assert!(values.read_ini("g.ini", "[a]\nnonsense").unwrap_err().starts_with("g.ini:2:"));
    }
}
