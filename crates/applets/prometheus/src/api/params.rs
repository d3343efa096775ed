//! Parameters of a request, from its URL and, for a form, from its body.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::answer::ApiError;

pub(crate) use gantry_clock::format_rfc3339;

/// Names and values in the order given, those of the body first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Params, Response> {
        let mut params = Vec::new();
        let query = request.uri().query().unwrap_or("").to_owned();
        let is_form = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.trim_start().starts_with("application/x-www-form-urlencoded"));
        if is_form {
            let body = Bytes::from_request(request, state).await.map_err(IntoResponse::into_response)?;
            let text = std::str::from_utf8(&body)
                .map_err(|_| (StatusCode::BAD_REQUEST, "the form is not UTF-8").into_response())?;
            parse_into(&mut params, text);
        }
        parse_into(&mut params, &query);
        Ok(Params(params))
    }
}

fn parse_into(params: &mut Vec<(String, String)>, text: &str) {
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        params.push((decode(name), decode(value)));
    }
}

/// Undoes form escaping; what is not an escape stands for itself.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    Some(byte) => {
                        bytes.push(byte);
                        rest = tail.get(2..).unwrap_or_default();
                    }
                    None => bytes.push(b'%'),
                }
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

impl Params {
    /// The first value of a parameter; an empty one counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A point in time, in milliseconds.
    pub(crate) fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name)
            .map(|text| parse_time(text).map_err(|reason| ApiError::invalid(name, &reason)))
            .transpose()
    }

    /// As [`Params::time`], for a parameter that has to be there.
    pub(crate) fn required_time(&self, name: &str) -> Result<i64, ApiError> {
        parse_time(self.get(name).unwrap_or("")).map_err(|reason| ApiError::invalid(name, &reason))
    }

    /// A duration, in milliseconds.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name)
            .map(|text| parse_duration(text).map_err(|reason| ApiError::invalid(name, &reason)))
            .transpose()
    }

    /// A limit; 0 and absence are none.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(0) };
        match text.parse::<i64>() {
            Ok(limit) if limit >= 0 => Ok(usize::try_from(limit).unwrap_or(0)),
            Ok(_) => Err(ApiError::invalid("limit", "limit must be non-negative")),
            Err(_) => Err(ApiError::invalid("limit", &format!("cannot parse {text:?} to a valid limit"))),
        }
    }
}

/// Unix seconds with a fraction, or RFC 3339; in milliseconds.
pub(crate) fn parse_time(text: &str) -> Result<i64, String> {
    let wrong = || format!("cannot parse {text:?} to a valid timestamp");
    if let Some(seconds) = parse_number(text) {
        let ms = (seconds * 1000.0).round();
        return if ms.abs() < 9.2e18 { Ok(ms as i64) } else { Err(wrong()) };
    }
    gantry_clock::parse_rfc3339(text).ok_or_else(wrong)
}

/// Seconds, or a Prometheus duration; in milliseconds.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    if let Some(seconds) = parse_number(text) {
        let ms = seconds * 1000.0;
        if ms.abs() > 9.2e15 {
            return Err(format!("cannot parse {text:?} to a valid duration. It overflows int64"));
        }
        return Ok(ms as i64);
    }
    gantry_clock::parse_prometheus_duration(text)
        .map_err(|_| format!("cannot parse {text:?} to a valid duration"))
}

fn parse_number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    text.parse::<f64>().ok().filter(|number| plain && number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_both_forms() {
        assert_eq!(parse_time("1435781451.781"), Ok(1_435_781_451_781));
        assert_eq!(parse_time("1.5e9"), Ok(1_500_000_000_000));
        assert_eq!(parse_time("2015-07-01T20:10:51.781Z"), Ok(1_435_781_451_781));
        assert_eq!(parse_time("2015-07-01T22:10:51.781999+02:00"), Ok(1_435_781_451_781));
        assert_eq!(parse_time("2000-02-29T00:00:00Z"), Ok(951_782_400_000));
        for wrong in ["", "abc", "2015-07-01", "2015-13-01T00:00:00Z", "inf", "1e300", "2015-07-01T20:10Z"] {
            assert_eq!(parse_time(wrong), Err(format!("cannot parse {wrong:?} to a valid timestamp")));
        }
        assert_eq!(format_rfc3339(1_435_781_451_781), "2015-07-01T20:10:51.781Z");
        assert_eq!(format_rfc3339(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(format_rfc3339(-1000), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn durations_in_both_forms() {
        assert_eq!(parse_duration("1.5"), Ok(1500));
        assert_eq!(parse_duration("1m30s"), Ok(90_000));
        assert!(parse_duration("1e300").unwrap_err().contains("overflows"));
        assert!(parse_duration("x").is_err());
    }

    #[test]
    fn forms_are_unescaped() {
        let mut params = Vec::new();
        parse_into(&mut params, "match[]=up%7Ba%3D%22b%22%7D&match%5B%5D=x+y&z&bad=%zz%2");
        let params = Params(params);
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["up{a=\"b\"}", "x y"]);
        assert_eq!(params.get("z"), None);
        assert_eq!(params.get("bad"), Some("%zz%2"));
    }
}
