//! The HTML report of a Locust run: users, rates and response times over time, then the tables.

use gantry_load::locust::{Master, Number, PERCENTILES};
use gantry_load::report::{Kind, Lane, Report, Series, Table, Unit};

/// The page as HTML, from what the master has counted.
pub(crate) fn html(master: &Master, locustfile: &str, profile: Option<&str>) -> String {
    let stats = &master.stats;
    let started = stats.total.start_time;
    let ended = stats.total.last_request_timestamp.unwrap_or(started);
    let mut facts = vec![
        ("Locustfile".to_owned(), locustfile.to_owned()),
        ("Host".to_owned(), master.effective_host().unwrap_or_else(|| "–".to_owned())),
        ("Requests".to_owned(), stats.total.num_requests.to_string()),
        ("Failures".to_owned(), stats.total.num_failures.to_string()),
    ];
    if let Some(profile) = profile {
        facts.push(("Profile".to_owned(), profile.to_owned()));
    }
    let mut notes = vec![
        "Percentiles are of Locust's rounded response times; those named exact are not rounded.".to_owned(),
    ];
    if master.worker_cpu_warned() {
        notes.push("A worker was busier than 90 % of a core, so response times may be too high.".to_owned());
    }
    Report {
        title: "Locust test report".to_owned(),
        facts,
        started_ms: (started * 1000.0) as i64,
        seconds: (ended - started).max(0.0),
        lanes: lanes(master),
        tables: vec![
            requests(master),
            percentiles(master),
            failures(master),
            exceptions(master),
            shares(master),
        ],
        notes,
        ..Report::default()
    }
    .to_html()
}

fn lanes(master: &Master) -> Vec<Lane> {
    let history = &master.stats.history;
    let series = |name: &str, kind, value: &dyn Fn(&gantry_load::locust::History) -> f64| Series {
        name: name.to_owned(),
        kind,
        points: history.iter().map(|point| (point.at_ms, Some(value(point)))).collect(),
    };
    let lane = |title: &str, unit, series| Lane { title: title.to_owned(), unit, series, limits: Vec::new() };
    let seconds = |ms: Number| ms.as_f64() / 1000.0;
    vec![
        lane(
            "Requests",
            Unit::PerSecond,
            vec![
                series("requests", Kind::Line, &|point| point.current_rps),
                series("failures", Kind::Failure, &|point| point.current_fail_per_sec),
            ],
        ),
        lane(
            "Response time",
            Unit::Seconds,
            vec![
                series("median", Kind::Line, &|point| seconds(point.p50)),
                series("95 %", Kind::Line, &|point| seconds(point.p95)),
            ],
        ),
        lane("Users", Unit::Count, vec![series("users", Kind::Step, &|point| point.user_count as f64)]),
    ]
}

fn headings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn requests(master: &Master) -> Table {
    let stats = &master.stats;
    let rows = stats.entries().chain([&stats.total]).map(|entry| {
        let ms = |value: f64| format!("{value:.1}");
        vec![
            entry.method.clone(),
            entry.name.clone(),
            entry.num_requests.to_string(),
            entry.num_failures.to_string(),
            ms(entry.avg_response_time()),
            ms(entry.min_response_time.map_or(0.0, Number::as_f64)),
            ms(entry.max_response_time.as_f64()),
            format!("{:.0}", entry.avg_content_length().as_f64()),
            format!("{:.2}", stats.total_rps(entry)),
            format!("{:.2}", stats.total_fail_per_sec(entry)),
        ]
    });
    Table {
        title: "Request statistics".to_owned(),
        headings: headings(&[
            "Method",
            "Name",
            "# Requests",
            "# Fails",
            "Average ms",
            "Min ms",
            "Max ms",
            "Average bytes",
            "RPS",
            "Failures/s",
        ]),
        text_columns: 2,
        rows: rows.collect(),
    }
}

fn percentiles(master: &Master) -> Table {
    let stats = &master.stats;
    let has_exact = stats.total.exact.count() > 0;
    let mut names = headings(&["Method", "Name"]);
    names.extend(PERCENTILES.iter().map(|share| format!("{}%", (share * 1e6).round() / 1e4)));
    if has_exact {
        names.extend(headings(&["exact 50%", "exact 95%", "exact 99%"]));
    }
    let rows = stats.entries().chain([&stats.total]).filter(|entry| entry.num_requests > 0).map(|entry| {
        let mut row = vec![entry.method.clone(), entry.name.clone()];
        row.extend(PERCENTILES.iter().map(|share| entry.percentile(*share).to_string()));
        if has_exact {
            let exact = entry.exact.quantiles_us(&[0.5, 0.95, 0.99]);
            row.extend(
                exact
                    .into_iter()
                    .map(|us| us.map_or_else(|| "–".to_owned(), |us| format!("{:.2}", us as f64 / 1000.0))),
            );
        }
        row
    });
    Table {
        title: "Response time statistics, ms".to_owned(),
        headings: names,
        text_columns: 2,
        rows: rows.collect(),
    }
}

fn failures(master: &Master) -> Table {
    let rows = master.stats.sorted_errors().into_iter().map(|error| {
        vec![error.method.clone(), error.name.clone(), error.error.clone(), error.occurrences.to_string()]
    });
    Table {
        title: "Failures".to_owned(),
        headings: headings(&["Method", "Name", "Error", "Occurrences"]),
        text_columns: 3,
        rows: rows.collect(),
    }
}

fn exceptions(master: &Master) -> Table {
    let rows = master.exceptions().map(|exception| {
        let nodes: Vec<&str> = exception.nodes.iter().map(String::as_str).collect();
        vec![
            exception.msg.clone(),
            exception.traceback.clone(),
            nodes.join(", "),
            exception.count.to_string(),
        ]
    });
    Table {
        title: "Exceptions".to_owned(),
        headings: headings(&["Message", "Traceback", "Nodes", "Count"]),
        text_columns: 3,
        rows: rows.collect(),
    }
}

/// The final share of each class and task.
fn shares(master: &Master) -> Table {
    let ratio = gantry_load::locust::task_ratio(&master.chosen_classes(), &master.spawned(), true);
    let mut rows = Vec::new();
    collect_shares(&ratio, 0, &mut rows);
    Table {
        title: "Final ratio".to_owned(),
        headings: headings(&["Class or task", "Share"]),
        text_columns: 1,
        rows,
    }
}

fn collect_shares(level: &serde_json::Value, depth: usize, rows: &mut Vec<Vec<String>>) {
    for (name, value) in level.as_object().into_iter().flatten() {
        let share = value.get("ratio").and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        rows.push(vec![format!("{}{name}", "\u{2003}".repeat(depth)), format!("{:.1} %", share * 100.0)]);
        if let Some(tasks) = value.get("tasks") {
            collect_shares(tasks, depth + 1, rows);
        }
    }
}
