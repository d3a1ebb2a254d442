//! The one thread that writes: it commits whatever waits together, and only then tells anybody.

use super::{
    Clock,
    live::{Effect, Live, lock},
    rows,
};
use crate::{Error, Lease};
use rusqlite::{Connection, TransactionBehavior};
use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
};
use tokio::sync::{mpsc, oneshot};

/// Messages that wait for the writer before senders do.
pub(super) const MESSAGES_MAX: usize = 256;
/// Messages that share one commit, and with it one sync of the disk.
const BATCH_MESSAGES_MAX: usize = 256;

/// What the writer can be asked.
pub(super) enum Message {
    Write(Box<dyn Write>),
    Lease(oneshot::Sender<Result<Grant, Error>>),
    /// A grant was dropped: look for it.
    Abandoned,
    Close(oneshot::Sender<()>),
}

/// How far a write must have got when it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// On the disk: a loss of power does not undo it.
    Disk,
    /// With the operating system: the end of this process does not undo it.
    System,
}

/// A write that is run in a transaction and answered after its commit.
pub(super) trait Write: Send {
    fn sync(&self) -> Sync;
    /// Gives whether it is to be kept.
    fn run(&mut self, connection: &Connection, effects: &mut Vec<Effect>) -> bool;
    /// `failed` says why the transaction came to nothing.
    fn answer(self: Box<Self>, failed: Option<Error>);
}

struct Task<T, F> {
    sync: Sync,
    work: Option<F>,
    result: Option<Result<T, Error>>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> Write for Task<T, F>
where
    T: Send,
    F: FnOnce(&Connection, &mut Vec<Effect>) -> Result<T, Error> + Send,
{
    fn sync(&self) -> Sync {
        self.sync
    }

    fn run(&mut self, connection: &Connection, effects: &mut Vec<Effect>) -> bool {
        self.result = self.work.take().map(|work| work(connection, effects));
        matches!(self.result, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, failed: Option<Error>) {
        let result = match (self.result, failed) {
            (Some(Err(error)), _) | (_, Some(error)) => Err(error),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(Error::Io(io::Error::other(
                "what was to be written panicked",
            ))),
        };
        // The caller may have gone; what was written stays written.
        let _ = self.reply.send(result);
    }
}

/// A message that does `work`, and where its result arrives.
pub(super) fn write<T: Send + 'static>(
    sync: Sync,
    work: impl FnOnce(&Connection, &mut Vec<Effect>) -> Result<T, Error> + Send + 'static,
) -> (Message, oneshot::Receiver<Result<T, Error>>) {
    let (reply, answer) = oneshot::channel();
    let task = Task {
        sync,
        work: Some(work),
        result: None,
        reply,
    };
    (Message::Write(Box::new(task)), answer)
}

/// A lease on its way to the caller. Dropped before it is accepted, it is taken back: a call that was given up while
/// its answer was in flight would strand the job otherwise.
pub(super) struct Grant {
    lease: Option<Lease>,
    abandoned: Arc<Abandoned>,
}

impl Grant {
    pub(super) fn accept(mut self) -> Result<Lease, Error> {
        self.lease.take().ok_or(Error::Closed)
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            lock(&self.abandoned.leases).push(lease);
            // A full channel is as good: the writer looks after every message.
            if let Some(writer) = self.abandoned.writer.upgrade() {
                let _ = writer.try_send(Message::Abandoned);
            }
        }
    }
}

struct Abandoned {
    leases: Mutex<Vec<Lease>>,
    writer: mpsc::WeakSender<Message>,
}

type Waiter = oneshot::Sender<Result<Grant, Error>>;

pub(super) struct Writer {
    connection: Connection,
    /// What `PRAGMA synchronous` stands at.
    sync: Sync,
    messages: mpsc::Receiver<Message>,
    live: Arc<Live>,
    clock: Arc<dyn Clock>,
    waiters: VecDeque<Waiter>,
    abandoned: Arc<Abandoned>,
    closing: bool,
}

