//! The embedded back end: jobs and events in SQLite, images in files beside it, one process.
//!
//! One thread writes; it commits together whatever waits, and syncs the disk only where the contract
//! asks for it. Reads have connections of their own and never wait for a sync. Whoever listens is told after the
//! commit, by the writer, so that the order in a channel is the order in the log.

use crate::{
    Blob, Cancellation, Ending, Error, Event, EventReceiver, JobRecord, JobStore, Lease, NewEvent,
    NewJob, NewUpload, UploadRecord,
};
use async_trait::async_trait;
use rusqlite::Connection;
use std::{
    fmt,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub(crate) mod blobs;
mod database;
mod images;
mod live;
mod rows;
mod writer;

use blobs::BlobFiles;
use images::ImageFiles;
use live::{Effect, Live, lock};
use rows::Holder;
use writer::{Message, Sync, Writer};

/// Reads at a time; more wait.
const READERS_MAX: usize = 4;
/// Finished jobs deleted in one transaction, so that pruning never holds up a submission for long.
const PRUNE_BATCH_JOBS: u32 = 64;

/// Where the time comes from.
pub trait Clock: Send + std::marker::Sync + fmt::Debug + 'static {
    /// Unix milliseconds.
    fn now_ms(&self) -> i64;
}

/// The computer's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            })
    }
}

/// What is kept of a job that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastWords {
    /// Its outcome: opaque bytes.
    pub outcome: Vec<u8>,
    /// Its last event: opaque bytes.
    pub last_event: Vec<u8>,
}

/// Says how a job fails whose process died in each attempt that it may have: the words are the caller's, since
/// payloads are opaque here.
pub type Exhausted = Box<dyn Fn(&JobRecord) -> LastWords + Send + std::marker::Sync>;

