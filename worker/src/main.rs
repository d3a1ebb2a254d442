//! The `scumble` binary: parse the command line, run the command, exit with its code.

use clap::Parser as _;
use scumble_worker::{commands, config::Cli};
use std::process::ExitCode;

/// Keeps freed pages for a second before it gives them back, so that the tensors of one denoising step live in the
/// pages of the last; the system's allocator unmaps and faults them in again at every operation.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match commands::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("scumble: {failure}");
            ExitCode::FAILURE
        }
    }
}
