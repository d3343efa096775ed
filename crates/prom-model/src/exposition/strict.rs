//! What OpenMetrics 1.0 asks of a producer beyond the syntax: families in one piece, labels in groups, times
//! that do not go back, values that the type allows, histograms that add up.

use super::ExpositionError;
use super::parser::{Entry, ExpositionFormat, ExpositionParser, SampleLine};
use crate::{BUCKET_LABEL, Labels, MetricKind, QUANTILE_LABEL};
use std::collections::HashSet;

/// The characters an exemplar's names and values may have together.
const MAX_EXEMPLAR_CHARS: usize = 128;

/// Checks an OpenMetrics text against every rule of the specification; returns the number of samples.
///
/// # Errors
/// At the first line that breaks a rule.
pub fn check_open_metrics(text: &str) -> Result<usize, ExpositionError> {
    let mut parser = ExpositionParser::new(text, ExpositionFormat::OpenMetrics);
    let mut checker = Checker::default();
    let mut samples = 0;
    loop {
        let offset = parser.position();
        let place = |message: String| ExpositionError::at(text, offset, message);
        let Some(entry) = parser.next_entry()? else {
            checker.finish_family().map_err(place)?;
            return Ok(samples);
        };
        match entry {
            Entry::Type { name, kind } => checker.metadata(&name, Declared::Type(kind)),
            Entry::Help { name, .. } => checker.metadata(&name, Declared::Help),
            Entry::Unit { name, unit } => checker.metadata(&name, Declared::Unit(!unit.is_empty())),
            Entry::Comment(_) => Ok(()),
            Entry::Sample(line) => {
                samples += 1;
                let labels =
                    parser.raw_labels().iter().map(|(name, value)| (name.decode(), value.decode())).collect();
                checker.sample(&parser.metric_name(), &labels, &line)
            }
        }
        .map_err(place)?;
    }
}

enum Declared {
    Type(MetricKind),
    Help,
    Unit(bool),
}

#[derive(Default)]
struct Checker {
    /// Every name a finished family has claimed, with its suffixes.
    claimed_names: HashSet<String>,
    family: Option<Family>,
}

#[derive(Default)]
struct Family {
    name: String,
    kind: Option<MetricKind>,
    has_help: bool,
    has_unit_line: bool,
    has_unit: bool,
    has_samples: bool,
    seen_groups: HashSet<Labels>,
    group: Option<(Labels, Option<i64>)>,
    histogram: Option<HistogramCheck>,
}

/// The suffixes of the samples a family of this kind may have.
fn suffixes(kind: MetricKind) -> &'static [&'static str] {
    match kind {
        MetricKind::Counter => &["_total", "_created"],
        MetricKind::Summary => &["", "_count", "_sum", "_created"],
        MetricKind::Histogram => &["_count", "_sum", "_bucket", "_created"],
        MetricKind::GaugeHistogram => &["_gcount", "_gsum", "_bucket"],
        MetricKind::Info => &["_info"],
        MetricKind::Gauge | MetricKind::StateSet | MetricKind::Unknown => &[""],
    }
}

impl Family {
    fn named(name: &str) -> Family {
        Family { name: name.to_owned(), ..Family::default() }
    }

    fn kind(&self) -> MetricKind {
        self.kind.unwrap_or_default()
    }

    fn suffix_of<'a>(&self, sample_name: &'a str) -> Option<&'a str> {
        sample_name.strip_prefix(self.name.as_str()).filter(|suffix| suffixes(self.kind()).contains(suffix))
    }
}

// === impl Checker ===

impl Checker {
    fn finish_family(&mut self) -> Result<(), String> {
        let Some(family) = self.family.take() else { return Ok(()) };
        let kind = family.kind();
        for suffix in suffixes(kind).iter().chain([&""]).collect::<HashSet<_>>() {
            if !self.claimed_names.insert(format!("{}{suffix}", family.name)) {
                return Err(format!("metric {:?} clashes with an earlier one", family.name));
            }
        }
        if family.has_unit && matches!(kind, MetricKind::Info | MetricKind::StateSet) {
            return Err(format!("metric {:?} of type {kind} cannot have a unit", family.name));
        }
        family.histogram.map_or(Ok(()), |check| check.finish())
    }

    fn metadata(&mut self, name: &str, declared: Declared) -> Result<(), String> {
        if self.family.as_ref().is_none_or(|family| family.name != name) {
            self.finish_family()?;
            self.family = Some(Family::named(name));
        }
        let Some(family) = &mut self.family else { return Ok(()) };
        if family.has_samples {
            return Err(format!("metadata of {name:?} after its samples"));
        }
        let is_repeated = match declared {
            Declared::Type(kind) => family.kind.replace(kind).is_some(),
            Declared::Help => std::mem::replace(&mut family.has_help, true),
            Declared::Unit(has_unit) => {
                family.has_unit = has_unit;
                std::mem::replace(&mut family.has_unit_line, true)
            }
        };
        if is_repeated { Err(format!("metadata of {name:?} is given twice")) } else { Ok(()) }
    }

