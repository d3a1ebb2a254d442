//! What the store says to SQLite: one function an operation, each inside a transaction of its caller's.

use super::LastWords;
use crate::{
    Blob, Cancellation, Durability, Ending, Error, Event, JobRecord, Lease, NewEvent, NewJob,
    NewUpload, Status, UploadRecord,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::HashSet;

const QUEUED: i64 = 0;
const RUNNING: i64 = 1;
const SUCCEEDED: i64 = 2;
const FAILED: i64 = 3;
const CANCELLED: i64 = 4;

/// Sequence numbers that a restart leaves out for every job that lives through it. Progress is not synced, so a
/// loss of power may take events back that a client has seen; their numbers must never come again, or that client
/// would skip what is new. SQLite syncs its log every thousand pages, hence far fewer than this can be lost.
const RESTART_SEQ_GAP: i64 = 1_000_000;

/// A job that may be written to.
struct Open {
    key: i64,
    last_seq: i64,
}

/// What of a lease its writes are checked by; the payload, which may be megabytes, stays with the caller.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) job_id: String,
    pub(super) attempt: u32,
}

impl From<&Lease> for Holder {
    fn from(lease: &Lease) -> Self {
        Self {
            job_id: lease.job_id.clone(),
            attempt: lease.attempt,
        }
    }
}

/// What [`put_image`] replaced.
pub(super) type ReplacedFile = Option<String>;

pub(super) fn submit(
    connection: &Connection,
    job: NewJob,
    first_events: impl FnOnce(u32) -> Vec<NewEvent>,
    queue_jobs_max: u32,
    now_ms: i64,
) -> Result<(JobRecord, Vec<Event>), Error> {
    let exists = connection
        .prepare_cached("SELECT 1 FROM jobs WHERE id = ?1")?
        .exists([&job.id])?;
    if exists {
        return Err(Error::Duplicate(job.id));
    }
    let queued = queued_count(connection)?;
    if queued >= queue_jobs_max {
        return Err(Error::QueueFull { queued });
    }
    let position = queued.saturating_add(1);
    connection
        .prepare_cached("INSERT INTO jobs (id, created_at_ms) VALUES (?1, ?2)")?
        .execute(params![job.id, now_ms])?;
    let key = connection.last_insert_rowid();
    connection
        .prepare_cached("INSERT INTO payloads (job, payload) VALUES (?1, ?2)")?
        .execute(params![key, job.payload])?;
    for blob in &job.inputs {
        name_blob(connection, blob)?;
        connection
            .prepare_cached("INSERT OR IGNORE INTO inputs (job, sha256) VALUES (?1, ?2)")?
            .execute(params![key, blob.sha256()])?;
    }
    let events = append_to(
        connection,
        &Open { key, last_seq: 0 },
        first_events(position),
    )?;
    let record = JobRecord {
        id: job.id,
        payload: job.payload,
        status: Status::Queued,
        attempt: 0,
        position: Some(position),
        created_at_ms: now_ms,
        started_at_ms: None,
        finished_at_ms: None,
        outcome: None,
    };
    Ok((record, events))
}

fn queued_count(connection: &Connection) -> Result<u32, Error> {
    Ok(connection
        .prepare_cached("SELECT count(*) FROM jobs WHERE status = ?1")?
        .query_row([QUEUED], |row| row.get(0))?)
}

pub(super) fn get(connection: &Connection, job_id: &str) -> Result<Option<JobRecord>, Error> {
    Ok(connection
        .prepare_cached(
            "SELECT id, payload, status, attempt, created_at_ms, started_at_ms, finished_at_ms, outcome,
                    CASE WHEN status = 0 THEN
                        (SELECT count(*) FROM jobs AS ahead WHERE ahead.status = 0 AND ahead.key <= jobs.key)
                    END
             FROM jobs JOIN payloads ON payloads.job = jobs.key
             WHERE id = ?1",
        )?
        .query_row([job_id], record)
        .optional()?)
}

fn record(row: &Row<'_>) -> rusqlite::Result<JobRecord> {
    Ok(JobRecord {
        id: row.get(0)?,
        payload: row.get(1)?,
        status: status(row.get(2)?),
        attempt: row.get(3)?,
        created_at_ms: row.get(4)?,
        started_at_ms: row.get(5)?,
        finished_at_ms: row.get(6)?,
        outcome: row.get(7)?,
        position: row.get(8)?,
    })
}

