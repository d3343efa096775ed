//! What a panel shows, as plain data: the same for the page, the picture, the drawing and the terminal.

mod chart;
mod heatmap;
mod pie;
mod stats;
mod table;
mod text;

pub use chart::{Axis, Chart, ChartSeries, Legend, LegendValue, Limit};
pub use heatmap::Heatmap;
pub use pie::{Pie, Slice};
pub use stats::{Stat, Stats};
pub use table::{Column, Table, TableCell};
pub use text::{Block, Inline};

use serde::Serialize;

use crate::color::Theme;
use crate::frame::{Field, Frame, display_names};
use crate::model::{GridPos, Link, Panel};
use crate::plan::Plan;
use crate::scope::{Purpose, Scope};
use crate::style::{FieldStyle, Styles};

/// A panel, ready to be drawn.
#[derive(Clone, Debug, Serialize)]
pub struct PanelView {
    /// Unique in its dashboard, also among copies of a repeated panel.
    pub key: String,
    pub id: i64,
    pub title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    pub grid: GridPos,
    pub transparent: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<ShownLink>,
    /// What the viewer should know although there is something to see.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// Why there is less to see than there should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub body: Body,
}

/// A link with everything filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownLink {
    pub title: String,
    pub url: String,
}

/// What is inside a panel.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Body {
    Row {
        open: bool,
    },
    Chart(Box<Chart>),
    Stat(Stats),
    Gauge(Stats),
    BarGauge(Stats),
    Table(Table),
    Text {
        blocks: Vec<Block>,
    },
    Pie(Pie),
    Heatmap(Heatmap),
    /// In place of what cannot be drawn: why.
    Nothing {
        text: String,
    },
}

/// What drawing needs to know besides panel and data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) theme: Theme,
    pub(crate) most_series: usize,
}

/// Everything about a panel that a kind's view is made of.
pub(crate) struct Input<'a> {
    pub(crate) panel: &'a Panel,
    pub(crate) frames: &'a [Frame],
    pub(crate) names: Vec<Vec<String>>,
    pub(crate) styles: Styles<'a>,
    pub(crate) scope: &'a Scope,
    pub(crate) plan: &'a Plan,
    pub(crate) look: Look,
}

/// One field with all that is known of it.
pub(crate) struct Seen<'a> {
    pub(crate) frame: &'a Frame,
    pub(crate) field: &'a Field,
    pub(crate) name: String,
    pub(crate) style: FieldStyle,
}

impl<'a> Input<'a> {
    /// Every field of every frame, named and styled.
    pub(crate) fn fields(&'a self) -> impl Iterator<Item = Seen<'a>> + 'a {
        self.frames.iter().zip(&self.names).flat_map(move |(frame, names)| {
            frame.fields.iter().zip(names).map(move |(field, name)| self.seen(frame, field, name))
        })
    }

    pub(crate) fn seen(&'a self, frame: &'a Frame, field: &'a Field, name: &str) -> Seen<'a> {
        let style = self.styles.of(field, name, &frame.ref_id);
        let name = match &style.display_name {
            Some(given) => self.display_name(given, field, name),
            None => name.to_owned(),
        };
        Seen { frame, field, name, style }
    }

    /// `${__field.name}`, `${__field.labels.x}`, `${__series.name}` and variables in a given name.
    fn display_name(&self, given: &str, field: &Field, name: &str) -> String {
        let mut text = given.replace("${__field.displayName}", name).replace("${__series.name}", name);
        text = text.replace("${__field.name}", &field.name).replace("$__cell_0", name);
        for (label, value) in field.labels.iter() {
            text = text.replace(&format!("${{__field.labels.{label}}}"), value);
            text = text.replace(&format!("${{__field.labels[\"{label}\"]}}"), value);
        }
        self.scope.expand(&text, None, Purpose::Text)
    }
}

/// Whether panels of this kind are drawn.
pub fn is_supported(kind: &str) -> bool {
    matches!(
        kind,
        "timeseries" | "stat" | "gauge" | "bargauge" | "table" | "text" | "piechart" | "heatmap" | "row"
    )
}

/// The contents of a panel that has its data.
pub(crate) fn body(panel: &Panel, frames: &[Frame], plan: &Plan, scope: &Scope, look: Look) -> Body {
    let names = display_names(frames);
    let input = Input { panel, frames, names, styles: Styles::new(panel, look.theme), scope, plan, look };
    match panel.kind.as_str() {
        "timeseries" => Body::Chart(Box::new(chart::chart(&input))),
        "stat" => Body::Stat(stats::stats(&input)),
        "gauge" => Body::Gauge(stats::stats(&input)),
        "bargauge" => Body::BarGauge(stats::stats(&input)),
        "table" => Body::Table(table::table(&input)),
        "piechart" => Body::Pie(pie::pie(&input)),
        "heatmap" => Body::Heatmap(heatmap::heatmap(&input)),
        "text" => Body::Text { blocks: text::blocks(panel, scope) },
        "" => Body::Nothing { text: "this panel has no type".to_owned() },
        other => Body::Nothing { text: format!("panels of type {other} cannot be drawn yet") },
    }
}

/// A link's address with its variables, when it leads to a web page or a place on this server.
pub(crate) fn shown_link(link: &Link, scope: &Scope, fill: &dyn Fn(&str) -> String) -> Option<ShownLink> {
    let mut url = scope.expand(&fill(&link.url), None, Purpose::Url);
    if !is_safe_url(&url) {
        return None;
    }
    let mut add = |more: &str| {
        if !more.is_empty() {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(more);
        }
    };
    if link.keep_time {
        add(&format!("from={}&to={}", scope.from_ms, scope.to_ms));
    }
    if link.include_vars {
        add(&scope.url_variables());
    }
    let title = scope.expand(&fill(&link.title), None, Purpose::Text);
    Some(ShownLink { title: if title.is_empty() { url.clone() } else { title }, url })
}

/// Not a script and not another host by accident: `//host` is one.
pub(crate) fn is_safe_url(url: &str) -> bool {
    let is_local = (url.starts_with('/') && !url.starts_with("//") && !url.starts_with("/\\"))
        || url.starts_with(['?', '#']);
    let is_relative = url.starts_with("d/") || url.starts_with("dashboard");
    url.starts_with("https://") || url.starts_with("http://") || is_local || is_relative
}
