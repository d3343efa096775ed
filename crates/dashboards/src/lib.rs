//! Dashboards: the model, what each panel asks, and what it shows as data, PNG, SVG or text.
//!
//! Reads the classic JSON of Grafana (schema versions 13 to 42). Nothing here opens a socket or a file: data comes
//! through [`DataSource`], times through [`Request`]. Whatever a dashboard holds, loading it never panics, and a panel
//! that cannot be drawn says why in its place.
#![forbid(unsafe_code)]

mod color;
mod dates;
mod draw;
mod expand;
mod frame;
mod interval;
mod json;
mod migrate;
mod model;
mod plan;
mod reduce;
mod resolve;
mod run;
mod scope;
mod source;
mod style;
mod transform;
mod units;
mod variables;
mod view;

pub use color::{Color, Theme};
pub use dates::{parse_duration, parse_time};
pub use draw::{PngError, Scene, terminal};
pub use expand::{Placed, expand};
pub use frame::{Cell, Field, FieldType, Frame, series_name};
pub use interval::{Intervals, Wish, round_interval};
pub use model::{
    Dashboard, DatasourceRef, Format, GridPos, Link, LoadError, Override, Panel, Target, Transformation,
};
pub use plan::{Plan, PlannedQuery, When, plan};
pub use resolve::{Request, Resolved, ShownVariable, range, resolve};
pub use run::{DashboardView, ViewOptions, view};
pub use scope::{Bound, Purpose, Scope};
pub use source::{Answer, DataSource, Series, SourceError, SourceInfo, Sources};
pub use style::Shown;
pub use units::{Locale, Unit, Written, to_fixed};
pub use variables::{Variable, VariableKind, VariableOption};
pub use view::{
    Axis, Block, Body, Chart, ChartSeries, Column, Heatmap, Inline, Legend, LegendValue, Limit, PanelView,
    Pie, ShownLink, Slice, Stat, Stats, Table, TableCell, is_supported,
};
