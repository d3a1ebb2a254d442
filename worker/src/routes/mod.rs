//! One resource a file. A handler extracts, calls one domain function, responds.

pub mod body;
pub mod events;
pub mod health;
pub mod images;
pub mod jobs;
pub mod loras;
pub mod models;
pub mod png_info;
pub mod tokenize;
pub mod ui;
pub mod uploads;

use crate::error::ApiError;
use scumble_protocol::JobId;

/// The id of a path: what cannot be an id is the id of no job.
fn job_id(path: &str) -> Result<JobId, ApiError> {
    JobId::new(path).map_err(|_| no_such_job())
}

fn no_such_job() -> ApiError {
    ApiError::not_found("there is no such job")
}

/// What cannot be read from the store was written by another version, or the disk is at fault.
fn unreadable(error: crate::record::Unreadable) -> ApiError {
    tracing::error!(%error, "stored job data cannot be read");
    ApiError::internal()
}
