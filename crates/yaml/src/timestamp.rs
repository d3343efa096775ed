//! YAML timestamps as go-yaml knows them, printed as Go prints a time in JSON (RFC 3339 with nanoseconds).

/// The RFC 3339 form of a YAML timestamp, or `None` when the text is none.
///
/// Known forms: `Y-M-D`, `Y-M-D h:m:s[.f]`, and `Y-M-D[Tt]h:m:s[.f](Z|±hh:mm)`.
pub(crate) fn parse(text: &str) -> Option<String> {
    let mut rest = Cursor { bytes: text.as_bytes() };
    if rest.bytes.iter().take_while(|b| b.is_ascii_digit()).count() != 4 {
        return None;
    }
    let year = rest.digits(4, 4)?;
    rest.literal(b'-')?;
    let month = rest.digits(1, 2)?;
    rest.literal(b'-')?;
    let day = rest.digits(1, 2)?;
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    if rest.bytes.is_empty() {
        return Some(format!("{year:04}-{month:02}-{day:02}T00:00:00Z"));
    }
    let zoned = match rest.bytes.first()? {
        b'T' | b't' => true,
        b' ' => false,
        _ => return None,
    };
    rest.skip();
    let hour = rest.digits(1, 2)?;
    rest.literal(b':')?;
    let minute = rest.digits(1, 2)?;
    rest.literal(b':')?;
    let second = rest.digits(1, 2)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut fraction = String::new();
    if rest.bytes.first().is_some_and(|b| matches!(b, b'.' | b',')) {
        rest.skip();
        let digits = rest.bytes.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let (fraction_digits, after) = rest.bytes.split_at(digits);
        fraction =
            std::str::from_utf8(&fraction_digits[..digits.min(9)]).ok()?.trim_end_matches('0').to_owned();
        rest.bytes = after;
    }
    let zone = if zoned { rest.zone()? } else { "Z".to_owned() };
    if !rest.bytes.is_empty() {
        return None;
    }
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{point}{fraction}{zone}"))
}

struct Cursor<'a> {
    bytes: &'a [u8],
}

impl Cursor<'_> {
    fn skip(&mut self) {
        self.bytes = self.bytes.get(1..).unwrap_or_default();
    }

    fn literal(&mut self, byte: u8) -> Option<()> {
        (self.bytes.first() == Some(&byte)).then(|| self.skip())
    }

    fn digits(&mut self, least: usize, most: usize) -> Option<u32> {
        let count = self.bytes.iter().take(most).take_while(|b| b.is_ascii_digit()).count();
        if count < least {
            return None;
        }
        let (digits, after) = self.bytes.split_at(count);
        self.bytes = after;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    fn zone(&mut self) -> Option<String> {
        let sign = *self.bytes.first()?;
        self.skip();
        match sign {
            b'Z' => Some("Z".to_owned()),
            b'+' | b'-' => {
                let hours = self.digits(2, 2)?;
                self.literal(b':')?;
                let minutes = self.digits(2, 2)?;
                if hours > 24 || minutes > 60 {
                    return None;
                }
                if hours == 0 && minutes == 0 {
                    return Some("Z".to_owned());
                }
                Some(format!("{}{hours:02}:{minutes:02}", char::from(sign)))
            }
            _ => None,
        }
    }
}

fn days_in(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_known_forms_and_nothing_else() {
        assert_eq!(parse("2020-01-01").as_deref(), Some("2020-01-01T00:00:00Z"));
        assert_eq!(parse("2020-1-1t1:2:3.500+02:00").as_deref(), Some("2020-01-01T01:02:03.5+02:00"));
        assert_eq!(parse("2020-01-01T01:02:03+00:00").as_deref(), Some("2020-01-01T01:02:03Z"));
        for text in
            ["2020-13-01", "2021-02-29", "2020-01", "20200-01-01", "2020-01-01T00:00:00", "2020-01-01x"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
