//! Tells waiting jobs when their place in the queue has changed.

use crate::{estimate::Estimator, limits::POSITIONS_TOLD_MAX, record::to_bytes};
use scumble_jobs::{Durability, JobStore, NewEvent};
use scumble_protocol::EventData;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The last position told to each waiting job. As large as the queue at most.
#[derive(Debug, Default)]
pub struct Positions {
    told: Mutex<HashMap<String, u32>>,
    changed: Notify,
}

impl Positions {
    /// The first event of a job that enters the queue.
    pub fn entered(&self, job_id: &str, position: u32, estimator: &Estimator) -> NewEvent {
        self.lock().insert(job_id.to_owned(), position);
        queued_event(position, estimator)
    }

    /// A job left the queue: those behind it move up.
    pub fn left(&self, job_id: &str) {
        self.lock().remove(job_id);
        self.changed.notify_one();
    }

    /// Whether the job was told another position, which is noted as told now.
    fn is_news(&self, job_id: &str, position: u32) -> bool {
        self.lock().insert(job_id.to_owned(), position) != Some(position)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until `stopped`.
pub async fn announce(
    positions: Arc<Positions>,
    store: Arc<dyn JobStore>,
    estimator: Arc<Estimator>,
    stopped: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stopped.cancelled() => return,
            () = positions.changed.notified() => {}
        }
        if let Err(error) = announce_once(&positions, &*store, &estimator).await {
            tracing::warn!(%error, "waiting jobs could not be told their position");
        }
    }
}

async fn announce_once(
    positions: &Positions,
    store: &dyn JobStore,
    estimator: &Estimator,
) -> Result<(), scumble_jobs::Error> {
    for (job_id, position) in store.queued(POSITIONS_TOLD_MAX).await? {
        if positions.is_news(&job_id, position) {
            let event = queued_event(position, estimator);
            store.append_queued(&job_id, event).await?;
        }
    }
    Ok(())
}

fn queued_event(position: u32, estimator: &Estimator) -> NewEvent {
    NewEvent {
        payload: to_bytes(&EventData::Queued {
            position,
            eta_ms: estimator.wait_ms(position),
        }),
        durability: Durability::Logged,
    }
}
