//! What the tests of the store share.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use scumble_jobs::{
    Durability, Error, Event, JobRecord, JobStore as _, NewEvent, NewJob,
    sqlite::{Clock, LastWords, SqliteOptions, SqliteStore},
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

pub const EXHAUSTED_OUTCOME: &[u8] = b"died too often";
pub const EXHAUSTED_EVENT: &[u8] = b"error: died too often";

/// A clock that stands until it is moved.
#[derive(Debug, Default)]
pub struct Watch(AtomicI64);

impl Watch {
    pub fn set(&self, now_ms: i64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }
}

impl Clock for Watch {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub fn options(data_dir: &Path) -> SqliteOptions {
    SqliteOptions::new(data_dir, |_| LastWords {
        outcome: EXHAUSTED_OUTCOME.to_vec(),
        last_event: EXHAUSTED_EVENT.to_vec(),
    })
}

pub fn open(data_dir: &Path) -> SqliteStore {
    SqliteStore::open(options(data_dir)).unwrap()
}

pub fn open_at(data_dir: &Path, clock: &Arc<Watch>) -> SqliteStore {
    let clock: Arc<dyn Clock> = Arc::<Watch>::clone(clock);
    SqliteStore::open(SqliteOptions {
        clock,
        ..options(data_dir)
    })
    .unwrap()
}

pub fn job(id: &str) -> NewJob {
    NewJob {
        id: id.to_owned(),
        payload: format!("draw {id}").into_bytes(),
        inputs: Vec::new(),
    }
}

pub fn logged(payload: impl Into<Vec<u8>>) -> NewEvent {
    NewEvent {
        payload: payload.into(),
        durability: Durability::Logged,
    }
}

pub fn ephemeral(payload: impl Into<Vec<u8>>) -> NewEvent {
    NewEvent {
        payload: payload.into(),
        durability: Durability::Ephemeral,
    }
}

pub async fn submit(store: &SqliteStore, id: &str) -> Result<JobRecord, Error> {
    store
        .submit(
            job(id),
            Box::new(|position| vec![logged(format!("queued {position}"))]),
        )
        .await
}

pub async fn log(store: &SqliteStore, id: &str) -> Vec<Event> {
    store.events_after(id, 0, u32::MAX).await.unwrap()
}

pub async fn log_text(store: &SqliteStore, id: &str) -> Vec<String> {
    let events = log(store, id).await;
    events
        .into_iter()
        .map(|event| String::from_utf8(event.payload).unwrap())
        .collect()
}