impl Writer {
    /// `connection` stands at `synchronous = full`.
    pub(super) fn new(
        connection: Connection,
        live: Arc<Live>,
        clock: Arc<dyn Clock>,
    ) -> (Self, mpsc::Sender<Message>) {
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let abandoned = Abandoned {
            leases: Mutex::default(),
            writer: sender.downgrade(),
        };
        let writer = Self {
            connection,
            sync: Sync::Disk,
            messages,
            live,
            clock,
            waiters: VecDeque::new(),
            abandoned: Arc::new(abandoned),
            closing: false,
        };
        (writer, sender)
    }

    /// Works until every sender is gone.
    pub(super) fn run(mut self) {
        while let Some(first) = self.messages.blocking_recv() {
            let mut writes = Vec::new();
            let mut closers = Vec::new();
            let mut next = Some(first);
            let mut taken = 0;
            while let Some(message) = next {
                match message {
                    Message::Write(write) => writes.push(write),
                    Message::Lease(waiter) => self.waiters.push_back(waiter),
                    Message::Abandoned => {}
                    Message::Close(closer) => closers.push(closer),
                }
                taken += 1;
                next = if taken < BATCH_MESSAGES_MAX {
                    self.messages.try_recv().ok()
                } else {
                    None
                };
            }
            if !closers.is_empty() {
                self.closing = true;
            }
            self.waiters.retain(|waiter| !waiter.is_closed());
            if self.closing {
                for waiter in self.waiters.drain(..) {
                    let _ = waiter.send(Err(Error::Closed));
                }
            }
            self.write(writes);
            if !closers.is_empty() {
                self.checkpoint();
            }
            for closer in closers {
                let _ = closer.send(());
            }
        }
    }

    fn write(&mut self, mut writes: Vec<Box<dyn Write>>) {
        let mut effects = Vec::new();
        let mut leases = Vec::new();
        match self.commit(&mut writes, &mut effects, &mut leases) {
            Ok(()) => {
                for effect in effects {
                    self.live.apply(effect);
                }
                for (lease, cancel_requested) in leases {
                    self.live.leased(&lease, cancel_requested);
                    let grant = Grant {
                        lease: Some(lease),
                        abandoned: Arc::clone(&self.abandoned),
                    };
                    match self.waiters.pop_front() {
                        // Refused means gone, and the grant comes back by its drop.
                        Some(waiter) => drop(waiter.send(Ok(grant))),
                        None => drop(grant),
                    }
                }
                writes.into_iter().for_each(|write| write.answer(None));
            }
            Err(error) => {
                for waiter in self.waiters.drain(..) {
                    let _ = waiter.send(Err(again(&error)));
                }
                writes
                    .into_iter()
                    .for_each(|write| write.answer(Some(again(&error))));
            }
        }
    }

    /// One transaction for all that waits. Each write has a savepoint, so that a refused one takes nothing with it.
    fn commit(
        &mut self,
        writes: &mut [Box<dyn Write>],
        effects: &mut Vec<Effect>,
        leases: &mut Vec<(Lease, bool)>,
    ) -> Result<(), Error> {
        let abandoned = std::mem::take(&mut *lock(&self.abandoned.leases));
        if writes.is_empty() && self.waiters.is_empty() && abandoned.is_empty() {
            return Ok(());
        }
        let committed = self.transact(&abandoned, writes, effects, leases);
        if committed.is_err() {
            lock(&self.abandoned.leases).extend(abandoned);
        }
        committed
    }

    fn transact(
        &mut self,
        abandoned: &[Lease],
        writes: &mut [Box<dyn Write>],
        effects: &mut Vec<Effect>,
        leases: &mut Vec<(Lease, bool)>,
    ) -> Result<(), Error> {
        let sync = if writes.iter().any(|write| write.sync() == Sync::Disk) {
            Sync::Disk
        } else {
            Sync::System
        };
        if sync != self.sync {
            let level = if sync == Sync::Disk { "full" } else { "normal" };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.sync = sync;
        }
        let mut transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for lease in abandoned {
            rows::unlease(&transaction, lease)?;
        }
        for write in writes {
            let savepoint = transaction.savepoint()?;
            let effects_before = effects.len();
            // A write may call back into its caller's code, whose panic must not end the writer.
            let kept = catch_unwind(AssertUnwindSafe(|| write.run(&savepoint, effects)));
            if matches!(kept, Ok(true)) {
                savepoint.commit()?;
            } else {
                effects.truncate(effects_before);
                savepoint.finish()?;
            }
        }
        for _ in 0..self.waiters.len() {
            match rows::lease(&transaction, self.clock.now_ms())? {
                Some(lease) => leases.push(lease),
                None => break,
            }
        }
        Ok(transaction.commit()?)
    }

