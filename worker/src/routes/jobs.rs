//! Jobs: submitted, looked at, cancelled.

use super::{body::JobBody, job_id, no_such_job, unreadable};
use crate::{
    app::{App, AppState},
    error::ApiError,
    inputs::resolve,
    limits::WAIT_SECONDS_MAX,
    normalize::normalize,
    record::to_job,
    routes::images,
    watchers::Watcher,
};
use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use scumble_jobs::{Cancellation, JobRecord};
use scumble_protocol::{ErrorCode, Job, JobId, JobStatus, OutputFormat, ResponseFormat};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// `POST /v1/jobs`: puts a drawing in the queue and answers 202 with the job, which is on disk by then.
///
/// With `Prefer: wait=60` the answer comes when the job has ended or the time is up; with `Accept: image/png` (webp,
/// jpeg) too, it is the picture itself.
///
/// # Errors
/// 400 with `param` for what cannot be drawn, 413, 415, 503 when the queue is full or the server stops.
pub async fn submit(
    State(app): State<App>,
    preference: Preference,
    body: JobBody,
) -> Result<Response, ApiError> {
    let record = accept(&app, body, preference.picture).await?;
    let job = to_job(&record).map_err(unreadable)?;
    match preference.wait {
        None => Ok(accepted(&job, None)),
        Some(wait) => respond_when_ended(&app, job, wait, preference.picture.is_some()).await,
    }
}

/// `GET /v1/jobs/{job_id}`: where the job stands.
///
/// # Errors
/// 404 if there is no such job.
pub async fn get(State(app): State<App>, Path(path): Path<String>) -> Result<Json<Job>, ApiError> {
    let record = find(&app, &job_id(&path)?).await?;
    to_job(&record).map(Json).map_err(unreadable)
}

/// `DELETE /v1/jobs/{job_id}`: cancels; a running job stops within one denoising step.
///
/// # Errors
/// 404 if there is no such job, 409 once it has ended.
pub async fn cancel(
    State(app): State<App>,
    Path(path): Path<String>,
) -> Result<Response, ApiError> {
    let job_id = job_id(&path)?;
    let cancellation = app.cancel(&job_id).await?;
    let job = to_job(&find(&app, &job_id).await?).map_err(unreadable)?;
    if cancellation == Cancellation::AlreadyFinished {
        return Err(ApiError::new(
            ErrorCode::JobFinished,
            format!(
                "the job has ended already ({}) and cannot be cancelled",
                status_name(job.status)
            ),
        ));
    }
    Ok((StatusCode::ACCEPTED, Json(job)).into_response())
}

