//! Who watches jobs that are to be cancelled when nobody does.

use crate::app::App;
use scumble_protocol::JobId;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Open streams and waits of jobs submitted with `cancel_on_disconnect`. As large as the connections at most.
#[derive(Debug, Default)]
pub struct Watchers {
    counts: Mutex<HashMap<JobId, usize>>,
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, job_id: &JobId) {
        *self.lock().entry(job_id.clone()).or_default() += 1;
    }

    /// Whether this was the last one.
    fn remove(&self, job_id: &JobId) -> bool {
        let mut counts = self.lock();
        match counts.get_mut(job_id) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            _ => counts.remove(job_id).is_some(),
        }
    }
}

/// One watcher; when the last of a job goes away, the job is cancelled.
#[derive(Debug)]
pub struct Watcher {
    app: App,
    job_id: JobId,
    dismissed: bool,
}

impl Watcher {
    /// Counts one more watcher.
    #[must_use]
    pub fn new(app: &App, job_id: &JobId) -> Self {
        app.watchers.add(job_id);
        Self {
            app: app.clone(),
            job_id: job_id.clone(),
            dismissed: false,
        }
    }

    /// Goes without leaving: the reader has what it came for.
    pub fn dismiss(mut self) {
        self.dismissed = true;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let was_last = self.app.watchers.remove(&self.job_id);
        // A stopping server closes its streams; their readers come back to the next one.
        if self.dismissed || !was_last || self.app.shutdown.is_draining() {
            return;
        }
        let app = self.app.clone();
        let job_id = self.job_id.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = app.cancel(&job_id).await {
                    tracing::warn!(%job_id, %error, "a job that nobody watches could not be cancelled");
                }
            });
        }
    }
}
