//! Invented load: a run that goes on from when it is started until it is stopped.

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use gantry_console::{LoadControl, LoadRequest, LoadRun, LoadScenario, LoadThreshold, LoadView, LoadWish};

const SCENARIO: &str = "name: shop\nduration: 10m\nusers: 20\nrequests:\n- /products\n- /checkout\n";

#[derive(Default)]
pub(crate) struct DemoLoad {
    run: Mutex<Option<LoadRun>>,
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)
}

impl LoadControl for DemoLoad {
    fn view(&self) -> LoadView {
        let mut run = self.run.lock().unwrap();
        if let Some(run) = run.as_mut().filter(|run| run.running) {
            grow(run);
        }
        let scenarios = vec![LoadScenario { name: "load.yaml".to_owned(), text: SCENARIO.to_owned() }];
        LoadView { scenarios, run: run.clone() }
    }

    fn start(&self, wish: LoadWish) -> Result<(), String> {
        if !wish.text.contains("requests:") {
            return Err(format!("{}:1:1: requests: is missing", wish.name));
        }
        // It has run for a minute already, so that there is something to see.
        *self.run.lock().unwrap() = Some(LoadRun {
            scenario: "shop".to_owned(),
            target: "http://127.0.0.1:8000 (the gateway)".to_owned(),
            running: true,
            started_ms: now_ms() - 60_000,
            duration: 600.0,
            ..LoadRun::default()
        });
        Ok(())
    }

    fn stop(&self) {
        if let Some(run) = self.run.lock().unwrap().as_mut().filter(|run| run.running) {
            grow(run);
            run.running = false;
            run.ended_early = Some("stopped".to_owned());
            let threshold = |expr: &str, passed, measured: &str| LoadThreshold {
                expr: expr.to_owned(),
                passed,
                measured: measured.to_owned(),
            };
            run.thresholds =
                vec![threshold("error_rate == 0", true, "0"), threshold("p99 < 50ms", false, "71ms")];
        }
    }
}

/// One point for every second that has passed.
fn grow(run: &mut LoadRun) {
    let now = now_ms();
    while run.started_ms + 1000 * run.times_ms.len() as i64 <= now {
        let second = run.times_ms.len() as f64;
        let wave = (second / 9.0).sin();
        run.times_ms.push(run.started_ms + 1000 * run.times_ms.len() as i64);
        run.rate.push(140.0 + 25.0 * wave);
        run.failed.push(0.0);
        run.p50.push(Some(0.012 + 0.002 * wave));
        run.p99.push(Some(0.055 + 0.016 * wave));
        run.users.push(second.min(20.0));
        run.in_flight.push(second.min(20.0) * 0.4);
        run.total_requests += (140.0 + 25.0 * wave) as u64;
    }
    run.seconds = (now - run.started_ms) as f64 / 1000.0;
    let request = |name: &str, rate, p50, p99| LoadRequest {
        name: name.to_owned(),
        rate,
        failed: 0,
        p50_seconds: Some(p50),
        p99_seconds: Some(p99),
    };
    run.requests = vec![request("/products", 126.0, 0.011, 0.049), request("/checkout", 14.0, 0.024, 0.071)];
}
