//! What the reader makes of each part of the language, and what it says about what it refuses.

use gantry_yaml::{DuplicateKeys, FileId, Node, emit, parse_documents, parse_documents_with};

fn read(text: &str) -> Vec<Node> {
    parse_documents(FileId(0), text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[track_caller]
fn same(text: &str, plain: &str) {
    let written: String = read(text).iter().map(emit).collect::<Vec<_>>().join("---\n");
    assert_eq!(written, plain, "{text:?}");
}

#[track_caller]
fn refused(text: &str, place: &str, message: &str) {
    let error = parse_documents(FileId(0), text).expect_err(text).in_file("f", text).to_string();
    assert!(error.starts_with(&format!("f:{place}: ")) && error.contains(message), "{text:?}: {error}");
}

#[test]
fn collections_of_both_styles() {
    same("a:\n- 1\n- - 2\n  - 3\n-  b: c\n   d: e\n", "a:\n- 1\n- - 2\n  - 3\n- b: c\n  d: e\n");
    same("{a: [1, {b: c}, d: e], ? f : g, h}", "a:\n- 1\n- b: c\n- d: e\nf: g\nh: null\n");
    same("? a\n: b\n? c\n", "a: b\nc: null\n");
    same("a:\n  - b\n  -\n  - c\n", "a:\n- b\n- null\n- c\n");
    same("{\"a\":1,\"b\":[true,null]}", "a: 1\nb:\n- true\n- null\n");
    same("[]", "[]\n");
    same("[a, b, ]\n", "- a\n- b\n");
    same("a: {}\nb: []\n", "a: {}\nb: []\n");
}

#[test]
fn scalars_of_all_styles() {
    same("a: one\n  two\n\n  three\n", "a: |-\n  one two\n  three\n");
    same("'it''s'", "it's\n");
    same("\"a\\tb\\u00e9\\x41\\U0001F600\"", "\"a\\tbéA\\U0001F600\"\n");
    same("\"a\\\n   b\"", "ab\n");
    same("\"a\n\n  b\"", "|-\n  a\n  b\n");
    same("|\n a\n  b\n\n\n", "|\n  a\n   b\n");
    same("|+\n a\n\n", "|+\n  a\n\n");
    same("a: |2-\n   b\n  c\n", "a: |2-\n   b\n  c\n");
    same("a: >\n  b\n  c\n\n  d\n   e\n  f\n", "a: |\n  b c\n  d\n   e\n  f\n");
    same("a: |\n  x\nb: y", "a: |\n  x\nb: \"y\"\n");
    same("a: b#c #d", "a: b#c\n");
    same("url: http://x/y?z=1,2", "url: http://x/y?z=1,2\n");
    same("\"\\ud83d\\ude00\"", "\"\\U0001F600\"\n");
}

#[test]
fn documents_directives_and_comments() {
    same("# c\n--- # d\na: 1\n...\n---\nb: 2\n---\n", "a: 1\n---\nb: 2\n---\nnull\n");
    same("%YAML 1.1\n%TAG !k! tag:yaml.org,2002:\n---\n!k!str 1\n", "\"1\"\n");
    assert!(read("").is_empty());
    assert!(read("# nothing\n\n").is_empty());
    assert_eq!(read("---\n---\n").len(), 2);
    same("\u{feff}a: 1\r\nb: 2\r\n", "a: 1\nb: 2\n");
}

#[test]
fn anchors_merges_and_tags() {
    same("a: &x {b: 1}\nc: *x\n", "a:\n  b: 1\nc:\n  b: 1\n");
    same("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\n", "a:\n  b: 1\n  c: 2\nd:\n  b: 1\n  c: 3\n");
    same("- &x {b: 1}\n- &y {b: 2, c: 3}\n- <<: [*x, *y]\n", "- b: 1\n- b: 2\n  c: 3\n- b: 1\n  c: 3\n");
    same("a: !!str 1\nb: !!int \"2\"\nc: !own x\nd: !!binary aGk=\n", "a: \"1\"\nb: 2\nc: x\nd: hi\n");
    same("\"<<\": 1", "<<: 1\n");
}

#[test]
fn places_are_those_of_the_text() {
    let documents = read("a:\n  - é: {b: c}\n");
    let c = documents[0].get("a").and_then(|a| a.as_sequence()?[0].get("é")?.get("b")).expect("c is there");
    assert_eq!((c.span.line(), c.span.column()), (2, 12));
}

#[test]
fn refusals_say_where_and_why() {
    refused("a: b: c", "1:5", "mapping values are not allowed");
    refused("a:\n\tb: c\n", "2:1", "tab");
    refused("a: [1, 2\nb: 3\n", "2:2", "expected ',' or ']'");
    refused("a: \"x\n", "1:4", "no end");
    refused("a: 1\n  b: 2\n", "2:4", "mapping values are not allowed");
    refused("a:\n  b: 1\n c: 2\n", "3:2", "expected key");
    refused("a: 1\na: 2\n", "2:1", "mapping key \"a\" already defined at line 1");
    refused("a: *b", "1:4", "unknown anchor 'b'");
    refused("a: &x [*x]", "1:8", "contains itself");
    refused("a: @b", "1:4", "cannot start any token");
    refused("a: !!int x", "1:4", "cannot decode `x` as a !!int");
    refused("a: \u{7}", "1:4", "control characters");
    refused("a: 1\nb\nc: 2\n", "2:1", "could not find the expected ':'");
}

#[test]
fn duplicate_keys_may_be_allowed() {
    let node =
        parse_documents_with(FileId(0), "a: 1\nb: 2\na: 3\n", DuplicateKeys::LastWins).expect("allowed");
    assert_eq!(emit(&node[0]), "a: 3\nb: 2\n");
}

#[test]
fn bombs_are_defused() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
        laughs.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
    }
    let error = parse_documents(FileId(0), &laughs).expect_err("refused").to_string();
    assert!(error.contains("excessive aliasing"), "{error}");
    for opening in ["[", "{a: ", "- ", "? "] {
        let error = parse_documents(FileId(0), &opening.repeat(100_000)).expect_err("refused").to_string();
        assert!(error.contains("nest deeper") || error.contains("line 1"), "{error}");
    }
}
