//! Builds, tests and runs Scumble from a bare checkout: `cargo xtask`.
//!
//! Each command sets up what it lacks and does again only what changed, so that nobody has to know the order.

mod bench;
mod boundaries;
mod build;
mod cli;
mod debian_wasm;
mod demo;
mod generate;
mod http;
mod packages;
mod picture;
mod python;
mod server;
mod setup;
mod stamp;
mod suite;
mod task;
mod workspace;

use std::process::ExitCode;

fn main() -> ExitCode {
    let result = workspace::Workspace::locate()
        .and_then(|workspace| cli::parse(std::env::args_os())?.run(&workspace));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
