//! The dashboard as one model, whatever schema version it was written in.

use serde::Serialize;
use serde_json::Value;

use crate::json::{flag, is_set, list, number, str_at, strings, text, whole};
use crate::migrate;
use crate::variables::Variable;

/// Panels of one dashboard, nested ones included; more is refused.
const MOST_PANELS: usize = 2000;
const MOST_VARIABLES: usize = 500;
const MOST_TARGETS: usize = 200;
const LONGEST_BYTES: usize = 16 << 20;

/// Why a text is not a dashboard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("the dashboard is not JSON: line {line}, column {column}: {reason}")]
    Json { line: usize, column: usize, reason: String },
    #[error("the dashboard is {0}; expected an object with panels, or a dashboard.grafana.app/v1 resource")]
    Shape(&'static str),
    #[error("the dashboard has {found} {what}; at most {limit} are accepted")]
    TooMany { what: &'static str, found: usize, limit: usize },
}

/// A dashboard.
#[derive(Clone, Debug)]
pub struct Dashboard {
    pub uid: String,
    pub title: String,
    pub description: String,
    pub tags: Vec<String>,
    pub time_from: String,
    pub time_to: String,
    /// Such as `30s`; empty for never.
    pub refresh: String,
    /// `browser`, `utc` or a name.
    pub timezone: String,
    /// Whether panels share the pointed-at instant.
    pub shares_crosshair: bool,
    pub links: Vec<Link>,
    pub variables: Vec<Variable>,
    /// Rows and panels in the order of the grid.
    pub panels: Vec<Panel>,
}

/// A way from the dashboard to somewhere else.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Link {
    pub title: String,
    pub url: String,
    /// For links to all dashboards with these tags.
    pub tags: Vec<String>,
    pub keep_time: bool,
    pub include_vars: bool,
}

/// A cell of the 24-column grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GridPos {
    pub x: u32,
    pub y: u32,
    pub w: u32,
    pub h: u32,
}

/// A panel or a row.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    pub id: i64,
    pub kind: String,
    pub title: String,
    pub description: String,
    pub grid: GridPos,
    pub transparent: bool,
    pub datasource: Option<DatasourceRef>,
    pub targets: Vec<Target>,
    pub transformations: Vec<Transformation>,
    pub options: Value,
    pub field_defaults: Value,
    pub overrides: Vec<Override>,
    /// The least step, such as `1m`.
    pub interval: String,
    pub max_data_points: Option<u32>,
    /// A range of its own that ends where the dashboard's does.
    pub time_from: String,
    /// How far its range is moved into the past.
    pub time_shift: String,
    /// The variable it is repeated for.
    pub repeat: String,
    pub repeats_down: bool,
    pub max_per_row: u32,
    pub links: Vec<Link>,
    /// Of a row.
    pub collapsed: bool,
    /// Of a collapsed row.
    pub panels: Vec<Panel>,
}

/// Which data source, by what the dashboard says; variables are not resolved yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatasourceRef {
    /// A uid or, in older dashboards, a name.
    pub name: String,
    /// The plugin, such as `prometheus`; empty when not said.
    pub kind: String,
}

/// What shape an answer is asked in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    TimeSeries,
    Table,
    Heatmap,
}

/// One query of a panel.
#[derive(Clone, Debug, Default)]
pub struct Target {
    pub ref_id: String,
    pub expr: String,
    pub datasource: Option<DatasourceRef>,
    pub format: Format,
    pub instant: bool,
    pub range: bool,
    /// Least step; may hold variables.
    pub interval: String,
    /// Least step in seconds, as old dashboards say it.
    pub step: Option<u32>,
    pub interval_factor: u32,
    pub legend: String,
    pub hide: bool,
    /// The panel whose answers are used instead of own ones.
    pub panel_id: Option<i64>,
}

/// One step between the answers and the picture.
#[derive(Clone, Debug)]
pub struct Transformation {
    pub id: String,
    pub options: Value,
}

/// Settings for the fields a matcher names.
#[derive(Clone, Debug)]
pub struct Override {
    pub matcher: String,
    pub matcher_options: Value,
    /// Path below the field's settings, and value.
    pub properties: Vec<(String, Value)>,
}

// === impl Dashboard ===

impl Dashboard {
    /// Reads the JSON of a dashboard: bare, wrapped as `{"dashboard": …}`, or as a v1 resource.
    ///
    /// # Errors
    /// Where it is not JSON, or what is not a dashboard about it.
    pub fn parse(text: &str) -> Result<Dashboard, LoadError> {
        if text.len() > LONGEST_BYTES {
            return Err(LoadError::TooMany { what: "bytes", found: text.len(), limit: LONGEST_BYTES });
        }
        let value = serde_json::from_str(text).map_err(|error| LoadError::Json {
            line: error.line(),
            column: error.column(),
            reason: error.to_string(),
        })?;
        Dashboard::from_value(value)
    }

