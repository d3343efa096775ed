//! The entry-by-entry reader of both text formats, as forgiving as Prometheus and no more.

use super::ExpositionError;
use super::cursor::{Cursor, parse_value};
use crate::{BUCKET_LABEL, Exemplar, LabelsBuilder, METRIC_NAME, MetricKind, QUANTILE_LABEL};
use std::borrow::Cow;

/// Which of the two formats a text is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpositionFormat {
    /// `text/plain; version=0.0.4`
    Classic,
    /// `application/openmetrics-text; version=1.0.0` (and 0.0.1)
    OpenMetrics,
}

/// A text as it stands in the exposition, escapes not yet resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawText<'a> {
    pub raw: &'a str,
    pub has_escapes: bool,
}

impl<'a> RawText<'a> {
    fn plain(raw: &'a str) -> Self {
        RawText { raw, has_escapes: false }
    }

    /// With `\\`, `\"` and `\n` resolved; other backslashes stand for themselves.
    pub fn decode(&self) -> Cow<'a, str> {
        if self.has_escapes { Cow::Owned(unescape(self.raw, true)) } else { Cow::Borrowed(self.raw) }
    }
}

fn unescape(raw: &str, with_quotes: bool) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('\\') => out.push('\\'),
            Some('"') if with_quotes => out.push('"'),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    out
}

/// One entry of an exposition.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry<'a> {
    Type { name: Cow<'a, str>, kind: MetricKind },
    Help { name: Cow<'a, str>, help: Cow<'a, str> },
    Unit { name: Cow<'a, str>, unit: &'a str },
    Comment(&'a str),
    Sample(SampleLine<'a>),
}

/// A sample's line. Its labels are read with [`ExpositionParser::read_labels`], before the next entry.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleLine<'a> {
    /// Name and labels exactly as written: the key under which a scraper remembers the series.
    pub series: &'a str,
    pub value: f64,
    pub timestamp_ms: Option<i64>,
    pub exemplar: Option<Exemplar>,
}

/// Reads an exposition entry by entry.
pub struct ExpositionParser<'a> {
    cursor: Cursor<'a>,
    format: ExpositionFormat,
    metric_name: RawText<'a>,
    labels: Vec<(RawText<'a>, RawText<'a>)>,
    /// Of the last `# TYPE`: the bounds in a histogram's `le` are brought to one spelling.
    kind: MetricKind,
    has_ended: bool,
}

// === impl ExpositionParser ===

impl<'a> ExpositionParser<'a> {
    pub fn new(text: &'a str, format: ExpositionFormat) -> Self {
        ExpositionParser {
            cursor: Cursor::new(text),
            format,
            metric_name: RawText::plain(""),
            labels: Vec::new(),
            kind: MetricKind::Unknown,
            has_ended: false,
        }
    }

