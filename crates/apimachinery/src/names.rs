//! What Kubernetes accepts as names, labels and keys, and what it says about the rest.

pub const LABEL_MAX: usize = 63;
pub const SUBDOMAIN_MAX: usize = 253;

pub const LABEL_MESSAGE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
pub const SUBDOMAIN_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
pub const LABEL_1035_MESSAGE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_MESSAGE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_MESSAGE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
pub const CONFIG_KEY_MESSAGE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

fn is_lower_alphanumeric(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label_shape(text: &str) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            is_lower_alphanumeric(*first)
                && is_lower_alphanumeric(*last)
                && bytes.iter().all(|b| is_lower_alphanumeric(*b) || *b == b'-')
        }
        _ => false,
    }
}

fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// Everything wrong with an RFC 1123 label, in the API server's words.
pub fn label_errors(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > LABEL_MAX {
        errors.push(too_long(LABEL_MAX));
    }
    if !is_label_shape(text) {
        errors.push(LABEL_MESSAGE.into());
    }
    errors
}

/// Everything wrong with an RFC 1123 subdomain.
pub fn subdomain_errors(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > SUBDOMAIN_MAX {
        errors.push(too_long(SUBDOMAIN_MAX));
    }
    if !text.split('.').all(is_label_shape) {
        errors.push(SUBDOMAIN_MESSAGE.into());
    }
    errors
}

/// Everything wrong with an RFC 1035 label (Service names).
pub fn label_1035_errors(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > LABEL_MAX {
        errors.push(too_long(LABEL_MAX));
    }
    if !is_label_shape(text) || !text.as_bytes().first().is_some_and(u8::is_ascii_lowercase) {
        errors.push(LABEL_1035_MESSAGE.into());
    }
    errors
}

/// What is wrong with a name that only has to fit in a path (RBAC names).
pub fn path_segment_errors(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|part| text.contains(**part))
        .map(|part| format!("may not contain '{part}'"))
        .collect()
}

/// What is wrong with a label or annotation key (`prefix/name`).
pub fn qualified_name_error(text: &str) -> Option<String> {
    let name = match text.split_once('/') {
        None => text,
        Some((_, name)) if name.contains('/') => {
            return Some("a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')".to_string().replacen("a valid label key", "a qualified name", 1));
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                return Some("prefix part must be non-empty".into());
            }
            if let Some(why) = subdomain_errors(prefix).into_iter().next() {
                return Some(format!("prefix part {why}"));
            }
            name
        }
    };
    if name.is_empty() {
        return Some("name part must be non-empty".into());
    }
    if name.len() > LABEL_MAX {
        return Some(format!("name part {}", too_long(LABEL_MAX)));
    }
    (!is_qualified_shape(name)).then(|| QUALIFIED_MESSAGE.into())
}

/// What is wrong with a label's value.
pub fn label_value_error(text: &str) -> Option<String> {
    if text.len() > LABEL_MAX {
        return Some(too_long(LABEL_MAX));
    }
    (!text.is_empty() && !is_qualified_shape(text)).then(|| LABEL_VALUE_MESSAGE.into())
}

/// What is wrong with a key of a ConfigMap or Secret.
pub fn config_key_error(text: &str) -> Option<String> {
    if text.len() > SUBDOMAIN_MAX {
        return Some(too_long(SUBDOMAIN_MAX));
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        return Some(CONFIG_KEY_MESSAGE.into());
    }
    match text {
        "." => Some("must not be '.'".into()),
        ".." => Some("must not be '..'".into()),
        _ if text.starts_with("..") => Some("must not start with '..'".into()),
        _ => None,
    }
}

fn is_qualified_shape(text: &str) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric()
                && last.is_ascii_alphanumeric()
                && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(label_errors("my-name").is_empty());
        for bad in ["", "UPPER", "-a", "a-", "a.b", "a_b", "ä"] {
            assert_eq!(label_errors(bad), [LABEL_MESSAGE], "{bad}");
        }
        assert!(subdomain_errors("a.b-c.d").is_empty());
        for bad in ["", "a..b", ".a", "a.", "A"] {
            assert_eq!(subdomain_errors(bad), [SUBDOMAIN_MESSAGE], "{bad}");
        }
        assert_eq!(label_1035_errors("1a"), [LABEL_1035_MESSAGE]);
        assert_eq!(label_errors(&"a".repeat(64)), ["must be no more than 63 characters"]);
    }

    #[test]
    fn keys_and_values() {
        for good in ["app", "example.com/app", "A.b_c-d"] {
            assert_eq!(qualified_name_error(good), None, "{good}");
        }
        for bad in ["", "bad key", "/x", "a/b/c", "a/", "-a"] {
            assert!(qualified_name_error(bad).is_some(), "{bad}");
        }
        assert_eq!(label_value_error(""), None);
        assert!(label_value_error("a b").is_some());
        assert_eq!(config_key_error("a.b"), None);
        assert!(config_key_error("bad key!").is_some());
        assert!(config_key_error("..a").is_some());
    }
}
