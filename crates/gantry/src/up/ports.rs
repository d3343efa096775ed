//! The `--ports` flag: where each of the four addresses of `up` listens.

use std::str::FromStr;

/// Loopback ports; 0 lets the system choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub apiserver: u16,
    pub gateway: u16,
    pub metrics: u16,
    pub console: u16,
}

impl Default for Ports {
    /// The ports people know: a local API server, Kong's proxy, Prometheus, and Grafana's for the console.
    fn default() -> Ports {
        Ports { apiserver: 16443, gateway: 8000, metrics: 9090, console: 3000 }
    }
}

impl Ports {
    /// Four free ports.
    pub(crate) const AUTOMATIC: Ports = Ports { apiserver: 0, gateway: 0, metrics: 0, console: 0 };
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Ports, String> {
        let mut ports = Ports::default();
        let mut parts = text.split(',').filter(|part| !part.is_empty()).peekable();
        // First, so that names after it are exceptions: `auto,gateway=8080`.
        if parts.next_if_eq(&"auto").is_some() {
            ports = Ports::AUTOMATIC;
        }
        for part in parts {
            let (name, value) = part.split_once('=').ok_or_else(|| {
                format!("{part:?} is not NAME=PORT (`auto` alone, or before the others, takes free ports)")
            })?;
            let port = match value {
                "auto" => 0,
                number => {
                    number.parse().map_err(|_| format!("{value:?} is not a port (0 to 65535, or auto)"))?
                }
            };
            match name {
                "apiserver" => ports.apiserver = port,
                "gateway" => ports.gateway = port,
                "metrics" => ports.metrics = port,
                "console" => ports.console = port,
                _ => return Err(format!("{name:?} is not one of apiserver, gateway, metrics, console")),
            }
        }
        Ok(ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_named_or_automatic() {
        let ports: Ports = "gateway=8080,console=auto".parse().unwrap();
        assert_eq!((ports.gateway, ports.console, ports.metrics), (8080, 0, 9090));
        assert_eq!("auto".parse::<Ports>().unwrap(), Ports::AUTOMATIC);
        let ports: Ports = "auto,gateway=8080".parse().unwrap();
        assert_eq!(ports, Ports { gateway: 8080, ..Ports::AUTOMATIC });
        assert!("gateway=8080,auto".parse::<Ports>().is_err());
        assert!("gatway=1".parse::<Ports>().unwrap_err().contains("apiserver, gateway"));
        assert!("gateway=70000".parse::<Ports>().is_err());
    }
}
