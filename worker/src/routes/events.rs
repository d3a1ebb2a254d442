//! A job's events as a stream (Server-Sent Events).

use super::{job_id, unreadable};
use crate::{
    app::App,
    error::ApiError,
    limits::{EVENTS_PAGE_MAX, KEEP_ALIVE_INTERVAL, STREAM_RETRY_MS},
    record::{StoredJob, from_bytes},
    routes::jobs::find,
    watchers::Watcher,
};
use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use futures_core::Stream;
use scumble_jobs::{Event, EventReceiver, Status};
use scumble_protocol::{
    ErrorCode, EventData, JobEvent, JobId, ResponseFormat,
    sse::{self, KEEP_ALIVE},
};
use serde::Deserialize;
use std::convert::Infallible;
use tokio::{sync::broadcast::error::RecvError, time};

/// Where a stream begins.
#[derive(Debug, Default, Deserialize)]
pub struct After {
    after: Option<String>,
}

/// `GET /v1/jobs/{job_id}/stream`: everything that happens to the job, from the event after `Last-Event-ID` (or
/// `?after=`), or from the beginning. Ends with `[DONE]` once the job has ended.
///
/// # Errors
/// 404 if there is no such job, 400 if the event id is not one.
pub async fn stream(
    State(app): State<App>,
    Path(path): Path<String>,
    Query(query): Query<After>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let job_id = job_id(&path)?;
    let after = after(&headers, query)?;
    // Listen first, then read the log: what happens in between is in both, and `seq` tells. The other order would
    // lose it.
    let live = app.store.subscribe(job_id.as_str()).await?;
    let record = find(&app, &job_id).await?;
    let stored: StoredJob = from_bytes(&record.payload).map_err(unreadable)?;
    let has_ended = !matches!(record.status, Status::Queued | Status::Running);
    if has_ended
        && app
            .store
            .events_after(job_id.as_str(), after, 1)
            .await?
            .is_empty()
    {
        // The reader has it all: to a browser's EventSource, 204 means not to come back.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let reader = Reader {
        with_pixels: stored.request.response_format == ResponseFormat::B64Json,
        watcher: stored
            .request
            .cancel_on_disconnect
            .then(|| Watcher::new(&app, &job_id)),
        app,
        job_id,
        last: after,
        live,
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(messages(reader))).into_response())
}

/// The sequence number of the last event that the reader has; 0 for none.
fn after(headers: &HeaderMap, query: After) -> Result<u64, ApiError> {
    const HEADER: &str = "last-event-id";
    let (param, value) = match (headers.get(HEADER), query.after) {
        (Some(value), _) => (HEADER, value.to_str().unwrap_or("?").to_owned()),
        (None, Some(value)) => ("after", value),
        (None, None) => return Ok(0),
    };
    if value.is_empty() {
        return Ok(0);
    }
    value.parse().map_err(|_| {
        ApiError::new(
            ErrorCode::InvalidValue,
            format!("{param} must be the id of an event of this stream: a whole number"),
        )
        .with_param(param)
    })
}

/// One reader of one job.
struct Reader {
    app: App,
    job_id: JobId,
    /// The last event given.
    last: u64,
    live: EventReceiver,
    with_pixels: bool,
    watcher: Option<Watcher>,
}

/// What is to be done next.
enum Next {
    Give(Event),
    ReadLog,
    KeepAlive,
    Leave,
}

/// First the log, then what happens, until the job's last event. A reader that falls behind what the channel keeps
/// goes back to the log, which has everything but previews; nothing grows for its sake.
fn messages(mut reader: Reader) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    async_stream::stream! {
        let mut keep_alive = time::interval_at(time::Instant::now() + KEEP_ALIVE_INTERVAL, KEEP_ALIVE_INTERVAL);
        let mut reads_log = true;
        loop {
            if reads_log {
                let page = reader.page().await;
                let Ok(page) = page else { break };
                reads_log = !page.is_empty();
                for event in page {
                    let is_final = event.is_final;
                    yield Ok(reader.message(event).await);
                    if is_final {
                        yield Ok(reader.done());
                        return;
                    }
                }
                continue;
            }
            match reader.next(&mut keep_alive).await {
                Next::Give(event) => {
                    keep_alive.reset();
                    let is_final = event.is_final;
                    yield Ok(reader.message(event).await);
                    if is_final {
                        yield Ok(reader.done());
                        return;
                    }
                }
                Next::ReadLog => reads_log = true,
                Next::KeepAlive => yield Ok(Bytes::from_static(KEEP_ALIVE.as_bytes())),
                Next::Leave => break,
            }
        }
        // The job goes on without this stream: the reader is told when to come back for the rest.
        yield Ok(Bytes::from(format!(": resume later\nretry: {STREAM_RETRY_MS}\n\n")));
    }
}

impl Reader {
    async fn page(&self) -> Result<Vec<Event>, scumble_jobs::Error> {
        let page = self
            .app
            .store
            .events_after(self.job_id.as_str(), self.last, EVENTS_PAGE_MAX)
            .await;
        page.inspect_err(
            |error| tracing::warn!(job_id = %self.job_id, %error, "a job's events cannot be read"),
        )
    }

    async fn next(&mut self, keep_alive: &mut time::Interval) -> Next {
        let draining = self.app.shutdown.draining();
        loop {
            let received = tokio::select! {
                biased;
                received = self.live.recv() => received,
                () = draining.cancelled() => return Next::Leave,
                _ = keep_alive.tick() => return Next::KeepAlive,
            };
            match received {
                Ok(event) if event.seq > self.last => return Next::Give(event),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return Next::ReadLog,
                // The store is gone; the log was read up to the last event that was told.
                Err(RecvError::Closed) => return Next::Leave,
            }
        }
    }

    /// The event as it goes over the wire, pixels put back where the job asked for them.
    async fn message(&mut self, event: Event) -> Bytes {
        self.last = event.seq;
        let Ok(mut data) = from_bytes::<EventData>(&event.payload) else {
            tracing::error!(job_id = %self.job_id, seq = event.seq, "a stored event cannot be read");
            return Bytes::new();
        };
        if self.with_pixels
            && let EventData::Image(image) = &mut data
            && let Ok(bytes) = self
                .app
                .store
                .image(self.job_id.as_str(), image.index)
                .await
        {
            image.image_base64 = bytes.map(|bytes| BASE64.encode(bytes));
        }
        let event = JobEvent {
            data,
            job_id: self.job_id.clone(),
            seq: event.seq,
        };
        sse::encode(&event).map_or_else(|_| Bytes::new(), Bytes::from)
    }

    /// The end of a stream that has told everything.
    fn done(&mut self) -> Bytes {
        if let Some(watcher) = self.watcher.take() {
            watcher.dismiss();
        }
        Bytes::from(sse::encode_done())
    }
}
