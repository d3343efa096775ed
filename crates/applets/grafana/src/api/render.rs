//! `/render/d-solo/…`: one panel as a picture, without a browser.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use gantry_dashboards::{Request, Scene, Theme, ViewOptions};
use http::{HeaderValue, header};

use super::reply::{Failure, pairs};
use super::view::seen;
use crate::Grafana;

pub(super) async fn panel(
    State(grafana): State<Grafana>,
    Path((uid, _slug)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    picture(&grafana, &uid, query.as_deref()).await
}

pub(super) async fn panel_without_slug(
    State(grafana): State<Grafana>,
    Path(uid): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    picture(&grafana, &uid, query.as_deref()).await
}

async fn picture(grafana: &Grafana, uid: &str, query: Option<&str>) -> Result<Response, Failure> {
    let pairs = pairs(query);
    let one = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let number = |name: &str, default: u32| one(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let id = one("panelId").or(one("viewPanel")).map(|text| text.trim_start_matches("panel-"));
    let id: i64 = id
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Failure::bad("panelId is missing, such as panelId=2"))?;
    let mut variables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in &pairs {
        if let Some(name) = key.strip_prefix("var-") {
            variables.entry(name.to_owned()).or_default().push(value.clone());
        }
    }
    let offset = one("tz").and_then(offset_of).unwrap_or(0);
    let locale = grafana.locale(offset);
    let theme = if one("theme") == Some("light") { Theme::Light } else { Theme::Dark };
    let (width, height) = (number("width", 1000).clamp(50, 4000), number("height", 500).clamp(50, 4000));
    let text = |name: &str| one(name).unwrap_or_default().to_owned();
    // The panel is drawn as wide as the picture, whatever part of the grid it has.
    let options = ViewOptions {
        request: Request { from: text("from"), to: text("to"), variables, locale },
        theme,
        width,
        only: BTreeSet::from([id]),
        ..ViewOptions::default()
    };
    let scale = one("scale").or(one("deviceScaleFactor")).and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let is_svg = one("format") == Some("svg");
    let drawn = seen(grafana, uid.to_owned(), options, move |view| {
        let panel = view.panels.into_iter().find(|panel| panel.id == id);
        let panel = panel.ok_or_else(|| Failure::not_found("Panel"))?;
        let scene = Scene::of(&panel, width, height, theme, locale);
        if is_svg {
            Ok(scene.svg().into_bytes())
        } else {
            scene.png(scale).map_err(|error| Failure::bad(error.to_string()))
        }
    });
    let bytes = drawn.await??;
    let mut response = bytes.into_response();
    let kind = if is_svg { "image/svg+xml" } else { "image/png" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `UTC`, `+02:00`, `-0530`; names of places are not known and are UTC.
fn offset_of(text: &str) -> Option<i32> {
    let (sign, rest) = match text.trim().as_bytes().first()? {
        b'+' | b' ' => (1, text.trim().trim_start_matches('+')),
        b'-' => (-1, &text.trim()[1..]),
        b'0'..=b'9' => (1, text.trim()),
        _ => return None,
    };
    let digits: String = rest.chars().filter(char::is_ascii_digit).collect();
    let hours: i32 = digits.get(..2)?.parse().ok()?;
    let minutes: i32 = digits.get(2..4).and_then(|text| text.parse().ok()).unwrap_or(0);
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}