    /// As [`parse`](Self::parse), for JSON that is already read.
    ///
    /// # Errors
    /// What is not a dashboard about it.
    pub fn from_value(value: Value) -> Result<Dashboard, LoadError> {
        let mut value = unwrap(value)?;
        migrate::upgrade(&mut value);
        let count = count_panels(list(&value, "/panels"));
        if count > MOST_PANELS {
            return Err(LoadError::TooMany { what: "panels", found: count, limit: MOST_PANELS });
        }
        let variables = list(&value, "/templating/list");
        if variables.len() > MOST_VARIABLES {
            let found = variables.len();
            return Err(LoadError::TooMany { what: "variables", found, limit: MOST_VARIABLES });
        }
        let mut variables: Vec<Variable> = variables.iter().filter_map(Variable::read).collect();
        variables.extend(list(&value, "/__inputs").iter().filter_map(Variable::read_input));
        let words = |pointer: &str| text(&value, pointer).unwrap_or_default();
        let or = |pointer: &str, default: &str| {
            text(&value, pointer).filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_owned())
        };
        Ok(Dashboard {
            uid: words("/uid"),
            title: or("/title", "New dashboard"),
            description: words("/description"),
            tags: strings(&value, "/tags"),
            time_from: or("/time/from", "now-6h"),
            time_to: or("/time/to", "now"),
            refresh: words("/refresh"),
            timezone: words("/timezone"),
            shares_crosshair: whole(&value, "/graphTooltip").is_some_and(|mode| mode > 0),
            links: list(&value, "/links").iter().map(Link::read).collect(),
            variables,
            panels: list(&value, "/panels").iter().map(Panel::read).collect(),
        })
    }

    /// Every panel that is not a row, those in collapsed rows included.
    pub fn all_panels(&self) -> impl Iterator<Item = &Panel> {
        self.panels
            .iter()
            .flat_map(|panel| std::iter::once(panel).chain(&panel.panels))
            .filter(|panel| panel.kind != "row")
    }
}

/// The classic object inside whatever it came in. Deeper wrapping than two is no dashboard.
pub(crate) fn unwrap(value: Value) -> Result<Value, LoadError> {
    let Value::Object(mut object) = value else {
        return Err(LoadError::Shape("not an object"));
    };
    if let Some(version) = object.get("apiVersion").and_then(Value::as_str)
        && object.get("spec").is_some_and(Value::is_object)
    {
        if version.rsplit('/').next().is_some_and(|version| version.starts_with("v2")) {
            return Err(LoadError::Shape("a v2 resource, which cannot be read yet"));
        }
        let name = object.get("metadata").and_then(|metadata| str_at(metadata, "/name")).map(str::to_owned);
        let Some(Value::Object(mut spec)) = object.remove("spec") else {
            return Err(LoadError::Shape("a resource without a spec"));
        };
        if let Some(name) = name
            && spec.get("uid").and_then(Value::as_str).is_none_or(str::is_empty)
        {
            spec.insert("uid".to_owned(), Value::String(name));
        }
        return Ok(Value::Object(spec));
    }
    match object.remove("dashboard") {
        Some(Value::Object(inner)) => Ok(Value::Object(inner)),
        Some(_) => Err(LoadError::Shape("a wrapper around something that is not an object")),
        None => Ok(Value::Object(object)),
    }
}

fn count_panels(panels: &[Value]) -> usize {
    panels.iter().map(|panel| 1 + list(panel, "/panels").len()).sum()
}

// === impl Panel ===

