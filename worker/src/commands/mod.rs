//! What the binary can do, one command a file.

mod generate;
mod inspect;
mod models;
pub mod serve;

use crate::config::{Cli, Command};
use std::num::NonZeroUsize;

/// Runs a command.
///
/// # Errors
/// One sentence that says what is wrong and what to do.
pub fn run(cli: Cli) -> Result<(), String> {
    match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Generate(args) => generate::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Models(args) => models::run(args),
    }
}

/// Limits the threads that tensors are computed on; must come before the first tensor.
fn set_threads(threads: Option<NonZeroUsize>) -> Result<(), String> {
    let Some(threads) = threads else {
        return Ok(());
    };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.get())
        .build_global()
        .map_err(|error| format!("--threads {threads}: {error}"))
}
