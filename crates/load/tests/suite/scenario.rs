//! Scenario files: what is accepted, and what is said about what is not.

use std::time::Duration;

use gantry_load::{Load, Scenario, Think, When};

#[test]
fn a_full_scenario_is_read() {
    let text = include_str!("../data/full.yaml");
    let scenario = Scenario::parse("full.yaml", text).unwrap();
    assert_eq!(scenario.duration(), Duration::from_secs(90));
    assert_eq!(
        scenario.target.as_ref().map(ToString::to_string).as_deref(),
        Some("http://127.0.0.1:8080/shop")
    );
    let Load::Users { level, think } = &scenario.load else { panic!("closed load was asked for") };
    assert_eq!(*think, Think::Between(Duration::from_millis(100), Duration::from_millis(300)));
    assert_eq!(level.at(Duration::from_secs(15)), 10.0);
    let names: Vec<&str> = scenario.requests.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["GET /products", "one product", "order"]);
    assert_eq!(scenario.requests[2].timeout, Duration::from_secs(2));
    assert_eq!(scenario.requests[0].timeout, Duration::from_secs(5));
    assert_eq!(scenario.thresholds.load.len(), 3);
    assert_eq!(scenario.thresholds.promql[1].when, When::Always);
}

#[test]
fn mistakes_are_named_with_their_place() {
    for case in include_str!("../data/mistakes.txt").split("\n====\n") {
        let (text, expected) = case.split_once("\n----\n").expect("a case has an input and a message");
        let message = Scenario::parse("load.yaml", text)
            .map(|_| "no error".to_owned())
            .unwrap_or_else(|e| e.to_string());
        let first = message.lines().next().unwrap_or_default();
        assert_eq!(first, expected.trim(), "in\n{text}\n{message}");
    }
}
