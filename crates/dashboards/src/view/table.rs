//! A table panel: columns with their looks, rows of shown values.

use serde::Serialize;

use super::{Input, Seen, ShownLink, shown_link};
use crate::color::Color;
use crate::frame::{Cell, FieldType, Frame};
use crate::json::{is_set, list, number, str_at, strings, text};
use crate::reduce::reduce;
use crate::transform::sort_rows;

/// Rows that are sent; a table of more is cut and says so.
const MOST_ROWS: usize = 1000;
const MOST_COLUMNS: usize = 200;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<TableCell>>,
    /// Sums and the like below the rows; empty when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub footer: Vec<String>,
    pub left_out: usize,
    pub header: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Column {
    pub name: String,
    /// Pixels, when the dashboard says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<f64>,
    pub right: bool,
    /// `auto`, `color-text`, `color-background` or `gauge`.
    pub cell: String,
    pub is_number: bool,
}

/// A value of a table.
#[derive(Clone, Debug, Serialize)]
pub struct TableCell {
    #[serde(rename = "t")]
    pub text: String,
    /// For sorting; texts are sorted as texts.
    #[serde(rename = "v", skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    pub color: Option<Color>,
    /// Of text in or on the colour.
    #[serde(rename = "i", skip_serializing_if = "Option::is_none")]
    pub ink: Option<Color>,
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    #[serde(rename = "l", skip_serializing_if = "Option::is_none")]
    pub link: Option<ShownLink>,
}

