//! The report as files: the XML and the page are well formed whatever the names hold, and the page is alone.

use gantry_load::report::{Assertion, Event, Kind, Lane, Level, Report, Series, Unit};

fn report() -> Report {
    let points = |f: fn(i64) -> f64| (0..60).map(|s| (1_700_000_000_000 + s * 1000, Some(f(s)))).collect();
    let series = |name: &str, kind, f| Series { name: name.to_owned(), kind, points: points(f) };
    let assertion = |name: &str, passed| Assertion {
        group: "load".to_owned(),
        name: name.to_owned(),
        passed,
        message: "measured 312 ms".to_owned(),
        seconds: 60.0,
    };
    Report {
        title: "shop </script><b>&\"'".to_owned(),
        started_ms: 1_700_000_000_000,
        seconds: 60.0,
        lanes: vec![
            Lane {
                title: "Load".to_owned(),
                unit: Unit::PerSecond,
                series: vec![series("requests", Kind::Line, |s| {
                    100.0 + (s * 37 % 20) as f64 + if s > 20 { 150.0 } else { 0.0 }
                })],
                limits: vec![],
            },
            Lane {
                title: "Latency".to_owned(),
                unit: Unit::Seconds,
                series: vec![
                    series("p50", Kind::Line, |s| 0.02 + (s % 7) as f64 / 1000.0),
                    series("p99", Kind::Line, |s| if (20..30).contains(&s) { 0.31 } else { 0.08 }),
                ],
                limits: vec![("p99 < 250ms".to_owned(), 0.25)],
            },
            Lane {
                title: "Replicas".to_owned(),
                unit: Unit::Count,
                series: vec![series("catalog", Kind::Step, |s| if s < 24 { 1.0 } else { 3.0 })],
                limits: vec![],
            },
        ],
        events: vec![Event {
            at_ms: 1_700_000_024_000,
            level: Level::Warning,
            subject: "deployment/catalog".to_owned(),
            text: "scaled 1 → 3".to_owned(),
            reason: "cpu 287 % of the request, target 60 %".to_owned(),
        }],
        assertions: vec![assertion("p99 < 250ms", false), assertion("errors == 0 \u{1} \u{ffff}", true)],
        ..Report::default()
    }
}

#[test]
fn junit_is_well_formed_and_counts() {
    let xml = report().to_junit();
    assert!(
        xml.contains(
            "<testsuites name=\"shop &lt;/script&gt;&lt;b&gt;&amp;&quot;&apos;\" tests=\"2\" failures=\"1\""
        ),
        "{xml}"
    );
    assert!(xml.contains("<failure message=\"measured 312 ms\">"), "{xml}");
    assert!(!xml.contains('\u{1}') && !xml.contains('\u{ffff}'));
}

#[test]
fn the_page_needs_no_other_host_and_its_data_cannot_end_it() {
    let html = report().to_html();
    for reach in ["src=", "href=\"http", "url(", "@import", "fetch("] {
        assert!(!html.contains(reach), "{reach}");
    }
    assert!(!html.contains("shop </script>"));
    assert!(html.contains("✗ Failed: 1 of 2"));
    assert_eq!(html.matches("<script").count(), html.matches("</script>").count());
    if let Some(path) = option_env!("CARGO_TARGET_TMPDIR") {
        std::fs::write(format!("{path}/report.html"), &html).unwrap();
    }
}

#[test]
fn an_empty_report_is_a_page_too() {
    assert!(Report::default().to_html().contains("Nothing was asserted"));
    assert!(Report::default().to_junit().contains("tests=\"0\""));
}
