//! JSON as Python's `json.dumps(…, indent=4)` lays it out.

use serde_json::Value;

/// Four spaces a level, `": "` after keys.
pub(crate) fn indented(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, &mut out);
    out
}

fn write(value: &Value, depth: usize, out: &mut String) {
    let newline = |depth: usize, out: &mut String| {
        out.push('\n');
        out.push_str(&" ".repeat(depth * 4));
    };
    match value {
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                newline(depth + 1, out);
                write(item, depth + 1, out);
            }
            newline(depth, out);
            out.push(']');
        }
        Value::Object(map) if !map.is_empty() => {
            out.push('{');
            for (index, (key, item)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                newline(depth + 1, out);
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push_str(": ");
                write(item, depth + 1, out);
            }
            newline(depth, out);
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_laid_out_as_python_does() {
        let value = serde_json::json!([{"name": "/a", "times": {"5": 1}, "none": null, "empty": {}}]);
        let text = super::indented(&value);
        assert_eq!(
            text,
            "[\n    {\n        \"name\": \"/a\",\n        \"times\": {\n            \"5\": 1\n        },\n        \"none\": null,\n        \"empty\": {}\n    }\n]"
        );
    }
}
