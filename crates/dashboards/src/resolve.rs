//! From a dashboard, the choices in its address and the data sources to a scope in which every variable has a value.
//!
//! Variables are resolved in the order in which they name one another; a circle ends with what was saved.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::dates::{parse_duration, parse_time};
use crate::interval::{round_interval, write_duration};
use crate::model::{Dashboard, DatasourceRef};
use crate::scope::{Bound, Purpose, Scope};
use crate::source::{DataSource, SourceInfo, Sources};
use crate::units::Locale;
use crate::variables::{
    MOST_OPTIONS, Variable, VariableKind, VariableOption, custom_options, interval_options, is_all,
    options_of,
};

/// What a viewer asks for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `now-1h`, milliseconds or a date; the dashboard's when empty.
    pub from: String,
    pub to: String,
    /// What is chosen of each variable.
    pub variables: BTreeMap<String, Vec<String>>,
    pub locale: Locale,
}

/// A variable as the viewer shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ShownVariable {
    pub name: String,
    pub label: String,
    pub hide: u8,
    /// `query`, `textbox` …
    pub kind: &'static str,
    pub multi: bool,
    pub include_all: bool,
    pub options: Vec<VariableOption>,
    /// The chosen values; `$__all` when all are.
    pub current: Vec<String>,
    /// Why there are no options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A dashboard with nothing left open.
pub struct Resolved {
    pub scope: Scope,
    pub variables: Vec<ShownVariable>,
}

/// Gives every variable of the dashboard its value.
pub async fn resolve(dashboard: &Dashboard, request: &Request, sources: &dyn Sources) -> Resolved {
    let (from_ms, to_ms) = range(dashboard, request);
    let scope = Scope {
        from_ms,
        to_ms,
        locale: request.locale,
        dashboard_title: dashboard.title.clone(),
        dashboard_uid: dashboard.uid.clone(),
        ..Scope::default()
    };
    let mut resolver = Resolver { scope, sources, infos: sources.list(), shown: BTreeMap::new() };
    for index in order(&dashboard.variables) {
        let variable = &dashboard.variables[index];
        let chosen = request.variables.get(&variable.name).map(Vec::as_slice);
        // Variables that depend on one another must wait; it is the sources that run in parallel, per panel.
        let shown = resolver.resolve(variable, chosen).await;
        resolver.shown.insert(index, shown);
    }
    Resolved { scope: resolver.scope, variables: resolver.shown.into_values().collect() }
}

/// The range asked for, in milliseconds. One that cannot be read is the dashboard's.
pub fn range(dashboard: &Dashboard, request: &Request) -> (i64, i64) {
    let locale = request.locale;
    let end = |asked: &str, own: &str, default: &str, up: bool| {
        [asked, own, default]
            .into_iter()
            .find_map(|text| parse_time(text, locale, up))
            .unwrap_or(locale.now_ms)
    };
    let to = end(&request.to, &dashboard.time_to, "now", true);
    let from = end(&request.from, &dashboard.time_from, "now-6h", false);
    if from < to { (from, to) } else { (to - 1000, to) }
}

/// Indices so that what a variable names comes before it.
fn order(variables: &[Variable]) -> Vec<usize> {
    let names = |variable: &Variable, other: &str| {
        variable.texts().iter().any(|text| {
            text.match_indices(other).any(|(at, _)| {
                let before = text[..at].chars().next_back();
                let after = text[at + other.len()..].chars().next();
                matches!(before, Some('$' | '{' | '['))
                    && after.is_none_or(|c| c != '_' && !c.is_ascii_alphanumeric())
            })
        })
    };
    let mut out: Vec<usize> = Vec::with_capacity(variables.len());
    while out.len() < variables.len() {
        let waiting = (0..variables.len()).filter(|index| !out.contains(index)).collect::<Vec<_>>();
        let free = waiting.iter().copied().find(|index| {
            waiting.iter().all(|other| other == index || !names(&variables[*index], &variables[*other].name))
        });
        // In a circle the first goes first.
        out.push(free.unwrap_or(waiting[0]));
    }
    out
}

struct Resolver<'a> {
    scope: Scope,
    sources: &'a dyn Sources,
    infos: Vec<SourceInfo>,
    shown: BTreeMap<usize, ShownVariable>,
}