pub(super) fn table(input: &Input<'_>) -> Table {
    let options = &input.panel.options;
    let wanted = number(options, "/frameIndex").map_or(0, |index| index as usize);
    let Some(at) =
        (wanted < input.frames.len()).then_some(wanted).or((!input.frames.is_empty()).then_some(0))
    else {
        return Table { header: true, ..Table::default() };
    };
    let names = &input.names[at];
    let mut frame = input.frames[at].clone();
    if let Some(sort) = list(options, "/sortBy").first() {
        let wanted = text(sort, "/displayName").unwrap_or_default();
        let by = frame.fields.iter().zip(names).position(|(field, name)| {
            *name == wanted
                || input.styles.of(field, name, &frame.ref_id).display_name.as_ref() == Some(&wanted)
        });
        if let Some(by) = by {
            frame = sort_rows(frame, by, is_set(sort, "/desc"));
        }
    }
    let seen: Vec<Seen<'_>> = frame
        .fields
        .iter()
        .zip(names)
        .map(|(field, name)| input.seen(&input.frames[at], field, name))
        .filter(|seen| !seen.style.custom_flag("/hidden"))
        .take(MOST_COLUMNS)
        .collect();
    let columns: Vec<Column> = seen.iter().map(column).collect();
    let total = frame.rows();
    let ranges: Vec<(f64, f64)> = seen.iter().map(|seen| range(seen.field.numbers())).collect();
    let rows = (0..total.min(MOST_ROWS)).map(|row| {
        let cell =
            |(at, seen): (usize, &Seen<'_>)| cell(input, seen, &columns[at], &frame, names, row, ranges[at]);
        seen.iter().enumerate().map(cell).collect()
    });
    let rows = rows.collect();
    Table {
        footer: footer(input, &seen),
        left_out: total.saturating_sub(MOST_ROWS),
        header: options.pointer("/showHeader").and_then(serde_json::Value::as_bool).unwrap_or(true),
        columns,
        rows,
    }
}

fn column(seen: &Seen<'_>) -> Column {
    let is_number = seen.field.kind == FieldType::Number;
    let kind = seen.style.custom_str("/cellOptions/type").unwrap_or("auto");
    Column {
        name: seen.name.clone(),
        width: seen.style.custom_number("/width").filter(|width| *width > 0.0),
        right: match seen.style.custom_str("/align") {
            Some("left") => false,
            Some("right") => true,
            _ => is_number,
        },
        cell: if kind == "color-background" && seen.style.custom_flag("/applyToRow") { "auto" } else { kind }
            .to_owned(),
        is_number,
    }
}

fn range(numbers: impl Iterator<Item = Option<f64>>) -> (f64, f64) {
    let numbers = numbers.flatten().filter(|number| number.is_finite());
    let (min, max) = numbers.fold((0.0f64, f64::NEG_INFINITY), |(min, max), n| (min.min(n), max.max(n)));
    if max > min { (min, max) } else { (min, min + 1.0) }
}

fn cell(
    input: &Input<'_>,
    seen: &Seen<'_>,
    column: &Column,
    frame: &Frame,
    names: &[String],
    row: usize,
    range: (f64, f64),
) -> TableCell {
    let null = Cell::Null;
    let value = seen.field.cells.get(row).unwrap_or(&null);
    let shown = seen.style.show(value, input.scope.locale, range);
    let text = shown.written.joined();
    let is_coloured = column.cell.starts_with("color") || column.cell == "gauge";
    let color = shown.color.filter(|color| is_coloured && color.a > 0);
    let ground = input.look.theme.ground();
    let ink = color.and_then(|color| match column.cell.as_str() {
        "color-background" => Some(color.text_on()),
        "color-text" => Some(color.readable_on(ground)),
        _ => None,
    });
    let fill = |template: &str| fill_row(template, seen, &text, value, frame, names, row);
    let link = seen.style.links.first().and_then(|link| shown_link(link, input.scope, &fill));
    TableCell {
        value: value.number().filter(|number| number.is_finite()),
        share: shown.share.filter(|_| column.cell == "gauge"),
        color,
        ink,
        link,
        text,
    }
}

/// What a data link can say of its row.
fn fill_row(
    template: &str,
    seen: &Seen<'_>,
    text: &str,
    value: &Cell,
    frame: &Frame,
    names: &[String],
    row: usize,
) -> String {
    if !template.contains('$') {
        return template.to_owned();
    }
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let mut out =
        template.replace("${__value.text}", &encode(text)).replace("${__value.raw}", &encode(&value.key()));
    out = out.replace("${__value}", &encode(&value.key())).replace("${__field.name}", &encode(&seen.name));
    for (label, value) in seen.field.labels.iter() {
        out = out.replace(&format!("${{__field.labels.{label}}}"), &encode(value));
    }
    // Longer numbers first: `$__cell_1` is the beginning of `$__cell_10`.
    for (at, (field, name)) in frame.fields.iter().zip(names).enumerate().rev() {
        let cell = field.cells.get(row).map(Cell::key).unwrap_or_default();
        for written in [
            format!("${{__data.fields.{name}}}"),
            format!("${{__data.fields[\"{name}\"]}}"),
            format!("${{__data.fields['{name}']}}"),
            format!("${{__data.fields.{}}}", field.name),
            format!("${{__data.fields[\"{}\"]}}", field.name),
            format!("${{__data.fields[{at}]}}"),
            format!("${{__cell_{at}}}"),
            format!("$__cell_{at}"),
        ] {
            if out.contains(&written) {
                out = out.replace(&written, &encode(&cell));
            }
        }
    }
    out.replace("${__cell}", &encode(text)).replace("$__cell", &encode(text))
}

fn footer(input: &Input<'_>, seen: &[Seen<'_>]) -> Vec<String> {
    let options = &input.panel.options;
    if !is_set(options, "/footer/show") {
        return Vec::new();
    }
    let calc = strings(options, "/footer/reducer").first().cloned().unwrap_or_else(|| "sum".to_owned());
    let fields = strings(options, "/footer/fields");
    let only = str_at(options, "/footer/fields").unwrap_or("");
    let is_wanted = |name: &String| {
        (fields.is_empty() || fields.iter().all(String::is_empty) || fields.contains(name))
            && (only.is_empty() || only == name)
    };
    let one = |seen: &Seen<'_>| {
        if seen.field.kind != FieldType::Number || !is_wanted(&seen.name) {
            return String::new();
        }
        seen.style.show(&reduce(&seen.field.cells, &calc), input.scope.locale, (0.0, 0.0)).written.joined()
    };
    seen.iter().map(one).collect()
}
