//! A whole dashboard at once: variables, queries (each only once), transformations, views.

use std::collections::{BTreeSet, HashMap};

use futures::StreamExt;
use futures::future::BoxFuture;
use serde::Serialize;

use crate::color::Theme;
use crate::expand::{Placed, expand};
use crate::frame::{Frame, frames};
use crate::model::{Dashboard, Format, Link, Panel};
use crate::plan::{Plan, PlannedQuery, When, plan};
use crate::resolve::{Request, ShownVariable, open, resolve};
use crate::scope::{Purpose, Scope};
use crate::source::{Answer, SourceInfo, Sources};
use crate::transform::apply;
use crate::view::{Body, Look, PanelView, body, is_supported, shown_link};

/// Queries under way at once, for one viewer.
const AT_ONCE: usize = 8;
/// Queries of one dashboard; the panels of what is beyond say so.
const MOST_QUERIES: usize = 1000;
/// Points of all answers of a dashboard together.
const MOST_POINTS: usize = 5_000_000;

/// How a dashboard is looked at.
#[derive(Clone, Debug, Default)]
pub struct ViewOptions {
    pub request: Request,
    pub theme: Theme,
    /// Pixels of the whole grid.
    pub width: u32,
    /// Rows that the viewer opened or closed.
    pub toggled_rows: BTreeSet<i64>,
    /// Only the panels with these ids, in or out of collapsed rows; all when empty.
    pub only: BTreeSet<i64>,
    /// Series of a chart before the rest is left out.
    pub most_series: usize,
}

/// A dashboard as it is seen.
#[derive(Clone, Debug, Serialize)]
pub struct DashboardView {
    pub uid: String,
    pub title: String,
    pub from_ms: i64,
    pub to_ms: i64,
    /// As written, such as `now-1h`.
    pub from: String,
    pub to: String,
    pub refresh: String,
    pub shares_crosshair: bool,
    pub variables: Vec<ShownVariable>,
    pub links: Vec<Link>,
    pub panels: Vec<PanelView>,
    /// How many queries were sent for it.
    pub queries: usize,
}

/// What makes two queries the same.
type Key = (String, String, When);

/// Asks everything the dashboard asks and makes its view.
pub async fn view(dashboard: &Dashboard, options: &ViewOptions, sources: &dyn Sources) -> DashboardView {
    let resolved = resolve(dashboard, &options.request, sources).await;
    let infos = sources.list();
    let toggled: BTreeSet<i64> = if options.only.is_empty() {
        options.toggled_rows.clone()
    } else {
        // What is asked for by id is shown, in whatever row it is.
        dashboard.panels.iter().filter(|panel| panel.collapsed).map(|panel| panel.id).collect()
    };
    let placed: Vec<Placed<'_>> = expand(dashboard, &resolved.scope, &toggled)
        .into_iter()
        .filter(|placed| options.only.is_empty() || options.only.contains(&placed.panel.id))
        .collect();
    let planned: Vec<(Scope, Plan)> = placed
        .iter()
        .map(|placed| {
            let scope = placed.scope(&resolved.scope);
            let plan = plan_of(dashboard, placed.panel, &scope, &infos, options.width * placed.grid.w / 24);
            (scope, plan)
        })
        .collect();
    let answers = ask(planned.iter().flat_map(|(_, plan)| &plan.queries), sources).await;
    let panels = placed
        .iter()
        .zip(&planned)
        .map(|(placed, (scope, plan))| show(placed, scope, plan, &answers, options));
    let links = dashboard.links.iter().map(|link| Link {
        url: resolved.scope.expand(&link.url, None, Purpose::Url),
        title: resolved.scope.expand(&link.title, None, Purpose::Text),
        ..link.clone()
    });
    let word = |asked: &str, own: &str| if asked.is_empty() { own.to_owned() } else { asked.to_owned() };
    DashboardView {
        uid: dashboard.uid.clone(),
        title: resolved.scope.expand(&dashboard.title, None, Purpose::Text),
        from_ms: resolved.scope.from_ms,
        to_ms: resolved.scope.to_ms,
        from: word(&options.request.from, &dashboard.time_from),
        to: word(&options.request.to, &dashboard.time_to),
        refresh: dashboard.refresh.clone(),
        shares_crosshair: dashboard.shares_crosshair,
        links: links.filter(|link| link.url.is_empty() || crate::view::is_safe_url(&link.url)).collect(),
        variables: resolved.variables,
        queries: answers.len(),
        panels: panels.collect(),
    }
}