/// Checks a request and its images, and puts them in the queue.
async fn accept(
    app: &AppState,
    body: JobBody,
    format: Option<OutputFormat>,
) -> Result<JobRecord, ApiError> {
    if app.shutdown.is_draining() {
        return Err(ApiError::draining());
    }
    let JobBody {
        mut request,
        files,
        room,
    } = body;
    if let Some(format) = format {
        request.output_format.get_or_insert(format);
    }
    let inputs = resolve(app, &mut request, files).await?;
    let stored = normalize(request, &inputs, &app.catalog, &app.loras)?;
    let submitted = app.submit(&stored, inputs).await;
    drop(room);
    match submitted {
        Ok(record) => {
            tracing::info!(job_id = record.id, "job accepted");
            Ok(record)
        }
        Err(scumble_jobs::Error::QueueFull { queued }) => {
            let wait_ms = app.estimator.wait_ms(1).unwrap_or(1_000);
            Err(ApiError::queue_full(queued, wait_ms.div_ceil(1_000).max(1)))
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn find(app: &AppState, job_id: &JobId) -> Result<JobRecord, ApiError> {
    app.store
        .get(job_id.as_str())
        .await?
        .ok_or_else(no_such_job)
}

/// The job once it has ended, or as it stands when the time is up or the server stops.
async fn respond_when_ended(
    app: &App,
    job: Job,
    wait: Duration,
    as_picture: bool,
) -> Result<Response, ApiError> {
    let watcher = job
        .request
        .cancel_on_disconnect
        .then(|| Watcher::new(app, &job.job_id));
    tokio::select! {
        ended = until_ended(app, &job.job_id) => ended?,
        () = tokio::time::sleep(wait) => {}
        () = app.shutdown.draining().cancelled_owned() => {}
    }
    // Whoever gets an answer has not gone away: the job goes on.
    if let Some(watcher) = watcher {
        watcher.dismiss();
    }
    let mut job = to_job(&find(app, &job.job_id).await?).map_err(unreadable)?;
    if !job.status.is_final() {
        return Ok(accepted(&job, Some(wait)));
    }
    if as_picture {
        return picture(app, &job).await;
    }
    if job.request.response_format == ResponseFormat::B64Json {
        for image in &mut job.images {
            image.image_base64 = app
                .store
                .image(job.job_id.as_str(), image.index)
                .await?
                .map(|bytes| BASE64.encode(bytes));
        }
    }
    Ok((preference_applied(wait), Json(job)).into_response())
}

/// Waits for a job's end by listening for its events: it may have ended before, so listen first, then look.
async fn until_ended(app: &AppState, job_id: &JobId) -> Result<(), ApiError> {
    let mut events = app.store.subscribe(job_id.as_str()).await?;
    loop {
        let record = find(app, job_id).await?;
        if to_job(&record).map_err(unreadable)?.status.is_final() {
            return Ok(());
        }
        loop {
            match events.recv().await {
                Ok(event) if !event.is_final => {}
                Ok(_) | Err(RecvError::Closed) => return Ok(()),
                // The last event may be among those lost.
                Err(RecvError::Lagged(_)) => break,
            }
        }
    }
}

/// A job's first image as the body of the answer.
async fn picture(app: &AppState, job: &Job) -> Result<Response, ApiError> {
    match (job.status, &job.error) {
        (JobStatus::Failed, Some(error)) => Err(error.clone().into()),
        (JobStatus::Cancelled, _) => Err(ApiError::new(
            ErrorCode::JobCancelled,
            "the job was cancelled",
        )),
        _ => {
            let bytes = app
                .store
                .image(job.job_id.as_str(), 0)
                .await?
                .ok_or_else(no_such_job)?;
            let mut response = images::picture(&job.job_id, 0, job.request.output_format, bytes);
            insert_location(&mut response, job);
            Ok(response)
        }
    }
}

/// 202 with the job as it stands.
fn accepted(job: &Job, waited: Option<Duration>) -> Response {
    let mut response = (StatusCode::ACCEPTED, Json(job)).into_response();
    insert_location(&mut response, job);
    if let Some(wait) = waited {
        response.headers_mut().extend(preference_applied(wait));
    }
    response
}

fn insert_location(response: &mut Response, job: &Job) {
    if let Ok(location) = HeaderValue::try_from(format!("/v1/jobs/{}", job.job_id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
}

fn preference_applied(wait: Duration) -> HeaderMap {
    let value = HeaderValue::try_from(format!("wait={}", wait.as_secs())).ok();
    value
        .map(|value| (header::HeaderName::from_static("preference-applied"), value))
        .into_iter()
        .collect()
}

const fn status_name(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Queued => "queued",
        JobStatus::Running => "running",
        JobStatus::Succeeded => "succeeded",
        JobStatus::Failed => "failed",
        JobStatus::Cancelled => "cancelled",
    }
}

/// How the client would like to be answered (RFC 7240 `Prefer: wait`, and `Accept`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preference {
    wait: Option<Duration>,
    picture: Option<OutputFormat>,
}

impl Preference {
    fn from_headers(headers: &HeaderMap) -> Self {
        let listed = |name: header::HeaderName| {
            headers
                .get_all(name)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(','))
        };
        let wait = listed(header::HeaderName::from_static("prefer"))
            .filter_map(|preference| preference.trim().strip_prefix("wait="))
            .find_map(|seconds| seconds.trim_matches('"').parse::<u64>().ok())
            .map(|seconds| Duration::from_secs(seconds.min(WAIT_SECONDS_MAX)));
        let picture = listed(header::ACCEPT).find_map(|range| {
            match range.split(';').next().unwrap_or_default().trim() {
                "image/png" | "image/*" => Some(OutputFormat::Png),
                "image/webp" => Some(OutputFormat::Webp),
                "image/jpeg" => Some(OutputFormat::Jpeg),
                _ => None,
            }
        });
        Self { wait, picture }
    }
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Preference {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        _state: &S,
    ) -> Result<Self, Self::Rejection> {
        Ok(Self::from_headers(&parts.headers))
    }
}
