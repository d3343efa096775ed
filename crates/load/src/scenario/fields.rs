//! The small languages inside a scenario's fields: times, rates, paths with a range, expected statuses.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

const MOST_VARIANTS: u64 = 10_000;
const MOST_RATE: f64 = 10_000_000.0;
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// A duration such as `250ms` or `1m30s`, at most a week.
#[derive(Clone, Copy)]
pub(crate) struct Time(Duration);

/// Requests per second: `200`, `200/s`, `90/m`.
#[derive(Clone, Copy, Default)]
pub(super) struct Rate(f64);

pub(super) struct Method(String);
pub(super) struct Name(String);

#[derive(Default)]
pub(super) struct Headers(Vec<(String, String)>);

/// A field that has a short form in one word and a long one as a mapping. (Serde's untagged enums would lose the place
/// of whatever is wrong inside.)
pub(crate) trait ShortOrLong<'de>: Sized {
    type Long: Deserialize<'de>;
    const EXPECTED: &'static str;
    fn short(text: &str) -> Result<Self, String>;
    fn long(long: Self::Long) -> Result<Self, String>;
}

pub(crate) fn short_or_long<'de, T: ShortOrLong<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    struct EitherVisitor<T>(PhantomData<T>);
    impl<'de, T: ShortOrLong<'de>> Visitor<'de> for EitherVisitor<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::EXPECTED)
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
            self.visit_str(&value.to_string())
        }
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
            self.visit_str(&value.to_string())
        }
        fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
            self.visit_str(&value.to_string())
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            T::short(text).map_err(E::custom)
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            let long = T::Long::deserialize(de::value::MapAccessDeserializer::new(map))?;
            T::long(long).map_err(de::Error::custom)
        }
    }
    deserializer.deserialize_any(EitherVisitor(PhantomData))
}

/// A path, in which one range of numbers may stand: `/products/{1..20}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    before: String,
    range: Option<(u64, u64)>,
    after: String,
}

/// The bytes sent after the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    bytes: Vec<u8>,
    content_type: Option<&'static str>,
}

/// The statuses that count as success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect(Vec<(u16, u16)>);

/// `250ms`, `1.5s`, `2m`: as Go and Prometheus write durations.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    gantry_clock::parse_go_duration_unsigned(text)
        .ok()
        .filter(|time| *time <= LONGEST)
        .ok_or_else(|| format!("expected a time such as 250ms, 10s or 1m30s, found {text:?}"))
}

// === impl Time ===

impl Time {
    pub(crate) fn get(self) -> Duration {
        self.0
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_time(&text).map(Time).map_err(de::Error::custom)
    }
}

// === impl Rate ===

impl Rate {
    pub(super) fn per_second(self) -> f64 {
        self.0
    }

    fn parse(text: &str) -> Option<f64> {
        let (number, divisor) = match text.split_once('/') {
            None => (text, 1.0),
            Some((number, "s")) => (number, 1.0),
            Some((number, "m")) => (number, 60.0),
            Some((number, "h")) => (number, 3600.0),
            Some(_) => return None,
        };
        let rate = number.trim().parse::<f64>().ok()? / divisor;
        (0.0..=MOST_RATE).contains(&rate).then_some(rate)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        struct RateVisitor;
        impl Visitor<'_> for RateVisitor {
            type Value = Rate;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate such as 200/s, 90/m or 12.5 (per second)")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Rate, E> {
                self.visit_f64(value as f64)
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Rate, E> {
                self.visit_f64(value as f64)
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Rate, E> {
                self.visit_str(&value.to_string())
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
                Rate::parse(text).map(Rate).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(RateVisitor)
    }
}

// === impl Method, Name ===

impl Default for Method {
    fn default() -> Method {
        Method("GET".to_owned())
    }
}

impl Method {
    pub(super) fn parse(text: &str) -> Result<Method, String> {
        match http::Method::from_bytes(text.as_bytes()) {
            Ok(method) if method != http::Method::CONNECT => Ok(Method(text.to_owned())),
            _ => Err(format!("not a method that can be sent: {text:?}")),
        }
    }

    pub(super) fn get(self) -> String {
        self.0
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Method, D::Error> {
        let text = String::deserialize(deserializer)?;
        Method::parse(&text).map_err(de::Error::custom)
    }
}

impl Name {
    pub(super) fn get(self) -> String {
        self.0
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() || text.len() > 200 || text.contains(char::is_control) {
            return Err(de::Error::custom("a name has 1 to 200 printable characters"));
        }
        Ok(Name(text))
    }
}

// === impl Headers ===

impl Headers {
    pub(super) fn get(self) -> Vec<(String, String)> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Headers, D::Error> {
        struct HeadersVisitor;
        impl<'de> Visitor<'de> for HeadersVisitor {
            type Value = Headers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping from header names to values")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut headers = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    let valid_name = http::HeaderName::from_bytes(name.as_bytes()).is_ok();
                    if !valid_name || http::HeaderValue::from_str(&value).is_err() {
                        return Err(de::Error::custom(format!("not a valid header: {name:?}: {value:?}")));
                    }
                    headers.push((name, value));
                    if headers.len() > 100 {
                        return Err(de::Error::custom("at most 100 headers"));
                    }
                }
                Ok(Headers(headers))
            }
        }
        deserializer.deserialize_map(HeadersVisitor)
    }
}

// === impl PathPattern ===

impl PathPattern {
    pub(crate) fn parse(text: &str) -> Result<PathPattern, String> {
        if !text.starts_with('/') {
            return Err(format!("a path starts with a slash: {text:?}"));
        }
        if let Some(wrong) = text.chars().find(|c| c.is_control() || *c == ' ' || *c == '#' || !c.is_ascii())
        {
            return Err(format!("{wrong:?} cannot stand in a path; write it percent-encoded"));
        }
        let Some((before, rest)) = text.split_once('{') else {
            return Ok(PathPattern { before: text.to_owned(), range: None, after: String::new() });
        };
        let range = || {
            let (range, after) = rest.split_once('}')?;
            let (first, last) = range.split_once("..")?;
            let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
            let fits = first <= last && last - first < MOST_VARIANTS && !after.contains(['{', '}']);
            fits.then(|| (first, last, after.to_owned()))
        };
        let (first, last, after) = range().ok_or_else(|| {
            format!("expected one range of at most {MOST_VARIANTS} numbers such as {{1..20}} in {text:?}")
        })?;
        Ok(PathPattern { before: before.to_owned(), range: Some((first, last)), after })
    }

