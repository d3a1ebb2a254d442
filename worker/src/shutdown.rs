//! A stop that everybody is told of at once.

use tokio_util::sync::CancellationToken;

/// The exit code when a second signal ends the process at once: 128 + SIGINT, as shells show it.
const EXIT_CODE_FORCED: i32 = 130;

/// Whether the server is stopping.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    draining: CancellationToken,
}

impl Shutdown {
    /// Begins the stop.
    pub fn begin(&self) {
        self.draining.cancel();
    }

    /// Whether it has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// To wait for its begin.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Begins the stop at the first signal and ends the process at the second.
    pub fn listen_for_signals(&self) {
        let shutdown = self.clone();
        tokio::spawn(async move {
            if let Err(error) = signal().await {
                tracing::warn!(%error, "signals cannot be heard; the process stops when it is killed");
                return;
            }
            tracing::info!("stopping; a second signal stops at once");
            shutdown.begin();
            if signal().await.is_ok() {
                tracing::warn!("stopped at once");
                std::process::exit(EXIT_CODE_FORCED);
            }
        });
    }
}

#[cfg(unix)]
async fn signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn signal() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