    fn sample(&mut self, name: &str, labels: &Labels, line: &SampleLine<'_>) -> Result<(), String> {
        if self.family.as_ref().is_none_or(|family| family.suffix_of(name).is_none()) {
            self.finish_family()?;
            self.family = Some(Family { kind: Some(MetricKind::Unknown), ..Family::named(name) });
        }
        let Some(family) = &mut self.family else { return Ok(()) };
        family.has_samples = true;
        let suffix = family.suffix_of(name).unwrap_or("").to_owned();
        check_labels(family, &suffix, labels)?;
        check_value(family.kind(), &suffix, line)?;
        let group = group_of(family, &suffix, labels);
        family.check_group(&group, line.timestamp_ms)?;
        if matches!(family.kind(), MetricKind::Histogram | MetricKind::GaugeHistogram) {
            let key = (group, line.timestamp_ms);
            let is_next = family.histogram.as_ref().is_none_or(|check| check.key != key);
            if is_next && let Some(finished) = family.histogram.replace(HistogramCheck::of(key)) {
                finished.finish()?;
            }
            if let Some(check) = &mut family.histogram {
                check.sample(&suffix, labels, line.value)?;
            }
        }
        Ok(())
    }
}

impl Family {
    fn check_group(&mut self, group: &Labels, timestamp_ms: Option<i64>) -> Result<(), String> {
        if let Some((current, current_time)) = &self.group {
            if current != group {
                if self.seen_groups.contains(group) {
                    return Err(format!("the samples of {:?} {group} do not stand together", self.name));
                }
            } else {
                match (*current_time, timestamp_ms) {
                    (Some(_), None) | (None, Some(_)) => {
                        return Err(format!("samples with and without a time in {:?} {group}", self.name));
                    }
                    (Some(before), Some(now)) if before > now && self.kind() != MetricKind::Info => {
                        return Err(format!("times go backwards in {:?} {group}", self.name));
                    }
                    _ => {}
                }
            }
        }
        self.seen_groups.insert(group.clone());
        self.group = Some((group.clone(), timestamp_ms));
        Ok(())
    }
}

/// The labels that samples of one metric have in common.
fn group_of(family: &Family, suffix: &str, labels: &Labels) -> Labels {
    match (family.kind(), suffix) {
        // The labels of an info metric are its value.
        (MetricKind::Info, _) => Labels::empty(),
        (MetricKind::Summary, "") => labels.without(QUANTILE_LABEL),
        (MetricKind::StateSet, _) => labels.without(&family.name),
        (MetricKind::Histogram | MetricKind::GaugeHistogram, "_bucket") => labels.without(BUCKET_LABEL),
        _ => labels.clone(),
    }
}

/// Infinities and NaN have one spelling; other numbers may be written in any.
fn parse_canonical(text: &str) -> Option<f64> {
    let number = super::cursor::parse_value(text)?;
    (number.is_finite() || crate::format_float(number) == text).then_some(number)
}