    /// Every path that the pattern stands for.
    pub(crate) fn expand(&self) -> impl Iterator<Item = String> + '_ {
        let (first, last) = self.range.unwrap_or((0, 0));
        (first..=last).map(|number| match self.range {
            None => self.before.clone(),
            Some(_) => format!("{}{number}{}", self.before, self.after),
        })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.range {
            None => f.write_str(&self.before),
            Some((first, last)) => write!(f, "{}{{{first}..{last}}}{}", self.before, self.after),
        }
    }
}

impl<'de> Deserialize<'de> for PathPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PathPattern, D::Error> {
        let text = String::deserialize(deserializer)?;
        PathPattern::parse(&text).map_err(de::Error::custom)
    }
}

// === impl Body ===

impl Body {
    pub(super) fn none() -> Body {
        Body { bytes: Vec::new(), content_type: None }
    }

    pub(super) fn text(text: String) -> Body {
        Body { bytes: text.into_bytes(), content_type: Some("text/plain; charset=utf-8") }
    }

    pub(super) fn json(value: &serde_json::Value) -> Body {
        Body { bytes: value.to_string().into_bytes(), content_type: Some("application/json") }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn content_type(&self) -> Option<&'static str> {
        self.content_type
    }
}

// === impl Expect ===

impl Default for Expect {
    /// 2xx and 3xx.
    fn default() -> Expect {
        Expect(vec![(200, 399)])
    }
}

impl Expect {
    pub(crate) fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }

    fn parse(text: &str) -> Option<Expect> {
        if let Some(class) = text.strip_suffix("xx") {
            let class = class.parse::<u16>().ok().filter(|class| (1..=5).contains(class))?;
            return Some(Expect(vec![(class * 100, class * 100 + 99)]));
        }
        let status = text.parse::<u16>().ok().filter(|status| (100..=599).contains(status))?;
        Some(Expect(vec![(status, status)]))
    }
}

impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Expect, D::Error> {
        struct ExpectVisitor;
        impl<'de> Visitor<'de> for ExpectVisitor {
            type Value = Expect;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status such as 200, a class such as 2xx, or a list of them")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Expect, A::Error> {
                let mut ranges = Vec::new();
                while let Some(Expect(more)) = list.next_element()? {
                    ranges.extend(more);
                    if ranges.len() > 100 {
                        return Err(de::Error::custom("at most 100 statuses"));
                    }
                }
                Ok(Expect(ranges))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Expect, E> {
                self.visit_str(&value.to_string())
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Expect, E> {
                self.visit_str(&value.to_string())
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Expect, E> {
                Expect::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(ExpectVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_expand_over_their_range() {
        let paths = |text| PathPattern::parse(text).map(|p| p.expand().collect::<Vec<_>>());
        assert_eq!(paths("/a?b=1"), Ok(vec!["/a?b=1".to_owned()]));
        assert_eq!(
            paths("/p/{9..11}/x"),
            Ok(vec!["/p/9/x".to_owned(), "/p/10/x".to_owned(), "/p/11/x".to_owned()])
        );
        for wrong in ["a", "/a b", "/{1..}", "/{3..1}", "/{1..2}{3..4}", "/{1..99999999}", "/ü", "/a\r\nx: y"]
        {
            assert!(paths(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_and_statuses() {
        assert_eq!(Rate::parse("90/m"), Some(1.5));
        assert_eq!(Rate::parse("-1"), None);
        assert_eq!(Rate::parse("inf"), None);
        assert!(Expect::parse("2xx").is_some_and(|e| e.contains(299) && !e.contains(300)));
        assert_eq!(Expect::parse("99"), None);
    }
}