/// The queries of a panel, or of the one whose answers it shows.
fn plan_of(dashboard: &Dashboard, panel: &Panel, scope: &Scope, infos: &[SourceInfo], width: u32) -> Plan {
    if !is_supported(&panel.kind) || matches!(panel.kind.as_str(), "row" | "text") {
        return Plan { from_ms: scope.from_ms, to_ms: scope.to_ms, ..Plan::default() };
    }
    let is_borrowed = panel.datasource.as_ref().is_some_and(|reference| reference.name == "-- Dashboard --");
    let lender = panel.targets.iter().find_map(|target| target.panel_id).filter(|_| is_borrowed);
    let lender = lender.and_then(|id| dashboard.all_panels().find(|panel| panel.id == id));
    plan(lender.unwrap_or(panel), scope, infos, width)
}

async fn ask<'a>(
    queries: impl Iterator<Item = &'a PlannedQuery>,
    sources: &dyn Sources,
) -> HashMap<Key, Result<Answer, String>> {
    let mut wanted: HashMap<Key, &PlannedQuery> = HashMap::new();
    for query in queries {
        if wanted.len() >= MOST_QUERIES {
            break;
        }
        wanted.entry(key(query)).or_insert(query);
    }
    let one = |(key, query)| -> BoxFuture<'_, _> { Box::pin(ask_one(key, query, sources)) };
    let waiting: Vec<_> = wanted.into_iter().map(one).collect();
    let mut answers = HashMap::with_capacity(waiting.len());
    let mut points = 0;
    let mut running = futures::stream::iter(waiting).buffer_unordered(AT_ONCE);
    while let Some((key, answer)) = running.next().await {
        points +=
            answer.as_ref().map_or(0, |answer| answer.series.iter().map(|series| series.values.len()).sum());
        let answer = if points > MOST_POINTS {
            Err(format!(
                "the dashboard's answers hold more than {MOST_POINTS} points; choose a shorter range or fewer series"
            ))
        } else {
            answer
        };
        answers.insert(key, answer);
    }
    answers
}

async fn ask_one(key: Key, query: &PlannedQuery, sources: &dyn Sources) -> (Key, Result<Answer, String>) {
    let source = match open(&query.source, sources) {
        Ok(source) => source,
        Err(reason) => return (key, Err(reason)),
    };
    let answer = match query.when {
        When::Range { start_ms, end_ms, step_ms } => {
            source.range(&query.expr, start_ms, end_ms, step_ms).await
        }
        When::Instant { time_ms } => source.instant(&query.expr, time_ms).await,
    };
    (key, answer.map_err(|error| error.to_string()))
}

fn key(query: &PlannedQuery) -> Key {
    (query.source.uid.clone(), query.expr.clone(), query.when)
}

fn show(
    placed: &Placed<'_>,
    scope: &Scope,
    plan: &Plan,
    answers: &HashMap<Key, Result<Answer, String>>,
    options: &ViewOptions,
) -> PanelView {
    let panel = placed.panel;
    let mut notices = plan.notices.clone();
    let mut errors = plan.errors.clone();
    let tables = {
        let mut refs: Vec<&str> = plan
            .queries
            .iter()
            .filter(|query| query.format == Format::Table)
            .map(|query| query.ref_id.as_str())
            .collect();
        refs.dedup();
        refs.len()
    };
    let mut data: Vec<Frame> = Vec::new();
    for query in &plan.queries {
        match answers.get(&key(query)) {
            Some(Ok(answer)) => {
                notices.extend(answer.warnings.iter().cloned());
                data.extend(frames(query, answer, tables));
            }
            Some(Err(error)) => errors.push(format!("query {}: {error}", query.ref_id)),
            None => errors.push(format!("query {} was not sent: at most {MOST_QUERIES} are", query.ref_id)),
        }
    }
    // A table of several tables is one table to its reader.
    let (data, unknown) = apply(data, &panel.transformations, scope);
    notices.extend(
        unknown.into_iter().map(|id| format!("the transformation {id} is not known and was left out")),
    );
    notices.sort();
    notices.dedup();
    errors.dedup();
    let look = Look {
        theme: options.theme,
        most_series: if options.most_series == 0 { 100 } else { options.most_series },
    };
    let body = match panel.kind.as_str() {
        "row" => Body::Row { open: placed.is_open },
        _ => body(panel, &data, plan, scope, look),
    };
    let text = |text: &str| scope.expand(text, None, Purpose::Text);
    PanelView {
        key: placed.key.clone(),
        id: panel.id,
        title: scope.expand(&panel.title, None, Purpose::Title),
        description: text(&panel.description),
        grid: placed.grid,
        transparent: panel.transparent,
        links: panel.links.iter().filter_map(|link| shown_link(link, scope, &str::to_owned)).collect(),
        notices,
        error: (!errors.is_empty()).then(|| errors.join("; ")),
        body,
    }
}
