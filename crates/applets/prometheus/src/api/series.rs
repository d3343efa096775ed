//! `series`, `labels` and `label/<name>/values`, and the federation of series.

use std::collections::BTreeSet;
use std::fmt::Write;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use gantry_prom_model::{
    Labels, METRIC_NAME, Matcher, Querier, Queryable, SampleBuffer, SelectHints, StorageError, format_float,
    is_stale_nan, write_quoted,
};
use gantry_promql::parse_selector;
use http::header::CONTENT_TYPE;

use super::PrometheusApi;
use super::answer::{Answer, ApiError, ErrorKind, TRUNCATED, push_labels};
use super::params::Params;

/// Earliest and latest time that a request without one means.
const MIN_TIME_MS: i64 = i64::MIN / 4;
const MAX_TIME_MS: i64 = i64::MAX / 4;

fn selectors(params: &Params, name: &str) -> Result<Vec<Vec<Matcher>>, ApiError> {
    params
        .all(name)
        .map(|text| parse_selector(text).map_err(|error| ApiError::invalid(name, &error.to_string())))
        .collect()
}

fn times(params: &Params) -> Result<(i64, i64), ApiError> {
    let start = params.time("start")?.unwrap_or(MIN_TIME_MS);
    let end = params.time("end")?.unwrap_or(MAX_TIME_MS);
    if end < start {
        return Err(ApiError::invalid("end", "end timestamp must not be before start time"));
    }
    Ok((start, end))
}

/// What the user should know about an answer, each word once.
type Warnings = BTreeSet<String>;

/// Runs a read of the storage on a blocking thread. Gives what it found, and what is missing in it.
async fn read<T: Send + 'static>(
    api: &PrometheusApi,
    params: &Params,
    (start, end): (i64, i64),
    work: impl FnOnce(&dyn Querier, &mut Warnings) -> Result<T, StorageError> + Send + 'static,
) -> Result<(T, Warnings), ApiError> {
    let permit = api.shared.queries.clone().acquire_owned().await;
    let permit = permit.map_err(|_| ApiError::new(ErrorKind::Unavailable, "the server is shutting down"))?;
    let storage = api.shared.storage(params)?;
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let querier = storage.querier(start, end)?;
        let mut warnings = Warnings::new();
        let found = work(&*querier, &mut warnings)?;
        warnings.extend(querier.warnings());
        Ok::<_, StorageError>((found, warnings))
    })
    .await;
    match done {
        Ok(result) => Ok(result?),
        Err(error) => Err(ApiError::new(ErrorKind::Internal, format!("the read failed: {error}"))),
    }
}

pub(super) async fn series(State(api): State<PrometheusApi>, params: Params) -> Result<Answer, ApiError> {
    let selectors = selectors(&params, "match[]")?;
    if selectors.is_empty() {
        return Err(ApiError::bad("no match[] parameter provided"));
    }
    let limit = params.limit()?;
    let (start, end) = times(&params)?;
    let (found, warnings) = read(&api, &params, (start, end), move |querier, warnings| {
        let hints = SelectHints { function: Some("series"), ..SelectHints::range(start, end) };
        let mut found: BTreeSet<Labels> = BTreeSet::new();
        for matchers in &selectors {
            let mut series = querier.select(true, &hints, matchers)?;
            while series.advance()? {
                found.insert(series.labels().clone());
                if limit > 0 && found.len() > limit {
                    break;
                }
            }
            warnings.extend(series.warnings());
        }
        Ok(found)
    })
    .await?;
    let mut answer = Answer { warnings: warnings.into_iter().collect(), ..Answer::default() };
    let shown = if limit == 0 { found.len() } else { limit };
    if found.len() > shown {
        answer.warnings.push(TRUNCATED.into());
    }
    answer.data.push('[');
    for (index, labels) in found.iter().take(shown).enumerate() {
        if index > 0 {
            answer.data.push(',');
        }
        push_labels(&mut answer.data, labels);
    }
    answer.data.push(']');
    Ok(answer)
}

