//! `scumble serve`: everything started in order, and stopped in the other.

use super::set_threads;
use crate::{
    app::{App, AppState},
    auth::AccessKeys,
    config::ServeArgs,
    engine::{Engine, EngineOptions, EngineStatus},
    estimate::Estimator,
    limits,
    origin::OriginPolicy,
    positions::{self, Positions},
    record::attempts_exhausted,
    router::router,
    server::{ConnectionLimits, Listener},
    shutdown::Shutdown,
    telemetry,
    tokenizers::Tokenizers,
    watchers::Watchers,
};
use scumble_jobs::{
    JobStore,
    sqlite::{SqliteOptions, SqliteStore},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::JoinHandle, time::MissedTickBehavior};

/// Serves until a signal comes.
pub(super) fn run(args: ServeArgs) -> Result<(), String> {
    telemetry::start(args.log_format, &args.log)?;
    set_threads(args.device.threads)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be started: {error}"))?;
    runtime.block_on(async {
        let running = Running::start(args, ConnectionLimits::default()).await?;
        running
            .shutdown()
            .listen_for_signals()
            .map_err(|error| format!("signals cannot be heard: {error}"))?;
        println!("Scumble is at http://{}", running.address());
        running.wait().await
    })
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: limits::CONNECTIONS_MAX,
            header_read_timeout: limits::HEADER_READ_TIMEOUT,
        }
    }
}

/// A server that serves.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    shutdown: Shutdown,
    shutdown_timeout: Duration,
    store: Arc<SqliteStore>,
    app: App,
    engine: Engine,
    connections: JoinHandle<()>,
}

