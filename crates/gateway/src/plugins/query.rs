//! Query strings and form bodies, as pairs in order.

/// A pair, decoded; a name without `=` has no value.
pub(crate) type Pair = (String, Option<String>);

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'+' => out.push(b' '),
            b'%' => {
                let pair = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
                match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
                    Some(byte) => {
                        out.push(byte);
                        at += 2;
                    }
                    None => out.push(b'%'),
                }
            }
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~!*'()".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

pub(crate) fn parse(text: &str) -> Vec<Pair> {
    let mut out = Vec::new();
    for part in text.split('&').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some((name, value)) => out.push((decode(name), Some(decode(value)))),
            None => out.push((decode(part), None)),
        }
    }
    out
}

pub(crate) fn write(pairs: &[Pair]) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        encode(name, &mut out);
        if let Some(value) = value {
            out.push('=');
            encode(value, &mut out);
        }
    }
    out
}

/// The values of `name` in a query.
pub(crate) fn values(query: &str, name: &str) -> Vec<String> {
    if query.is_empty() {
        return Vec::new();
    }
    parse(query)
        .into_iter()
        .filter(|(known, _)| known == name)
        .map(|(_, value)| value.unwrap_or_default())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_survive_the_way_there_and_back() {
        let pairs = parse("a=1&b&c=x+y%26&a=2&%zz=");
        assert_eq!(pairs[2], ("c".to_owned(), Some("x y&".to_owned())));
        assert_eq!(pairs[1], ("b".to_owned(), None));
        assert_eq!(parse(&write(&pairs)), pairs);
        assert_eq!(values("a=1&b&a=2", "a"), ["1", "2"]);
    }
}
