//! A stop that everybody is told of at once.

use std::io;
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

    /// Begins the stop at the first signal and ends the process at the second. Signals are heard when this returns.
    ///
    /// # Errors
    /// If the system does not let them be heard.
    pub fn listen_for_signals(&self) -> io::Result<()> {
        let mut signals = Signals::new()?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            signals.next().await;
            tracing::info!("stopping; a second signal stops at once");
            shutdown.begin();
            signals.next().await;
            tracing::warn!("stopped at once");
            std::process::exit(EXIT_CODE_FORCED);
        });
        Ok(())
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn new() -> io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}