/// How a store is opened.
pub struct SqliteOptions {
    /// Made if it is not there. Holds `jobs.sqlite3`, `images/`, `blobs/` and a lock file.
    pub data_dir: PathBuf,
    /// Queued jobs beyond which submissions are refused.
    pub queue_jobs_max: u32,
    /// Attempts that may die with the process before a job fails.
    pub attempts_max: u32,
    /// Events that a live reader may be behind by.
    pub live_events_max: usize,
    /// Bytes of uploads beyond which further ones are refused.
    pub upload_bytes_max: u64,
    /// Bytes of finished jobs' inputs beyond which the oldest such jobs are pruned.
    pub input_bytes_max: u64,
    /// What a job says that has had its attempts.
    pub exhausted: Exhausted,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

impl SqliteOptions {
    /// The usual limits.
    pub fn new(
        data_dir: impl Into<PathBuf>,
        exhausted: impl Fn(&JobRecord) -> LastWords + Send + std::marker::Sync + 'static,
    ) -> Self {
        Self {
            data_dir: data_dir.into(),
            queue_jobs_max: 1_000,
            attempts_max: 3,
            live_events_max: 256,
            upload_bytes_max: 1 << 30,
            input_bytes_max: 8 << 30,
            exhausted: Box::new(exhausted),
            clock: Arc::new(SystemClock),
        }
    }
}

impl fmt::Debug for SqliteOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SqliteOptions")
            .field("data_dir", &self.data_dir)
            .field("queue_jobs_max", &self.queue_jobs_max)
            .field("attempts_max", &self.attempts_max)
            .field("live_events_max", &self.live_events_max)
            .field("upload_bytes_max", &self.upload_bytes_max)
            .field("input_bytes_max", &self.input_bytes_max)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// A queue in a folder. Dropping it finishes what is being written and gives the folder free.
#[derive(Debug)]
pub struct SqliteStore {
    queue_jobs_max: u32,
    upload_bytes_max: u64,
    input_bytes_max: u64,
    clock: Arc<dyn Clock>,
    live: Arc<Live>,
    images: Arc<ImageFiles>,
    blobs: Arc<BlobFiles>,
    readers: Arc<Readers>,
    closing: AtomicBool,
    /// `None` only while dropping.
    messages: Option<mpsc::Sender<Message>>,
    writer: Option<JoinHandle<()>>,
    /// Held as long as the folder is used; the last field, so that it is given up last.
    _lock: File,
}

/// Connections that only read.
#[derive(Debug)]
struct Readers {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl SqliteStore {
    /// Opens the folder's store and puts right what a crash left: running jobs go back to the queue, those that
    /// have had their attempts fail, and files that nothing names go. Blocks; call it before serving begins.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process has the folder, [`Error::TooNew`] if a later version wrote it, and
    /// whatever keeps the files from being used.
    pub fn open(options: SqliteOptions) -> Result<Self, Error> {
        let SqliteOptions {
            data_dir,
            queue_jobs_max,
            attempts_max,
            live_events_max,
            upload_bytes_max,
            input_bytes_max,
            exhausted,
            clock,
        } = options;
        fs::create_dir_all(&data_dir)?;
        let lock = lock_folder(&data_dir)?;
        let path = data_dir.join("jobs.sqlite3");
        let mut connection = database::open_writer(&path)?;

        let transaction = connection.transaction()?;
        let (requeued, failed) =
            rows::recover(&transaction, attempts_max, &exhausted, clock.now_ms())?;
        let named_files = rows::image_files(&transaction)?;
        rows::forget_expired_uploads(&transaction, clock.now_ms())?;
        rows::forget_unused_blobs(&transaction)?;
        let named_blobs = rows::blob_names(&transaction)?;
        transaction.commit()?;
        if requeued + failed > 0 {
            tracing::warn!(
                requeued,
                failed,
                "jobs were running when the last process ended"
            );
        }
        let images = ImageFiles::open(data_dir.join("images"), &named_files)?;
        let blobs = BlobFiles::open(data_dir.join("blobs"), &named_blobs)?;

        let readers = (0..READERS_MAX)
            .map(|_| database::open_reader(&path))
            .collect::<Result<_, _>>()?;
        let live = Arc::new(Live::new(live_events_max));
        let (writer, messages) = Writer::new(connection, Arc::clone(&live), Arc::clone(&clock));
        let writer = std::thread::Builder::new()
            .name("jobs-writer".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self {
            queue_jobs_max,
            upload_bytes_max,
            input_bytes_max,
            clock,
            live,
            images: Arc::new(images),
            blobs: Arc::new(blobs),
            readers: Arc::new(Readers {
                idle: Mutex::new(readers),
                permits: Arc::new(Semaphore::new(READERS_MAX)),
            }),
            closing: AtomicBool::new(false),
            messages: Some(messages),
            writer: Some(writer),
            _lock: lock,
        })
    }

    /// Forgets finished jobs, their events, their images and their inputs: those that ended more than `older_than_ms`
    /// ago, the oldest beyond `keep_jobs_max`, and the oldest beyond the bytes that inputs may have. Forgets expired
    /// uploads too. Gives how many jobs.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn prune(&self, older_than_ms: i64, keep_jobs_max: u32) -> Result<u64, Error> {
        let now_ms = self.clock.now_ms();
        let finished_before_ms = now_ms.saturating_sub(older_than_ms);
        let input_bytes_max = i64::try_from(self.input_bytes_max).unwrap_or(i64::MAX);
        let messages = self.messages()?.clone();
        let images = Arc::clone(&self.images);
        let blobs = Arc::clone(&self.blobs);
        // In one blocking task, so that giving up the call does not leave files behind their rows.
        blocking(move || {
            let mut pruned = 0;
            loop {
                let (message, answer) = writer::write(Sync::System, move |connection, _| {
                    rows::prune(
                        connection,
                        finished_before_ms,
                        keep_jobs_max,
                        input_bytes_max,
                        PRUNE_BATCH_JOBS,
                    )
                });
                messages.blocking_send(message).map_err(|_| Error::Closed)?;
                let job_ids = answer.blocking_recv().map_err(|_| Error::Closed)??;
                if job_ids.is_empty() {
                    let (message, answer) = writer::write(Sync::System, move |connection, _| {
                        rows::forget_expired_uploads(connection, now_ms)?;
                        remove_unused_blobs(connection, &blobs)
                    });
                    messages.blocking_send(message).map_err(|_| Error::Closed)?;
                    answer.blocking_recv().map_err(|_| Error::Closed)??;
                    return Ok(pruned);
                }
                for job_id in job_ids {
                    images.remove_job(&job_id);
                    pruned += 1;
                }
            }
        })
        .await
    }