impl Resolver<'_> {
    async fn resolve(&mut self, variable: &Variable, chosen: Option<&[String]>) -> ShownVariable {
        let (options, error) = match self.options(variable).await {
            Ok(options) => (options, None),
            Err(error) => (variable.stored.clone(), Some(error)),
        };
        let (bound, current) = self.choose(variable, chosen, &options);
        self.scope.variables.insert(variable.name.clone(), bound);
        ShownVariable {
            name: variable.name.clone(),
            label: variable.label.clone(),
            hide: variable.hide,
            kind: match variable.kind {
                VariableKind::Query { .. } => "query",
                VariableKind::Custom { .. } => "custom",
                VariableKind::Interval { .. } => "interval",
                VariableKind::Datasource { .. } => "datasource",
                VariableKind::Textbox { .. } => "textbox",
                VariableKind::Constant { .. } => "constant",
                VariableKind::Other => "other",
            },
            multi: variable.multi,
            include_all: variable.include_all,
            options,
            current,
            error,
        }
    }

    async fn options(&self, variable: &Variable) -> Result<Vec<VariableOption>, String> {
        let text = |text: &str| self.scope.expand(text, None, Purpose::Text);
        match &variable.kind {
            VariableKind::Query { query, datasource } => {
                let found = self.ask(query, datasource.as_ref()).await?;
                options_of(found, &text(&variable.regex), variable.sort)
            }
            VariableKind::Custom { query } => Ok(custom_options(&text(query))),
            VariableKind::Interval { query, auto } => {
                let mut options = interval_options(query);
                if auto.is_some() {
                    let value = format!("$__auto_interval_{}", variable.name);
                    options.insert(0, VariableOption { text: "auto".to_owned(), value });
                }
                Ok(options)
            }
            VariableKind::Datasource { plugin } => {
                let of_kind = self.infos.iter().filter(|info| info.kind == *plugin);
                let options =
                    of_kind.map(|info| VariableOption { text: info.name.clone(), value: info.uid.clone() });
                let pattern = text(&variable.regex);
                let Some(regex) = (!pattern.is_empty()).then(|| crate::variables::regex(&pattern)).flatten()
                else {
                    return Ok(options.collect());
                };
                Ok(options.filter(|option| regex.is_match(&option.text).unwrap_or(false)).collect())
            }
            VariableKind::Textbox { .. } | VariableKind::Constant { .. } => Ok(Vec::new()),
            VariableKind::Other => Ok(variable.stored.clone()),
        }
    }

    /// What is chosen: by the viewer, else as saved where that is still an option, else the first.
    fn choose(
        &self,
        variable: &Variable,
        chosen: Option<&[String]>,
        options: &[VariableOption],
    ) -> (Bound, Vec<String>) {
        let is_many = variable.multi || variable.include_all;
        let one = |value: String| (Bound { is_many, ..Bound::one(value.clone()) }, vec![value]);
        match &variable.kind {
            VariableKind::Textbox { query } | VariableKind::Constant { query } => {
                let saved = variable.current.first().map(|(value, _)| value.clone());
                let is_text = matches!(variable.kind, VariableKind::Textbox { .. });
                let value = chosen.and_then(<[String]>::first).cloned().filter(|_| is_text);
                return one(value.or(saved.filter(|_| is_text)).unwrap_or_else(|| query.clone()));
            }
            _ => {}
        }
        let saved: Vec<String> = variable.current.iter().map(|(value, _)| value.clone()).collect();
        let asked: Vec<String> = chosen.map_or(saved, <[String]>::to_vec);
        let as_option = |asked: &String| {
            options
                .iter()
                .find(|option| option.value == *asked || option.text == *asked)
                .map(|o| o.value.clone())
        };
        let is_all_asked = variable.include_all && asked.iter().any(|value| is_all(value) || value == "All");
        let mut values: Vec<String> = asked.iter().filter_map(as_option).collect();
        if values.is_empty() && options.is_empty() && !is_all_asked {
            // Nothing was found (yet): what was asked for is better than nothing.
            values = asked.into_iter().filter(|value| !is_all(value)).collect();
        }
        if values.is_empty() && chosen.is_some() && !is_all_asked {
            // A value typed into the address stands, found or not.
            values = chosen.unwrap_or_default().iter().filter(|value| !is_all(value)).cloned().collect();
        }
        if !variable.multi {
            values.truncate(1);
        }
        if is_all_asked || (values.is_empty() && variable.include_all) {
            let bound = Bound {
                values: options.iter().map(|option| option.value.clone()).collect(),
                texts: vec!["All".to_owned()],
                is_many: true,
                all_value: variable.all_value.clone(),
                is_all: true,
            };
            return (bound, vec!["$__all".to_owned()]);
        }
        if values.is_empty() {
            values.extend(self.first(variable, options));
        }
        let text_of = |value: &String| {
            options
                .iter()
                .find(|option| option.value == *value)
                .map_or_else(|| value.clone(), |o| o.text.clone())
        };
        let texts = values.iter().map(text_of).collect();
        let current = values.clone();
        if let VariableKind::Interval { auto: Some((count, least)), .. } = &variable.kind {
            let least = parse_duration(least).unwrap_or(10_000).max(1);
            let own = round_interval((self.scope.to_ms - self.scope.from_ms) / count).max(least);
            for value in values.iter_mut().filter(|value| value.starts_with("$__auto_interval_")) {
                *value = write_duration(own);
            }
        }
        (Bound { values, texts, is_many, ..Bound::default() }, current)
    }

    fn first(&self, variable: &Variable, options: &[VariableOption]) -> Option<String> {
        if matches!(variable.kind, VariableKind::Datasource { .. }) {
            let is_default = |option: &&VariableOption| {
                self.infos.iter().any(|info| info.uid == option.value && info.is_default)
            };
            if let Some(option) = options.iter().find(is_default) {
                return Some(option.value.clone());
            }
        }
        options.first().map(|option| option.value.clone())
    }

    async fn ask(
        &self,
        query: &str,
        reference: Option<&DatasourceRef>,
    ) -> Result<Vec<VariableOption>, String> {
        let found = find_source(reference, &self.scope, &self.infos)?;
        let source = self.sources.open(&found.info.uid).ok_or_else(|| not_askable(&found.info))?;
        let expand = |text: &str| self.scope.expand(text.trim(), None, Purpose::PromQl);
        let values = ask(query.trim(), &*source, &expand, (self.scope.from_ms, self.scope.to_ms)).await?;
        let same = |value: String| VariableOption { text: value.clone(), value };
        Ok(values.into_iter().take(MOST_OPTIONS * 4).map(same).collect())
    }
}