    fn checkpoint(&self) {
        let checkpoint = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = checkpoint {
            // Nothing is lost: the log is read at the next start.
            tracing::warn!(%error, "the job database's log could not be folded in");
        }
    }
}

/// The same failure for each of those who waited for one commit.
fn again(error: &Error) -> Error {
    match error {
        Error::Database(rusqlite::Error::SqliteFailure(code, text)) => {
            Error::Database(rusqlite::Error::SqliteFailure(*code, text.clone()))
        }
        other => Error::Io(io::Error::other(other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NewJob, sqlite::SystemClock, sqlite::database};
    use tempfile::tempdir;

    fn submission(
        id: &str,
        payload_bytes: usize,
    ) -> (Message, oneshot::Receiver<Result<(), Error>>) {
        let job = NewJob {
            id: id.to_owned(),
            payload: vec![7; payload_bytes],
            inputs: Vec::new(),
        };
        write(Sync::Disk, move |connection, _| {
            rows::submit(connection, job, |_| Vec::new(), 100, 0).map(|_| ())
        })
    }

    fn set_pages_max(pages: u32) -> (Message, oneshot::Receiver<Result<(), Error>>) {
        write(Sync::System, move |connection, _| {
            Ok(connection.pragma_update(None, "max_page_count", pages)?)
        })
    }

    #[test]
    fn only_writes_that_promise_the_disk_are_synced() {
        let folder = tempdir().expect("a folder");
        let connection = database::open_writer(&folder.path().join("db")).expect("a database");
        let live = Arc::new(Live::new(4));
        let (writer, messages) = Writer::new(connection, live, Arc::new(SystemClock));
        let thread = std::thread::spawn(|| writer.run());
        const NORMAL: i64 = 1;
        const FULL: i64 = 2;
        for (sync, level) in [
            (Sync::Disk, FULL),
            (Sync::System, NORMAL),
            (Sync::System, NORMAL),
            (Sync::Disk, FULL),
        ] {
            let (message, answer) = write(sync, |connection, _| {
                Ok(connection
                    .pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))?)
            });
            messages.blocking_send(message).expect("a writer");
            let found = answer.blocking_recv().expect("an answer").expect("a level");
            assert_eq!(found, level, "{sync:?}");
        }
        drop(messages);
        thread.join().expect("no panic");
    }

    /// A database that may grow no further stands for a disk that is full.
    #[test]
    fn a_full_disk_fails_the_writes_that_need_room_and_no_later_one() {
        let folder = tempdir().expect("a folder");
        let connection = database::open_writer(&folder.path().join("db")).expect("a database");
        let live = Arc::new(Live::new(4));
        let (writer, messages) = Writer::new(connection, live, Arc::new(SystemClock));
        let thread = std::thread::spawn(|| writer.run());
        let ask = |(message, answer): (Message, oneshot::Receiver<Result<(), Error>>)| {
            messages.blocking_send(message).expect("a writer");
            answer.blocking_recv().expect("an answer")
        };

        ask(submission("job_before", 10)).expect("room");
        ask(set_pages_max(1)).expect("a limit below the size means the size");
        let full = ask(submission("job_large", 1_000_000));
        assert!(matches!(full, Err(Error::Database(_))), "{full:?}");
        ask(set_pages_max(1_000_000)).expect("no limit");
        ask(submission("job_large", 1_000_000)).expect("room again, and nothing half-written");
        let (waiter, lease) = oneshot::channel();
        messages
            .blocking_send(Message::Lease(waiter))
            .expect("a writer");
        let lease = lease
            .blocking_recv()
            .expect("an answer")
            .expect("a grant")
            .accept();
        assert_eq!(lease.expect("a lease").job_id, "job_before");
        drop(messages);
        thread.join().expect("no panic");
    }
}
