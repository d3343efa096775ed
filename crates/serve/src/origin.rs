//! Where a request comes from: a page of another site must not change anything here.

use http::{HeaderMap, Uri, header};

/// The host and port that a request is sent to, as its sender names them; empty when it does not.
pub fn host_of<'r>(headers: &'r HeaderMap, uri: &'r Uri) -> &'r str {
    let named = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    // HTTP/2 has it in the address.
    named.or_else(|| uri.authority().map(|authority| authority.as_str())).unwrap_or_default()
}

/// Whether no page of another site than `host` sent this. Browsers name the page's site with what changes something;
/// who is no browser names none.
///
/// # Errors
/// That it comes from another site.
pub fn from_same_site(headers: &HeaderMap, host: &str) -> Result<(), &'static str> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let from = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    if from.is_some_and(|(_, from)| from.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    Err("the request comes from another site")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_site_is_told_from_this_one() {
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            let pairs = pairs.iter().map(|(name, value)| {
                (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
            });
            pairs.collect()
        };
        let check = |pairs: &[(&'static str, &'static str)], uri: &str| {
            let (headers, uri) = (headers(pairs), uri.parse().unwrap());
            from_same_site(&headers, host_of(&headers, &uri)).is_ok()
        };
        let host = ("host", "localhost:3000");
        assert!(check(&[host], "/x"));
        assert!(check(&[host, ("origin", "http://LOCALHOST:3000")], "/x"));
        assert!(check(&[("origin", "https://a.example")], "https://a.example/x"));
        assert!(!check(&[host, ("origin", "http://evil.example")], "/x"));
        assert!(!check(&[host, ("origin", "http://localhost:3001")], "/x"));
        assert!(!check(&[host, ("origin", "null")], "/x"));
        assert!(!check(&[("origin", "http://evil.example")], "/x"));
    }
}
