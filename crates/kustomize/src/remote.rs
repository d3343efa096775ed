//! Addresses of repositories as Kustomize reads them: `[git::]host/org/repo[//path]?ref=…&timeout=…&submodules=…`.
//!
//! Invariant: what [`Repository::parse`] refuses is a local path, and what it accepts never begins with a dash.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;

use gantry_clock::parse_go_duration;
use percent_encoding::percent_decode_str;
use regex::Regex;

/// How long a step of fetching may take where the address does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(27);
/// And at most, whatever it says.
const MAX_TIMEOUT: Duration = Duration::from_secs(60 * 60);
const MAX_ADDRESS_BYTES: usize = 4096;

const FILE: &str = "file://";
const SCHEMES: [&str; 4] = ["ssh://", "https://", "http://", FILE];

/// A folder in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    raw: String,
    host: String,
    path: String,
    root: String,
    reference: String,
    timeout: Duration,
    submodules: bool,
}

impl Repository {
    /// Reads an address; an error says why it is none.
    pub fn parse(address: &str) -> Result<Repository, String> {
        if address.starts_with('/') {
            return Err(format!("uri looks like abs path: {address}"));
        }
        if address.len() > MAX_ADDRESS_BYTES {
            return Err(format!("address is longer than {MAX_ADDRESS_BYTES} bytes"));
        }
        let (location, query) = address.split_once('?').unwrap_or((address, ""));
        let (host, rest) = split_host(location)?;
        let (path, root) = split_path(rest, host == FILE)?;
        let query = Query::parse(query);
        if query.reference.starts_with('-') {
            return Err(format!("ref '{}' begins with a dash", query.reference));
        }
        // What no ref may have, and what would make several of one.
        let foreign = |c: char| c.is_control() || matches!(c, ' ' | ':' | '*' | '?' | '[' | '\\');
        if let Some(c) = query.reference.chars().find(|c| foreign(*c)) {
            return Err(format!("ref '{}' has {c:?}, which no ref has", query.reference.escape_debug()));
        }
        if location.chars().any(char::is_control) {
            return Err(format!("address '{}' has control characters", address.escape_debug()));
        }
        // ssh takes a host with a dash for an option of its own.
        let authority = host.split_once("://").map_or(host.as_str(), |(_, rest)| rest);
        if host != FILE && authority.rsplit('@').next().is_some_and(|name| name.starts_with('-')) {
            return Err(format!("host of '{address}' begins with a dash"));
        }
        Ok(Repository {
            raw: address.to_owned(),
            host,
            path: path.to_owned(),
            root: root.to_owned(),
            reference: query.reference,
            timeout: query.timeout,
            submodules: query.submodules,
        })
    }

    /// The address as it was written.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// What git is told to fetch from.
    pub fn url(&self) -> String {
        format!("{}{}", self.host, self.path)
    }

    /// The part of [`Repository::url`] before the repository's own path, as in `https://github.com/`.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The repository's path at its host.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The folder of the kustomization, from the root of the repository.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Branch, tag or commit; empty for what the repository shows first.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// How long one step of fetching may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    pub fn submodules(&self) -> bool {
        self.submodules
    }

    /// The repository as it may be shown: without credentials.
    pub fn shown(&self) -> String {
        let url = self.url();
        let reference =
            if self.reference.is_empty() { String::new() } else { format!("?ref={}", self.reference) };
        format!("{}{reference}", without_credentials(&url))
    }
}

/// Why an address is of a kind that is never fetched, if it is of one.
pub fn unsupported(address: &str) -> Option<String> {
    strip_ignoring_case(address, "oci://").map(|_| {
        let shown = without_credentials(address);
        format!(
            "'{shown}' is an OCI artifact, which is not supported here, as in Kustomize: pull and unpack it, and name the \
             folder"
        )
    })
}

/// Whether an address says so clearly that it is a repository that it is not worth while to ask for a file.
pub(crate) fn is_surely_repository(address: &str) -> bool {
    let location = without_query(address);
    let after_scheme = location.split_once("://").map_or(location, |(_, rest)| rest);
    let marked = after_scheme.contains("//")
        || after_scheme.contains("/_git/")
        || after_scheme.split('/').any(|part| part.len() > 4 && part.ends_with(".git"));
    marked && is_http_repository(address)
}

