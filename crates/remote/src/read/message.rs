//! `prometheus.ReadRequest` and what answers it.

use gantry_prom_model::{MatchOp, Matcher, SelectHints};

use crate::proto::{Field, Message, WireError, Writer};

/// How an answer may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// `SAMPLES`.
    Samples,
    /// `STREAMED_XOR_CHUNKS`.
    Chunks,
}

/// One query of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// First time.
    pub start_ms: i64,
    /// Last time.
    pub end_ms: i64,
    /// Which series.
    pub matchers: Vec<Matcher>,
    /// What is going to be done with them.
    pub hints: SelectHints,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReadRequest {
    /// Its queries, answered in this order.
    pub queries: Vec<Query>,
    /// How the answer may come, in order of preference.
    pub accepts: Vec<Accepts>,
}

impl ReadRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// When it is none, or a matcher cannot be used.
    pub fn read(bytes: &[u8]) -> Result<ReadRequest, WireError> {
        let mut request = ReadRequest::default();
        let mut message = Message::new(bytes);
        let mut accepted = Vec::new();
        while let Some((number, field)) = message.next()? {
            match number {
                1 => request.queries.push(query(field.bytes(1)?)?),
                2 => crate::proto::packed_varints(field, 2, &mut accepted)?,
                _ => {}
            }
        }
        // A kind that is not known yet is not what we would answer with.
        request.accepts = accepted
            .into_iter()
            .filter_map(|kind| match kind {
                0 => Some(Accepts::Samples),
                1 => Some(Accepts::Chunks),
                _ => None,
            })
            .collect();
        Ok(request)
    }

    /// How it is answered.
    pub fn answer_as(&self) -> Accepts {
        self.accepts.first().copied().unwrap_or(Accepts::Samples)
    }
}

fn query(bytes: &[u8]) -> Result<Query, WireError> {
    let mut query = Query { start_ms: 0, end_ms: 0, matchers: Vec::new(), hints: SelectHints::default() };
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match number {
            1 => query.start_ms = field.varint(1)? as i64,
            2 => query.end_ms = field.varint(2)? as i64,
            3 => query.matchers.push(matcher(field.bytes(3)?)?),
            4 => read_hints(field.bytes(4)?, &mut query.hints)?,
            _ => {}
        }
    }
    query.hints.start_ms = query.start_ms;
    query.hints.end_ms = query.end_ms;
    Ok(query)
}

fn matcher(bytes: &[u8]) -> Result<Matcher, WireError> {
    let (mut kind, mut name, mut value) = (0, "", "");
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match number {
            1 => kind = field.varint(1)?,
            2 => name = field.text(2)?,
            3 => value = field.text(3)?,
            _ => {}
        }
    }
    let op = match kind {
        0 => MatchOp::Equal,
        1 => MatchOp::NotEqual,
        2 => MatchOp::Regex,
        3 => MatchOp::NotRegex,
        other => return Err(WireError::Invalid(format!("invalid matcher type {other}"))),
    };
    Matcher::new(op, name, value).map_err(|error| WireError::Invalid(error.to_string()))
}

fn read_hints(bytes: &[u8], hints: &mut SelectHints) -> Result<(), WireError> {
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Varint(step)) => hints.step_ms = step as i64,
            (2, Field::Bytes(b"series")) => hints.function = Some("series"),
            (5, Field::Bytes(_)) => hints.grouping.push(field.text(5)?.to_owned()),
            (6, Field::Varint(by)) => hints.by = by != 0,
            (7, Field::Varint(range)) => hints.range_ms = range as i64,
            _ => {}
        }
    }
    Ok(())
}

/// A request with these queries that may be answered in these ways.
pub fn encode_request(request: &ReadRequest) -> Vec<u8> {
    let mut out = Writer::new();
    for query in &request.queries {
        out.nested(1, |out| {
            out.int(1, query.start_ms);
            out.int(2, query.end_ms);
            for matcher in &query.matchers {
                out.nested(3, |out| {
                    let kind = match matcher.op {
                        MatchOp::Equal => 0,
                        MatchOp::NotEqual => 1,
                        MatchOp::Regex => 2,
                        MatchOp::NotRegex => 3,
                    };
                    out.varint(1, kind);
                    out.text(2, &matcher.name);
                    out.text(3, &matcher.value);
                });
            }
            out.nested(4, |out| {
                out.int(1, query.hints.step_ms);
                out.text(2, query.hints.function.unwrap_or(""));
                out.int(3, query.start_ms);
                out.int(4, query.end_ms);
                for label in &query.hints.grouping {
                    out.text(5, label);
                }
                out.varint(6, u64::from(query.hints.by));
                out.int(7, query.hints.range_ms);
            });
        });
    }
    out.packed(
        2,
        request.accepts.iter().map(|kind| match kind {
            Accepts::Samples => 0,
            Accepts::Chunks => 1,
        }),
    );
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let hints = SelectHints {
            start_ms: 5,
            end_ms: 10,
            step_ms: 3,
            range_ms: 7,
            by: true,
            ..SelectHints::default()
        };
        let matchers = vec![Matcher::equal("a", "b"), Matcher::new(MatchOp::NotRegex, "c", "d.*").unwrap()];
        let request = ReadRequest {
            queries: vec![Query { start_ms: 5, end_ms: 10, matchers, hints }],
            accepts: vec![Accepts::Chunks, Accepts::Samples],
        };
        let bytes = encode_request(&request);
        assert_eq!(ReadRequest::read(&bytes).unwrap(), request);
        assert_eq!(request.answer_as(), Accepts::Chunks);
    }

    #[test]
    fn a_matcher_that_cannot_be_used_is_refused() {
        let mut out = Writer::new();
        out.nested(1, |query| {
            query.nested(3, |matcher| {
                matcher.varint(1, 2);
                matcher.text(2, "a");
                matcher.text(3, "(");
            });
        });
        assert!(ReadRequest::read(out.as_bytes()).is_err());
    }
}
