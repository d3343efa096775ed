//! The suffix that makes a generated object's name change with its content.

use gantry_yaml::Node;
use sha2::{Digest, Sha256};

use crate::resource::Resource;

/// Ten characters that stand for the content of a ConfigMap, a Secret, or any other object.
pub(crate) fn suffix(resource: &Resource) -> String {
    let digest = Sha256::digest(hashed(resource).as_bytes());
    let hex: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    hex.chars()
        .map(|digit| match digit {
            '0' => 'g',
            '1' => 'h',
            '3' => 'k',
            'a' => 'm',
            'e' => 't',
            other => other,
        })
        .collect()
}

/// The text that is hashed.
pub(crate) fn hashed(resource: &Resource) -> String {
    match resource.kind() {
        "ConfigMap" => {
            let mut json = String::from("{");
            if let Some(binary) = resource.node.get("binaryData") {
                json.push_str(&format!("\"binaryData\":{},", to_json(Some(binary))));
            }
            json.push_str(&format!(
                "\"data\":{},\"kind\":\"ConfigMap\",\"name\":\"\"}}",
                to_json(resource.node.get("data"))
            ));
            json
        }
        "Secret" => {
            let mut json = format!(
                "{{\"data\":{},\"kind\":\"Secret\",\"name\":\"\"",
                to_json(resource.node.get("data"))
            );
            if let Some(text) = resource.node.get("stringData") {
                json.push_str(&format!(",\"stringData\":{}", to_json(Some(text))));
            }
            json.push_str(&format!(",\"type\":{}}}", to_json(resource.node.get("type"))));
            json
        }
        _ => {
            let mut json = String::new();
            write_syntax(&resource.node, &mut json);
            json
        }
    }
}

/// A node of the syntax tree as Go's reader holds it, its place included: so upstream hashes all other kinds.
fn write_syntax(node: &Node, json: &mut String) {
    use gantry_yaml::{Data, Style, Tag};
    let (kind, style, tag, text) = match &node.data {
        Data::Mapping(_) => (4, 0, "!!map", ""),
        Data::Sequence(_) => (2, 0, "!!seq", ""),
        Data::Scalar(scalar) => {
            let style = match scalar.style {
                Style::Plain => 0,
                Style::DoubleQuoted => 2,
                Style::SingleQuoted => 4,
                Style::Literal => 8,
                Style::Folded => 16,
            };
            let tag = match scalar.tag {
                Tag::Null => "!!null",
                Tag::Bool => "!!bool",
                Tag::Int => "!!int",
                Tag::Float => "!!float",
                Tag::Str => "!!str",
                Tag::Timestamp => "!!timestamp",
                Tag::Binary => "!!binary",
                Tag::Merge => "!!merge",
            };
            (8, style, tag, scalar.text.as_str())
        }
    };
    json.push_str(&format!("{{\"Kind\":{kind},\"Style\":{style},\"Tag\":\"{tag}\",\"Value\":"));
    write_string(text, json);
    json.push_str(",\"Anchor\":\"\",\"Alias\":null,\"Content\":");
    let children: Vec<&Node> = match &node.data {
        Data::Mapping(entries) => entries.iter().flat_map(|(key, value)| [key, value]).collect(),
        Data::Sequence(items) => items.iter().collect(),
        Data::Scalar(_) => Vec::new(),
    };
    json.push_str(if children.is_empty() { "null" } else { "[" });
    for (index, child) in children.iter().enumerate() {
        json.push_str(if index > 0 { "," } else { "" });
        write_syntax(child, json);
    }
    json.push_str(if children.is_empty() { "" } else { "]" });
    let (line, column) = (node.span.line(), node.span.column());
    json.push_str(&format!(
        ",\"HeadComment\":\"\",\"LineComment\":\"\",\"FootComment\":\"\",\"Line\":{line},\"Column\":{column}}}"
    ));
}

/// JSON as Go writes it: keys sorted, `<>&` and the two odd line breaks escaped. Absent is an empty string.
fn to_json(node: Option<&Node>) -> String {
    let Some(node) = node else { return "\"\"".to_owned() };
    let mut json = String::new();
    write_json(node, &mut json);
    json
}

fn write_json(node: &Node, json: &mut String) {
    use gantry_yaml::{Data, Resolved};
    match &node.data {
        Data::Sequence(items) => {
            json.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                write_json(item, json);
            }
            json.push(']');
        }
        Data::Mapping(entries) => {
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by(|a, b| a.0.text().cmp(&b.0.text()));
            json.push('{');
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                write_string(key.text().unwrap_or_default(), json);
                json.push(':');
                write_json(value, json);
            }
            json.push('}');
        }
        Data::Scalar(scalar) => match scalar.resolve() {
            Resolved::Null => json.push_str("null"),
            Resolved::Bool(b) => json.push_str(if b { "true" } else { "false" }),
            Resolved::Int(i) => json.push_str(&i.to_string()),
            Resolved::Uint(u) => json.push_str(&u.to_string()),
            Resolved::Float(x) => json.push_str(&x.to_string()),
            Resolved::Str(s) => write_string(&s, json),
        },
    }
}

fn write_string(text: &str, json: &mut String) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                json.push('\\');
                json.push(c);
            }
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\x08' => json.push_str("\\b"),
            '\x0c' => json.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                json.push_str(&format!("\\u{:04x}", c as u32));
            }
            _ => json.push(c),
        }
    }
    json.push('"');
}