/// Whether a web address that has no file may still be a folder of a repository.
pub(crate) fn is_http_repository(address: &str) -> bool {
    let names_file = [".yaml", ".yml", ".json"].iter().any(|end| without_query(address).ends_with(end));
    is_http(address) && !names_file && Repository::parse(address).is_ok()
}

fn without_query(address: &str) -> &str {
    address.split(['?', '#']).next().unwrap_or(address)
}

pub(crate) fn is_http(path: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| strip_ignoring_case(path, scheme).is_some())
}

/// A text with the user names and passwords of web addresses blotted out.
pub fn without_credentials(text: &str) -> Cow<'_, str> {
    static CREDENTIALS: OnceLock<Option<Regex>> = OnceLock::new();
    if !text.contains("://") || !text.contains('@') {
        return Cow::Borrowed(text);
    }
    match CREDENTIALS.get_or_init(|| Regex::new(r"(?i)(https?://)[^/@\s'\x22]+@").ok()) {
        Some(pattern) => pattern.replace_all(text, "${1}***@"),
        None => Cow::Borrowed(text),
    }
}

struct Query {
    reference: String,
    timeout: Duration,
    submodules: bool,
}

impl Query {
    /// What cannot be read counts as not said.
    fn parse(query: &str) -> Query {
        let pairs: Vec<(String, String)> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decoded(key), decoded(value))
            })
            .collect();
        let get = |name: &str| {
            pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        let reference = match get("ref") {
            "" => get("version"),
            reference => reference,
        };
        let submodules = !matches!(get("submodules"), "0" | "f" | "F" | "false" | "FALSE" | "False");
        Query { reference: reference.to_owned(), timeout: timeout(get("timeout")), submodules }
    }
}

/// Whole seconds, or a Go duration.
fn timeout(text: &str) -> Duration {
    let seconds = text.parse::<u64>().ok().filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let duration = || parse_go_duration(text).ok().and_then(|nanos| u64::try_from(nanos).ok());
    let said = seconds.or_else(|| duration().filter(|nanos| *nanos > 0).map(Duration::from_nanos));
    said.unwrap_or(DEFAULT_TIMEOUT).min(MAX_TIMEOUT)
}

fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

fn strip_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

/// The part before the repository's path, as git takes it, and the rest.
fn split_host(location: &str) -> Result<(String, &str), String> {
    // go-getter's way to say that this is a repository.
    let location = strip_ignoring_case(location, "git::").unwrap_or(location);
    let found = SCHEMES.iter().find_map(|scheme| Some((*scheme, strip_ignoring_case(location, scheme)?)));
    let (scheme, rest) = found.unwrap_or(("", location));
    if scheme == FILE {
        return Ok((FILE.to_owned(), rest));
    }
    let (user, rest) = split_user(rest);
    let github = ["github.com/", "github.com:"].iter().any(|host| strip_ignoring_case(rest, host).is_some());
    // `user@host:path` has no scheme; without a user only GitHub may be written so.
    let may_be_scp = scheme.is_empty() && (!user.is_empty() || github);
    if scheme.is_empty() && !may_be_scp {
        return Err("failed to parse scheme".to_owned());
    }
    let slash = rest.find('/');
    let colon = rest.find(':').filter(|colon| may_be_scp && *colon > 0);
    let end = match (slash, colon) {
        (Some(slash), Some(colon)) => Some(slash.min(colon)),
        (slash, colon) => slash.or(colon),
    };
    let (host, path) = end.map_or((rest, ""), |end| rest.split_at(end + 1));
    if host.is_empty() {
        return Err("failed to parse host segment".to_owned());
    }
    let host = match (github, scheme == "ssh://" || !user.is_empty()) {
        (true, true) => format!("{user}github.com:"),
        (true, false) => "https://github.com/".to_owned(),
        (false, _) => format!("{scheme}{user}{host}"),
    };
    Ok((host, path))
}

/// `user@`, where it is a plain name, and the rest.
fn split_user(text: &str) -> (&str, &str) {
    let length = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|end| {
        *end > 0 && text[*end..].starts_with('@') && text.starts_with(|c: char| c.is_ascii_alphabetic())
    });
    length.map_or(("", text), |end| text.split_at(end + 1))
}

