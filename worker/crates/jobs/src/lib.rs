//! The job queue, its event log and its blobs: what was accepted is never lost, and one result is shown once.
//!
//! A payload is bytes here: this crate knows neither tensors nor HTTP. [`JobStore`] is the contract; [`sqlite`]
//! is the embedded back end.

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use std::{fmt, sync::Arc};

pub mod sqlite;

/// A job's place in its life. The last three are final and never left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Accepted and on disk.
    Queued,
    /// Leased to a worker.
    Running,
    /// Finished with a result.
    Succeeded,
    /// Finished with an error.
    Failed,
    /// Stopped on request.
    Cancelled,
}

/// A job to be accepted.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its id, made by the caller (`job_<ulid>`: sorts by time).
    pub id: String,
    /// What to do: opaque bytes.
    pub payload: Vec<u8>,
    /// What it is done to, kept as long as the job is; the payload says which is which, by their SHA-256.
    pub inputs: Vec<Blob>,
}

/// Bytes that are known by their content.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob {
    sha256: String,
    bytes: Arc<Vec<u8>>,
}

impl Blob {
    /// Takes the bytes' digest.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            sha256: sqlite::blobs::hex(&Sha256::digest(&bytes)),
            bytes: Arc::new(bytes),
        }
    }

    /// Its name: SHA-256 in lower-case hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({}, {} bytes)", self.sha256, self.bytes.len())
    }
}

/// An upload to be stored: a blob that jobs may be given later, by its id.
#[derive(Debug, Clone)]
pub struct NewUpload {
    /// Its id, made by the caller.
    pub id: String,
    /// Its bytes.
    pub blob: Blob,
    /// What the caller wants to know of it: opaque bytes.
    pub details: Vec<u8>,
    /// How long it is kept, in milliseconds.
    pub kept_ms: i64,
}

/// An upload as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRecord {
    /// Its id.
    pub id: String,
    /// Its blob's name.
    pub sha256: String,
    /// Its blob's bytes.
    pub bytes: u64,
    /// What the caller wanted to know of it.
    pub details: Vec<u8>,
    /// Stored at, Unix milliseconds.
    pub created_at_ms: i64,
    /// Gone at, Unix milliseconds.
    pub expires_at_ms: i64,
}

/// A job as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// Its id.
    pub id: String,
    /// What to do.
    pub payload: Vec<u8>,
    /// Where it stands.
    pub status: Status,
    /// Attempts begun so far.
    pub attempt: u32,
    /// Place among the queued, 1 is next; only while queued.
    pub position: Option<u32>,
    /// Accepted at, Unix milliseconds.
    pub created_at_ms: i64,
    /// Leased first at, Unix milliseconds.
    pub started_at_ms: Option<i64>,
    /// Ended at, Unix milliseconds.
    pub finished_at_ms: Option<i64>,
    /// What [`JobStore::finish`] was given: opaque bytes.
    pub outcome: Option<Vec<u8>>,
}

/// The right to work on a job: one attempt of it. Every write by the attempt carries it, and is refused once the
/// job has ended or another attempt has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub job_id: String,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// What to do.
    pub payload: Vec<u8>,
    /// When the job was accepted, Unix milliseconds.
    pub created_at_ms: i64,
    /// Now, at the time of leasing, Unix milliseconds.
    pub leased_at_ms: i64,
}

/// Whether an event is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// In the log, for readers that come late.
    Logged,
    /// For whoever listens now (previews): it has a sequence number, but history does not keep it.
    Ephemeral,
}

/// An event to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Opaque bytes.
    pub payload: Vec<u8>,
    /// Whether it is kept.
    pub durability: Durability,
}

/// An event as numbered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Grows with every event of the job, from 1. Numbers are left out: those of ephemeral events are not in the
    /// log, and a restart of the store skips a range.
    pub seq: u64,
    /// Opaque bytes.
    pub payload: Vec<u8>,
    /// Whether nothing follows.
    pub is_final: bool,
    /// Whether history keeps it.
    pub durability: Durability,
}