/// A CHECK in the schema leaves no other number.
fn status(number: i64) -> Status {
    match number {
        QUEUED => Status::Queued,
        RUNNING => Status::Running,
        SUCCEEDED => Status::Succeeded,
        FAILED => Status::Failed,
        _ => Status::Cancelled,
    }
}

/// Whether the job exists, and if so whether it has ended.
pub(super) fn has_ended(connection: &Connection, job_id: &str) -> Result<Option<bool>, Error> {
    Ok(connection
        .prepare_cached("SELECT status >= 2 FROM jobs WHERE id = ?1")?
        .query_row([job_id], |row| row.get(0))
        .optional()?)
}

pub(super) fn queued(connection: &Connection, limit: u32) -> Result<Vec<(String, u32)>, Error> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM jobs WHERE status = ?1 ORDER BY key LIMIT ?2")?;
    let ids = statement.query_map(params![QUEUED, limit], |row| row.get(0))?;
    ids.zip(1..)
        .map(|(id, position)| Ok((id?, position)))
        .collect()
}

/// Leases the oldest queued job, if there is one. The flag says whether its cancellation was asked for already.
pub(super) fn lease(connection: &Connection, now_ms: i64) -> Result<Option<(Lease, bool)>, Error> {
    let leased = connection
        .prepare_cached(
            "UPDATE jobs SET status = 1, attempt = attempt + 1, started_at_ms = coalesce(started_at_ms, ?1)
             WHERE key = (SELECT key FROM jobs WHERE status = 0 ORDER BY key LIMIT 1)
             RETURNING id, attempt, created_at_ms, cancel_requested,
                       (SELECT payload FROM payloads WHERE job = key)",
        )?
        .query_row([now_ms], |row| {
            let lease = Lease {
                job_id: row.get(0)?,
                attempt: row.get(1)?,
                created_at_ms: row.get(2)?,
                payload: row.get(4)?,
                leased_at_ms: now_ms,
            };
            Ok((lease, row.get(3)?))
        })
        .optional()?;
    Ok(leased)
}

/// The lease's job, if the lease still holds.
fn held(connection: &Connection, holder: &Holder) -> Result<Open, Error> {
    connection
        .prepare_cached(
            "SELECT key, last_seq FROM jobs WHERE id = ?1 AND status = 1 AND attempt = ?2",
        )?
        .query_row(params![holder.job_id, holder.attempt], |row| {
            Ok(Open {
                key: row.get(0)?,
                last_seq: row.get(1)?,
            })
        })
        .optional()?
        .ok_or_else(|| Error::LeaseLost {
            job_id: holder.job_id.clone(),
            attempt: holder.attempt,
        })
}

pub(super) fn release(connection: &Connection, holder: &Holder) -> Result<(), Error> {
    let job = held(connection, holder)?;
    connection
        .prepare_cached("UPDATE jobs SET status = 0, released = released + 1 WHERE key = ?1")?
        .execute([job.key])?;
    Ok(())
}

/// Takes back a lease that never reached its caller, as if it had not been: nobody can write under its number.
pub(super) fn unlease(connection: &Connection, lease: &Lease) -> Result<(), Error> {
    connection
        .prepare_cached(
            "UPDATE jobs SET status = 0, attempt = attempt - 1,
                             started_at_ms = CASE WHEN attempt > 1 THEN started_at_ms END
             WHERE id = ?1 AND status = 1 AND attempt = ?2",
        )?
        .execute(params![lease.job_id, lease.attempt])?;
    Ok(())
}

pub(super) fn append(
    connection: &Connection,
    holder: &Holder,
    events: Vec<NewEvent>,
) -> Result<Vec<Event>, Error> {
    append_to(connection, &held(connection, holder)?, events)
}

pub(super) fn append_queued(
    connection: &Connection,
    job_id: &str,
    event: NewEvent,
) -> Result<Vec<Event>, Error> {
    match queued_job(connection, job_id)? {
        Some(job) => append_to(connection, &job, vec![event]),
        None => Ok(Vec::new()),
    }
}

fn queued_job(connection: &Connection, job_id: &str) -> Result<Option<Open>, Error> {
    Ok(connection
        .prepare_cached("SELECT key, last_seq FROM jobs WHERE id = ?1 AND status = 0")?
        .query_row([job_id], |row| {
            Ok(Open {
                key: row.get(0)?,
                last_seq: row.get(1)?,
            })
        })
        .optional()?)
}

