//! Form bodies: `application/x-www-form-urlencoded` (WHATWG URL, section 5.1), in order, names may repeat.

/// Fields of one form at most.
const MOST_FIELDS: usize = 1000;

/// The fields; bytes that are not UTF-8 are replaced.
pub(super) fn parse(body: &[u8]) -> Vec<(String, String)> {
    let pairs = body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).take(MOST_FIELDS);
    pairs
        .map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            (decode(&pair[..at]), decode(pair.get(at + 1..).unwrap_or_default()))
        })
        .collect()
}

fn decode(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let hex = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
        match (first, after) {
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                out.push(hex(*high).unwrap_or(0) * 16 + hex(*low).unwrap_or(0));
                rest = after;
            }
            (b'+', after) => {
                out.push(b' ');
                rest = after;
            }
            (other, after) => {
                out.push(*other);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn fields_are_decoded_in_order() {
        let fields =
            parse(b"user_count=3&host=http%3A%2F%2Fx%2Fa+b&user_classes=A&user_classes=B&odd=%zz%4&empty");
        let expected = [
            ("user_count", "3"),
            ("host", "http://x/a b"),
            ("user_classes", "A"),
            ("user_classes", "B"),
            ("odd", "%zz%4"),
            ("empty", ""),
        ];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
