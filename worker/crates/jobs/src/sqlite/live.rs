//! Who listens to which job, and which running jobs are asked to stop.

use crate::{Event, EventReceiver, Lease};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{broadcast, watch};

/// What the writer tells the living once a transaction is committed, and not before.
#[derive(Debug)]
pub(super) enum Effect {
    Appended { job_id: String, events: Vec<Event> },
    CancelRequested { job_id: String },
    Released { job_id: String },
}

/// At most one channel for each job that has not ended, so the queue's limit bounds it.
#[derive(Debug)]
pub(super) struct Live {
    channel_events_max: usize,
    listeners: Mutex<HashMap<String, broadcast::Sender<Event>>>,
    stops: Mutex<HashMap<String, (u32, watch::Sender<bool>)>>,
}

impl Live {
    pub(super) fn new(channel_events_max: usize) -> Self {
        Self {
            channel_events_max: channel_events_max.max(1),
            listeners: Mutex::default(),
            stops: Mutex::default(),
        }
    }

    pub(super) fn listen(&self, job_id: &str) -> EventReceiver {
        let mut listeners = lock(&self.listeners);
        match listeners.get(job_id) {
            Some(channel) => channel.subscribe(),
            None => {
                let (channel, receiver) = broadcast::channel(self.channel_events_max);
                listeners.insert(job_id.to_owned(), channel);
                receiver
            }
        }
    }

    /// Nothing more will be said about this job.
    pub(super) fn hang_up(&self, job_id: &str) {
        lock(&self.listeners).remove(job_id);
    }

    /// Begins a lease's flag.
    pub(super) fn leased(&self, lease: &Lease, cancel_requested: bool) {
        let (stop, _) = watch::channel(cancel_requested);
        lock(&self.stops).insert(lease.job_id.clone(), (lease.attempt, stop));
    }

    /// A lease that no longer holds is told to stop.
    pub(super) fn cancel_requested(&self, lease: &Lease) -> watch::Receiver<bool> {
        match lock(&self.stops).get(&lease.job_id) {
            Some((attempt, stop)) if *attempt == lease.attempt => stop.subscribe(),
            _ => watch::channel(true).1,
        }
    }

    pub(super) fn apply(&self, effect: Effect) {
        match effect {
            Effect::Appended { job_id, events } => self.tell(job_id, events),
            Effect::CancelRequested { job_id } => {
                if let Some((_, stop)) = lock(&self.stops).get(&job_id) {
                    stop.send_replace(true);
                }
            }
            Effect::Released { job_id } => {
                if let Some((_, stop)) = lock(&self.stops).remove(&job_id) {
                    stop.send_replace(true);
                }
            }
        }
    }

    fn tell(&self, job_id: String, events: Vec<Event>) {
        let Some(last) = events.last() else {
            return;
        };
        let ended = last.is_final;
        let mut listeners = lock(&self.listeners);
        if let Some(channel) = listeners.get(&job_id) {
            let mut heard = false;
            for event in events {
                // Sending fails when nobody listens, and then nobody misses it.
                heard |= channel.send(event).is_ok();
            }
            if ended || !heard {
                listeners.remove(&job_id);
            }
        }
        drop(listeners);
        if ended {
            lock(&self.stops).remove(&job_id);
        }
    }
}

/// None of our critical sections can panic half-way, so a poisoned lock holds sound data.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
