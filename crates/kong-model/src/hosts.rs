//! Addresses and host names as Kong tells them apart.

use core::net::{Ipv4Addr, Ipv6Addr};

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Ipv4,
    Ipv6,
    Name,
}

/// A host with an optional port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) sort: Sort,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
}

/// Why a text is no host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    Port,
    Other(String),
}

fn sort_of(text: &str) -> Sort {
    let colons = text.bytes().filter(|&byte| byte == b':').count();
    if colons > 1 {
        return Sort::Ipv6;
    }
    let is_v4 = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b':')
        && text.split(':').next().is_some_and(|name| name.split('.').count() == 4);
    if is_v4 { Sort::Ipv4 } else { Sort::Name }
}

/// A label may not begin or end with a hyphen, nor be empty, except that the name may end in a dot.
fn is_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    !name.is_empty()
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

fn port_of(text: &str) -> Result<u16, Invalid> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Invalid::Port);
    }
    text.parse().map_err(|_| Invalid::Port)
}

/// Reads `host[:port]`.
pub(crate) fn parse(text: &str) -> Result<Host, Invalid> {
    match sort_of(text) {
        Sort::Ipv4 => {
            let (address, port) = split(text);
            let invalid = || Invalid::Other(format!("invalid ipv4 address: {text}"));
            let address: Ipv4Addr = address.parse().map_err(|_| invalid())?;
            let port = port.map(port_of).transpose()?;
            Ok(Host { sort: Sort::Ipv4, host: address.to_string(), port })
        }
        Sort::Ipv6 => {
            let invalid = || Invalid::Other(format!("invalid ipv6 address: {text}"));
            let (address, port) = match text.strip_prefix('[') {
                Some(rest) => {
                    let (address, after) = rest.split_once(']').ok_or_else(invalid)?;
                    let port = match after.strip_prefix(':') {
                        Some(port) => Some(port_of(port)?),
                        None if after.is_empty() => None,
                        None => return Err(invalid()),
                    };
                    (address, port)
                }
                None => (text, None),
            };
            let address: Ipv6Addr = address.parse().map_err(|_| invalid())?;
            Ok(Host { sort: Sort::Ipv6, host: format!("[{address}]"), port })
        }
        Sort::Name => {
            let (name, port) = split(text);
            let is_invalid = !is_name(name) || port == Some("");
            if is_invalid {
                return Err(Invalid::Other(format!("invalid hostname: {text}")));
            }
            let port = match port {
                None => None,
                Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port_of(port)?),
                Some(_) => return Err(Invalid::Other(format!("invalid hostname: {text}"))),
            };
            Ok(Host { sort: Sort::Name, host: name.to_owned(), port })
        }
    }
}

fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    }
}

/// Whether the text is an address or a CIDR range.
pub(crate) fn is_ip_or_cidr(text: &str) -> bool {
    let (address, bits) = match text.split_once('/') {
        None => (text, None),
        Some((address, bits)) => (address, Some(bits)),
    };
    let width = if address.parse::<Ipv4Addr>().is_ok() {
        32
    } else if address.parse::<Ipv6Addr>().is_ok() {
        128
    } else {
        return false;
    };
    match bits {
        None => true,
        Some(bits) => {
            bits.bytes().all(|byte| byte.is_ascii_digit())
                && bits.parse::<u16>().is_ok_and(|bits| bits <= width)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_told_apart() {
        let sort = |text: &str| parse(text).map(|host| (host.sort, host.port));
        assert_eq!(sort("1.2.3.4:80"), Ok((Sort::Ipv4, Some(80))));
        assert_eq!(sort("[::1]:80"), Ok((Sort::Ipv6, Some(80))));
        assert_eq!(sort("::1"), Ok((Sort::Ipv6, None)));
        assert_eq!(sort("shop.org."), Ok((Sort::Name, None)));
        assert_eq!(sort("shop.org:1000000"), Err(Invalid::Port));
        for bad in ["/a", ".a", "a..b", "a-", "a:", "1.2.3.400", ":::1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(is_ip_or_cidr("::/0") && is_ip_or_cidr("10.0.0.0/8") && !is_ip_or_cidr("10.0.0.0/33"));
        assert!(!is_ip_or_cidr("127.") && !is_ip_or_cidr("0.0.0.0/-1") && !is_ip_or_cidr("0.0.0.0/a"));
    }
}
