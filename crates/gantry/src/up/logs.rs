//! `gantry logs`: the logs of all pods of a running `up`, merged by time, each line with its pod.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, LogParams};
use kube::{Client, ResourceExt};
use tokio::sync::mpsc;

use super::control::{VerbResult, not_running, running};
use super::steps::{Output, Steps};

/// Lines that wait for a slow terminal.
const WAITING_LINES: usize = 1024;
/// Colours (of the terminal's palette) that tell pods apart.
const COLOURS: [&str; 6] = ["36", "33", "35", "32", "34", "31"];

pub(crate) struct LogsOptions {
    pub data_dir: PathBuf,
    /// Only pods whose name starts with this.
    pub name: String,
    pub namespace: Option<String>,
    pub follow: bool,
    pub tail: Option<i64>,
}

/// One container whose log is read.
#[derive(Clone)]
struct Source {
    namespace: String,
    pod: String,
    container: String,
    label: String,
    colour: Option<&'static str>,
}

pub(crate) fn logs(options: &LogsOptions) -> VerbResult {
    let Some((_, state)) = running(&options.data_dir)? else {
        return Ok(not_running(&options.data_dir, &Steps::new(Output::Text)));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = gantry_operator::connect(Some(&state.kubeconfig), None).await?;
        let sources = sources(&client, options).await?;
        if sources.is_empty() {
            return Err(format!(
                "no pod's name starts with {:?}; `gantry status` lists what runs",
                options.name
            )
            .into());
        }
        if options.follow {
            follow(client, sources, options).await
        } else {
            print_all(&client, &sources, options).await
        }
    })
}

async fn sources(client: &Client, options: &LogsOptions) -> Result<Vec<Source>, kube::Error> {
    let api: Api<Pod> = match &options.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut sources = Vec::new();
    for pod in api.list(&ListParams::default()).await?.items {
        let name = pod.name_any();
        if !name.starts_with(&options.name) {
            continue;
        }
        let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let colour = coloured.then(|| COLOURS[sources.len() % COLOURS.len()]);
        for container in containers {
            let label = match containers.len() {
                1 => name.clone(),
                _ => format!("{name}/{}", container.name),
            };
            sources.push(Source {
                namespace: pod.namespace().unwrap_or_default(),
                pod: name.clone(),
                container: container.name.clone(),
                label,
                colour,
            });
        }
    }
    Ok(sources)
}

impl Source {
    fn params(&self, options: &LogsOptions) -> LogParams {
        LogParams {
            container: Some(self.container.clone()),
            follow: options.follow,
            tail_lines: options.tail,
            timestamps: true,
            ..LogParams::default()
        }
    }

    /// The line without its time, after the pod's name.
    fn show(&self, line: &str) -> String {
        let text = line.split_once(' ').map_or(line, |(_, text)| text);
        match self.colour {
            Some(colour) => format!("\x1b[{colour}m{}\x1b[0m  {text}", self.label),
            None => format!("{}  {text}", self.label),
        }
    }
}

async fn print_all(client: &Client, sources: &[Source], options: &LogsOptions) -> VerbResult {
    let mut lines: Vec<(String, usize)> = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let api: Api<Pod> = Api::namespaced(client.clone(), &source.namespace);
        match api.logs(&source.pod, &source.params(options)).await {
            Ok(text) => lines.extend(text.lines().map(|line| (line.to_owned(), index))),
            // A container that has not started has no log yet.
            Err(kube::Error::Api(status)) if status.code == 400 => {}
            Err(error) => return Err(format!("logs of {}: {error}", source.label).into()),
        }
    }
    // Each line begins with its time, so sorting by line merges them; equal times keep their container's order.
    lines.sort_by(|a, b| time_of(&a.0).cmp(time_of(&b.0)));
    let mut out = std::io::stdout().lock();
    for (line, index) in lines {
        if writeln!(out, "{}", sources[index].show(&line)).is_err() {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn time_of(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(time, _)| time)
}

async fn follow(client: Client, sources: Vec<Source>, options: &LogsOptions) -> VerbResult {
    let (sender, mut receiver) = mpsc::channel::<String>(WAITING_LINES);
    for source in sources {
        let (client, sender, params) = (client.clone(), sender.clone(), source.params(options));
        tokio::spawn(async move {
            let api: Api<Pod> = Api::namespaced(client, &source.namespace);
            let Ok(stream) = api.log_stream(&source.pod, &params).await else { return };
            let mut lines = stream.lines();
            while let Ok(Some(line)) = lines.try_next().await {
                if sender.send(source.show(&line)).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    loop {
        tokio::select! {
            line = receiver.recv() => match line {
                Some(line) if writeln!(std::io::stdout().lock(), "{line}").is_ok() => {}
                _ => return Ok(ExitCode::SUCCESS),
            },
            () = super::signals::ended_by_user() => return Ok(ExitCode::SUCCESS),
        }
    }
}
