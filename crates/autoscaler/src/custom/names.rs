//! From series to metric names.

use regex::Regex;

/// A filter on the names of series.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) regex: Regex,
    /// Whether a match keeps the series or drops it.
    pub(crate) wanted: bool,
}

/// How a series' name becomes a metric's.
#[derive(Clone, Debug)]
pub(crate) struct MetricName {
    matches: Regex,
    name_as: String,
}

impl Filter {
    pub(crate) fn keeps(&self, series: &str) -> bool {
        self.regex.is_match(series) == self.wanted
    }
}

impl MetricName {
    /// Without `name_as` the name is the only group, or the whole where there is none.
    pub(crate) fn new(matches: Regex, name_as: &str) -> Result<MetricName, String> {
        let name_as = match (name_as, matches.captures_len()) {
            ("", 1) => "$0",
            ("", 2) => "$1",
            ("", groups) => {
                return Err(format!(
                    "name: `matches` has {} groups, so it must say what `as` is",
                    groups - 1
                ));
            }
            (given, _) => given,
        };
        Ok(MetricName { matches, name_as: name_as.to_owned() })
    }

    /// `None` when the series' name does not match.
    pub(crate) fn of(&self, series: &str) -> Option<String> {
        let captures = self.matches.captures(series)?;
        let mut name = String::new();
        captures.expand(&self.name_as, &mut name);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_groups() {
        let name = |matches: &str, name_as: &str, series: &str| {
            MetricName::new(Regex::new(matches).unwrap(), name_as).unwrap().of(series)
        };
        assert_eq!(name(".*", "", "up").as_deref(), Some("up"));
        assert_eq!(name("^(.*)_total$", "", "http_requests_total").as_deref(), Some("http_requests"));
        assert_eq!(name("^(.*)_total$", "${1}_per_second", "x_total").as_deref(), Some("x_per_second"));
        assert_eq!(
            name("^container_(.*)_(seconds)_total$", "$2.$1", "container_cpu_seconds_total").as_deref(),
            Some("seconds.cpu")
        );
        assert_eq!(name("^(.*)_total$", "", "up"), None);
        assert_eq!(name("^(.*)_total$", "fixed", "a_total").as_deref(), Some("fixed"));
    }
}