    fn messages(&self) -> Result<&mpsc::Sender<Message>, Error> {
        self.messages.as_ref().ok_or(Error::Closed)
    }

    async fn write<T: Send + 'static>(
        &self,
        sync: Sync,
        work: impl FnOnce(&Connection, &mut Vec<Effect>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (message, answer) = writer::write(sync, work);
        self.messages()?
            .send(message)
            .await
            .map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Writes what names `blobs`, whose files are on the disk before it and are gone again if it is refused.
    async fn write_with_blobs<T: Send + 'static>(
        &self,
        blobs: Vec<Blob>,
        work: impl FnOnce(&Connection, &mut Vec<Effect>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if blobs.is_empty() {
            return self.write(Sync::Disk, work).await;
        }
        let messages = self.messages()?.clone();
        let files = Arc::clone(&self.blobs);
        // In one blocking task, so that giving up the call does not leave a file without its row.
        blocking(move || {
            let pins = files.put(&blobs)?;
            let (message, answer) = writer::write(Sync::Disk, work);
            messages.blocking_send(message).map_err(|_| Error::Closed)?;
            let result = answer.blocking_recv().map_err(|_| Error::Closed)?;
            if result.is_err() {
                let names = pins.names();
                drop(pins);
                let (message, _) = writer::write(Sync::System, move |connection, _| {
                    for name in names {
                        if !rows::is_blob_named(connection, &name)? {
                            files.remove_unless_pinned(&name);
                        }
                    }
                    Ok(())
                });
                messages.blocking_send(message).map_err(|_| Error::Closed)?;
            }
            result
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permits = Arc::clone(&self.readers.permits);
        let permit = permits.acquire_owned().await.map_err(|_| Error::Closed)?;
        let readers = Arc::clone(&self.readers);
        blocking(move || {
            let connection = lock(&readers.idle).pop().ok_or(Error::Closed)?;
            let result = work(&connection);
            lock(&readers.idle).push(connection);
            drop(permit);
            result
        })
        .await
    }
}

/// Runs on the writer's thread, so that no row can come to name a blob between the look and the removal. A commit
/// that fails leaves a row without a file, but one that nothing uses: whoever brings the blob again brings the file.
fn remove_unused_blobs(connection: &Connection, files: &BlobFiles) -> Result<(), Error> {
    for name in rows::forget_unused_blobs(connection)? {
        files.remove_unless_pinned(&name);
    }
    Ok(())
}

/// The folder belongs to one process at a time; the system gives the lock up with the process, however it ends.
fn lock_folder(data_dir: &Path) -> Result<File, Error> {
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(data_dir.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(data_dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::Closed)?
}

#[async_trait]
impl JobStore for SqliteStore {
    async fn submit(
        &self,
        job: NewJob,
        first_events: Box<dyn FnOnce(u32) -> Vec<NewEvent> + Send>,
    ) -> Result<JobRecord, Error> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        if !images::is_job_id(&job.id) {
            return Err(Error::InvalidId(job.id));
        }
        let (queue_jobs_max, now_ms) = (self.queue_jobs_max, self.clock.now_ms());
        self.write_with_blobs(job.inputs.clone(), move |connection, effects| {
            let (record, events) =
                rows::submit(connection, job, first_events, queue_jobs_max, now_ms)?;
            effects.push(Effect::Appended {
                job_id: record.id.clone(),
                events,
            });
            Ok(record)
        })
        .await
    }

    async fn get(&self, job_id: &str) -> Result<Option<JobRecord>, Error> {
        let job_id = job_id.to_owned();
        self.read(move |connection| rows::get(connection, &job_id))
            .await
    }

    async fn lease(&self) -> Result<Lease, Error> {
        let (waiter, grant) = oneshot::channel();
        self.messages()?
            .send(Message::Lease(waiter))
            .await
            .map_err(|_| Error::Closed)?;
        grant.await.map_err(|_| Error::Closed)??.accept()
    }

    async fn release(&self, lease: &Lease) -> Result<(), Error> {
        let holder = Holder::from(lease);
        self.write(Sync::System, move |connection, effects| {
            rows::release(connection, &holder)?;
            effects.push(Effect::Released {
                job_id: holder.job_id,
            });
            Ok(())
        })
        .await
    }

    async fn append(&self, lease: &Lease, events: Vec<NewEvent>) -> Result<(), Error> {
        let holder = Holder::from(lease);
        self.write(Sync::System, move |connection, effects| {
            let events = rows::append(connection, &holder, events)?;
            effects.push(Effect::Appended {
                job_id: holder.job_id,
                events,
            });
            Ok(())
        })
        .await
    }

    async fn finish(
        &self,
        lease: &Lease,
        ending: Ending,
        outcome: Vec<u8>,
        last_event: Vec<u8>,
    ) -> Result<(), Error> {
        let holder = Holder::from(lease);
        let words = LastWords {
            outcome,
            last_event,
        };
        let now_ms = self.clock.now_ms();
        self.write(Sync::Disk, move |connection, effects| {
            let event = rows::finish(connection, &holder, ending, words, now_ms)?;
            effects.push(Effect::Appended {
                job_id: holder.job_id,
                events: vec![event],
            });
            Ok(())
        })
        .await
    }

    async fn cancel(&self, job_id: &str, last_event: Vec<u8>) -> Result<Cancellation, Error> {
        let job_id = job_id.to_owned();
        let now_ms = self.clock.now_ms();
        self.write(Sync::Disk, move |connection, effects| {
            let (cancellation, event) = rows::cancel(connection, &job_id, last_event, now_ms)?;
            if let Some(event) = event {
                effects.push(Effect::Appended {
                    job_id,
                    events: vec![event],
                });
            } else if cancellation == Cancellation::Requested {
                effects.push(Effect::CancelRequested { job_id });
            }
            Ok(cancellation)
        })
        .await
    }

    fn cancel_requested(&self, lease: &Lease) -> watch::Receiver<bool> {
        self.live.cancel_requested(lease)
    }

    async fn subscribe(&self, job_id: &str) -> Result<EventReceiver, Error> {
        let job_id = job_id.to_owned();
        let live = Arc::clone(&self.live);
        self.read(move |connection| {
            if rows::has_ended(connection, &job_id)?.is_none() {
                return Err(Error::NotFound(job_id));
            }
            // The channel first, another look at the job second: if it ends in between, either the channel hears
            // of it, or the look sees it.
            let receiver = live.listen(&job_id);
            if rows::has_ended(connection, &job_id)? != Some(false) {
                live.hang_up(&job_id);
            }
            Ok(receiver)
        })
        .await
    }

    async fn events_after(
        &self,
        job_id: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Event>, Error> {
        let job_id = job_id.to_owned();
        self.read(move |connection| rows::events_after(connection, &job_id, after, limit))
            .await
    }

    async fn queued(&self, limit: u32) -> Result<Vec<(String, u32)>, Error> {
        self.read(move |connection| rows::queued(connection, limit))
            .await
    }

    async fn append_queued(&self, job_id: &str, event: NewEvent) -> Result<(), Error> {
        let job_id = job_id.to_owned();
        self.write(Sync::System, move |connection, effects| {
            let events = rows::append_queued(connection, &job_id, event)?;
            effects.push(Effect::Appended { job_id, events });
            Ok(())
        })
        .await
    }

    async fn put_image(&self, lease: &Lease, index: u32, bytes: Vec<u8>) -> Result<(), Error> {
        let messages = self.messages()?.clone();
        let images = Arc::clone(&self.images);
        let holder = Holder::from(lease);
        // In one blocking task, so that giving up the call does not leave a file without its row.
        blocking(move || {
            let name = images.write(&holder, index, &bytes)?;
            let (message, answer) = writer::write(Sync::System, {
                let (holder, name) = (holder.clone(), name.clone());
                move |connection, _| rows::put_image(connection, &holder, index, &name)
            });
            messages.blocking_send(message).map_err(|_| Error::Closed)?;
            match answer.blocking_recv().map_err(|_| Error::Closed)? {
                Ok(replaced) => {
                    if let Some(replaced) = replaced {
                        images.remove(&holder.job_id, &replaced);
                    }
                    Ok(())
                }
                // Only here is it certain that no row names the file.
                Err(error @ Error::LeaseLost { .. }) => {
                    images.remove(&holder.job_id, &name);
                    Err(error)
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn image(&self, job_id: &str, index: u32) -> Result<Option<Vec<u8>>, Error> {
        let job_id = job_id.to_owned();
        let images = Arc::clone(&self.images);
        self.read(move |connection| {
            let mut last_name = None;
            loop {
                let Some(name) = rows::image_file(connection, &job_id, index)? else {
                    return Ok(None);
                };
                match images.read(&job_id, &name) {
                    Ok(bytes) => return Ok(Some(bytes)),
                    // A later attempt may have replaced it between the two reads: then the row names another.
                    Err(error) if last_name.as_ref() == Some(&name) => return Err(error.into()),
                    Err(_) => last_name = Some(name),
                }
            }
        })
        .await
    }

    async fn put_upload(&self, upload: NewUpload) -> Result<UploadRecord, Error> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let (upload_bytes_max, now_ms) = (self.upload_bytes_max, self.clock.now_ms());
        self.write_with_blobs(vec![upload.blob.clone()], move |connection, _| {
            rows::put_upload(connection, upload, upload_bytes_max, now_ms)
        })
        .await
    }

    async fn upload(&self, upload_id: &str) -> Result<Option<UploadRecord>, Error> {
        let (upload_id, now_ms) = (upload_id.to_owned(), self.clock.now_ms());
        self.read(move |connection| rows::upload(connection, &upload_id, now_ms))
            .await
    }

    async fn delete_upload(&self, upload_id: &str) -> Result<bool, Error> {
        let (upload_id, now_ms) = (upload_id.to_owned(), self.clock.now_ms());
        let files = Arc::clone(&self.blobs);
        self.write(Sync::System, move |connection, _| {
            let was_there = rows::delete_upload(connection, &upload_id, now_ms)?;
            remove_unused_blobs(connection, &files)?;
            Ok(was_there)
        })
        .await
    }

    async fn blob(&self, sha256: &str) -> Result<Option<Vec<u8>>, Error> {
        let sha256 = sha256.to_owned();
        let files = Arc::clone(&self.blobs);
        blocking(move || Ok(files.read(&sha256)?)).await
    }

    async fn close(&self) {
        self.closing.store(true, Ordering::Release);
        let (closer, closed) = oneshot::channel();
        if let Some(messages) = &self.messages
            && messages.send(Message::Close(closer)).await.is_ok()
        {
            // An error means that the writer is gone, and with it all that it had to do.
            let _ = closed.await;
        }
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.messages = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the thread that writes jobs panicked: this is a bug");
        }
    }
}
