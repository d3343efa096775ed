//! The services of the examples: `gantry sample-service catalog|checkout` of the shop, `worker` of the queue.
//!
//! They stand in for a team's own programs: configured by environment variables, instrumented, probed, ended by
//! SIGTERM without cutting a request. `catalog` spends a known amount of CPU per request, so that load is felt.

#![forbid(unsafe_code)]

mod catalog;
mod checkout;
mod instruments;
mod service;
mod work;
mod worker;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::service::{RunError, Server};

/// Run one of the example shop's services.
///
/// Both answer GET /metrics (Prometheus text), /healthz and /readyz, listen on POD_IP:PORT, and end with SIGTERM:
/// no new connection is taken, requests in flight are finished, the exit code is 0.
#[derive(Parser)]
#[command(
    name = "sample-service",
    after_help = "Examples:\n  gantry sample-service catalog --port 8081 --work 5\n  CATALOG_URL=http://127.0.0.1:8081 gantry sample-service checkout --port 8082\n  curl -d '{\"product\":3,\"quantity\":2}' http://127.0.0.1:8082/checkout"
)]
struct Cli {
    #[command(subcommand)]
    service: Which,
}

#[derive(Subcommand)]
enum Which {
    /// Products of the shop: GET /products (a page of them) and GET /products/{id}.
    Catalog {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        catalog: catalog::Options,
    },
    /// Orders: POST /checkout {"product": 3, "quantity": 2} or GET /checkout?product=3; asks catalog for the price.
    Checkout {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        checkout: checkout::Options,
    },
    /// A worker: takes entries from a Redis list and spends a known time on each.
    Worker {
        #[command(flatten)]
        worker: worker::Options,
    },
}

#[derive(Args)]
struct Common {
    /// Address to listen on.
    #[arg(long, env = "POD_IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Port to listen on; 0 lets the system choose.
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,
    /// CPU milliseconds that each request costs.
    #[arg(long = "work", value_name = "MS", env = "WORK_MS", default_value_t = 0.0, value_parser = milliseconds)]
    work_ms: f64,
    /// Threads that do the work; a request waits when all are busy.
    #[arg(long, env = "WORKERS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Seconds before the service starts to listen, as a service that loads much data would take.
    #[arg(long, value_name = "SECONDS", env = "STARTUP_DELAY", default_value_t = 0.0, value_parser = seconds)]
    startup_delay: f64,
}

pub fn command() -> clap::Command {
    Cli::command()
}

pub fn run(matches: &clap::ArgMatches) -> ExitCode {
    let cli = match Cli::from_arg_matches(matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(serve(cli.service)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn serve(which: Which) -> Result<(), RunError> {
    match which {
        Which::Catalog { common, catalog } => {
            let server = Server::new("catalog", &common.server_options())?;
            let handler = catalog::Catalog::new(catalog, server.workers())?;
            server.run(handler).await
        }
        Which::Worker { worker } => worker::run(worker).await,
        Which::Checkout { common, checkout } => {
            let server = Server::new("checkout", &common.server_options())?;
            let handler = checkout::Checkout::new(checkout, server.workers())?;
            server.run(handler).await
        }
    }
}

impl Common {
    fn server_options(&self) -> service::Options {
        service::Options {
            listen: SocketAddr::new(self.address, self.port),
            work_ms: self.work_ms,
            workers: self.workers,
            startup_delay: Duration::from_secs_f64(self.startup_delay),
        }
    }
}

fn milliseconds(text: &str) -> Result<f64, String> {
    bounded(text, 10_000.0)
}

fn seconds(text: &str) -> Result<f64, String> {
    bounded(text, 3600.0)
}

fn bounded(text: &str, most: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=most).contains(&value) => Ok(value),
        _ => Err(format!("expected a number from 0 to {most}")),
    }
}