/// Calls `list` for each selector, or once without matchers, and joins what it finds.
async fn union(
    api: &PrometheusApi,
    params: &Params,
    list: impl Fn(&dyn Querier, &[Matcher], usize) -> Result<Vec<String>, StorageError> + Send + 'static,
) -> Result<Answer, ApiError> {
    let mut selectors = selectors(params, "match[]")?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let limit = params.limit()?;
    let (found, warnings) = read(api, params, times(params)?, move |querier, _| {
        // One more than asked for, to know whether there are more.
        let asked = if limit == 0 { 0 } else { limit + 1 };
        let mut found = BTreeSet::new();
        for matchers in &selectors {
            found.extend(list(querier, matchers, asked)?);
        }
        Ok(found)
    })
    .await?;
    let mut answer = Answer::list(found.into_iter().collect(), limit);
    answer.warnings.extend(warnings);
    Ok(answer)
}

pub(super) async fn labels(State(api): State<PrometheusApi>, params: Params) -> Result<Answer, ApiError> {
    union(&api, &params, |querier, matchers, limit| querier.label_names(matchers, limit)).await
}

pub(super) async fn label_values(
    State(api): State<PrometheusApi>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Answer, ApiError> {
    let name = unescape_name(&name);
    if name.is_empty() {
        return Err(ApiError::bad(format!("invalid label name: {name:?}")));
    }
    union(&api, &params, move |querier, matchers, limit| querier.label_values(&name, matchers, limit)).await
}

/// Undoes the `U__` escaping, in which `_2e_` stands for a dot and `__` for an underscore.
fn unescape_name(name: &str) -> String {
    let Some(mut rest) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut plain = String::new();
    while let Some(at) = rest.find('_') {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(end) = rest.find('_') else { return name.to_owned() };
        if end == 0 {
            plain.push('_');
        } else {
            let Some(c) = u32::from_str_radix(&rest[..end], 16).ok().and_then(char::from_u32) else {
                return name.to_owned();
            };
            plain.push(c);
        }
        rest = &rest[end + 1..];
    }
    plain.push_str(rest);
    plain
}

pub(super) async fn federate(State(api): State<PrometheusApi>, params: Params) -> Result<Response, Response> {
    let plain = |error: ApiError| (http::StatusCode::BAD_REQUEST, error.message).into_response();
    let selectors = selectors(&params, "match[]").map_err(plain)?;
    let end = api.shared.clock.now_ms();
    let start = end - i64::try_from(api.shared.engine.options().lookback.as_millis()).unwrap_or(300_000);
    let (found, warnings) = read(&api, &params, (start, end), move |querier, warnings| {
        let mut found: BTreeSet<(Labels, i64, u64)> = BTreeSet::new();
        let mut buffer = SampleBuffer::default();
        for matchers in &selectors {
            let mut series = querier.select(true, &SelectHints::range(start, end), matchers)?;
            while series.advance()? {
                buffer.clear();
                series.fill(start, end, &mut buffer)?;
                if let (Some(t), Some(v)) = (buffer.timestamps.last(), buffer.values.last())
                    && !is_stale_nan(*v)
                {
                    found.insert((series.labels().clone(), *t, v.to_bits()));
                }
            }
            warnings.extend(series.warnings());
        }
        Ok(found)
    })
    .await
    .map_err(plain)?;
    let mut text = String::new();
    // The format has no place for them but a comment.
    for warning in &warnings {
        let _ = writeln!(text, "# warning: {}", warning.replace(['\n', '\r'], " "));
    }
    let external = api.shared.state.read().external_labels.clone();
    let mut last = None;
    for (labels, t, bits) in &found {
        let Some(name) = labels.get(METRIC_NAME) else { continue };
        if last != Some(name) {
            let _ = writeln!(text, "# TYPE {name} untyped");
            last = Some(name);
        }
        text.push_str(name);
        push_federated_labels(&mut text, labels, &external);
        let _ = writeln!(text, " {} {t}", format_float(f64::from_bits(*bits)));
    }
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// A series' own labels, then those of this server that it lacks. One that has no `instance` gets an empty one, so that
/// whoever scrapes us does not put ours there.
fn push_federated_labels(out: &mut String, labels: &Labels, external: &Labels) {
    let own = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
    let mut added: Vec<(&str, &str)> = external.iter().filter(|(name, _)| !labels.has(name)).collect();
    if !labels.has("instance") && !external.has("instance") {
        added.push(("instance", ""));
        added.sort_unstable();
    }
    let mut is_first = true;
    for (name, value) in own.chain(added) {
        out.push(if is_first { '{' } else { ',' });
        is_first = false;
        out.push_str(name);
        out.push('=');
        // Writing to a string cannot fail.
        let _ = write_quoted(out, value);
    }
    if !is_first {
        out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use axum::body::Body;
    use gantry_clock::ManualClock;
    use gantry_prom_model::{Registry, SeriesSet};
    use gantry_promql::{Engine, EngineOptions};
    use http::Request;
    use tower::ServiceExt;

    use super::*;
    use crate::api::ApiParts;

    #[test]
    fn escaped_names() {
        assert_eq!(unescape_name("U__http_2e_status__code"), "http.status_code");
        assert_eq!(unescape_name("job"), "job");
        assert_eq!(unescape_name("U__bad_zz_"), "U__bad_zz_");
        assert_eq!(unescape_name("U__bad_2e"), "U__bad_2e");
    }

    #[test]
    fn federated_series_say_where_they_are_from() {
        let external = Labels::from_pairs([("cluster", "c"), ("job", "not this")]);
        for (labels, external, expected) in [
            (
                Labels::from_pairs([("__name__", "a"), ("job", "j\"")]),
                &external,
                r#"{job="j\"",cluster="c",instance=""}"#,
            ),
            (
                Labels::from_pairs([("__name__", "a"), ("instance", "i")]),
                &Labels::empty(),
                r#"{instance="i"}"#,
            ),
        ] {
            let mut text = String::new();
            push_federated_labels(&mut text, &labels, external);
            assert_eq!(text, expected);
        }
    }

    /// A storage of which a part cannot be reached.
    struct Partial;

    impl Queryable for Partial {
        fn querier(&self, _min_ms: i64, _max_ms: i64) -> Result<Box<dyn Querier + '_>, StorageError> {
            Ok(Box::new(Partial))
        }
    }

    impl Querier for Partial {
        fn select<'a>(
            &'a self,
            _sorted: bool,
            _hints: &SelectHints,
            _matchers: &[Matcher],
        ) -> Result<Box<dyn SeriesSet + 'a>, StorageError> {
            Ok(Box::new(NoSeries(Labels::empty())))
        }

        fn label_names(&self, _matchers: &[Matcher], _limit: usize) -> Result<Vec<String>, StorageError> {
            Ok(vec!["job".into()])
        }

        fn label_values(
            &self,
            _name: &str,
            _matchers: &[Matcher],
            _limit: usize,
        ) -> Result<Vec<String>, StorageError> {
            Ok(Vec::new())
        }

        fn warnings(&self) -> Vec<String> {
            vec!["labels are missing".into()]
        }
    }

    struct NoSeries(Labels);

    impl SeriesSet for NoSeries {
        fn advance(&mut self) -> Result<bool, StorageError> {
            Ok(false)
        }

        fn labels(&self) -> &Labels {
            &self.0
        }

        fn fill(&mut self, _min: i64, _max: i64, _into: &mut SampleBuffer) -> Result<(), StorageError> {
            Ok(())
        }

        fn warnings(&self) -> Vec<String> {
            vec!["series are missing".into()]
        }
    }

    #[tokio::test]
    async fn a_partial_answer_says_so() {
        let api = PrometheusApi::new(ApiParts {
            storage: Arc::new(Partial),
            storage_for: None,
            engine: Engine::new(EngineOptions::default()),
            scraping: None,
            rules: None,
            notifier: None,
            db: None,
            clock: Arc::new(ManualClock::new(0)),
            registry: Registry::new(),
            max_concurrency: 1,
            flags: BTreeMap::new(),
            reload: None,
            quit: None,
            doors: crate::api::Doors::default(),
        });
        for (path, wanted) in [
            ("/api/v1/series?match[]=up", "series are missing"),
            ("/api/v1/labels", "labels are missing"),
            ("/api/v1/label/job/values", "labels are missing"),
            ("/federate?match[]=up", "# warning: series are missing"),
        ] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = api.router().oneshot(request).await.unwrap();
            let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
            let text = String::from_utf8(body.to_vec()).unwrap();
            assert!(text.contains(wanted), "{path}: {text}");
        }
    }
}
