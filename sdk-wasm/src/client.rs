//! Calls that have one answer: submit, read, cancel.
//!
//! Nothing in the core writes a number as text or reads JSON: the formatting and parsing code alone would take a third of
//! what a page may download for the client, and the TypeScript face has both from its engine.

use crate::error::ClientError;
use crate::events::EventStream;
use crate::retry::{self, ANSWER_BYTES_MAX, Limits};
use crate::stop::Stop;
use crate::transport::{Body, Method, Request, Response, Transport};
use futures_util::future::{Either, select};
use scumble_protocol::JobId;
use std::pin::pin;

/// A worker, as the client sees it.
#[derive(Debug)]
pub struct Client<T> {
    pub(crate) transport: T,
    pub(crate) limits: Limits,
}

/// A call that has one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Submits a job. Every attempt carries the same key, so that a job whose answer was lost is not drawn twice. An
    /// attempt under way is not given up when the caller stops: the job may have been accepted, and whoever stopped it
    /// must learn its id to cancel it.
    Submit {
        /// A `JobRequest` as JSON.
        body: String,
        /// Any text that no other submission has.
        idempotency_key: String,
    },
    /// Reads a document or an image.
    Read {
        /// Path and query.
        path: String,
    },
    /// Cancels a job.
    Cancel {
        /// Its id.
        job_id: JobId,
    },
}

/// What happens to the attempt under way when the caller stops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnStop {
    /// It is given up at once.
    GiveUp,
    /// It is brought to its end: its outcome must be known.
    Finish,
}

impl<T: Transport> Client<T> {
    /// A client over `transport`; makes no request yet.
    pub const fn new(transport: T, limits: Limits) -> Self {
        Self { transport, limits }
    }

    /// Makes a call and gives the body of its answer.
    ///
    /// # Errors
    /// If the server refuses, cannot be reached within the retries, or the caller stops. Cancelling a job that has
    /// already ended is no error: there is nothing left to cancel.
    pub async fn call(&self, call: Call, stop: &Stop) -> Result<Vec<u8>, ClientError> {
        let on_stop = match call {
            Call::Submit { .. } => OnStop::Finish,
            Call::Read { .. } | Call::Cancel { .. } => OnStop::GiveUp,
        };
        let (request, finished_is_fine) = match call {
            Call::Submit {
                body,
                idempotency_key,
            } => {
                let mut request = Request::new(Method::Post, "/v1/jobs");
                request.headers = vec![
                    ("content-type", "application/json".to_owned()),
                    ("idempotency-key", idempotency_key),
                ];
                request.body = Some(body);
                (request, false)
            }
            Call::Read { path } => (Request::new(Method::Get, path), false),
            Call::Cancel { job_id } => (Request::new(Method::Delete, job_path(&job_id, "")), true),
        };
        match self.persist(&request, on_stop, stop).await {
            Err(ClientError::Refused(refusal)) if finished_is_fine && refusal.status == 409 => {
                Ok(Vec::new())
            }
            outcome => outcome,
        }
    }

    /// Follows a job's events, those after `after` only where it is given. Makes no request yet.
    pub fn events(self: std::rc::Rc<Self>, job_id: &JobId, after: Option<u64>) -> EventStream<T> {
        EventStream::new(self, job_id, after)
    }

    async fn persist(
        &self,
        request: &Request,
        on_stop: OnStop,
        stop: &Stop,
    ) -> Result<Vec<u8>, ClientError> {
        let mut attempt = 0;
        loop {
            if stop.is_stopped() {
                return Err(ClientError::Aborted);
            }
            let tried = self.timed(self.attempt(request));
            let outcome = match on_stop {
                OnStop::Finish => tried.await,
                OnStop::GiveUp => unless_stopped(stop, tried).await?,
            };
            let error = match outcome {
                Ok(bytes) => return Ok(bytes),
                Err(error) => error,
            };
            let pause = error
                .failure()
                .and_then(|failure| retry::pause_ms(failure, attempt, self.transport.random()));
            match pause {
                Some(pause_ms) if attempt < self.limits.retries_max => {
                    unless_stopped(stop, self.transport.sleep(pause_ms)).await?;
                }
                _ => return Err(error),
            }
            attempt += 1;
        }
    }

    async fn attempt(&self, request: &Request) -> Result<Vec<u8>, ClientError> {
        let mut response = self.open(request).await?;
        collect(&mut response.body).await
    }

    /// Sends a request and turns every status that is not a success into an error.
    pub(crate) async fn open(&self, request: &Request) -> Result<Response<T::Body>, ClientError> {
        let mut response = self
            .transport
            .send(request)
            .await
            .map_err(ClientError::connection)?;
        if (200..300).contains(&response.status) {
            return Ok(response);
        }
        // An error whose explanation is cut off is still that error.
        let body = collect(&mut response.body).await.unwrap_or_default();
        Err(ClientError::refused(&response, body))
    }

    /// Bounds an attempt by the time limit.
    pub(crate) async fn timed<R>(
        &self,
        attempt: impl Future<Output = Result<R, ClientError>>,
    ) -> Result<R, ClientError> {
        let timeout_ms = self.limits.timeout_ms;
        match select(pin!(attempt), pin!(self.transport.sleep(timeout_ms))).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(((), _)) => Err(ClientError::Timeout),
        }
    }
}

/// Waits for `future`, or gives it up when the caller stops.
pub(crate) async fn unless_stopped<R>(
    stop: &Stop,
    future: impl Future<Output = R>,
) -> Result<R, ClientError> {
    match select(pin!(stop.stopped()), pin!(future)).await {
        Either::Left(((), _)) => Err(ClientError::Aborted),
        Either::Right((value, _)) => Ok(value),
    }
}

async fn collect(body: &mut impl Body) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await.map_err(ClientError::connection)? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(ClientError::InvalidResponse("it is larger than any image"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

pub(crate) fn job_path(job_id: &JobId, below: &str) -> String {
    ["/v1/jobs/", job_id.as_str(), below].concat()
}
