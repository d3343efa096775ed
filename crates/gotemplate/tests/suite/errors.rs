//! Messages name the place and say what Go says.

use gantry_gotemplate::{Function, Functions, Template, Value};

fn error(text: &str) -> String {
    let fail = Function::new(0, |_| Err("broken".into()));
    let template =
        Template::new("a.tmpl").functions(Functions::from([("fail".to_owned(), fail)])).parse(text);
    let data = Value::map([("n", Value::Int(3)), ("s", "text".into()), ("nil", Value::Nil)]);
    match template.and_then(|template| template.execute(&data)) {
        Ok(text) => panic!("expected an error, got {text:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn of_parsing() {
    let cases = [
        ("{{", "template: a.tmpl:1:2: unclosed action"),
        ("a\n{{if .x}}", "template: a.tmpl:2:9: unexpected EOF"),
        ("{{end}}", "template: a.tmpl:1:5: unexpected {{end}}"),
        ("{{else}}", "template: a.tmpl:1:6: unexpected {{else}}"),
        ("{{.n | 3}}", "template: a.tmpl:1:8: non executable command in pipeline stage 2"),
        ("{{nosuch 1}}", "template: a.tmpl:1:2: function \"nosuch\" not defined"),
        ("{{$x}}", "template: a.tmpl:1:2: undefined variable \"$x\""),
        ("{{.n}", "template: a.tmpl:1:4: bad character U+007D '}'"),
        ("{{(.n}}", "template: a.tmpl:1:5: unclosed left paren"),
        ("{{.n)}}", "template: a.tmpl:1:4: unexpected right paren"),
        ("{{\"a}}", "template: a.tmpl:1:2: unterminated quoted string"),
        ("{{/* a }}", "template: a.tmpl:1:2: unclosed comment"),
        ("{{break}}", "template: a.tmpl:1:7: {{break}} outside {{range}}"),
        ("{{if}}x{{end}}", "template: a.tmpl:1:4: missing value for if"),
        ("{{.x := 1}}", "template: a.tmpl:1:5: unexpected \":=\" in operand"),
        ("{{range $a, $b, $c := .n}}{{end}}", "template: a.tmpl:1:14: too many declarations in range"),
        ("{{if true}}{{else}}{{else}}{{end}}", "template: a.tmpl:1:25: expected end; found {{else}}"),
        (
            "{{define \"a\"}}x{{end}}{{define \"a\"}}y{{end}}",
            "template: a.tmpl:1:42: template: multiple definition of template \"a\"",
        ),
        ("{{1.x}}", "template: a.tmpl:1:2: bad number syntax: \"1.x\""),
        ("{{99999999999999999999}}", "template: a.tmpl:1:2: integer overflow: \"99999999999999999999\""),
        ("{{.n\n\n| ^}}", "template: a.tmpl:3:2: unexpected \"^\" in command"),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn of_execution() {
    let cases = [
        (
            "ab{{.n.x}}",
            "template: a.tmpl:1:6: executing \"a.tmpl\" at <.n.x>: can't evaluate field x in type int",
        ),
        (
            "\n {{ index .s 9 }}",
            "template: a.tmpl:2:4: executing \"a.tmpl\" at <index .s 9>: error calling index: index out of range: 9",
        ),
        ("{{fail}}", "template: a.tmpl:1:2: executing \"a.tmpl\" at <fail>: error calling fail: broken"),
        (
            "{{.s | lt 1}}",
            "template: a.tmpl:1:7: executing \"a.tmpl\" at <lt 1>: error calling lt: incompatible types for comparison",
        ),
        (
            "{{.nil.x}}",
            "template: a.tmpl:1:6: executing \"a.tmpl\" at <.nil.x>: nil pointer evaluating interface {}.x",
        ),
        (
            "{{.n 1}}",
            "template: a.tmpl:1:2: executing \"a.tmpl\" at <.n>: n is not a method but has arguments",
        ),
        (
            "{{template \"none\"}}",
            "template: a.tmpl:1:2: executing \"a.tmpl\" at <{{template \"none\"}}>: template \"none\" not defined",
        ),
        (
            "{{range .s}}{{end}}",
            "template: a.tmpl:1:8: executing \"a.tmpl\" at <.s>: range can't iterate over text",
        ),
        (
            "{{len 1 2}}",
            "template: a.tmpl:1:2: executing \"a.tmpl\" at <len>: wrong number of args for len: want 1 got 2",
        ),
        (
            "{{define \"t\"}}{{.n.y}}{{end}}{{template \"t\" .}}",
            "template: a.tmpl:1:18: executing \"t\" at <.n.y>: can't evaluate field y in type int",
        ),
        ("{{nil}}", "template: a.tmpl:1:2: executing \"a.tmpl\" at <nil>: nil is not a command"),
        (
            "{{define \"r\"}}{{template \"r\"}}{{end}}{{template \"r\"}}",
            "template: a.tmpl:1:16: executing \"r\" at <{{template \"r\"}}>: exceeded maximum template depth (400)",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn of_limits() {
    assert!(error("{{range 2000000000}}{{end}}").ends_with("more than 2000000 steps"));
    let doubling = "{{$x := \"0123456789\"}}{{range 40}}{{$x = printf \"%s%s\" $x $x}}{{end}}";
    assert!(error(doubling).contains("bytes of text"), "{}", error(doubling));
    assert!(
        error("{{range 100}}{{printf \"%1000000d\" 1}}{{end}}").ends_with("more than 8388608 bytes of text")
    );
    assert!(error(&"{{if true}}".repeat(500)).contains("nested more than 200"));
    assert!(error(&format!("{{{{{}}}}}", "(".repeat(500))).contains("nested more than 200"));
}