impl Running {
    /// Starts everything: the store, the engine (which loads its models in the background), the port.
    ///
    /// # Errors
    /// One sentence: what is wrong and what to do.
    pub async fn start(
        args: ServeArgs,
        connection_limits: ConnectionLimits,
    ) -> Result<Self, String> {
        args.check()?;
        let catalog = Arc::new(args.models.catalog()?);
        for model in catalog.unusable() {
            let path = model
                .origin
                .path()
                .map(std::path::Path::display)
                .map(tracing::field::display);
            tracing::warn!(model = %model.id, path, reason = model.reason, "a model cannot be used");
        }
        let loras = Arc::new(
            args.loras
                .shelf(args.models.places.places()?.folder.as_deref())?,
        );
        let listener = Listener::bind(args.address()).await?;
        let store = Arc::new(open_store(&args)?);
        let shutdown = Shutdown::default();
        let shutdown_timeout = Duration::from_millis(args.shutdown_timeout_ms);
        let estimator = Arc::new(Estimator::default());
        let positions = Arc::new(Positions::default());
        let engine = Engine::start(EngineOptions {
            catalog: Arc::clone(&catalog),
            loras: Arc::clone(&loras),
            store: Arc::clone(&store) as Arc<dyn JobStore>,
            estimator: Arc::clone(&estimator),
            positions: Arc::clone(&positions),
            device: args.device.device,
            load_options: args.device.load_options(),
            models_memory_max_bytes: args.models_memory_max.map(|size| size.as_u64()),
            shutdown: shutdown.clone(),
            shutdown_timeout,
        })?;
        tokio::spawn(positions::announce(
            Arc::clone(&positions),
            Arc::clone(&store) as Arc<dyn JobStore>,
            Arc::clone(&estimator),
            shutdown.draining(),
        ));
        tokio::spawn(prune(Arc::clone(&store), shutdown.clone()));
        let app = Arc::new(AppState {
            store: Arc::clone(&store) as Arc<dyn JobStore>,
            catalog,
            loras,
            tokenizers: Tokenizers::default(),
            engine: engine.status(),
            estimator,
            positions,
            watchers: Watchers::default(),
            keys: AccessKeys::new(args.api_keys.iter().map(crate::config::ApiKey::expose)),
            origins: OriginPolicy::new(args.host, &args.allow_hosts, &args.allow_origins),
            shutdown: shutdown.clone(),
            body_read_timeout: limits::BODY_READ_TIMEOUT,
            large_bodies: Arc::new(Semaphore::new(limits::LARGE_BODIES_MAX)),
            decoders: Arc::new(Semaphore::new(limits::DECODERS_MAX)),
        });
        let address = listener.address();
        let serving = listener.serve(
            router(Arc::clone(&app)),
            connection_limits,
            shutdown.clone(),
        );
        tracing::info!(%address, device = engine.device(), "listening");
        Ok(Self {
            address,
            shutdown,
            shutdown_timeout,
            store,
            app,
            engine,
            connections: tokio::spawn(serving),
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// To stop it.
    #[must_use]
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// What its handlers share.
    #[must_use]
    pub fn app(&self) -> App {
        Arc::clone(&self.app)
    }

    /// Whether the engine draws.
    #[must_use]
    pub fn engine_status(&self) -> tokio::sync::watch::Receiver<EngineStatus> {
        self.engine.status()
    }

    /// Serves until the shutdown begins, then lets what is open end in time.
    ///
    /// # Errors
    /// If a model that it starts with cannot be loaded.
    pub async fn wait(self) -> Result<(), String> {
        let draining = self.shutdown.draining();
        let mut status = self.engine.status();
        let failed = tokio::select! {
            // First: a stopping engine ends its thread as well.
            biased;
            () = draining.cancelled() => None,
            failed = failure(&mut status) => Some(failed),
        };
        self.shutdown.begin();
        self.engine.stopped(self.shutdown_timeout).await;
        if tokio::time::timeout(self.shutdown_timeout, self.connections)
            .await
            .is_err()
        {
            tracing::warn!("some connections were still open and are cut");
        }
        self.store.close().await;
        failed.map_or(Ok(()), Err)
    }
}

/// Why the engine cannot draw, if that happens.
async fn failure(status: &mut tokio::sync::watch::Receiver<EngineStatus>) -> String {
    let failed = status
        .wait_for(|status| matches!(status, EngineStatus::Failed(_)))
        .await
        .map(|status| status.clone());
    match failed {
        Ok(EngineStatus::Failed(message)) => message,
        // The engine went without a word: it never does while the server runs.
        _ => "the engine's thread died".to_owned(),
    }
}

fn open_store(args: &ServeArgs) -> Result<SqliteStore, String> {
    let data_dir = args.data_dir()?;
    let mut options = SqliteOptions::new(&data_dir, attempts_exhausted);
    options.queue_jobs_max = args.queue_jobs_max;
    options.upload_bytes_max = args.upload_bytes_max;
    options.input_bytes_max = limits::FINISHED_INPUT_BYTES_MAX;
    options.attempts_max = limits::ATTEMPTS_MAX;
    options.live_events_max = limits::LIVE_EVENTS_MAX;
    SqliteStore::open(options).map_err(|error| match error {
        scumble_jobs::Error::InUse(_) | scumble_jobs::Error::TooNew { .. } => error.to_string(),
        error => format!(
            "the data folder {} cannot be used: {error}",
            data_dir.display()
        ),
    })
}

/// Removes old finished jobs now and then.
async fn prune(store: Arc<SqliteStore>, shutdown: Shutdown) {
    let mut interval = tokio::time::interval(limits::PRUNE_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let kept_ms = i64::try_from(limits::FINISHED_JOBS_KEPT.as_millis()).unwrap_or(i64::MAX);
    let draining = shutdown.draining();
    loop {
        tokio::select! {
            () = draining.cancelled() => return,
            _ = interval.tick() => {}
        }
        match store.prune(kept_ms, limits::FINISHED_JOBS_KEPT_MAX).await {
            Ok(0) => {}
            Ok(jobs) => tracing::info!(jobs, "old jobs removed"),
            Err(error) => tracing::warn!(%error, "old jobs could not be removed"),
        }
    }
}
