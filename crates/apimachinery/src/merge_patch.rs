//! JSON merge patch (RFC 7386).

use crate::value::{Kind, Map, Value};

/// Changes `target` as `patch` says: maps merge, `null` removes, anything else replaces.
pub fn merge_patch(target: &mut Value, patch: Value) {
    let Kind::Object(fields) = patch.kind else {
        *target = patch;
        return;
    };
    if target.as_object().is_none() {
        target.kind = Kind::Object(Map::new());
    }
    let Kind::Object(map) = &mut target.kind else { return };
    for (key, value) in fields {
        if value.is_null() {
            map.remove(&key);
        } else {
            merge_patch(map.entry(&key), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn maps_merge_null_removes_the_rest_replaces() {
        for (target, patch, expected) in [
            (r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"b":null,"d":3}}"#, r#"{"a":{"c":2,"d":3}}"#),
            (r#"{"a":[1,2]}"#, r#"{"a":[3]}"#, r#"{"a":[3]}"#),
            (r#"{"a":1}"#, r#"{"a":{"x":{"y":null}}}"#, r#"{"a":{"x":{}}}"#),
            (r#"{"a":1}"#, "[1]", "[1]"),
        ] {
            let mut value = json(target);
            merge_patch(&mut value, json(patch));
            assert_eq!(value, json(expected), "{target} + {patch}");
        }
    }
}
