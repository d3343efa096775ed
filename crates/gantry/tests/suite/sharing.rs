//! Two `up`s that share an object storage answer one query together.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use gantry_prom_model::{Appendable, Labels};
use gantry_tsdb::{Db, DbOptions};
use serde_json::Value;

use crate::harness::{Shop, Up, gantry, percent_encode, wait_until};

const HOUR_MS: i64 = 3_600_000;

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_millis()).expect("a time")
}

/// Samples of the last nine hours, as an `up` that ran that long would have left them.
fn fill(shop: &Shop, value: f64) {
    let folder = shop.data_dir().join("tsdb");
    let db = Db::open(&folder, DbOptions::default(), now_ms()).expect("the store opens");
    let series = Labels::from_pairs([("__name__", "orders"), ("job", "old")]);
    let start = now_ms() - 9 * HOUR_MS;
    for minute in 0..8 * 60 {
        let mut batch = db.appender();
        batch.append(None, &series, start + minute * 60_000, value).expect("appended");
        batch.commit().expect("committed");
    }
}

fn shop(bucket: &std::path::Path, name: &str, value: f64) -> Shop {
    let shop = Shop::copy();
    let file = shop.file("gantry.yaml");
    let mut text = std::fs::read_to_string(&file).expect("the example has a gantry.yaml");
    text.push_str(&format!(
        "\nobjectStorage:\n  type: FILESYSTEM\n  config:\n    directory: {}\nexternalLabels:\n  laptop: {name}\n",
        bucket.display()
    ));
    std::fs::write(&file, text).expect("the copy is writable");
    fill(&shop, value);
    shop
}

/// Value by the label `laptop`.
fn orders(up: &Up, at: f64) -> BTreeMap<String, String> {
    let path = format!("/api/v1/query?query={}&time={at}", percent_encode("sum by(laptop) (orders)"));
    by_laptop(&up.get("metrics", "localhost", &path).1)
}

fn by_laptop(body: &str) -> BTreeMap<String, String> {
    let answer: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("not JSON: {body}"));
    let result = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{body}"));
    let pair = |series: &Value| {
        let laptop = series["metric"]["laptop"].as_str().unwrap_or("").to_owned();
        (laptop, series["value"][1].as_str().unwrap_or("").to_owned())
    };
    result.iter().map(pair).collect()
}

/// A `gantry thanos query`; dropped, it ends.
struct Query {
    process: Child,
    address: SocketAddr,
}

impl Query {
    fn start(endpoints: &[String]) -> Query {
        let mut process = gantry()
            .args(["thanos", "query", "--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0"])
            .args(endpoints)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening on http://")?.parse().ok())
            .expect("it says where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        Query { process, address }
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn two_ups_with_one_bucket_answer_together() {
    let bucket = tempfile::tempdir().expect("a temporary folder");
    let (left, right) = (shop(bucket.path(), "left", 1.0), shop(bucket.path(), "right", 2.0));
    let both = BTreeMap::from([("left".to_owned(), "1".to_owned()), ("right".to_owned(), "2".to_owned())]);
    // In the middle of what is in blocks.
    let at = (now_ms() - 7 * HOUR_MS) as f64 / 1000.0;
    let left_up = left.up();
    let right_up = right.up();
    for up in [&left_up, &right_up] {
        wait_until("both stores answer", || (orders(up, at) == both).then_some(()));
    }
    // The same over the StoreAPI, live, by a query of its own.
    let endpoints = [&left_up, &right_up].map(|up| format!("--endpoint={}", up.address("metrics")));
    let query = Query::start(&endpoints);
    let path = format!("/api/v1/query?query={}", percent_encode("count by(laptop) (up{job=\"gantry\"})"));
    let live = wait_until("the query reaches both", || {
        let found = by_laptop(&crate::harness::get(query.address, "localhost", &path).1);
        (found.len() == 2).then_some(found)
    });
    let live = live.expect("checked");
    assert_eq!(live.keys().collect::<Vec<_>>(), ["left", "right"]);
}
