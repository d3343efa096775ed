//! What each construct of the language gives.

use std::sync::Arc;

use gantry_gotemplate::{Function, Functions, Member, MissingKey, Object, Template, Value};

/// A struct with a field, methods and elements.
struct Alert;

impl Object for Alert {
    fn type_name(&self) -> &str {
        "template.Alert"
    }

    fn member(&self, name: &str) -> Option<Member> {
        match name {
            "Name" => Some(Member::Field("disk".into())),
            "Firing" => Some(Member::Method(Function::new(0, |_| Ok(Value::Bool(true))))),
            "Label" => Some(Member::Method(Function::new(1, |args| match args[0].as_str() {
                Some("team") => Ok("storage".into()),
                other => Err(format!("no label {other:?}")),
            }))),
            _ => None,
        }
    }

    fn text(&self) -> String {
        "Alert(disk)".into()
    }
}

fn data() -> Value {
    Value::map([
        ("name", Value::from("web")),
        ("n", Value::Int(3)),
        ("f", Value::Float(2.5)),
        ("yes", Value::Bool(true)),
        ("nothing", Value::Nil),
        ("empty", Value::list([])),
        ("list", Value::list(["a".into(), "b".into(), "c".into()])),
        ("labels", Value::string_map([("job", "api"), ("zone", "b")])),
        ("alert", Value::Object(Arc::new(Alert))),
        (
            "add",
            Value::Function(Function::variadic(1, |args| {
                let sum =
                    args.iter()
                        .map(|v| v.as_number().ok_or("not a number".to_string()))
                        .sum::<Result<f64, _>>()?;
                Ok(Value::Float(sum))
            })),
        ),
    ])
}

fn functions() -> Functions {
    let upper = Function::new(1, |args| match &args[0] {
        Value::String(text) => Ok(text.to_uppercase().into()),
        other => Err(format!("wants a string, got {}", other.type_name())),
    });
    let join = Function::new(2, |args| match (&args[0], &args[1]) {
        (Value::String(separator), Value::List(items)) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            Ok(items.join(separator).into())
        }
        _ => Err("wants a separator and a list".into()),
    });
    Functions::from([("upper".to_owned(), upper), ("join".to_owned(), join)])
}

fn render(text: &str) -> String {
    let template = Template::new("test").functions(functions()).parse(text);
    template.and_then(|template| template.execute(&data())).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(render(text), *expected, "{text}");
    }
}

#[test]
fn values_and_pipelines() {
    check(&[
        ("plain", "plain"),
        (
            "{{.name}} {{.n}} {{.f}} {{.yes}} {{.list}} {{.labels}}",
            "web 3 2.5 true [a b c] map[job:api zone:b]",
        ),
        ("{{.nothing}}|{{.absent}}|{{.absent.deeper}}", "<no value>|<no value>|<no value>"),
        ("{{.labels.job}} {{$.labels.zone}} {{(index .list 1)}}", "api b b"),
        ("{{.name | upper | printf \"%s-%d\" \"x\"}}", "x-%!d(string=WEB)"),
        ("{{.name | upper | printf \"%d-%s\" .n}}", "3-WEB"),
        ("{{join \", \" .list | printf \"%q\"}}", "\"a, b, c\""),
        (
            "{{\"q\\\"\"}} {{`raw\\n`}} {{'a'}} {{1_000}} {{0x10}} {{1e3}} {{-1.5}} {{true}}",
            "q\" raw\\n 97 1000 16 1000 -1.5 true",
        ),
        (
            "{{.alert.Name}} {{.alert.Firing}} {{.alert.Label \"team\"}} {{\"team\" | .alert.Label}} {{.alert}}",
            "disk true storage storage Alert(disk)",
        ),
        ("{{call .add 1 2.5}} {{(.alert).Name}} {{(index .labels \"job\") | len}}", "3.5 disk 3"),
        ("{{/* comment */}}a{{- /* trimmed */ -}} b", "ab"),
    ]);
}

#[test]
fn white_space_is_trimmed() {
    check(&[
        ("a  {{- 1 -}}  b", "a1b"),
        ("a\n{{- if .yes }}\n  x\n{{- end }}\nb", "a\n  x\nb"),
        ("{{ 3 -}} < {{- 45 }}", "3<45"),
        ("{{-3}} {{- 3}}", "-33"),
        ("{{\n  .n\n}}", "3"),
    ]);
}

