//! Whatever parses is answered or refused, never a panic, and the same in a range as at an instant.

use gantry_prom_model::{FloatHistogram, Labels, Span, stale_nan};
use gantry_promql::testing::MemoryStorage;
use gantry_promql::{Engine, EngineOptions, FUNCTIONS, QueryValue, ast::ValueType, parse};
use std::sync::Arc;
use std::time::Duration;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn pick<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len())]
    }
}

fn vector(random: &mut Random, depth: usize) -> String {
    if depth == 0 {
        return format!(
            "{}{}",
            random.pick(&["a", "b_bucket", "h", "n", "{x=\"1\"}"]),
            random.pick(&["", " offset 1m", " @ 60", " smoothed"])
        );
    }
    let deeper = depth - 1;
    match random.below(6) {
        0 => {
            let op = random.pick(&["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"]);
            format!("{op} {} ({})", random.pick(&["", "by (x)", "without (x)"]), vector(random, deeper))
        }
        1 => {
            let op = random.pick(&["topk", "bottomk", "limitk", "quantile", "limit_ratio"]);
            format!("{op}({}, {})", random.pick(&["2", "0.5", "-1", "NaN"]), vector(random, deeper))
        }
        2 => {
            let op = random.pick(&[
                "+", "-", "*", "/", "%", "^", "==", "> bool", "and", "or", "unless", "atan2", "</", ">/",
            ]);
            let matching = random.pick(&["", "on (x)", "ignoring (le)"]);
            format!("({}) {op} {matching} ({})", vector(random, deeper), vector(random, deeper))
        }
        3 => format!(
            "({}) {} {}",
            vector(random, deeper),
            random.pick(&["+", "*", "/", "<", ">/", "</"]),
            random.pick(&["2", "-1", "0", "Inf", "NaN"])
        ),
        4 => format!("-({})", vector(random, deeper)),
        _ => call(random, deeper),
    }
}

fn call(random: &mut Random, depth: usize) -> String {
    let vectors: Vec<_> = FUNCTIONS.iter().filter(|function| function.returns == ValueType::Vector).collect();
    let function = vectors[random.below(vectors.len())];
    let mut args = Vec::new();
    for kind in function.args {
        args.push(match kind {
            ValueType::Vector if function.name == "info" && !args.is_empty() => "{data=~\".*\"}".to_owned(),
            ValueType::Vector => vector(random, depth),
            ValueType::Scalar => random.pick(&["0.5", "1", "-2", "NaN", "time()", "scalar(a)"]).to_owned(),
            ValueType::String => random.pick(&["\"x\"", "\"le\"", "\"$1\"", "\"(.*)\""]).to_owned(),
            ValueType::Matrix if random.below(2) == 0 => {
                format!("({})[5m:{}]", vector(random, depth), random.pick(&["", "30s"]))
            }
            ValueType::Matrix => {
                let selector = random.pick(&["a", "h", "n", "mixed", "b_bucket"]);
                format!(
                    "{selector}[{}]{}",
                    random.pick(&["1m", "5m"]),
                    random.pick(&["", "", " anchored", " smoothed"])
                )
            }
        });
    }
    format!("{}({})", function.name, args.join(", "))
}

fn storage() -> MemoryStorage {
    let mut storage = MemoryStorage::new();
    for x in ["1", "2", "3"] {
        let series = storage.series_mut(&Labels::from_pairs([("__name__", "a"), ("x", x)]));
        for index in 0..40i64 {
            let value = match index % 13 {
                11 => f64::NAN,
                12 => stale_nan(),
                rest => rest as f64 * 1.5,
            };
            series.push(index * 15_000, value);
        }
        for le in ["0.1", "1", "+Inf", "bad"] {
            let labels = Labels::from_pairs([("__name__", "b_bucket"), ("x", x), ("le", le)]);
            let series = storage.series_mut(&labels);
            (0..40i64).for_each(|index| series.push(index * 15_000, index as f64));
        }
    }
    for (name, schema) in [("h", 0), ("n", -53), ("mixed", 1)] {
        let series = storage.series_mut(&Labels::from_pairs([("__name__", name), ("x", "1")]));
        for index in 0..40i64 {
            if name == "mixed" && index % 3 == 0 {
                series.push(index * 15_000, index as f64);
                continue;
            }
            let count = index as f64;
            let histogram = FloatHistogram {
                schema,
                count: 3.0 * count,
                sum: 2.0 * count,
                zero_count: if schema == -53 { 0.0 } else { count },
                zero_threshold: if schema == -53 { 0.0 } else { 0.001 },
                positive_spans: vec![Span { offset: 0, length: 2 }],
                positive_buckets: vec![count, count],
                custom_values: if schema == -53 { Arc::from([1.0, 2.0]) } else { Arc::from([]) },
                ..FloatHistogram::default()
            };
            series.push_histogram(index * 15_000, Arc::new(histogram));
        }
    }
    storage
}

#[test]
fn random_queries_are_answered_the_same_at_an_instant_and_in_a_range() {
    let storage = storage();
    let mut random = Random(0xD1B5_4A32_D192_ED03);
    let (mut answered, mut compared) = (0, 0);
    for round in 0..4_000 {
        let delayed_name_removal = round % 2 == 0;
        let engine = Engine::new(EngineOptions {
            delayed_name_removal,
            timeout: Duration::from_secs(60),
            ..EngineOptions::default()
        });
        let query = vector(&mut random, 3);
        let Ok(expr) = parse(&query) else { continue };
        assert_eq!(parse(&expr.to_string()).expect("what is printed parses").to_string(), expr.to_string());
        let time = 15_000 * random.below(45) as i64;
        let instant = engine.instant(&storage, &query, time);
        let range = engine.range(&storage, &query, time - 60_000, time + 60_000, 60_000);
        answered += usize::from(instant.is_ok());
        let (Ok(instant), Ok(range)) = (instant, range) else { continue };
        let (QueryValue::Vector(vector), QueryValue::Matrix(matrix)) = (instant.value, range.value) else {
            continue;
        };
        compared += 1;
        let at_time = matrix
            .iter()
            .flat_map(|series| &series.points)
            .filter(|point| point.timestamp_ms == time)
            .count();
        // Sorting and start times of samples aside, both see the same.
        assert_eq!(vector.len(), at_time, "{query} at {time}");
    }
    assert!(answered > 1_000 && compared > 500, "answered {answered}, compared {compared}");
}
