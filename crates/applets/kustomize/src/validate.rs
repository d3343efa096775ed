//! `build --validate`: refuses objects that do not fit their schemas, with the place of each mistake.

use std::fmt::Write as _;

use gantry_kustomize::Build;
use gantry_kustomize::validate::validate;

/// More problems than these are only counted.
const MOST_PROBLEMS: usize = 100;

/// Notes on what could not be checked, or every problem with its place.
pub(crate) fn check(built: &Build) -> Result<Vec<String>, String> {
    let verdict = validate(&built.objects);
    if verdict.problems.is_empty() {
        let note = |kind: &String| {
            format!("not validated: no schema for {kind}; its CustomResourceDefinition is not in the build")
        };
        return Ok(verdict.unchecked.iter().map(note).collect());
    }
    let count = verdict.problems.len();
    let problems = if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") };
    let mut message = format!("the objects do not fit their schemas, {problems}");
    for problem in verdict.problems.iter().take(MOST_PROBLEMS) {
        let file = built.files.path(problem.at.file()).filter(|_| !problem.at.is_none());
        let place = file.map_or(String::new(), |file| {
            format!("{}:{}:{}: ", built.files.shown(file), problem.at.line(), problem.at.column())
        });
        let path = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
        let _ = write!(message, "\n  {place}{}: {path}{}", problem.object, problem.why);
    }
    if count > MOST_PROBLEMS {
        let _ = write!(message, "\n  and {} more", count - MOST_PROBLEMS);
    }
    Err(message)
}