/// The queries of variables: `label_values(…)`, `label_names()`, `metrics(re)`, `query_result(expr)`, or a selector.
async fn ask(
    query: &str,
    source: &dyn DataSource,
    expand: &(dyn Fn(&str) -> String + Sync),
    (from, to): (i64, i64),
) -> Result<Vec<String>, String> {
    let call = |name: &str| query.strip_prefix(name)?.trim().strip_prefix('(')?.trim_end().strip_suffix(')');
    let wrong = |error: crate::source::SourceError| error.to_string();
    if let Some(arguments) = call("label_values") {
        // The label is what comes after the last comma outside braces and quotes.
        let (selector, label) = match split_last(arguments) {
            Some((selector, label)) => (Some(expand(selector)), expand(label)),
            None => (None, expand(arguments)),
        };
        let selector = selector.filter(|selector| !selector.is_empty());
        return source.label_values(&label, selector.as_deref(), from, to).await.map_err(wrong);
    }
    if let Some(pattern) = call("label_names") {
        let names = source.label_names(from, to).await.map_err(wrong)?;
        return filtered(names, &expand(pattern));
    }
    if let Some(pattern) = call("metrics") {
        let names = source.label_values("__name__", None, from, to).await.map_err(wrong)?;
        return filtered(names, &expand(pattern));
    }
    if let Some(expr) = call("query_result") {
        let answer = source.instant(&expand(expr), to).await.map_err(wrong)?;
        let line = |series: &crate::source::Series| {
            let value = series.values.last().copied().unwrap_or(f64::NAN);
            let time = series.times_ms.last().copied().unwrap_or(to);
            format!(
                "{} {} {time}",
                crate::frame::series_name(&series.labels),
                gantry_prom_model::format_float(value)
            )
        };
        return Ok(answer.series.iter().map(line).collect());
    }
    if query.is_empty() {
        return Ok(Vec::new());
    }
    let series = source.series(&expand(query), from, to).await.map_err(wrong)?;
    Ok(series.iter().map(crate::frame::series_name).collect())
}

