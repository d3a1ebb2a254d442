//! The accept loop: what a connection may cost is decided here, before any request is read.
//!
//! Our own, because `axum::serve` has no time limit for a request's head, no connection limit, and waits forever for
//! open streams when it stops.

use crate::{
    limits::{ACCEPT_RETRY_DELAY, HEADER_BYTES_MAX, HEADERS_MAX},
    shutdown::Shutdown,
};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// What connections may cost.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Open at once.
    pub connections_max: usize,
    /// For a request's head to arrive.
    pub header_read_timeout: Duration,
}

/// A port that is ours but not served yet.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Takes the port.
    ///
    /// # Errors
    /// A sentence that says what to do, if the address cannot be taken.
    pub async fn bind(address: SocketAddr) -> Result<Self, String> {
        let taken = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            io::Result::Ok(Self { listener, address })
        };
        taken.await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "port {} on {} is taken by another program; choose another with --port, or --port 0 for any free one",
                address.port(),
                address.ip()
            ),
            io::ErrorKind::PermissionDenied => format!(
                "port {} needs rights that this user does not have; choose one above 1023 with --port",
                address.port()
            ),
            io::ErrorKind::AddrNotAvailable => format!(
                "this machine has no address {}; choose another with --host",
                address.ip()
            ),
            _ => format!("{address} cannot be listened on: {error}"),
        })
    }

    /// The address taken, with the real port where 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the shutdown begins, then lets open requests end; the caller limits how long.
    pub async fn serve(self, router: Router, limits: ConnectionLimits, shutdown: Shutdown) {
        let permits = Arc::new(Semaphore::new(limits.connections_max));
        let draining = shutdown.draining();
        loop {
            let accepted = tokio::select! {
                biased;
                () = draining.cancelled() => break,
                accepted = self.accept(&permits) => accepted,
            };
            let Some((stream, permit)) = accepted else {
                continue;
            };
            let connection = serve_connection(stream, router.clone(), limits, shutdown.clone());
            tokio::spawn(async move {
                connection.await;
                drop(permit);
            });
        }
        // Closes the port at once; then waits for every connection's permit to come back.
        drop(self.listener);
        let all = u32::try_from(limits.connections_max).unwrap_or(u32::MAX);
        let _ = permits.acquire_many(all).await;
    }

    /// A connection with its permit, `None` if it went away again.
    async fn accept(
        &self,
        permits: &Arc<Semaphore>,
    ) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
        let permit = Arc::clone(permits).acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((stream, _)) => {
                // Events are small and wanted at once.
                let _ = stream.set_nodelay(true);
                Some((stream, permit))
            }
            Err(error) => {
                if !is_of_one_connection(&error) {
                    tracing::warn!(%error, "connections cannot be accepted");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
                None
            }
        }
    }
}

/// Errors of a single client; all others are ours, such as no file descriptors left.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

async fn serve_connection(
    stream: TcpStream,
    router: Router,
    limits: ConnectionLimits,
    shutdown: Shutdown,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let draining = shutdown.draining();
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}
