//! Host names as routes write them and as requests carry them: ports, brackets and wildcards.

/// A `Host` value taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostParts<'a> {
    /// Without port and brackets.
    pub(crate) bare: &'a str,
    /// The port that was written, if it was a number.
    pub(crate) port: Option<&'a str>,
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Splits `host[:port]`. More than one colon without brackets is an IPv6 address and has no port.
pub(crate) fn split_port(host: &str) -> HostParts<'_> {
    if let Some(rest) = host.strip_prefix('[') {
        if let Some(inner) = rest.strip_suffix(']') {
            return HostParts { bare: inner, port: None };
        }
        if let Some((inner, port)) = rest.split_once("]:") {
            if port.is_empty() {
                return HostParts { bare: inner, port: None };
            }
            if is_digits(port) {
                return HostParts { bare: inner, port: Some(port) };
            }
        }
        return HostParts { bare: host, port: None };
    }
    match host.split_once(':') {
        None => HostParts { bare: host, port: None },
        Some((name, "")) => HostParts { bare: name, port: None },
        Some((name, port)) if is_digits(port) => HostParts { bare: name, port: Some(port) },
        Some(_) => HostParts { bare: host, port: None },
    }
}

/// A host with its port, the scheme's where none was written, as plain hosts with ports are indexed.
pub(crate) fn with_port(host: &str, default_port: u16) -> String {
    let parts = split_port(host);
    if parts.port.is_some() {
        return host.to_owned();
    }
    if host.starts_with('[') {
        return match host.strip_suffix(':') {
            Some(stem) => format!("{stem}:{default_port}"),
            None => format!("{host}:{default_port}"),
        };
    }
    if parts.bare == host && host.contains(':') {
        return format!("[{host}]:{default_port}");
    }
    format!("{}:{default_port}", parts.bare)
}

/// A host pattern with one `*`, which stands for at least one character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wildcard {
    prefix: String,
    suffix: String,
    /// Whether the pattern names a port; otherwise any port fits.
    pub(crate) has_port: bool,
}

impl Wildcard {
    /// `None` when the pattern has not exactly one `*`.
    pub(crate) fn parse(pattern: &str) -> Option<Wildcard> {
        let (prefix, suffix) = pattern.split_once('*')?;
        if suffix.contains('*') {
            return None;
        }
        let has_port = split_port(pattern).port.is_some();
        Some(Wildcard { prefix: prefix.to_owned(), suffix: suffix.to_owned(), has_port })
    }

    fn fits(&self, host: &str) -> bool {
        host.len() > self.prefix.len() + self.suffix.len()
            && host.starts_with(&self.prefix)
            && host.ends_with(&self.suffix)
    }

    /// `host` must carry its port (see [`with_port`]).
    pub(crate) fn matches(&self, host: &str) -> bool {
        if self.fits(host) {
            return true;
        }
        if self.has_port {
            return false;
        }
        match host.rsplit_once(':') {
            Some((name, port)) if is_digits(port) => self.fits(name),
            _ => false,
        }
    }

    /// The part that is compared literally at the end, when the wildcard leads; index key.
    pub(crate) fn leading_suffix(&self) -> Option<&str> {
        (self.prefix.is_empty() && self.suffix.starts_with('.') && !self.has_port)
            .then_some(self.suffix.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_brackets_are_split_off() {
        let cases = [
            ("shop.org", "shop.org", None),
            ("shop.org:80", "shop.org", Some("80")),
            ("shop.org:", "shop.org", None),
            ("shop.org:x", "shop.org:x", None),
            ("[::1]", "::1", None),
            ("[::1]:8000", "::1", Some("8000")),
            ("::1", "::1", None),
            ("[::1", "[::1", None),
        ];
        for (given, bare, port) in cases {
            assert_eq!(split_port(given), HostParts { bare, port }, "{given}");
        }
    }

    #[test]
    fn the_default_port_is_added_where_none_is_written() {
        assert_eq!(with_port("a.org", 80), "a.org:80");
        assert_eq!(with_port("a.org:", 80), "a.org:80");
        assert_eq!(with_port("a.org:90", 80), "a.org:90");
        assert_eq!(with_port("[::1]", 443), "[::1]:443");
        assert_eq!(with_port("::1", 443), "[::1]:443");
    }

    #[test]
    fn a_wildcard_needs_at_least_one_character_and_minds_the_port_it_names() {
        let any_port = Wildcard::parse("*.shop.org").unwrap();
        assert!(any_port.matches("a.b.shop.org:80"));
        assert!(any_port.matches("a.shop.org:1234"));
        assert!(!any_port.matches("shop.org:80"));
        assert!(!any_port.matches(".shop.org:80"));
        let one_port = Wildcard::parse("*.shop.org:90").unwrap();
        assert!(one_port.matches("a.shop.org:90"));
        assert!(!one_port.matches("a.shop.org:80"));
        let trailing = Wildcard::parse("shop.*").unwrap();
        assert!(trailing.matches("shop.org:80"));
        assert!(!trailing.matches("myshop.org:80"));
        assert!(Wildcard::parse("*.a.*").is_none());
    }
}
