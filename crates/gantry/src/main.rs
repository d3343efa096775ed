//! One binary for the nine jobs around running services on Kubernetes: dispatch by verb or link name.
//!
//! Invariant: a verb that needs no runtime starts none, so that `gantry kustomize build` is as quick as a small tool.

#![deny(unsafe_code)]

mod cli;
mod prove;
mod resident;
mod up;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run(std::env::args_os().collect())
}