    /// The next entry, or `None` at the end.
    ///
    /// # Errors
    /// At the first text that is not of the format; the parser should not be used afterwards.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, ExpositionError> {
        match self.format {
            ExpositionFormat::Classic => self.next_classic(),
            ExpositionFormat::OpenMetrics => self.next_open_metrics(),
        }
    }

    /// Byte offset of the reader.
    pub(super) fn position(&self) -> usize {
        self.cursor.position
    }

    /// The metric name of the last sample.
    pub fn metric_name(&self) -> Cow<'a, str> {
        self.metric_name.decode()
    }

    /// The labels of the last sample in the order written, without the name.
    pub fn raw_labels(&self) -> &[(RawText<'a>, RawText<'a>)] {
        &self.labels
    }

    /// Replaces the builder's contents with the labels of the last sample, `__name__` included, bounds and
    /// quantiles in their one spelling (`1.0`).
    pub fn read_labels(&self, into: &mut LabelsBuilder) {
        into.clear();
        for (name, value) in &self.labels {
            let name = name.decode();
            let decoded = value.decode();
            let is_number = (self.kind == MetricKind::Histogram && name == BUCKET_LABEL)
                || (self.kind == MetricKind::Summary && name == QUANTILE_LABEL);
            match crate::parse_float(&decoded).filter(|_| is_number) {
                Some(number) => into.set(&name, &crate::format_open_metrics_float(number)),
                None => into.set(&name, &decoded),
            };
        }
        into.set(METRIC_NAME, &self.metric_name.decode());
    }

    fn next_classic(&mut self) -> Result<Option<Entry<'a>>, ExpositionError> {
        loop {
            self.cursor.skip_blanks();
            match self.cursor.peek() {
                None => return Ok(None),
                Some(b'\n') => self.cursor.position += 1,
                Some(b'\r') if self.cursor.rest().starts_with("\r\n") => self.cursor.position += 2,
                Some(b'#') => return self.classic_comment().map(Some),
                Some(_) => return self.sample().map(Some),
            }
        }
    }

    fn classic_comment(&mut self) -> Result<Entry<'a>, ExpositionError> {
        let start = self.cursor.position;
        self.cursor.position += 1;
        let is_glued = !matches!(self.cursor.peek(), Some(b' ' | b'\t'));
        self.cursor.skip_blanks();
        let keyword = self.cursor.take_word();
        if is_glued || !matches!(keyword, "HELP" | "TYPE") {
            self.cursor.take_line();
            return Ok(Entry::Comment(self.cursor.since(start)));
        }
        self.cursor.skip_blanks();
        let name = self.metadata_name()?;
        self.cursor.skip_blanks();
        if keyword == "HELP" {
            let raw = self.cursor.take_line();
            let help = if raw.contains('\\') { Cow::Owned(unescape(raw, false)) } else { Cow::Borrowed(raw) };
            return Ok(Entry::Help { name, help });
        }
        let word_start = self.cursor.position;
        let word = self.cursor.take_line().trim_end_matches([' ', '\t', '\r']);
        self.type_entry(name, word, word_start)
    }

    fn type_entry(
        &mut self,
        name: Cow<'a, str>,
        word: &str,
        word_start: usize,
    ) -> Result<Entry<'a>, ExpositionError> {
        let is_open_metrics = self.format == ExpositionFormat::OpenMetrics;
        let kind = MetricKind::parse(word).filter(|kind| match kind {
            MetricKind::Unknown => (word == "unknown") == is_open_metrics,
            MetricKind::GaugeHistogram | MetricKind::Info | MetricKind::StateSet => is_open_metrics,
            _ => true,
        });
        match kind {
            Some(kind) => {
                self.kind = kind;
                Ok(Entry::Type { name, kind })
            }
            None => {
                self.cursor.position = word_start;
                Err(self.cursor.error(format!("invalid metric type {word:?}")))
            }
        }
    }

    fn metadata_name(&mut self) -> Result<Cow<'a, str>, ExpositionError> {
        if self.cursor.peek() == Some(b'"') {
            return Ok(self.cursor.take_quoted(false)?.decode());
        }
        match self.cursor.take_name(true) {
            "" => Err(self.cursor.expected("a metric name")),
            name => Ok(Cow::Borrowed(name)),
        }
    }

    fn next_open_metrics(&mut self) -> Result<Option<Entry<'a>>, ExpositionError> {
        if self.has_ended {
            return Ok(None);
        }
        match self.cursor.peek() {
            None => Err(self.cursor.error("the text does not end with '# EOF'")),
            Some(b'#') => self.open_metrics_comment(),
            Some(_) => self.sample().map(Some),
        }
    }

    fn open_metrics_comment(&mut self) -> Result<Option<Entry<'a>>, ExpositionError> {
        if let Some(after) = self.cursor.rest().strip_prefix("# EOF") {
            self.cursor.position += "# EOF".len();
            return match after {
                "" | "\n" => {
                    self.has_ended = true;
                    self.cursor.position = self.cursor.text.len();
                    Ok(None)
                }
                _ => Err(self.cursor.error("unexpected text after '# EOF'")),
            };
        }
        let Some(keyword) = ["# HELP ", "# TYPE ", "# UNIT "]
            .into_iter()
            .find(|keyword| self.cursor.rest().starts_with(keyword))
        else {
            return Err(self.cursor.error("expected '# HELP', '# TYPE', '# UNIT' or '# EOF'"));
        };
        self.cursor.position += keyword.len();
        let name = self.metadata_name()?;
        if !self.cursor.eat(b' ') {
            return Err(self.cursor.expected("a space"));
        }
        let word_start = self.cursor.position;
        let raw = self.cursor.take_line();
        let entry = match keyword {
            "# HELP " => {
                let help =
                    if raw.contains('\\') { Cow::Owned(unescape(raw, true)) } else { Cow::Borrowed(raw) };
                Entry::Help { name, help }
            }
            "# TYPE " => self.type_entry(name, raw, word_start)?,
            _ => {
                let has_suffix =
                    name.strip_suffix(raw).is_some_and(|base| raw.is_empty() || base.ends_with('_'));
                if !has_suffix {
                    self.cursor.position = word_start;
                    return Err(self
                        .cursor
                        .error(format!("unit {raw:?} is not a suffix of metric {name:?}")));
                }
                Entry::Unit { name, unit: raw }
            }
        };
        self.end_of_line()?;
        Ok(Some(entry))
    }

    fn end_of_line(&mut self) -> Result<(), ExpositionError> {
        if self.cursor.eat(b'\n') { Ok(()) } else { Err(self.cursor.expected("the end of the line")) }
    }

    fn skip_padding(&mut self) {
        if self.format == ExpositionFormat::Classic {
            self.cursor.skip_blanks();
        }
    }

    fn sample(&mut self) -> Result<Entry<'a>, ExpositionError> {
        let start = self.cursor.position;
        self.labels.clear();
        let name = self.cursor.take_name(true);
        self.metric_name = RawText::plain(name);
        let name_end = self.cursor.position;
        self.skip_padding();
        let mut series_end = name_end;
        if self.cursor.peek() == Some(b'{') {
            self.label_set(name.is_empty())?;
            series_end = self.cursor.position;
        }
        if self.metric_name.raw.is_empty() {
            return Err(self.cursor.expected("a metric name"));
        }
        let series = self.cursor.text.get(start..series_end).unwrap_or("");
        let value = match self.format {
            ExpositionFormat::Classic => self.classic_value()?,
            ExpositionFormat::OpenMetrics => self.open_metrics_value()?,
        };
        Ok(Entry::Sample(SampleLine { series, ..value }))
    }

    /// `{a="b","quoted.name"="c"}`; with `name_inside` a quoted text without a value is the metric name.
    fn label_set(&mut self, name_inside: bool) -> Result<(), ExpositionError> {
        let is_classic = self.format == ExpositionFormat::Classic;
        self.cursor.position += 1;
        self.skip_padding();
        if self.cursor.eat(b'}') {
            return Ok(());
        }
        loop {
            let label_start = self.cursor.position;
            let name = match self.cursor.peek() {
                Some(b'"') => self.cursor.take_quoted(is_classic)?,
                _ => match self.cursor.take_name(false) {
                    "" => return Err(self.cursor.expected("a label name")),
                    name => RawText::plain(name),
                },
            };
            let was_quoted = self.cursor.text.as_bytes().get(label_start) == Some(&b'"');
            self.skip_padding();
            let is_metric_name = was_quoted && matches!(self.cursor.peek(), Some(b',' | b'}'));
            if is_metric_name {
                if !name_inside || !self.metric_name.raw.is_empty() {
                    return Err(self.cursor.error("a second metric name"));
                }
                self.metric_name = name;
            } else {
                if !self.cursor.eat(b'=') {
                    return Err(self.cursor.expected("'='"));
                }
                self.skip_padding();
                let value = self.cursor.take_quoted(is_classic)?;
                let is_duplicate = self.labels.iter().any(|(other, _)| other.decode() == name.decode());
                if is_duplicate {
                    self.cursor.position = label_start;
                    return Err(self.cursor.error(format!("label {:?} is given twice", name.decode())));
                }
                self.labels.push((name, value));
            }
            self.skip_padding();
            match self.cursor.peek() {
                Some(b',') => {
                    self.cursor.position += 1;
                    self.skip_padding();
                    if is_classic && self.cursor.eat(b'}') {
                        return Ok(());
                    }
                }
                Some(b'}') => {
                    self.cursor.position += 1;
                    return Ok(());
                }
                _ => return Err(self.cursor.expected("',' or '}'")),
            }
        }
    }

    fn number(&mut self, what: &str) -> Result<f64, ExpositionError> {
        let start = self.cursor.position;
        let word = self.cursor.take_word();
        if word.is_empty() {
            return Err(self.cursor.expected(what));
        }
        parse_value(word.strip_suffix('\r').unwrap_or(word)).ok_or_else(|| {
            ExpositionError::at(self.cursor.text, start, format!("{what} {word:?} is not a number"))
        })
    }

    fn classic_value(&mut self) -> Result<SampleLine<'a>, ExpositionError> {
        self.cursor.skip_blanks();
        let value = self.number("a value")?;
        self.cursor.skip_blanks();
        let mut timestamp_ms = None;
        if !matches!(self.cursor.peek(), None | Some(b'\n' | b'\r')) {
            let start = self.cursor.position;
            let word = self.cursor.take_word().trim_end_matches('\r');
            timestamp_ms = Some(word.parse().map_err(|_| {
                let message = format!("timestamp {word:?} is not a whole number of milliseconds");
                ExpositionError::at(self.cursor.text, start, message)
            })?);
            self.cursor.skip_blanks();
        }
        self.cursor.eat(b'\r');
        if !self.cursor.is_at_end() {
            self.end_of_line()?;
        }
        Ok(SampleLine { series: "", value, timestamp_ms, exemplar: None })
    }

    fn open_metrics_value(&mut self) -> Result<SampleLine<'a>, ExpositionError> {
        self.space()?;
        let value = self.number("a value")?;
        let timestamp_ms = self.open_metrics_timestamp()?;
        let mut exemplar = None;
        if self.cursor.rest().starts_with(" # ") {
            self.cursor.position += " # ".len();
            exemplar = Some(self.exemplar()?);
        }
        self.end_of_line()?;
        Ok(SampleLine { series: "", value, timestamp_ms, exemplar })
    }

    fn space(&mut self) -> Result<(), ExpositionError> {
        if self.cursor.eat(b' ') { Ok(()) } else { Err(self.cursor.expected("a space")) }
    }

    /// A time in seconds, if one follows.
    fn open_metrics_timestamp(&mut self) -> Result<Option<i64>, ExpositionError> {
        if self.cursor.peek() != Some(b' ') || self.cursor.rest().starts_with(" #") {
            return Ok(None);
        }
        self.cursor.position += 1;
        let start = self.cursor.position;
        let seconds = self.number("a timestamp")?;
        if !seconds.is_finite() {
            let message = "a timestamp cannot be NaN or infinite".to_owned();
            return Err(ExpositionError::at(self.cursor.text, start, message));
        }
        // A float that does not fit saturates, as far in the future as milliseconds go.
        Ok(Some((seconds * 1000.0).round_ties_even() as i64))
    }

    fn exemplar(&mut self) -> Result<Exemplar, ExpositionError> {
        if self.cursor.peek() != Some(b'{') {
            return Err(self.cursor.expected("'{'"));
        }
        // The sample's own labels are kept aside while the exemplar's are read with the same code.
        let sample_labels = std::mem::take(&mut self.labels);
        self.label_set(false)?;
        let exemplar_labels = std::mem::replace(&mut self.labels, sample_labels);
        let labels = exemplar_labels.iter().map(|(name, value)| (name.decode(), value.decode())).collect();
        self.space()?;
        let value = self.number("an exemplar's value")?;
        let timestamp_ms = self.open_metrics_timestamp()?;
        Ok(Exemplar { labels, value, timestamp_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, format: ExpositionFormat) -> Result<Vec<String>, ExpositionError> {
        let mut parser = ExpositionParser::new(text, format);
        let mut builder = LabelsBuilder::new();
        let mut lines = Vec::new();
        while let Some(entry) = parser.next_entry()? {
            lines.push(match entry {
                Entry::Sample(sample) => {
                    parser.read_labels(&mut builder);
                    let exemplar =
                        sample.exemplar.map_or(String::new(), |e| format!(" # {} {}", e.labels, e.value));
                    format!("{} {} {:?}{exemplar}", builder.build(), sample.value, sample.timestamp_ms)
                }
                other => format!("{other:?}"),
            });
        }
        Ok(lines)
    }

    #[test]
    fn the_classic_format() {
        let text = "# HELP a Help \\n text\n#TYPE ignored\n# TYPE a histogram\n\n  a_bucket { le = \"1\" , x=\"\\\"\\\\\\n\", } 3 1000\n\
                    {\"b.c\",\"d.e\"=\"f\"} +Inf\nup NaN";
        assert_eq!(
            read(text, ExpositionFormat::Classic).expect("valid text"),
            [
                "Help { name: \"a\", help: \"Help \\n text\" }",
                "Comment(\"#TYPE ignored\")",
                "Type { name: \"a\", kind: Histogram }",
                "{__name__=\"a_bucket\", le=\"1.0\", x=\"\\\"\\\\\\n\"} 3 Some(1000)",
                "{__name__=\"b.c\", \"d.e\"=\"f\"} inf None",
                "{__name__=\"up\"} NaN None",
            ]
        );
    }

    #[test]
    fn open_metrics_with_exemplars_and_seconds() {
        let text = "# TYPE a counter\n# UNIT b_s s\na_total{x=\"y\"} 1 1.5 # {t=\"1\"} 0.5 2\n# EOF\n";
        let lines = read(text, ExpositionFormat::OpenMetrics).expect("valid text");
        assert_eq!(lines[2], "{__name__=\"a_total\", x=\"y\"} 1 Some(1500) # {t=\"1\"} 0.5");
    }

    #[test]
    fn errors_say_where() {
        for (text, format, place) in [
            ("a 1\nb{x=1} 2\n", ExpositionFormat::Classic, "2:5: expected '\"', found '1'"),
            ("a one\n", ExpositionFormat::Classic, "1:3: a value \"one\" is not a number"),
            ("a 1\n", ExpositionFormat::OpenMetrics, "2:1: the text does not end with '# EOF'"),
            (
                "a{b=\"c\n\"} 1\n# EOF\n",
                ExpositionFormat::OpenMetrics,
                "1:7: a quoted text does not end on its line",
            ),
            ("a{b=\"c\",b=\"d\"} 1\n", ExpositionFormat::Classic, "1:9: label \"b\" is given twice"),
        ] {
            assert_eq!(read(text, format).expect_err(text).to_string(), place);
        }
    }

    #[test]
    fn what_is_encoded_is_read_back() {
        let registry = crate::Registry::new();
        registry.counter_vec("c_total", "C.", ["x"]).with(["a\"\\\nb"]).inc();
        registry.histogram("h", "", &[0.1, 1.0]).observe(0.5);
        let families = crate::Gather::gather(&registry);
        let classic = read(&crate::encode_text(&families), ExpositionFormat::Classic).expect("our text");
        let open =
            read(&crate::encode_open_metrics(&families), ExpositionFormat::OpenMetrics).expect("our text");
        let samples =
            |lines: Vec<String>| lines.into_iter().filter(|line| line.starts_with('{')).collect::<Vec<_>>();
        assert_eq!(samples(classic), samples(open));
    }
}
