//! Outcomes as JUnit XML: a suite per file, a case per test.

use std::fmt::Write;

use gantry_rules::unit_test::TestOutcome;

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            // Not of XML's characters.
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The document of these files' outcomes.
pub(crate) fn xml(suites: &[(String, Vec<TestOutcome>)]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for (name, outcomes) in suites {
        let failed = outcomes.iter().filter(|outcome| !outcome.failures.is_empty()).count();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\">",
            escape(name),
            outcomes.len()
        );
        for outcome in outcomes {
            let _ = write!(out, "    <testcase name=\"{}\"", escape(&outcome.name));
            if outcome.failures.is_empty() {
                out.push_str("/>\n");
                continue;
            }
            let text = escape(&outcome.failures.join("\n"));
            let _ = writeln!(out, ">\n      <failure>{text}</failure>\n    </testcase>");
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        let outcome = |name: &str, failures: &[&str]| TestOutcome {
            name: name.into(),
            failures: failures.iter().map(|text| (*text).to_owned()).collect(),
        };
        let suites = [("a.yml".to_owned(), vec![outcome("one", &[]), outcome("t<wo>", &["x < 1 & y"])])];
        let written = xml(&suites);
        assert!(written.contains("<testsuite name=\"a.yml\" tests=\"2\" failures=\"1\">"), "{written}");
        assert!(written.contains("<testcase name=\"one\"/>"), "{written}");
        assert!(
            written.contains("name=\"t&lt;wo&gt;\"") && written.contains("x &lt; 1 &amp; y"),
            "{written}"
        );
    }
}
