//! `gantry status`: the addresses of a running `up` and the health of what it runs.

use std::path::Path;
use std::process::ExitCode;

use gantry_workloads::health::{Workload, survey};
use serde_json::json;

use super::control::{VerbResult, not_running, running};
use super::state::State;
use super::steps::{Output, Steps};

pub(crate) fn status(data_dir: &Path, output: Output) -> VerbResult {
    let steps = Steps::new(output);
    let Some((_, state)) = running(data_dir)? else { return Ok(not_running(data_dir, &steps)) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let workloads = runtime.block_on(async {
        let client = gantry_operator::connect(Some(&state.kubeconfig), None).await?;
        Ok::<_, Box<dyn std::error::Error>>(survey(&client).await?)
    })?;
    let healthy = state.ready && workloads.iter().all(|workload| workload.healthy);
    let value = json!({
        "running": true,
        "ready": healthy,
        "pid": state.pid,
        "dir": state.dir,
        "addresses": state.addresses,
        "kubeconfig": state.kubeconfig,
        "workloads": workloads,
    });
    steps.report(&value, &as_text(&state, &workloads, &steps));
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn as_text(state: &State, workloads: &[Workload], steps: &Steps) -> String {
    let mut text = format!("{}  pid {}\n", state.dir.display(), state.pid);
    if let Some(addresses) = &state.addresses {
        text.push_str(&super::address_lines(addresses, &state.kubeconfig));
    }
    let width = workloads.iter().map(|w| w.kind.len() + w.name.len() + 1).max().unwrap_or(0);
    let place = workloads.iter().map(|w| w.namespace.len()).max().unwrap_or(0);
    for workload in workloads {
        let mark = if workload.healthy { steps.paint("32", "✓") } else { steps.paint("31", "✗") };
        let name = format!("{}/{}", workload.kind.to_lowercase(), workload.name);
        let count = format!("{}/{}", workload.ready, workload.desired);
        text.push_str(&format!(
            "\n{mark} {:<place$}  {name:<width$}  {count:>5}  {}",
            workload.namespace, workload.reason
        ));
    }
    text.trim_end().to_owned()
}