fn filtered(names: Vec<String>, pattern: &str) -> Result<Vec<String>, String> {
    if pattern.trim().is_empty() {
        return Ok(names);
    }
    let regex =
        fancy_regex::Regex::new(pattern).map_err(|_| format!("{pattern:?} is not a regular expression"))?;
    Ok(names.into_iter().filter(|name| regex.is_match(name).unwrap_or(false)).collect())
}

fn split_last(text: &str) -> Option<(&str, &str)> {
    let (mut depth, mut quote, mut found, mut escaped) = (0i32, None, None, false);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), c) if c == open && !escaped => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '{' | '(' | '[') => depth += 1,
            (None, '}' | ')' | ']') => depth -= 1,
            (None, ',') if depth == 0 => found = Some(index),
            _ => {}
        }
        escaped = false;
    }
    found.map(|at| (text[..at].trim(), text[at + 1..].trim()))
}

/// A data source that a reference leads to.
pub(crate) struct FoundSource {
    pub(crate) info: SourceInfo,
    /// What to tell the viewer: that another one stands in.
    pub(crate) notice: Option<String>,
}

pub(crate) fn not_askable(info: &SourceInfo) -> String {
    format!("data source {} is of type {}; only prometheus can be asked", info.name, info.kind)
}

/// Follows a reference: by uid, by name, or to the default one. A Prometheus that is not here is stood in for by the
/// default one, because dashboards carry the uids of the place they were made in.
pub(crate) fn find_source(
    reference: Option<&DatasourceRef>,
    scope: &Scope,
    infos: &[SourceInfo],
) -> Result<FoundSource, String> {
    let is_prometheus = |info: &&SourceInfo| info.kind == "prometheus";
    let default = || {
        infos
            .iter()
            .filter(is_prometheus)
            .find(|info| info.is_default)
            .or_else(|| infos.iter().find(is_prometheus))
    };
    let found = |info: &SourceInfo, notice| Ok(FoundSource { info: info.clone(), notice });
    let name =
        reference.map_or_else(String::new, |reference| scope.expand(&reference.name, None, Purpose::Text));
    let kind = reference.map_or("", |reference| reference.kind.as_str());
    if let Some(info) = infos.iter().find(|info| info.uid == name || info.name == name) {
        return found(info, None);
    }
    let is_open = name.is_empty() || name == "default" || name.contains('$') || name.starts_with("-- ");
    if !matches!(kind, "" | "prometheus" | "datasource") {
        return Err(format!("no data source of type {kind} is here; only prometheus can be asked"));
    }
    let Some(info) = default() else {
        return Err(format!("no data source {name:?} is here, and no prometheus that could stand in"));
    };
    let notice = (!is_open).then(|| format!("data source {name} is not here, {} stands in", info.name));
    found(info, notice)
}

/// The sources a panel asks, opened.
pub(crate) fn open(info: &SourceInfo, sources: &dyn Sources) -> Result<Arc<dyn DataSource>, String> {
    sources.open(&info.uid).ok_or_else(|| not_askable(info))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_is_after_the_last_comma() {
        assert_eq!(split_last("up{a=\"x,y\", b=~\"z\"}, job"), Some(("up{a=\"x,y\", b=~\"z\"}", "job")));
        assert_eq!(split_last("job"), None);
    }

    #[test]
    fn variables_wait_for_those_they_name() {
        let variable = |name: &str, query: &str| {
            Variable::read(&serde_json::json!({"name": name, "type": "query", "query": query})).unwrap()
        };
        let list = [
            variable("pod", "label_values(up{ns=\"$ns\"}, pod)"),
            variable("ns", "label_values(up{c=\"${cluster}\"}, ns)"),
            variable("cluster", "label_values(cluster)"),
            variable("circle", "$ring"),
            variable("ring", "[[circle]]"),
        ];
        assert_eq!(order(&list), [2, 1, 0, 3, 4]);
    }
}
