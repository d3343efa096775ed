//! PromQL test scripts, and OpenMetrics texts that must parse or must be refused.

use std::path::{Path, PathBuf};

use gantry_promql::testing::run_script;

use super::Case;

fn sorted_entries(folder: &Path) -> Option<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    Some(paths)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// `promql/promqltest/*.test`: a case is an evaluation, pinned and range re-runs included.
pub(crate) fn scripts(data: &Path) -> Option<Vec<Case>> {
    let mut cases = Vec::new();
    for path in sorted_entries(&data.join("promql/promqltest"))? {
        if path.extension().is_none_or(|extension| extension != "test") {
            continue;
        }
        let file = name_of(&path);
        let report = std::fs::read_to_string(&path)
            .map_err(|error| error.to_string())
            .and_then(|text| run_script(&text));
        match report {
            Ok(report) => {
                cases.extend(
                    (0..report.passed).map(|index| Case::new(format!("{file} passed {index}"), Ok(()))),
                );
                for failure in report.failures {
                    let name = format!("{file}:{} {}", failure.line, failure.query);
                    cases.push(Case::new(name, Err(failure.message)));
                }
            }
            Err(message) => cases.push(Case::new(file, Err(message))),
        }
    }
    Some(cases)
}

/// `promql/openmetrics/om-parsers`: accept or refuse.
pub(crate) fn open_metrics(data: &Path) -> Option<Vec<Case>> {
    let folder = data.join("promql/openmetrics/om-parsers/tests/testdata/parsers");
    let mut cases = Vec::new();
    for path in sorted_entries(&folder)? {
        let (Ok(meta), Ok(text)) =
            (std::fs::read_to_string(path.join("test.json")), std::fs::read_to_string(path.join("metrics")))
        else {
            continue;
        };
        let meta: serde_json::Value = serde_json::from_str(&meta).unwrap_or_default();
        let should_parse = meta["shouldParse"].as_bool().unwrap_or(false);
        let outcome = match (gantry_prom_model::check_open_metrics(&text), should_parse) {
            (Ok(_), true) | (Err(_), false) => Ok(()),
            (Ok(samples), false) => Err(format!("accepted with {samples} samples, must be refused")),
            (Err(error), true) => Err(format!("refused: {error}")),
        };
        cases.push(Case::new(name_of(&path), outcome));
    }
    Some(cases)
}