fn check_labels(family: &Family, suffix: &str, labels: &Labels) -> Result<(), String> {
    match (family.kind(), suffix) {
        (MetricKind::StateSet, _) if !labels.has(&family.name) => {
            Err(format!("a sample of state set {:?} lacks the label of that name", family.name))
        }
        (MetricKind::Histogram | MetricKind::GaugeHistogram, "_bucket") => {
            let bound = labels.get(BUCKET_LABEL).and_then(parse_canonical).filter(|bound| !bound.is_nan());
            bound.map(|_| ()).ok_or_else(|| "a bucket without a valid 'le' label".to_owned())
        }
        (MetricKind::Summary, "") => {
            let quantile = labels.get(QUANTILE_LABEL).and_then(parse_canonical);
            let is_valid = quantile.is_some_and(|quantile| (0.0..=1.0).contains(&quantile));
            is_valid
                .then_some(())
                .ok_or_else(|| "a quantile sample without a valid 'quantile' label".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_value(kind: MetricKind, suffix: &str, line: &SampleLine<'_>) -> Result<(), String> {
    let value = line.value;
    match kind {
        MetricKind::StateSet if value != 0.0 && value != 1.0 => {
            return Err("a state must be 0 or 1".to_owned());
        }
        MetricKind::Info if value != 1.0 => return Err("the value of an info metric must be 1".to_owned()),
        MetricKind::Summary if suffix.is_empty() && value < 0.0 => {
            return Err("a quantile cannot be negative".to_owned());
        }
        _ => {}
    }
    let is_counter_like = matches!(suffix, "_total" | "_sum" | "_count" | "_bucket" | "_gcount");
    if (is_counter_like || suffix == "_gsum") && value.is_nan() {
        return Err(format!("a {suffix} sample cannot be NaN"));
    }
    if is_counter_like && value < 0.0 {
        return Err(format!("a {suffix} sample cannot be negative"));
    }
    if matches!(suffix, "_bucket" | "_count" | "_gcount") && value.fract() != 0.0 {
        return Err(format!("a {suffix} sample must be a whole number"));
    }
    if let Some(exemplar) = &line.exemplar {
        let is_allowed = matches!(
            (kind, suffix),
            (MetricKind::Histogram | MetricKind::GaugeHistogram, "_bucket") | (MetricKind::Counter, "_total")
        );
        if !is_allowed {
            return Err("only buckets and counters can have exemplars".to_owned());
        }
        let chars: usize =
            exemplar.labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        if chars > MAX_EXEMPLAR_CHARS {
            return Err(format!("exemplar labels of {chars} characters, {MAX_EXEMPLAR_CHARS} are allowed"));
        }
    }
    Ok(())
}

/// The samples of one histogram at one time.
struct HistogramCheck {
    key: (Labels, Option<i64>),
    last_bound: Option<f64>,
    last_count: f64,
    count: Option<f64>,
    has_sum: bool,
    has_gauge_sum: bool,
    has_negative_gauge_sum: bool,
    has_negative_bounds: bool,
}

impl HistogramCheck {
    fn of(key: (Labels, Option<i64>)) -> Self {
        HistogramCheck {
            key,
            last_bound: None,
            last_count: 0.0,
            count: None,
            has_sum: false,
            has_gauge_sum: false,
            has_negative_gauge_sum: false,
            has_negative_bounds: false,
        }
    }

    fn sample(&mut self, suffix: &str, labels: &Labels, value: f64) -> Result<(), String> {
        match suffix {
            "_bucket" => {
                let bound = labels.get(BUCKET_LABEL).and_then(parse_canonical).unwrap_or(f64::NAN);
                if self.last_bound.is_some_and(|last| bound <= last) {
                    return Err("buckets out of order".to_owned());
                }
                if value < self.last_count {
                    return Err("bucket counts fall".to_owned());
                }
                self.has_negative_bounds |= bound < 0.0;
                self.last_bound = Some(bound);
                self.last_count = value;
            }
            "_count" | "_gcount" => self.count = Some(value),
            "_sum" => self.has_sum = true,
            "_gsum" => {
                self.has_gauge_sum = true;
                self.has_negative_gauge_sum = value < 0.0;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<(), String> {
        let message = if self.last_bound != Some(f64::INFINITY) {
            "the bucket '+Inf' is missing"
        } else if self.count.is_some_and(|count| count != self.last_count) {
            "the count differs from the bucket '+Inf'"
        } else if (self.has_sum || self.has_gauge_sum) && self.count.is_none() {
            "a sum without a count"
        } else if !self.has_sum && !self.has_gauge_sum && self.count.is_some() {
            "a count without a sum"
        } else if self.has_negative_bounds && self.has_sum {
            "a sum beside buckets with negative bounds"
        } else if !self.has_negative_bounds && self.has_negative_gauge_sum {
            "a negative sum beside buckets without negative bounds"
        } else {
            return Ok(());
        };
        Err(format!("histogram {}: {message}", self.key.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(body: &str) -> String {
        match check_open_metrics(&format!("{body}# EOF\n")) {
            Ok(samples) => format!("{samples} samples"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn families_and_groups_stand_together() {
        assert_eq!(verdict("# TYPE a gauge\na{x=\"1\"} 1\na{x=\"2\"} 1\n"), "2 samples");
        assert_eq!(
            verdict("# TYPE a gauge\na{x=\"1\"} 1\na{x=\"2\"} 1\na{x=\"1\"} 1\n"),
            "4:1: the samples of \"a\" {x=\"1\"} do not stand together"
        );
        assert_eq!(verdict("a 1\nb 1\na 2\n"), "4:1: metric \"a\" clashes with an earlier one");
        assert_eq!(verdict("# TYPE a gauge\na 1 2\na 1 1\n"), "3:1: times go backwards in \"a\" {}");
    }

    #[test]
    fn histograms_add_up() {
        let body = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 3\n";
        assert_eq!(verdict(body), "4 samples");
        assert!(verdict(&body.replace("h_count 2", "h_count 3")).contains("differs"));
        assert!(verdict(&body.replace("\"+Inf\"} 2", "\"+Inf\"} 0")).contains("fall"));
        assert!(verdict(&body.replace("h_sum 3\n", "")).contains("without a sum"));
    }

    #[test]
    fn exemplars_only_where_they_belong() {
        assert_eq!(verdict("# TYPE a counter\na_total 1 # {t=\"x\"} 1\n"), "1 samples");
        assert!(verdict("# TYPE a gauge\na 1 # {t=\"x\"} 1\n").contains("exemplars"));
        let long = "x".repeat(128);
        assert!(verdict(&format!("# TYPE a counter\na_total 1 # {{t=\"{long}\"}} 1\n")).contains("129"));
    }
}
