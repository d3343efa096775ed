//! The grid as it is drawn: repeated rows and panels unrolled, collapsed rows closed or opened.

use std::collections::BTreeSet;

use crate::model::{Dashboard, GridPos, Panel};
use crate::scope::{Bound, Scope};

/// Panels after unrolling; a variable with a thousand values does not make a thousand times the panels.
const MOST_PANELS: usize = 1000;
const MOST_REPEATS: usize = 60;
const COLUMNS: u32 = 24;

/// A panel in its place, with what its repetition stands for.
#[derive(Clone, Debug)]
pub struct Placed<'a> {
    pub panel: &'a Panel,
    /// Unique: a repeated panel's later copies are numbered.
    pub key: String,
    pub grid: GridPos,
    /// The variables that are bound for this copy only.
    pub bound: Vec<(String, Bound)>,
    /// Of a row: whether its panels are shown.
    pub is_open: bool,
}

impl Placed<'_> {
    /// The scope for this copy.
    pub fn scope(&self, scope: &Scope) -> Scope {
        let mut scope = scope.clone();
        scope.variables.extend(self.bound.iter().cloned());
        scope
    }
}

/// A row's header with what is below it.
struct Section<'a> {
    row: Option<&'a Panel>,
    panels: Vec<&'a Panel>,
}

/// Lays the dashboard out. `toggled` are the ids of rows that the viewer opened or closed.
pub fn expand<'a>(dashboard: &'a Dashboard, scope: &Scope, toggled: &BTreeSet<i64>) -> Vec<Placed<'a>> {
    let mut sections = vec![Section { row: None, panels: Vec::new() }];
    for panel in &dashboard.panels {
        if panel.kind == "row" {
            sections.push(Section { row: Some(panel), panels: panel.panels.iter().collect() });
        } else if let Some(section) = sections.last_mut() {
            section.panels.push(panel);
        }
    }
    let mut out = Vec::new();
    let mut y = 0;
    for section in &sections {
        let repeats = section.row.map_or_else(Vec::new, |row| bindings(&row.repeat, scope));
        if repeats.is_empty() {
            y = place_section(section, None, scope, toggled, y, &mut out);
        }
        for (index, bound) in repeats.into_iter().enumerate() {
            y = place_section(section, Some((index, bound)), scope, toggled, y, &mut out);
        }
    }
    out.truncate(MOST_PANELS);
    out
}

/// One binding per chosen value; none when nothing is repeated.
fn bindings(repeat: &str, scope: &Scope) -> Vec<(String, Bound)> {
    let Some(bound) = scope.variables.get(repeat).filter(|_| !repeat.is_empty()) else { return Vec::new() };
    let one = |(index, value): (usize, &String)| {
        let text = if bound.is_all { value } else { bound.texts.get(index).unwrap_or(value) };
        let single = Bound { texts: vec![text.clone()], is_many: bound.is_many, ..Bound::one(value.clone()) };
        (repeat.to_owned(), single)
    };
    bound.values.iter().enumerate().take(MOST_REPEATS).map(one).collect()
}