/// Numbers events and logs those that are to be kept. The counter is a column, so that the numbers of events that
/// are not kept are never given twice either.
fn append_to(
    connection: &Connection,
    job: &Open,
    new_events: Vec<NewEvent>,
) -> Result<Vec<Event>, Error> {
    let mut events = Vec::with_capacity(new_events.len());
    let mut last_seq = job.last_seq;
    for NewEvent {
        payload,
        durability,
    } in new_events
    {
        last_seq += 1;
        if durability == Durability::Logged {
            insert_event(connection, job.key, last_seq, false, &payload)?;
        }
        events.push(Event {
            seq: last_seq.unsigned_abs(),
            payload,
            is_final: false,
            durability,
        });
    }
    if last_seq != job.last_seq {
        connection
            .prepare_cached("UPDATE jobs SET last_seq = ?2 WHERE key = ?1")?
            .execute([job.key, last_seq])?;
    }
    Ok(events)
}

fn insert_event(
    connection: &Connection,
    key: i64,
    seq: i64,
    is_final: bool,
    payload: &[u8],
) -> Result<(), Error> {
    connection
        .prepare_cached("INSERT INTO events (job, seq, is_final, payload) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![key, seq, is_final, payload])?;
    Ok(())
}

pub(super) fn finish(
    connection: &Connection,
    holder: &Holder,
    ending: Ending,
    words: LastWords,
    now_ms: i64,
) -> Result<Event, Error> {
    let job = held(connection, holder)?;
    end(
        connection,
        &job,
        ending,
        Some(words.outcome),
        words.last_event,
        now_ms,
    )
}

fn end(
    connection: &Connection,
    job: &Open,
    ending: Ending,
    outcome: Option<Vec<u8>>,
    last_event: Vec<u8>,
    now_ms: i64,
) -> Result<Event, Error> {
    let seq = job.last_seq + 1;
    insert_event(connection, job.key, seq, true, &last_event)?;
    let status = match ending {
        Ending::Succeeded => SUCCEEDED,
        Ending::Failed => FAILED,
        Ending::Cancelled => CANCELLED,
    };
    connection
        .prepare_cached(
            "UPDATE jobs SET status = ?2, last_seq = ?3, finished_at_ms = ?4, outcome = ?5 WHERE key = ?1",
        )?
        .execute(params![job.key, status, seq, now_ms, outcome])?;
    Ok(Event {
        seq: seq.unsigned_abs(),
        payload: last_event,
        is_final: true,
        durability: Durability::Logged,
    })
}

/// The event is there if the job ended by this.
pub(super) fn cancel(
    connection: &Connection,
    job_id: &str,
    last_event: Vec<u8>,
    now_ms: i64,
) -> Result<(Cancellation, Option<Event>), Error> {
    if let Some(job) = queued_job(connection, job_id)? {
        let event = end(
            connection,
            &job,
            Ending::Cancelled,
            None,
            last_event,
            now_ms,
        )?;
        return Ok((Cancellation::Cancelled, Some(event)));
    }
    match has_ended(connection, job_id)? {
        None => Err(Error::NotFound(job_id.to_owned())),
        Some(true) => Ok((Cancellation::AlreadyFinished, None)),
        Some(false) => {
            connection
                .prepare_cached("UPDATE jobs SET cancel_requested = 1 WHERE id = ?1")?
                .execute([job_id])?;
            Ok((Cancellation::Requested, None))
        }
    }
}

pub(super) fn events_after(
    connection: &Connection,
    job_id: &str,
    after: u64,
    limit: u32,
) -> Result<Vec<Event>, Error> {
    let Ok(after) = i64::try_from(after) else {
        return Ok(Vec::new());
    };
    let mut statement = connection.prepare_cached(
        "SELECT seq, payload, is_final FROM events
         WHERE job = (SELECT key FROM jobs WHERE id = ?1) AND seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    let events = statement.query_map(params![job_id, after, limit], |row| {
        Ok(Event {
            seq: row.get::<_, i64>(0)?.unsigned_abs(),
            payload: row.get(1)?,
            is_final: row.get(2)?,
            durability: Durability::Logged,
        })
    })?;
    Ok(events.collect::<Result<_, _>>()?)
}

/// Names the committed file of an image.
pub(super) fn put_image(
    connection: &Connection,
    holder: &Holder,
    index: u32,
    file: &str,
) -> Result<ReplacedFile, Error> {
    let job = held(connection, holder)?;
    let replaced = connection
        .prepare_cached(r#"SELECT file FROM images WHERE job = ?1 AND "index" = ?2"#)?
        .query_row(params![job.key, index], |row| row.get(0))
        .optional()?;
    connection
        .prepare_cached(
            r#"INSERT INTO images (job, "index", file) VALUES (?1, ?2, ?3)
               ON CONFLICT DO UPDATE SET file = excluded.file"#,
        )?
        .execute(params![job.key, index, file])?;
    Ok(replaced)
}

pub(super) fn image_file(
    connection: &Connection,
    job_id: &str,
    index: u32,
) -> Result<Option<String>, Error> {
    Ok(connection
        .prepare_cached(
            r#"SELECT file FROM images WHERE job = (SELECT key FROM jobs WHERE id = ?1) AND "index" = ?2"#,
        )?
        .query_row(params![job_id, index], |row| row.get(0))
        .optional()?)
}

/// Every image file that a row names, as (job id, file name).
pub(super) fn image_files(connection: &Connection) -> Result<HashSet<(String, String)>, Error> {
    let mut statement = connection.prepare("SELECT id, file FROM images JOIN jobs ON job = key")?;
    let files = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(files.collect::<Result<_, _>>()?)
}

/// What a start does before anything else: jobs that were running go back to the queue, or fail if they have had
/// their attempts. Gives (requeued, failed).
pub(super) fn recover(
    connection: &Connection,
    attempts_max: u32,
    exhausted: &(dyn Fn(&JobRecord) -> LastWords + Send + Sync),
    now_ms: i64,
) -> Result<(usize, usize), Error> {
    connection.execute(
        "UPDATE jobs SET last_seq = last_seq + ?1 WHERE status < 2",
        [RESTART_SEQ_GAP],
    )?;
    let requeued = connection.execute(
        "UPDATE jobs SET status = 0 WHERE status = 1 AND attempt - released < ?1",
        [attempts_max],
    )?;
    let spent: Vec<(String, Open)> = connection
        .prepare("SELECT id, key, last_seq FROM jobs WHERE status = 1")?
        .query_map([], |row| {
            Ok((
                row.get(0)?,
                Open {
                    key: row.get(1)?,
                    last_seq: row.get(2)?,
                },
            ))
        })?
        .collect::<Result<_, _>>()?;
    for (id, job) in &spent {
        let record = get(connection, id)?.ok_or_else(|| Error::NotFound(id.clone()))?;
        let LastWords {
            outcome,
            last_event,
        } = exhausted(&record);
        end(
            connection,
            job,
            Ending::Failed,
            Some(outcome),
            last_event,
            now_ms,
        )?;
    }
    Ok((requeued, spent.len()))
}

/// The file must be on the disk.
fn name_blob(connection: &Connection, blob: &Blob) -> Result<(), Error> {
    let bytes = i64::try_from(blob.bytes().len()).unwrap_or(i64::MAX);
    connection
        .prepare_cached("INSERT OR IGNORE INTO blobs (sha256, bytes) VALUES (?1, ?2)")?
        .execute(params![blob.sha256(), bytes])?;
    Ok(())
}

/// Every blob that a row names.
pub(super) fn blob_names(connection: &Connection) -> Result<HashSet<String>, Error> {
    let mut statement = connection.prepare("SELECT sha256 FROM blobs")?;
    let names = statement.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// Forgets the blobs that no job and no upload names; gives their names.
pub(super) fn forget_unused_blobs(connection: &Connection) -> Result<Vec<String>, Error> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM blobs
         WHERE NOT EXISTS (SELECT 1 FROM inputs WHERE inputs.sha256 = blobs.sha256)
           AND NOT EXISTS (SELECT 1 FROM uploads WHERE uploads.sha256 = blobs.sha256)
         RETURNING sha256",
    )?;
    let names = statement.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

pub(super) fn is_blob_named(connection: &Connection, sha256: &str) -> Result<bool, Error> {
    Ok(connection
        .prepare_cached("SELECT 1 FROM blobs WHERE sha256 = ?1")?
        .exists([sha256])?)
}

/// Stores an upload if there is room for it beside those that have not expired.
pub(super) fn put_upload(
    connection: &Connection,
    upload: NewUpload,
    upload_bytes_max: u64,
    now_ms: i64,
) -> Result<UploadRecord, Error> {
    forget_expired_uploads(connection, now_ms)?;
    let kept_bytes: i64 = connection
        .prepare_cached("SELECT coalesce(sum(bytes), 0) FROM uploads JOIN blobs USING (sha256)")?
        .query_row([], |row| row.get(0))?;
    let bytes = u64::try_from(upload.blob.bytes().len()).unwrap_or(u64::MAX);
    if kept_bytes.unsigned_abs().saturating_add(bytes) > upload_bytes_max {
        return Err(Error::UploadsFull {
            kept_bytes: kept_bytes.unsigned_abs(),
            upload_bytes_max,
        });
    }
    name_blob(connection, &upload.blob)?;
    let expires_at_ms = now_ms.saturating_add(upload.kept_ms);
    connection
        .prepare_cached(
            "INSERT INTO uploads (id, sha256, details, created_at_ms, expires_at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            upload.id,
            upload.blob.sha256(),
            upload.details,
            now_ms,
            expires_at_ms
        ])?;
    Ok(UploadRecord {
        id: upload.id,
        sha256: upload.blob.sha256().to_owned(),
        bytes,
        details: upload.details,
        created_at_ms: now_ms,
        expires_at_ms,
    })
}

pub(super) fn upload(
    connection: &Connection,
    upload_id: &str,
    now_ms: i64,
) -> Result<Option<UploadRecord>, Error> {
    Ok(connection
        .prepare_cached(
            "SELECT id, sha256, bytes, details, created_at_ms, expires_at_ms
             FROM uploads JOIN blobs USING (sha256) WHERE id = ?1 AND expires_at_ms > ?2",
        )?
        .query_row(params![upload_id, now_ms], |row| {
            Ok(UploadRecord {
                id: row.get(0)?,
                sha256: row.get(1)?,
                bytes: row.get::<_, i64>(2)?.unsigned_abs(),
                details: row.get(3)?,
                created_at_ms: row.get(4)?,
                expires_at_ms: row.get(5)?,
            })
        })
        .optional()?)
}

/// Whether it was there.
pub(super) fn delete_upload(
    connection: &Connection,
    upload_id: &str,
    now_ms: i64,
) -> Result<bool, Error> {
    let deleted = connection
        .prepare_cached("DELETE FROM uploads WHERE id = ?1 AND expires_at_ms > ?2")?
        .execute(params![upload_id, now_ms])?;
    Ok(deleted > 0)
}

pub(super) fn forget_expired_uploads(connection: &Connection, now_ms: i64) -> Result<(), Error> {
    connection
        .prepare_cached("DELETE FROM uploads WHERE expires_at_ms <= ?1")?
        .execute([now_ms])?;
    Ok(())
}

/// Deletes at most `limit` finished jobs that ended before `finished_before_ms`, are not among the newest
/// `keep_jobs_max`, or are not among the newest whose inputs have `keep_input_bytes_max` in all; gives their ids.
pub(super) fn prune(
    connection: &Connection,
    finished_before_ms: i64,
    keep_jobs_max: u32,
    keep_input_bytes_max: i64,
    limit: u32,
) -> Result<Vec<String>, Error> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM jobs WHERE key IN (
             SELECT key FROM jobs
             WHERE finished_at_ms IS NOT NULL AND (
                 finished_at_ms < ?1
                 OR key IN (SELECT key FROM jobs WHERE finished_at_ms IS NOT NULL
                            ORDER BY finished_at_ms DESC, key DESC LIMIT -1 OFFSET ?2)
                 OR key IN (SELECT job FROM
                                (SELECT job, sum(bytes) OVER (ORDER BY finished_at_ms DESC, job DESC) AS newer_bytes
                                 FROM inputs JOIN blobs USING (sha256) JOIN jobs ON key = job
                                 WHERE finished_at_ms IS NOT NULL)
                            WHERE newer_bytes > ?3))
             LIMIT ?4)
         RETURNING id",
    )?;
    let ids = statement.query_map(
        params![
            finished_before_ms,
            keep_jobs_max,
            keep_input_bytes_max,
            limit
        ],
        |row| row.get(0),
    )?;
    Ok(ids.collect::<Result<_, _>>()?)
}
