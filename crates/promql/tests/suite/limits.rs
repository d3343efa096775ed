//! A query ends within its budget and says which part of it was too much.

use gantry_prom_model::Labels;
use gantry_promql::testing::MemoryStorage;
use gantry_promql::{Cancellation, Engine, EngineOptions, QueryError, QueryValue, parse};
use std::time::Duration;

fn storage(series: usize, samples: i64) -> MemoryStorage {
    let mut storage = MemoryStorage::new();
    for index in 0..series {
        let labels = Labels::from_pairs([("__name__", "m_total"), ("i", index.to_string().as_str())]);
        let buffer = storage.series_mut(&labels);
        for sample in 0..samples {
            buffer.push(sample * 15_000, sample as f64);
        }
    }
    storage
}

#[test]
fn too_many_samples_are_refused_by_name() {
    let engine = Engine::new(EngineOptions { max_samples: 500, ..EngineOptions::default() });
    let storage = storage(100, 100);
    let error = engine.range(&storage, "m_total", 0, 600_000, 15_000).expect_err("4 000 points");
    assert!(
        matches!(&error, QueryError::TooManySamples { what, limit: 500 } if what == "m_total"),
        "{error}"
    );
    // A streamed aggregation holds one series at a time.
    let result = engine.range(&storage, "sum(rate(m_total[1m]))", 60_000, 600_000, 15_000).expect("fits");
    assert!(matches!(result.value, QueryValue::Matrix(matrix) if matrix.len() == 1));
}

#[test]
fn too_many_bytes_are_refused_before_they_are_taken() {
    let engine = Engine::new(EngineOptions { max_bytes: 1 << 20, ..EngineOptions::default() });
    let error =
        engine.instant(&storage(1, 2), "max_over_time(m_total[10y:1s])", 0).expect_err("300 million steps");
    assert!(matches!(error, QueryError::TooManyBytes { .. }), "{error}");
    let error = engine.range(&storage(1, 2), "m_total", 0, i64::MAX / 8, 1).expect_err("too many steps");
    assert!(error.to_string().contains("steps"), "{error}");
}

#[test]
fn a_query_can_be_stopped() {
    let storage = storage(10, 10);
    let expr = parse("m_total").expect("valid");
    let cancellation = Cancellation::new();
    cancellation.cancel();
    let stopped = Engine::default().instant_expr(&storage, "m_total", &expr, 0, &cancellation);
    assert!(matches!(stopped, Err(QueryError::Canceled)));
    let engine = Engine::new(EngineOptions { timeout: Duration::ZERO, ..EngineOptions::default() });
    assert!(matches!(engine.instant(&storage, "m_total", 0), Err(QueryError::Timeout(_))));
}

#[test]
fn a_long_chain_is_evaluated() {
    let query = vec!["m_total"; 3_000].join(" or ");
    let result = Engine::default().instant(&storage(2, 2), &query, 15_000).expect("a chain of 3 000");
    assert!(matches!(result.value, QueryValue::Vector(vector) if vector.len() == 2));
}