impl Panel {
    fn read(value: &Value) -> Panel {
        let words = |pointer: &str| text(value, pointer).unwrap_or_default();
        let cell = |pointer: &str, least: i64, most: i64| {
            u32::try_from(whole(value, pointer).unwrap_or(least).clamp(least, most)).unwrap_or(0)
        };
        let kind = words("/type");
        let mut targets: Vec<Target> =
            list(value, "/targets").iter().take(MOST_TARGETS).map(Target::read).collect();
        name_targets(&mut targets);
        let transformations = list(value, "/transformations").iter();
        let transformations = transformations.filter(|step| !is_set(step, "/disabled")).filter_map(|step| {
            let options = step.pointer("/options").cloned().unwrap_or_default();
            Some(Transformation { id: str_at(step, "/id")?.to_owned(), options })
        });
        Panel {
            id: whole(value, "/id").unwrap_or(0),
            title: words("/title"),
            description: words("/description"),
            grid: GridPos {
                x: cell("/gridPos/x", 0, 23),
                y: cell("/gridPos/y", 0, 100_000),
                w: cell("/gridPos/w", 1, 24),
                h: cell("/gridPos/h", 1, 200),
            },
            transparent: is_set(value, "/transparent"),
            datasource: DatasourceRef::read(value.pointer("/datasource")),
            targets,
            transformations: transformations.collect(),
            options: value.pointer("/options").cloned().unwrap_or_default(),
            field_defaults: value.pointer("/fieldConfig/defaults").cloned().unwrap_or_default(),
            overrides: list(value, "/fieldConfig/overrides").iter().map(Override::read).collect(),
            interval: words("/interval"),
            max_data_points: whole(value, "/maxDataPoints")
                .and_then(|points| u32::try_from(points).ok())
                .filter(|points| *points > 0),
            time_from: words("/timeFrom"),
            time_shift: words("/timeShift"),
            repeat: words("/repeat"),
            repeats_down: str_at(value, "/repeatDirection") == Some("v"),
            max_per_row: cell("/maxPerRow", 0, 24),
            links: list(value, "/links").iter().map(Link::read).collect(),
            collapsed: kind == "row" && is_set(value, "/collapsed"),
            // A row holds panels and no rows: deeper nesting is not read, so depth is bounded.
            panels: if kind == "row" {
                list(value, "/panels").iter().map(Panel::read).filter(|panel| panel.kind != "row").collect()
            } else {
                Vec::new()
            },
            kind,
        }
    }
}

/// Targets without a letter get the first free one.
fn name_targets(targets: &mut [Target]) {
    let mut used: Vec<String> = targets.iter().map(|target| target.ref_id.clone()).collect();
    for target in targets.iter_mut().filter(|target| target.ref_id.is_empty()) {
        let mut letters = ('A'..='Z').map(String::from).chain((1u32..).map(|n| format!("Q{n}")));
        let free = letters.find(|letter| !used.contains(letter)).unwrap_or_default();
        used.push(free.clone());
        target.ref_id = free;
    }
}

impl Target {
    fn read(value: &Value) -> Target {
        let words = |pointer: &str| text(value, pointer).unwrap_or_default();
        let instant = is_set(value, "/instant");
        Target {
            ref_id: words("/refId"),
            expr: words("/expr"),
            datasource: DatasourceRef::read(value.pointer("/datasource")),
            format: match str_at(value, "/format") {
                Some("table") => Format::Table,
                Some("heatmap") => Format::Heatmap,
                _ => Format::TimeSeries,
            },
            instant,
            range: flag(value, "/range").unwrap_or(!instant) || !instant,
            interval: words("/interval"),
            step: number(value, "/step").map(|step| step as u32).filter(|step| *step > 0),
            interval_factor: number(value, "/intervalFactor")
                .map_or(1, |factor| factor as u32)
                .clamp(1, 1000),
            legend: words("/legendFormat"),
            hide: is_set(value, "/hide"),
            panel_id: whole(value, "/panelId"),
        }
    }
}

impl DatasourceRef {
    fn read(value: Option<&Value>) -> Option<DatasourceRef> {
        match value? {
            Value::String(name) => Some(DatasourceRef { name: name.clone(), kind: String::new() }),
            value @ Value::Object(_) => Some(DatasourceRef {
                name: text(value, "/uid").or_else(|| text(value, "/name")).unwrap_or_default(),
                kind: text(value, "/type").unwrap_or_default(),
            }),
            _ => None,
        }
    }
}

impl Override {
    fn read(value: &Value) -> Override {
        let properties = list(value, "/properties").iter().filter_map(|property| {
            let value = property.pointer("/value").cloned().unwrap_or_default();
            Some((str_at(property, "/id")?.to_owned(), value))
        });
        Override {
            matcher: text(value, "/matcher/id").unwrap_or_default(),
            matcher_options: value.pointer("/matcher/options").cloned().unwrap_or_default(),
            properties: properties.collect(),
        }
    }
}

impl Link {
    pub(crate) fn read(value: &Value) -> Link {
        let is_for_tags = str_at(value, "/type") == Some("dashboards");
        Link {
            title: text(value, "/title").unwrap_or_default(),
            url: text(value, "/url").or_else(|| text(value, "/dashUri")).unwrap_or_default(),
            tags: if is_for_tags { strings(value, "/tags") } else { Vec::new() },
            keep_time: is_set(value, "/keepTime"),
            include_vars: is_set(value, "/includeVars"),
        }
    }
}
