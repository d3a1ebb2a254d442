//! What the job store holds for us as bytes, and a job as the API shows it.

use jiff::Timestamp;
use scumble_jobs::{JobRecord, Status, sqlite::LastWords};
use scumble_protocol::{
    ErrorCode, ErrorObject, EventData, ImageResult, Job, JobId, JobStatus, NormalizedRequest,
    Timings,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A job's payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredJob {
    /// What is drawn.
    pub request: NormalizedRequest,
    /// What was adjusted or could not be honoured.
    pub warnings: Vec<String>,
}

/// How a job ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was found out while drawing.
    pub warnings: Vec<String>,
    /// How long it took, if it succeeded.
    pub timings: Option<Timings>,
    /// The images, without pixels, if it succeeded.
    pub images: Vec<ImageResult>,
    /// Why it failed, if it did.
    pub error: Option<ErrorObject>,
}

/// Bytes in the store that are not what was put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the job data is not what this version wrote")]
pub struct Unreadable;

/// Writes what the store keeps.
#[must_use]
pub fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value)
        .expect("our own types have string keys and finite numbers: this is a bug")
}

/// Reads what the store kept.
///
/// # Errors
/// If another version wrote it in another shape, or the disk lost it.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(bytes).map_err(|_| Unreadable)
}

/// The job as the API shows it.
///
/// # Errors
/// If the stored bytes cannot be read.
pub fn to_job(record: &JobRecord) -> Result<Job, Unreadable> {
    let stored: StoredJob = from_bytes(&record.payload)?;
    let outcome = match &record.outcome {
        Some(bytes) if !bytes.is_empty() => from_bytes(bytes)?,
        _ => Outcome::default(),
    };
    let mut warnings = stored.warnings;
    warnings.extend(outcome.warnings);
    Ok(Job {
        job_id: JobId::new(record.id.as_str()).map_err(|_| Unreadable)?,
        status: status(record.status),
        position: record.position,
        attempt: record.attempt,
        created_at: rfc3339(record.created_at_ms),
        started_at: record.started_at_ms.map(rfc3339),
        finished_at: record.finished_at_ms.map(rfc3339),
        request: stored.request,
        warnings,
        timings: outcome.timings,
        images: outcome.images,
        error: outcome.error,
    })
}

/// Where image `index` of a job is, relative to the server.
#[must_use]
pub fn image_url(job_id: &str, index: u32) -> String {
    format!("/v1/jobs/{job_id}/images/{index}")
}

/// What a job says whose process died in each attempt that it may have.
#[must_use]
pub fn attempts_exhausted(record: &JobRecord) -> LastWords {
    let error = ErrorObject::new(
        ErrorCode::AttemptsExhausted,
        format!(
            "the worker stopped in the middle of each of {} attempts",
            record.attempt
        ),
    );
    LastWords {
        outcome: to_bytes(&Outcome {
            error: Some(error.clone()),
            ..Outcome::default()
        }),
        last_event: to_bytes(&EventData::Error { error }),
    }
}

const fn status(status: Status) -> JobStatus {
    match status {
        Status::Queued => JobStatus::Queued,
        Status::Running => JobStatus::Running,
        Status::Succeeded => JobStatus::Succeeded,
        Status::Failed => JobStatus::Failed,
        Status::Cancelled => JobStatus::Cancelled,
    }
}

pub(crate) fn rfc3339(unix_ms: i64) -> String {
    let time = Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc_with_milliseconds() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_408_496_007), "2026-11-23T04:34:56.007Z");
    }
}
