//! What every handler shares.

use crate::{
    auth::AccessKeys,
    catalog::Catalog,
    engine::EngineStatus,
    estimate::Estimator,
    inputs::Inputs,
    loras::LoraShelf,
    origin::OriginPolicy,
    positions::Positions,
    record::{StoredJob, to_bytes},
    shutdown::Shutdown,
    tokenizers::Tokenizers,
    watchers::Watchers,
};
use scumble_jobs::{Cancellation, Error, JobRecord, JobStore, NewJob};
use scumble_protocol::{EventData, JobId};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Semaphore, watch};

/// The state, shared.
pub type App = Arc<AppState>;

/// What every handler shares.
#[derive(Debug)]
pub struct AppState {
    /// Jobs, their events and their images.
    pub store: Arc<dyn JobStore>,
    /// What can draw.
    pub catalog: Arc<Catalog>,
    /// What jobs may add to a model.
    pub loras: Arc<LoraShelf>,
    /// What counts prompts.
    pub tokenizers: Tokenizers,
    /// Whether the engine draws.
    pub engine: watch::Receiver<EngineStatus>,
    /// How long jobs take.
    pub estimator: Arc<Estimator>,
    /// What waiting jobs were told.
    pub positions: Arc<Positions>,
    /// Who watches which job.
    pub watchers: Watchers,
    /// Who may ask.
    pub keys: AccessKeys,
    /// From which pages, under which names.
    pub origins: OriginPolicy,
    /// Whether the server is stopping.
    pub shutdown: Shutdown,
    /// How long a body may take to arrive.
    pub body_read_timeout: Duration,
    /// Turns to hold a large body in memory.
    pub large_bodies: Arc<Semaphore>,
    /// Turns to decode an image.
    pub decoders: Arc<Semaphore>,
}

impl AppState {
    /// Puts a job in the queue: on disk when this returns, and what it starts from with it.
    ///
    /// # Errors
    /// If the queue is full, or the store is closed or fails.
    pub async fn submit(&self, job: &StoredJob, inputs: Inputs) -> Result<JobRecord, Error> {
        let id = format!("job_{}", ulid::Ulid::generate().to_string().to_lowercase());
        let positions = Arc::clone(&self.positions);
        let estimator = Arc::clone(&self.estimator);
        let job_id = id.clone();
        let new = NewJob {
            id,
            payload: to_bytes(job),
            inputs: inputs.into_blobs(),
        };
        self.store
            .submit(
                new,
                Box::new(move |position| vec![positions.entered(&job_id, position, &estimator)]),
            )
            .await
    }

    /// Asks for a job to be stopped.
    ///
    /// # Errors
    /// If there is no such job or the store fails.
    pub async fn cancel(&self, job_id: &JobId) -> Result<Cancellation, Error> {
        let last_event = to_bytes(&EventData::Cancelled { step: 0 });
        let cancellation = self.store.cancel(job_id.as_str(), last_event).await?;
        if cancellation == Cancellation::Cancelled {
            self.positions.left(job_id.as_str());
        }
        Ok(cancellation)
    }
}
