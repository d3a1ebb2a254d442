//! Logs: one line an event on standard error, ids as fields; never prompts, keys or bodies.

use std::io::{self, IsTerminal as _};
use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt as _};

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Compact,
    /// For programs: one JSON object a line.
    Json,
}

/// Starts logging; does nothing if it has been started.
///
/// # Errors
/// If `filter` is not a filter such as `info` or `scumble_worker=debug`.
pub fn start(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log {filter}: {error}"))?;
    let builder = fmt().with_env_filter(filter).with_writer(io::stderr);
    let _ = match format {
        LogFormat::Compact => builder
            .compact()
            .with_target(false)
            .with_ansi(io::stderr().is_terminal())
            .finish()
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    Ok(())
}
