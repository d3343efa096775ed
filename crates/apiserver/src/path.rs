//! Request paths: which group, version, namespace, resource, object and subresource they name.

/// A path below `/api/VERSION` or `/apis/GROUP/VERSION`.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) resource: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// What follows the subresource (`pods/x/proxy/…`).
    pub(crate) rest: String,
    /// `/watch/` before the resource, as old clients ask for a watch.
    pub(crate) watch: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Parsed {
    Resource(ResourcePath),
    /// Anything else, as its segments.
    Other(Vec<String>),
}

pub(crate) fn parse(path: &str) -> Option<Parsed> {
    let mut segments = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        segments.push(percent_decode(segment, false)?);
    }
    let (group, version, rest) = match segments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["api", version, _, ..] => (String::new(), version.to_owned(), 2),
        ["apis", group, version, _, ..] => (group.to_owned(), version.to_owned(), 3),
        _ => return Some(Parsed::Other(segments)),
    };
    let mut rest = segments.into_iter().skip(rest).peekable();
    let mut parsed = ResourcePath { group, version, ..ResourcePath::default() };
    if rest.peek().is_some_and(|segment| segment == "watch") {
        parsed.watch = true;
        rest.next();
    }
    let first = rest.next()?;
    let second = rest.next();
    match (first.as_str(), second, rest.peek()) {
        // `namespaces/x/pods…` names pods; `namespaces/x/status` a subresource of the namespace itself.
        ("namespaces", Some(namespace), Some(next)) if !matches!(next.as_str(), "status" | "finalize") => {
            parsed.namespace = Some(namespace);
            parsed.resource = rest.next()?;
            parsed.name = rest.next();
        }
        (_, second, _) => {
            parsed.resource = first;
            parsed.name = second;
        }
    }
    parsed.subresource = rest.next();
    parsed.rest = rest.collect::<Vec<_>>().join("/");
    Some(Parsed::Resource(parsed))
}

/// Undoes `%41` and, in a query, `+`. `None` if it is not UTF-8 or an escape is cut short.
pub(crate) fn percent_decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                out.push((high * 16 + low) as u8);
            }
            b'+' if plus_is_space => out.push(b' '),
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(path: &str) -> ResourcePath {
        match parse(path) {
            Some(Parsed::Resource(path)) => path,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn paths() {
        let pod_log = resource("/api/v1/namespaces/ns/pods/p/log");
        assert_eq!((pod_log.namespace.as_deref(), pod_log.resource.as_str()), (Some("ns"), "pods"));
        assert_eq!((pod_log.name.as_deref(), pod_log.subresource.as_deref()), (Some("p"), Some("log")));
        let all = resource("/apis/apps/v1/deployments");
        assert_eq!((all.group.as_str(), all.namespace, all.resource.as_str()), ("apps", None, "deployments"));
        let namespace = resource("/api/v1/namespaces/ns");
        assert_eq!((namespace.resource.as_str(), namespace.name.as_deref()), ("namespaces", Some("ns")));
        let finalize = resource("/api/v1/namespaces/ns/finalize");
        assert_eq!(
            (finalize.name.as_deref(), finalize.subresource.as_deref()),
            (Some("ns"), Some("finalize"))
        );
        let watch = resource("/api/v1/watch/namespaces/ns/pods");
        assert!(watch.watch && watch.resource == "pods");
        assert_eq!(resource("/api/v1/nodes/n/proxy/a/b").rest, "a/b");
        assert!(matches!(parse("/apis/apps/v1"), Some(Parsed::Other(_))));
        assert!(parse("/api/v1/pods/%ff").is_none());
        assert!(parse("/api/v1/pods/%4").is_none());
    }
}