fn place_section<'a>(
    section: &Section<'a>,
    repeat: Option<(usize, (String, Bound))>,
    scope: &Scope,
    toggled: &BTreeSet<i64>,
    top: u32,
    out: &mut Vec<Placed<'a>>,
) -> u32 {
    let mut y = top;
    let suffix = match &repeat {
        Some((index, _)) if *index > 0 => format!("-r{index}"),
        _ => String::new(),
    };
    let bound: Vec<(String, Bound)> = repeat.into_iter().map(|(_, bound)| bound).collect();
    let mut is_open = true;
    if let Some(row) = section.row {
        is_open = row.collapsed == toggled.contains(&row.id);
        let grid = GridPos { x: 0, y, w: COLUMNS, h: 1 };
        out.push(Placed {
            panel: row,
            key: format!("{}{suffix}", row.id),
            grid,
            bound: bound.clone(),
            is_open,
        });
        y += 1;
    }
    if !is_open {
        return y;
    }
    // Panels keep their distances within the section; those pushed down by repetition move what is below them.
    let first = section.panels.iter().map(|panel| panel.grid.y).min().unwrap_or(0);
    let (mut pushed, mut bottom) = (0, y);
    let mut line = first;
    let mut waiting = 0;
    for panel in &section.panels {
        if panel.grid.y > line {
            (pushed, waiting, line) = (pushed + waiting, 0, panel.grid.y);
        }
        let own_y = y + (panel.grid.y - first) + pushed;
        let mut inner = scope.clone();
        inner.variables.extend(bound.iter().cloned());
        let copies = if bound.iter().any(|(name, _)| *name == panel.repeat) {
            Vec::new()
        } else {
            bindings(&panel.repeat, &inner)
        };
        if copies.is_empty() {
            let grid = GridPos { y: own_y, ..panel.grid };
            bottom = bottom.max(grid.y + grid.h);
            out.push(Placed {
                panel,
                key: format!("{}{suffix}", panel.id),
                grid,
                bound: bound.clone(),
                is_open: true,
            });
            continue;
        }
        let count = u32::try_from(copies.len()).unwrap_or(1);
        let per_line = if panel.max_per_row > 0 { panel.max_per_row } else { 4 }.min(count).max(1);
        for (index, copy) in copies.into_iter().enumerate() {
            let n = u32::try_from(index).unwrap_or(0);
            let grid = if panel.repeats_down {
                GridPos { y: own_y + n * panel.grid.h, ..panel.grid }
            } else {
                let w = COLUMNS / per_line;
                GridPos { x: n % per_line * w, y: own_y + n / per_line * panel.grid.h, w, h: panel.grid.h }
            };
            bottom = bottom.max(grid.y + grid.h);
            let mut own = bound.clone();
            own.push(copy);
            let key = if index == 0 {
                format!("{}{suffix}", panel.id)
            } else {
                format!("{}{suffix}-{index}", panel.id)
            };
            out.push(Placed { panel, key, grid, bound: own, is_open: true });
            if out.len() > MOST_PANELS {
                return bottom;
            }
        }
        let lines = if panel.repeats_down { count } else { count.div_ceil(per_line) };
        waiting = waiting.max((lines - 1) * panel.grid.h);
    }
    bottom
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scope(values: &[&str]) -> Scope {
        let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        let bound = Bound { texts: values.clone(), values, is_many: true, ..Bound::default() };
        Scope { variables: [("node".to_owned(), bound)].into(), ..Scope::default() }
    }

    #[test]
    fn panels_repeat_across_and_push_what_is_below() {
        let dashboard = Dashboard::from_value(json!({"panels": [
            {"id": 1, "type": "stat", "repeat": "node", "maxPerRow": 2, "gridPos": {"x": 0, "y": 0, "w": 6, "h": 4}},
            {"id": 2, "type": "text", "gridPos": {"x": 0, "y": 4, "w": 24, "h": 2}}]}))
        .unwrap();
        let placed = expand(&dashboard, &scope(&["a", "b", "c"]), &BTreeSet::new());
        let grids: Vec<_> = placed.iter().map(|p| (p.key.as_str(), p.grid.x, p.grid.y, p.grid.w)).collect();
        assert_eq!(grids, [("1", 0, 0, 12), ("1-1", 12, 0, 12), ("1-2", 0, 4, 12), ("2", 0, 8, 24)]);
        assert_eq!(placed[2].scope(&scope(&[])).variables["node"].values, ["c"]);
    }

    #[test]
    fn rows_repeat_and_collapse() {
        let dashboard = Dashboard::from_value(json!({"panels": [
            {"id": 1, "type": "row", "repeat": "node", "collapsed": false, "gridPos": {"x": 0, "y": 0, "w": 24, "h": 1}},
            {"id": 2, "type": "stat", "gridPos": {"x": 0, "y": 1, "w": 6, "h": 4}},
            {"id": 3, "type": "row", "collapsed": true, "gridPos": {"x": 0, "y": 5, "w": 24, "h": 1},
             "panels": [{"id": 4, "type": "stat", "gridPos": {"x": 0, "y": 6, "w": 6, "h": 4}}]}]}))
        .unwrap();
        let keys = |toggled: &[i64]| {
            let placed = expand(&dashboard, &scope(&["a", "b"]), &toggled.iter().copied().collect());
            placed.iter().map(|p| format!("{}@{}", p.key, p.grid.y)).collect::<Vec<_>>()
        };
        assert_eq!(keys(&[]), ["1@0", "2@1", "1-r1@5", "2-r1@6", "3@10"]);
        assert_eq!(keys(&[1, 3]), ["1@0", "1-r1@1", "3@2", "4@3"]);
    }
}
