//! JUnit XML as CI systems read it: testsuites, testsuite, testcase, failure.

use std::fmt::Write;

use super::{Assertion, Report};

pub(super) fn xml(report: &Report) -> String {
    let mut groups: Vec<(&str, Vec<&Assertion>)> = Vec::new();
    for assertion in &report.assertions {
        match groups.iter_mut().find(|(name, _)| *name == assertion.group) {
            Some((_, list)) => list.push(assertion),
            None => groups.push((&assertion.group, vec![assertion])),
        }
    }
    let failures = |list: &[&Assertion]| list.iter().filter(|assertion| !assertion.passed).count();
    let all: Vec<&Assertion> = report.assertions.iter().collect();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        xml,
        "<testsuites name=\"{}\" tests=\"{}\" failures=\"{}\" time=\"{:.3}\">",
        escape(&report.title),
        all.len(),
        failures(&all),
        report.seconds
    );
    for (name, list) in &groups {
        let seconds: f64 = list.iter().map(|assertion| assertion.seconds).fold(0.0, f64::max);
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"0\" time=\"{seconds:.3}\">",
            escape(name),
            list.len(),
            failures(list)
        );
        for assertion in list {
            let _ = write!(
                xml,
                "    <testcase classname=\"{}.{}\" name=\"{}\" time=\"{:.3}\"",
                escape(&report.title),
                escape(name),
                escape(&assertion.name),
                assertion.seconds
            );
            if assertion.passed {
                xml.push_str("/>\n");
            } else {
                let message = escape(&assertion.message);
                let _ = writeln!(
                    xml,
                    ">\n      <failure message=\"{message}\">{message}</failure>\n    </testcase>"
                );
            }
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// For text and attributes; what XML 1.0 cannot hold at all becomes U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push(c),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
