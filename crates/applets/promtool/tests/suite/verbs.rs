//! Configurations, scripts of the query language, and data folders; the latter beside the real `promtool`.

use std::path::{Path, PathBuf};
use std::process::Command;

use gantry_applet_promtool::{
    CheckOptions, check_config, check_web_config, test_promql, tsdb_analyze, tsdb_dump, tsdb_list,
};
use gantry_prom_model::{Appendable, Labels, Matcher};
use gantry_tsdb::{Db, DbOptions};

type Verb<'v> = dyn Fn(&mut dyn std::io::Write, &mut dyn std::io::Write) -> std::io::Result<u8> + 'v;

fn run(verb: &Verb<'_>) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = verb(&mut out, &mut err).expect("memory can be written");
    (code, String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
}

fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("it is written");
    path
}

#[test]
fn a_configuration_is_checked_with_its_rule_files() {
    let dir = tempfile::tempdir().expect("a folder");
    file(dir.path(), "rules.yml", "groups: [{name: g, rules: [{record: a, expr: sum(up)}]}]\n");
    let good = file(dir.path(), "good.yml", "rule_files: ['r*.yml']\n");
    let options = CheckOptions::default();
    let (code, out, err) =
        run(&|out, err| check_config(std::slice::from_ref(&good), false, &options, out, err));
    assert_eq!((code, err.as_str()), (0, ""));
    for text in
        ["SUCCESS: 1 rule files found", "is valid prometheus config file syntax", "SUCCESS: 1 rules found"]
    {
        assert!(out.contains(text), "{out}");
    }
    for (text, syntax_only, reason) in [
        ("rule_files: [gone.yml]\n", false, "\"gone.yml\" does not point to an existing file"),
        ("scrape_configs: [{job_name: a, basic_auth: {username: u, password_file: gone}}]\n", false, "gone"),
        ("scrape_config: []\n", true, "bad.yml:1:1"),
        (
            "remote_write: [{url: 'http://a', queue_config: {capacity: 0}}]\n",
            true,
            "capacity must be greater than 0",
        ),
    ] {
        let bad = file(dir.path(), "bad.yml", text);
        let (code, _, err) =
            run(&|out, err| check_config(std::slice::from_ref(&bad), syntax_only, &options, out, err));
        assert_eq!(code, 1, "{text}");
        assert!(err.contains(reason), "{err}");
    }
    let named = file(dir.path(), "named.yml", "rule_files: [gone.yml]\n");
    assert_eq!(run(&|out, err| check_config(std::slice::from_ref(&named), true, &options, out, err)).0, 0);
}

#[test]
fn web_configurations_are_checked() {
    let dir = tempfile::tempdir().expect("a folder");
    let good = file(dir.path(), "good.yml", "http_server_config: {headers: {X-Frame-Options: deny}}\n");
    let bad = file(dir.path(), "bad.yml", "basic_auth_users: {u: plain}\n");
    let (code, out, err) = run(&|out, err| check_web_config(&[good.clone(), bad.clone()], out, err));
    assert_eq!(code, 1);
    assert!(out.contains("good.yml SUCCESS") && err.contains("bad.yml FAILED: "), "{out}{err}");
}

#[test]
fn scripts_are_run_and_counted() {
    let dir = tempfile::tempdir().expect("a folder");
    let script = file(
        dir.path(),
        "a.test",
        "load 1m\n  m 1 2 3\n\neval instant at 1m m\n  m 2\n\neval instant at 2m m\n  m 4\n",
    );
    let (code, out, err) = run(&|out, err| test_promql(std::slice::from_ref(&script), out, err));
    assert_eq!(code, 1);
    assert!(
        out.contains("a.test: 1 of 2 evaluations passed") && out.ends_with("passed: 1, failed: 1\n"),
        "{out}"
    );
    assert!(err.contains("a.test:7: m: "), "{err}");
    let gone = dir.path().join("gone.test");
    assert_eq!(run(&|out, err| test_promql(std::slice::from_ref(&gone), out, err)).0, 1);
}

const T0: i64 = 1_700_000_000_000 - 1_700_000_000_000 % 7_200_000;

/// A folder with a block and a log after it.
fn filled(dir: &Path) {
    let db = Db::open(dir, DbOptions::default(), T0).expect("a store");
    for step in 0..(5 * 60) {
        let mut batch = db.appender();
        for instance in ["a", "b"] {
            let labels = Labels::from_pairs([("__name__", "m"), ("instance", instance)]);
            batch.append(None, &labels, T0 + step * 60_000, step as f64 / 2.0).expect("it is taken");
        }
        batch.commit().expect("it is written");
    }
    db.maintain(T0 + 5 * 3_600_000).expect("a block is written");
    assert!(!db.blocks().is_empty(), "there is a block");
    db.sync().expect("it is synced");
}

#[test]
fn a_folder_is_shown_as_the_original_shows_it() {
    let dir = tempfile::tempdir().expect("a folder");
    filled(dir.path());
    let data = dir.path();
    let all = [vec![Matcher::equal("__name__", "m")]];
    let range = (i64::MIN / 4, i64::MAX / 4);
    let (code, dumped, err) = run(&|out, err| tsdb_dump(data, &all, range, out, err));
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(dumped.lines().count(), 600, "block and log together");
    assert!(
        dumped.starts_with(&format!("{{__name__=\"m\", instance=\"a\"}} 0 {T0}\n")),
        "{}",
        &dumped[..200]
    );
    let (code, listed, _) = run(&|out, err| tsdb_list(data, false, out, err));
    assert_eq!(code, 0);
    let (code, analysis, err) = run(&|out, err| tsdb_analyze(data, None, &[], 20, out, err));
    assert_eq!((code, err.as_str()), (0, ""));
    for text in ["Total Series: 2\n", "Label names: 2\n", "2 __name__=m\n", "2 instance\n", "2 m\n"] {
        assert!(analysis.contains(text), "{text} is not in {analysis}");
    }
    let missing = run(&|out, err| tsdb_analyze(data, Some("none"), &[], 20, out, err));
    assert_eq!(missing.0, 1);
    let Some(promtool) = program("promtool") else { return };
    let theirs = |args: &[&str]| {
        let output = Command::new(&promtool).args(args).arg(data).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(listed, theirs(&["tsdb", "list"]));
    let mut left: Vec<&str> = dumped.lines().collect();
    let output = theirs(&["tsdb", "dump"]);
    let mut right: Vec<&str> = output.lines().collect();
    left.sort_unstable();
    right.sort_unstable();
    assert_eq!(left, right);
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        println!("skipped: {name} not found");
    }
    found
}