/// How a job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With a result.
    Succeeded,
    /// With an error.
    Failed,
    /// On request.
    Cancelled,
}

/// What a cancellation met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancellation {
    /// It was queued and is cancelled now.
    Cancelled,
    /// It is running: its worker is told, and ends it within a step.
    Requested,
    /// It had ended; nothing changed.
    AlreadyFinished,
}

/// Tells live readers of one job what happens. Receivers that fall behind lose the oldest events and are told so
/// ([`tokio::sync::broadcast::error::RecvError::Lagged`]); the log has them.
pub type EventReceiver = tokio::sync::broadcast::Receiver<Event>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// As many jobs wait as are allowed.
    #[error("the queue holds {queued} jobs, the most it takes")]
    QueueFull {
        /// Jobs waiting.
        queued: u32,
    },
    /// As many bytes of uploads are kept as may be.
    #[error("uploads have {kept_bytes} of at most {upload_bytes_max} bytes, no room for another")]
    UploadsFull {
        /// What is kept.
        kept_bytes: u64,
        /// What may be kept.
        upload_bytes_max: u64,
    },
    /// No job has this id.
    #[error("no job {0}")]
    NotFound(String),
    /// The job has ended or another attempt has begun: the caller must stop working on it.
    #[error("attempt {attempt} of {job_id} no longer holds its lease")]
    LeaseLost {
        /// The job.
        job_id: String,
        /// The attempt that lost it.
        attempt: u32,
    },
    /// A job of this id exists.
    #[error("job {0} exists already")]
    Duplicate(String),
    /// The id cannot name a job: ids are 1 to 64 of `a-z`, `0-9` and `_`.
    #[error("{0:?} is no job id: it takes 1 to 64 of a-z, 0-9 and _")]
    InvalidId(String),
    /// Another process works in this folder.
    #[error("another process uses the data folder {}; stop it, or choose another folder", .0.display())]
    InUse(std::path::PathBuf),
    /// The database was written by a later version of this crate.
    #[error(
        "the job database has schema version {found}, this program knows up to {known}: use a newer one"
    )]
    TooNew {
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The store is closed.
    #[error("the job store is closed")]
    Closed,
    /// The database refused.
    #[error("the job database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// A file could not be read or written.
    #[error("the blob store failed: {0}")]
    Io(#[from] std::io::Error),
}

/// One queue, its event log and its blobs.
///
/// Everything that returns `Ok` is on disk as far as the method says; every method may be dropped at any await
/// without leaving a half-done write.
#[async_trait]
pub trait JobStore: Send + Sync + fmt::Debug + 'static {
    /// Accepts a job: on disk (synced) when this returns. `first_events` makes the first events from the job's
    /// position in the queue, so that the log begins in the same transaction.
    ///
    /// # Errors
    /// [`Error::QueueFull`], [`Error::Duplicate`], [`Error::InvalidId`], [`Error::Closed`] once the store is
    /// closing, or a store that fails.
    async fn submit(
        &self,
        job: NewJob,
        first_events: Box<dyn FnOnce(u32) -> Vec<NewEvent> + Send>,
    ) -> Result<JobRecord, Error>;

    /// The job, or `None`.
    ///
    /// # Errors
    /// If the store fails.
    async fn get(&self, job_id: &str) -> Result<Option<JobRecord>, Error>;

    /// Waits for the next queued job (oldest first) and leases it to the caller; cancel-safe: a dropped call
    /// leases nothing.
    ///
    /// # Errors
    /// [`Error::Closed`] once the store is closing, or a store that fails.
    async fn lease(&self) -> Result<Lease, Error>;

    /// Puts a leased job back in the queue at its old place (a graceful stop). Its attempt does not count against
    /// the attempts a job may have; the next lease has a higher number all the same, which fences this one.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or a store that fails.
    async fn release(&self, lease: &Lease) -> Result<(), Error>;

    /// Numbers the events and gives them to live readers; logged ones survive a crash of the process when this
    /// returns (not of the power).
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or a store that fails.
    async fn append(&self, lease: &Lease, events: Vec<NewEvent>) -> Result<(), Error>;

    /// Ends the job: status, outcome and last event in one synced transaction, once.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] if it has ended or another attempt has begun, or a store that fails.
    async fn finish(
        &self,
        lease: &Lease,
        ending: Ending,
        outcome: Vec<u8>,
        last_event: Vec<u8>,
    ) -> Result<(), Error>;

    /// Asks for a job to be stopped. A queued one ends here, with `last_event` as its last event; the worker of a
    /// running one sees it through [`JobStore::cancel_requested`].
    ///
    /// # Errors
    /// [`Error::NotFound`], or a store that fails.
    async fn cancel(&self, job_id: &str, last_event: Vec<u8>) -> Result<Cancellation, Error>;

    /// Becomes true when somebody cancels the leased job; cheap to read at every step from the engine's thread. True
    /// from the start for a lease that no longer holds, and for a job whose cancellation an earlier attempt did not
    /// live to carry out.
    fn cancel_requested(&self, lease: &Lease) -> tokio::sync::watch::Receiver<bool>;

    /// Live events of a job from now on. Subscribe first, then read [`JobStore::events_after`], then join the two
    /// by `seq`: the other order would lose what happens in between. A logged event is in the log before it is told
    /// here. The receiver of a job that has ended is closed.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a store that fails.
    async fn subscribe(&self, job_id: &str) -> Result<EventReceiver, Error>;

    /// The logged events with `seq > after`, in order, at most `limit`.
    ///
    /// # Errors
    /// If the store fails.
    async fn events_after(&self, job_id: &str, after: u64, limit: u32)
    -> Result<Vec<Event>, Error>;

    /// Every queued job with its position, oldest first, at most `limit`.
    ///
    /// # Errors
    /// If the store fails.
    async fn queued(&self, limit: u32) -> Result<Vec<(String, u32)>, Error>;

    /// Appends an event to a queued job (its position changed). Does nothing if it is no longer queued.
    ///
    /// # Errors
    /// If the store fails.
    async fn append_queued(&self, job_id: &str, event: NewEvent) -> Result<(), Error>;

    /// Stores image `index` of the leased job: whole or not at all (written beside, synced, renamed).
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or a store that fails.
    async fn put_image(&self, lease: &Lease, index: u32, bytes: Vec<u8>) -> Result<(), Error>;

    /// The bytes of image `index`, or `None`.
    ///
    /// # Errors
    /// If the store fails.
    async fn image(&self, job_id: &str, index: u32) -> Result<Option<Vec<u8>>, Error>;

    /// Keeps an upload: on disk (synced) when this returns.
    ///
    /// # Errors
    /// [`Error::UploadsFull`], [`Error::Closed`] once the store is closing, or a store that fails.
    async fn put_upload(&self, upload: NewUpload) -> Result<UploadRecord, Error>;

    /// The upload, or `None` once it has expired.
    ///
    /// # Errors
    /// If the store fails.
    async fn upload(&self, upload_id: &str) -> Result<Option<UploadRecord>, Error>;

    /// Forgets an upload; jobs that were given its blob keep it. Gives whether it was there.
    ///
    /// # Errors
    /// If the store fails.
    async fn delete_upload(&self, upload_id: &str) -> Result<bool, Error>;

    /// The bytes of a blob that a job or an upload names, or `None`.
    ///
    /// # Errors
    /// If the store fails, or the bytes are no longer what was stored.
    async fn blob(&self, sha256: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Stops handing out leases and accepting jobs, and finishes what is being written; pending
    /// [`JobStore::lease`] calls end in [`Error::Closed`]. Those who hold a lease may still finish or release it.
    async fn close(&self);
}