/// The repository's path and the folder in it: told apart by `_git/`, `//` or `.git`, or else by counting.
fn split_path(text: &str, local: bool) -> Result<(&str, &str), String> {
    let none = || "failed to parse repo path segment".to_owned();
    let (path, root) = if let Some(at) = text.find("_git/") {
        let begin = at + "_git/".len();
        let end = text[begin..].find('/').map_or(text.len(), |slash| begin + slash);
        text.split_at(end)
    } else if let Some(at) = text.find("//") {
        (&text[..at], &text[at + 2..])
    } else if let Some(at) = text.find(".git") {
        text.split_at(at + ".git".len())
    } else if local {
        (text, "")
    } else {
        // Two names, as on GitHub.
        let first = text.find('/').ok_or_else(none)?;
        let second = text[first + 1..].find('/').map_or(text.len(), |slash| first + 1 + slash);
        text.split_at(second)
    };
    if path.is_empty() {
        return Err(none());
    }
    let inside = root.trim_start_matches('/');
    if crate::fs::normal(std::path::Path::new(inside)).starts_with("..") {
        return Err(format!("url path exits repo: {text}"));
    }
    Ok((path, inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(address: &str) -> (String, String, String) {
        let found = Repository::parse(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        (found.url(), found.root().to_owned(), found.reference().to_owned())
    }

    #[track_caller]
    fn reads(address: &str, url: &str, root: &str, reference: &str) {
        assert_eq!(parsed(address), (url.to_owned(), root.to_owned(), reference.to_owned()), "{address}");
    }

    #[test]
    fn every_way_to_write_a_host() {
        for (raw, host) in [
            ("github.com:", "https://github.com/"),
            ("http://github.com/", "https://github.com/"),
            ("hTTps://github.com/", "https://github.com/"),
            (
                "https://git-codecommit.us-east-2.amazonaws.com/",
                "https://git-codecommit.us-east-2.amazonaws.com/",
            ),
            ("git::https://gitlab.com/", "https://gitlab.com/"),
            ("git::http://git.example.com/", "http://git.example.com/"),
            ("ssh://git.example.com:7999/", "ssh://git.example.com:7999/"),
            ("ssh://git@github.com/", "git@github.com:"),
            ("git@github.com:", "git@github.com:"),
            ("git@github.com/", "git@github.com:"),
            ("git::git@github.com:", "git@github.com:"),
            ("org-12345@github.com:", "org-12345@github.com:"),
            ("git@gitlab2.example.com:10022/", "git@gitlab2.example.com:"),
        ] {
            let (url, ..) = parsed(&format!("{raw}some/repo/path?ref=v1"));
            assert!(url.starts_with(host), "{raw}: {url}");
        }
    }

    #[test]
    fn the_folder_is_told_from_the_repository() {
        reads("github.com/org/repo", "https://github.com/org/repo", "", "");
        reads("github.com/org/repo/a/b?ref=v1", "https://github.com/org/repo", "a/b", "v1");
        reads("https://x.example/g/sub/repo.git/a?version=v2", "https://x.example/g/sub/repo.git", "a", "v2");
        reads("https://x.example/g/sub/repo//a/b", "https://x.example/g/sub/repo", "a/b", "");
        reads(
            "git@bitbucket.org:company/project.git//path?ref=b",
            "git@bitbucket.org:company/project.git",
            "path",
            "b",
        );
        reads(
            "https://itfs.example.com/collection/project/_git/repos/some/dir?version=v1.0.0",
            "https://itfs.example.com/collection/project/_git/repos",
            "some/dir",
            "v1.0.0",
        );
        reads("file:///a/b/repo", "file:///a/b/repo", "", "");
        reads("file:///a/b/repo//over/dev?ref=x", "file:///a/b/repo", "over/dev", "x");
        reads("file:///a/repo.git/over", "file:///a/repo.git", "over", "");
    }

    #[test]
    fn what_is_no_repository_says_why() {
        for (address, why) in [
            ("/tmp", "uri looks like abs path"),
            ("../../tmp", "failed to parse scheme"),
            ("src/github.com/org/repo/path", "failed to parse scheme"),
            ("iauhsdiuashduas", "failed to parse scheme"),
            ("htxxxtp://github.com/", "failed to parse scheme"),
            ("ssh://git.example.com", "failed to parse repo path segment"),
            ("git::___", "failed to parse scheme"),
            ("https://host?ref=group/version/minor_version", "failed to parse repo path segment"),
            ("https://github.com/org/repo.git//path/../../exits/repo", "url path exits repo"),
            ("github.com!org/repo.git//path", "failed to parse scheme"),
            ("gh:org/repo", "failed to parse scheme"),
            ("https://github.com/thisisa404.yaml", "failed to parse repo path segment"),
            ("file:////tmp//path/to/whatever", "failed to parse repo path segment"),
            ("git@scp://github.com/org/repo.git//path", "failed to parse repo path segment"),
            ("git@ssh://github.com/org/repo.git//path", "failed to parse repo path segment"),
            ("github.com/org/repo?ref=--upload-pack=x", "begins with a dash"),
            ("github.com/org/repo?ref=%2D-upload-pack=x", "begins with a dash"),
            ("github.com/org/repo?ref=a:refs/heads/b", "which no ref has"),
            ("github.com/org/repo?ref=a%0Ab", "which no ref has"),
            ("github.com/org/repo\n--upload-pack=x", "control characters"),
            ("https://example.com/org\0/repo", "control characters"),
            ("ssh://-oProxyCommand=x/org/repo", "begins with a dash"),
            ("ssh://git@-oProxyCommand=x/org/repo", "begins with a dash"),
            ("git@-oProxyCommand=x:org/repo", "begins with a dash"),
            ("ext::sh -c touch% /tmp/x", "failed to parse scheme"),
            ("git::ext::sh -c touch% /tmp/x", "failed to parse scheme"),
            ("--upload-pack=x", "failed to parse scheme"),
            ("-c/core.sshCommand=x", "failed to parse scheme"),
        ] {
            let error = Repository::parse(address).expect_err(address);
            assert!(error.contains(why), "{address}: {error}");
        }
    }

    #[test]
    fn oci_artifacts_are_refused_by_name() {
        let reason = unsupported("OCI://registry.example/app:v1").unwrap();
        assert!(reason.contains("OCI://registry.example/app:v1") && reason.contains("pull"), "{reason}");
        assert_eq!(unsupported("oci/registry"), None);
    }

    #[test]
    fn the_query_says_how_to_fetch() {
        let query = |text: &str| Repository::parse(&format!("github.com/o/r?{text}")).unwrap();
        assert_eq!(query("").timeout(), Duration::from_secs(27));
        assert_eq!(query("timeout=61").timeout(), Duration::from_secs(61));
        assert_eq!(query("timeout=2m").timeout(), Duration::from_secs(120));
        assert_eq!(query("timeout=-1").timeout(), Duration::from_secs(27));
        assert_eq!(query("timeout=9000h").timeout(), MAX_TIMEOUT);
        assert!(query("ref=a").submodules());
        assert!(!query("submodules=0&ref=a").submodules());
        assert_eq!(query("ref=a%2Fb&version=c").reference(), "a/b");
    }

    #[test]
    fn credentials_are_not_shown() {
        let repository = Repository::parse("https://me:s3cret@git.example.com/org/repo?ref=v1").unwrap();
        assert_eq!(repository.url(), "https://me:s3cret@git.example.com/org/repo");
        assert_eq!(repository.shown(), "https://***@git.example.com/org/repo?ref=v1");
        assert_eq!(without_credentials("git@github.com:org/repo"), "git@github.com:org/repo");
    }

    #[test]
    fn a_file_is_asked_for_unless_the_address_is_clearly_a_repository() {
        assert!(is_surely_repository("https://github.com/org/repo//a?ref=v1"));
        assert!(is_surely_repository("https://github.com/org/repo.git/a"));
        assert!(!is_surely_repository("https://github.com/org/repo/a"));
        assert!(!is_surely_repository("https://example.com/org//a/deploy.yaml"));
        assert!(!is_surely_repository("https://example.com/org.github.io/a"));
    }
}
