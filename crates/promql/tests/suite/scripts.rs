//! The scripts beside this suite.

use gantry_promql::testing::run_script;
use std::path::Path;

#[test]
fn every_script_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut evaluations = 0;
    for entry in std::fs::read_dir(folder).expect("the scripts are there") {
        let path = entry.expect("a readable folder").path();
        let text = std::fs::read_to_string(&path).expect("a readable script");
        let report = run_script(&text).unwrap_or_else(|message| panic!("{}: {message}", path.display()));
        assert!(report.failures.is_empty(), "{}: {:#?}", path.display(), report.failures);
        evaluations += report.passed;
    }
    assert!(evaluations >= 13, "only {evaluations} evaluations were run");
}

#[test]
fn a_wrong_expectation_fails() {
    let report = run_script("load 1m\n a 1\n\neval instant at 0 a\n a 2\n").expect("a valid script");
    assert_eq!((report.passed, report.failures.len()), (0, 1));
    assert_eq!(report.failures[0].line, 4);
}

#[test]
fn an_unreadable_evaluation_fails_alone() {
    let report = run_script("load 1m\n a 1\n\neval instant at 0 a\n nonsense\n\neval instant at 0 a\n a 1\n");
    let report = report.expect("the rest of the script is read");
    assert_eq!((report.passed, report.failures.len()), (1, 1));
    assert!(run_script("what is this\n").is_err());
}
