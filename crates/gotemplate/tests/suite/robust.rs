//! No text makes a panic, neither parsed nor executed.

use gantry_gotemplate::{Limits, Template, Value, printf};
use proptest::prelude::*;

fn data() -> Value {
    Value::map([
        ("a", Value::Int(1)),
        ("b", Value::list(["x".into(), Value::Float(1.5)])),
        ("c", Value::string_map([("k", "é")])),
        ("d", Value::Nil),
    ])
}

fn pieces() -> impl Strategy<Value = String> {
    let words = [
        "{{",
        "}}",
        "{{-",
        " -}}",
        " ",
        "\n",
        "if ",
        "else",
        "end",
        "range ",
        "with ",
        "define ",
        "template ",
        "block ",
        "break",
        "continue",
        "\"t\"",
        "`r`",
        ".a",
        ".b",
        ".c.k",
        ".d.x",
        "$x",
        ":=",
        "=",
        ",",
        "|",
        "(",
        ")",
        "1",
        "-2.5",
        "'x'",
        "0x",
        "nil",
        "true",
        "printf",
        "\"%v %d %*[1]q\"",
        "index ",
        "slice ",
        "len ",
        "eq ",
        "lt ",
        "and ",
        "not ",
        "/*",
        "*/",
        "é",
        "\\",
        "$",
        ".",
        "{{end}}",
        "{{range .b}}",
        "{{if .a}}",
        "{{$x := .b}}",
        "{{printf \"%08.3f|%x|%q\" .a .b .c}}",
        "{{break}}",
        "{{template \"t\" .}}",
        "{{define \"t\"}}",
        "{{else}}",
        "{{slice .c.k 1}}",
        "{{index .b 0}}",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..40).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_template_panics(text in pieces()) {
        let limits = Limits { output_bytes: 1 << 16, steps: 10_000, depth: 50 };
        let template = Template::new("t").limits(limits).parse(&text);
        if let Ok(out) = template.and_then(|template| template.execute(&data())) {
            prop_assert!(out.len() <= 1 << 16);
        }
    }

    #[test]
    fn no_characters_panic(text in any::<String>(), left in "[<{%(]{1,3}", right in "[>}%)]{1,3}") {
        let wrapped = format!("{left}{text}{right}");
        for text in [&text, &wrapped] {
            let _ = Template::new("t").delimiters(&left, &right).parse(text).map(|t| t.execute(&data()));
        }
    }

    #[test]
    fn no_format_panics(text in "[%+# 0-9.*\\[\\]a-zA-Zé-]{0,12}", int in any::<i64>(), float in any::<f64>()) {
        printf(&text, &[Value::Int(int), Value::Float(float), "é".into(), Value::list([Value::Nil])]);
    }
}