#[test]
fn conditions() {
    check(&[
        ("{{if .yes}}a{{else}}b{{end}}{{if .empty}}a{{else}}b{{end}}", "ab"),
        ("{{if .absent}}1{{else if eq .n 3}}2{{else}}3{{end}}", "2"),
        ("{{if false}}1{{else if false}}2{{else if true}}3{{end}}", "3"),
        ("{{with .name}}[{{.}}]{{end}}{{with .absent}}x{{else}}none{{end}}", "[web]none"),
        ("{{with .absent}}1{{else with .name}}{{.}}{{else}}3{{end}}", "web"),
        ("{{with $x := .n}}{{$x}}{{$.name}}{{end}}", "3web"),
        (
            "{{and .yes .name}} {{and .empty .name}} {{or .empty .name}} {{not .yes}} {{.n | and .yes}}",
            "web [] web false 3",
        ),
        ("{{or .yes (index .list 99)}}", "true"),
        (
            "{{eq .n 1 2 3}} {{ne .n 3}} {{lt 1 2}} {{le 2 2}} {{gt \"b\" \"a\"}} {{ge 1.5 2.5}} {{eq .nothing nil}}",
            "true false true true true false true",
        ),
    ]);
}

#[test]
fn loops() {
    check(&[
        ("{{range .list}}{{.}},{{end}}", "a,b,c,"),
        ("{{range $i, $v := .list}}{{$i}}={{$v}} {{end}}", "0=a 1=b 2=c "),
        ("{{range $v := .list}}{{$v}}{{end}}", "abc"),
        ("{{range $k, $v := .labels}}{{$k}}={{$v}};{{end}}", "job=api;zone=b;"),
        ("{{range .empty}}x{{else}}none{{end}}{{range .absent}}x{{else}}none{{end}}", "nonenone"),
        ("{{range 3}}{{.}}{{end}}{{range $i := 2}}{{$i}}{{end}}", "01201"),
        ("{{range .list}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}", "ac"),
        ("{{range .list}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{else}}none{{end}}", "a"),
        ("{{$last := \"\"}}{{range .list}}{{$last = .}}{{end}}{{$last}}", "c"),
        ("{{$i := 0}}{{$v := 0}}{{range $i, $v = .list}}{{end}}{{$i}}{{$v}}", "2c"),
        (
            "{{range .list}}{{range $.list}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}{{.}}{{end}}",
            "aaabac",
        ),
    ]);
}

#[test]
fn variables_have_scopes() {
    check(&[
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := .labels}}{{$x.job}}", "api"),
        ("{{$}}", &render("{{.}}")),
    ]);
}

#[test]
fn templates_call_templates() {
    check(&[
        ("{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" .n}}{{template \"t\"}}", "<3><<no value>>"),
        ("{{block \"b\" .name}}[{{.}}]{{end}}", "[web]"),
        (
            "{{define \"down\"}}{{if .}}{{len .}}{{template \"down\" (slice . 1)}}{{end}}{{end}}{{template \"down\" .list}}",
            "321",
        ),
    ]);
    let set = Template::new("main").parse("{{block \"title\" .}}default{{end}}!").unwrap();
    assert_eq!(set.execute(&Value::Nil).unwrap(), "default!");
    let set = set.parse_as("other", "{{define \"title\"}}other{{end}}").unwrap();
    assert_eq!(set.execute(&Value::Nil).unwrap(), "other!");
    assert_eq!(set.defined().collect::<Vec<_>>(), ["main", "other", "title"]);
    assert_eq!(set.execute_template("title", &Value::Nil).unwrap(), "other");
}

#[test]
fn built_in_functions() {
    check(&[
        ("{{index .labels \"job\"}} {{index .labels \"none\"}}| {{index .name 0}}", "api | 119"),
        (
            "{{slice .name 1}} {{slice .name 1 2}} {{slice .list 1 2}} {{len .list}} {{len .labels}}",
            "eb e [b] 3 2",
        ),
        ("{{html \"<a>\"}} {{js \"it's\"}} {{urlquery \"a b\" 1}}", "&lt;a&gt; it\\'s a+b1"),
        ("{{print 1 2 \"a\"}} {{println .n}}", "1 2a 3\n"),
        ("{{printf \"%.3f %s %v\" .f .name .list}}", "2.500 web [a b c]"),
    ]);
}

#[test]
fn delimiters_and_missing_keys() {
    let rule = Template::new("query").delimiters("<<", ">>");
    let rule =
        rule.parse("sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>) {{kept}}").unwrap();
    let data = Value::map(
        [("Series", "http_requests"), ("LabelMatchers", "pod=\"a\""), ("GroupBy", "pod")]
            .map(|(k, v)| (k, Value::from(v))),
    );
    assert_eq!(rule.execute(&data).unwrap(), "sum(rate(http_requests{pod=\"a\"}[2m])) by (pod) {{kept}}");
    let text = |missing_key| {
        Template::new("t")
            .missing_key(missing_key)
            .parse("{{.labels.x}}|{{.x}}")
            .unwrap()
            .execute(&self::data())
    };
    assert_eq!(text(MissingKey::Default).unwrap(), "<no value>|<no value>");
    assert_eq!(text(MissingKey::Zero).unwrap(), "|<no value>");
    assert!(text(MissingKey::Error).unwrap_err().to_string().contains("map has no entry for key \"x\""));
    assert!(Template::new("t").option("missingkey=zero").is_ok() && Template::new("t").option("x").is_err());
}
