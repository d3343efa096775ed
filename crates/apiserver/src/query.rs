//! Query parameters, and those of them that lists, watches and writes share.

use crate::path::percent_decode;
use crate::status::{About, Failure, FieldError};
use gantry_apimachinery::Value;

/// Decoded pairs in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((percent_decode(key, true)?, percent_decode(value, true)?))
        });
        Query(pairs.collect())
    }

    /// The same with another value for `key`.
    pub(crate) fn with(mut self, key: &str, value: String) -> Query {
        self.0.retain(|(name, _)| name != key);
        self.0.push((key.to_owned(), value));
        self
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all<'q>(&'q self, key: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// `1`, `true` and an empty value are true, as Go reads them.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| matches!(value, "" | "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }

    pub(crate) fn number(&self, key: &str) -> Option<i64> {
        self.get(key)?.parse().ok()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// What a list or watch asks for.
#[derive(Clone, Debug)]
pub(crate) struct ListOptions {
    /// `None` when absent or empty.
    pub(crate) resource_version: Option<u64>,
    pub(crate) version_match: Option<VersionMatch>,
    /// Zero and below mean no limit.
    pub(crate) limit: usize,
    pub(crate) continuation: Option<String>,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) watch: bool,
}

const LIST_OPTIONS: About<'static> = About { group: "meta.k8s.io", resource: "", kind: "ListOptions" };

impl ListOptions {
    pub(crate) fn parse(query: &Query, watch: bool) -> Result<ListOptions, Failure> {
        let text = |key: &str| query.get(key).filter(|value| !value.is_empty());
        let forbidden = |detail: &str| {
            Err(Failure::invalid(
                LIST_OPTIONS,
                "",
                vec![FieldError::forbidden("resourceVersionMatch", detail)],
            ))
        };
        let watch = watch || query.flag("watch");
        let send_initial_events = text("sendInitialEvents").map(|_| query.flag("sendInitialEvents"));
        let version_match = match text("resourceVersionMatch") {
            None => None,
            Some("Exact") => Some(VersionMatch::Exact),
            Some("NotOlderThan") => Some(VersionMatch::NotOlderThan),
            Some(other) => {
                let error = FieldError::not_supported(
                    "resourceVersionMatch",
                    &Value::from(other),
                    &["Exact", "NotOlderThan", ""],
                );
                return Err(Failure::invalid(LIST_OPTIONS, "", vec![error]));
            }
        };
        let continuation = text("continue").map(str::to_owned);
        if watch {
            if send_initial_events.is_some() && version_match != Some(VersionMatch::NotOlderThan) {
                return forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
            }
            if send_initial_events.is_none() && version_match.is_some() {
                return forbidden(
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                );
            }
        } else {
            if send_initial_events.is_some() {
                let error =
                    FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list");
                return Err(Failure::invalid(LIST_OPTIONS, "", vec![error]));
            }
            if version_match.is_some() && text("resourceVersion").is_none() {
                return forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if version_match.is_some() && continuation.is_some() {
                return forbidden("resourceVersionMatch is forbidden when continue is provided");
            }
            if version_match == Some(VersionMatch::Exact) && text("resourceVersion") == Some("0") {
                return forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
            }
        }
        Ok(ListOptions {
            resource_version: parse_revision(text("resourceVersion"))?,
            version_match,
            limit: query
                .number("limit")
                .and_then(|limit| usize::try_from(limit).ok())
                .filter(|limit| *limit > 0)
                .unwrap_or(usize::MAX),
            continuation,
            timeout_seconds: query
                .number("timeoutSeconds")
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|seconds| *seconds > 0),
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events,
            watch,
        })
    }
}

pub(crate) fn parse_revision(text: Option<&str>) -> Result<Option<u64>, Failure> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        let quoted = Value::from(text);
        Failure::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {quoted:?}: strconv.ParseUint: parsing {quoted:?}: invalid syntax"
        ))
    })
}

/// True for `dryRun=All`; any other value is refused in the name of `options` (`CreateOptions` …).
pub(crate) fn dry_run(query: &Query, options: &str) -> Result<bool, Failure> {
    let values: Vec<&str> = query.all("dryRun").filter(|value| !value.is_empty()).collect();
    if values.iter().all(|value| *value == "All") {
        return Ok(!values.is_empty());
    }
    let shown: Vec<Value> = values.iter().map(|value| Value::from(*value)).collect();
    let error = FieldError::not_supported("dryRun", &shown.into(), &["All"]);
    Err(Failure::invalid(About { group: "meta.k8s.io", resource: "", kind: options }, "", vec![error]))
}
