//! What is printed parses to the same text; errors say where; garbage never panics.

use gantry_promql::parse;

/// Input and printed form.
const PRINTED: [(&str, &str); 38] = [
    ("up", "up"),
    (
        "sum by(job)(rate(http_requests_total{code=~'5..'}[5m]))",
        r#"sum by (job) (rate(http_requests_total{code=~"5.."}[5m]))"#,
    ),
    ("sum(x)without(a,b)", "sum without (a, b) (x)"),
    ("SUM(x) BY ()", "sum(x)"),
    ("topk(5, x)", "topk(5, x)"),
    ("a+b*c", "a + b * c"),
    ("a*on(x)group_left(y)b", "a * on (x) group_left (y) b"),
    ("a and ignoring(x) b", "a and ignoring (x) b"),
    ("a == bool 1", "a == bool 1"),
    ("-1^2", "-1 ^ 2"),
    ("-a^2", "-a ^ 2"),
    ("2^3^4", "2 ^ 3 ^ 4"),
    ("(1)", "(1)"),
    ("a[5m] offset 1d @ 10", "a[5m] @ 10.000 offset 1d"),
    ("a offset -5m", "a offset -5m"),
    ("a @ start()", "a @ start()"),
    ("a[1800]", "a[30m]"),
    ("a[1h:5m]", "a[1h:5m]"),
    ("a[1h:] offset 2h", "a[1h:] offset 2h"),
    ("a[step()+1]", "a[step() + 1]"),
    ("a[(1m)]", "a[1m]"),
    ("a[2m*(10+5)]", "a[2m * (10 + 5)]"),
    ("a offset min_of(step(), 1s)+8", "a offset min_of(step(), 1s) + 8"),
    ("a offset (-step()*2)", "a offset (-step() * 2)"),
    ("rate(a[5m] anchored)", "rate(a[5m] anchored)"),
    ("a + fill(0) b", "a + fill (0) b"),
    ("a + on(x) fill_left(1) fill_right(-2) b", "a + on (x) fill_left (1) fill_right (-2) b"),
    (r#"{"a.b", "c.d"="e"}"#, r#"{"c.d"="e",__name__="a.b"}"#),
    ("sum by (\"a.b\") (x)", "sum by (\"a.b\") (x)"),
    ("h </ 5", "h </ 5"),
    ("h >/ 5", "h >/ 5"),
    ("5m", "5m"),
    ("1e6", "1000000"),
    ("Inf", "+Inf"),
    ("sum{a='b'}", r#"sum{a="b"}"#),
    ("label_replace(x,'a','$1','b','(.*)')", r#"label_replace(x, "a", "$1", "b", "(.*)")"#),
    ("start() + step()", "start() + step()"),
    ("a # a comment\n + b", "a + b"),
];

#[test]
fn printing_is_exact_and_stable() {
    for (input, printed) in PRINTED {
        let expr = parse(input).unwrap_or_else(|error| panic!("{input}: {error}"));
        assert_eq!(expr.to_string(), printed, "{input}");
        let again = parse(printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
        assert_eq!(again.to_string(), printed);
    }
}

#[test]
fn errors_say_what_and_where() {
    for (input, message) in [
        ("", "1:1: parse error: no expression found in input"),
        ("sum(", "1:5: parse error: unclosed left parenthesis"),
        ("foo{", "1:5: parse error: unexpected end of input inside braces"),
        ("foo\n + bar{x=1}", "2:10: parse error: unexpected number inside braces"),
        ("nope(x)", "1:1: parse error: unknown function with name \"nope\""),
        (
            "rate(x)",
            "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
        ),
        (
            "x[5m] + 1",
            "1:1: parse error: binary expression must contain only scalar and instant vector types",
        ),
        ("{x=\"\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("a[0s]", "1:3: parse error: duration must be greater than 0"),
        ("1 == 1", "1:1: parse error: comparisons between scalars must use BOOL modifier"),
        ("a and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression"),
        (
            "sum(x, y)",
            "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 1, got 2",
        ),
        ("a{b=~\"(\"}", "1:3: parse error: invalid regular expression \"(\": unclosed group"),
        (
            "(a) offset 5m",
            "1:5: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
    ] {
        assert_eq!(parse(input).expect_err(input).to_string(), message, "{input}");
    }
}

#[test]
fn deep_and_long_queries_are_answered() {
    let deep = format!("{}1{}", "(".repeat(5_000), ")".repeat(5_000));
    assert!(parse(&deep).is_err());
    let minus = format!("{}1", "-".repeat(5_000));
    assert!(parse(&minus).is_err());
    let long = vec!["a"; 2_000].join(" or ");
    assert_eq!(parse(&long).expect("a long chain is not nested").to_string(), long);
    let too_long = vec!["a"; 10_000].join(" + ");
    assert!(parse(&too_long).is_err());
}

const PIECES: [&str; 52] = [
    "a",
    "b:c",
    "sum",
    "topk",
    "rate",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "bool",
    "offset",
    "@",
    "start",
    "(",
    ")",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "=",
    "=~",
    "!=",
    "==",
    "+",
    "-",
    "*",
    "/",
    "^",
    "</",
    ">/",
    "1",
    "5m",
    "\"x\"",
    "'y'",
    "and",
    "or",
    "unless",
    "fill",
    "anchored",
    "step()",
    "min_of(1,2)",
    " ",
    " ",
    "Inf",
    "#",
    "\\",
    "é",
];

#[test]
fn garbage_never_panics_and_what_parses_prints_stably() {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut parsed = 0;
    for _ in 0..200_000 {
        let count = 1 + next(9);
        let query: String = (0..count).map(|_| PIECES[next(PIECES.len())]).collect();
        if let Ok(expr) = parse(&query) {
            parsed += 1;
            let printed = expr.to_string();
            let again =
                parse(&printed).unwrap_or_else(|error| panic!("{query:?} printed {printed:?}: {error}"));
            assert_eq!(again.to_string(), printed, "{query:?}");
        }
    }
    assert!(parsed > 1_000, "the pieces should make some queries, made {parsed}");
}
