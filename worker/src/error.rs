//! Errors as responses: the only place that knows status codes.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use scumble_protocol::{ErrorCode, ErrorObject, InvalidRequest};
use std::any::Any;

/// When a server that is full of uploads is to be asked again, in seconds.
const UPLOADS_RETRY_AFTER_S: u64 = 600;

/// An error on its way to a client.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    object: Box<ErrorObject>,
    retry_after_s: Option<u64>,
}

impl ApiError {
    /// An error of `code`; its status follows from the code.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::from(ErrorObject::new(code, message))
    }

    /// Something broke here; the log has the details.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            ErrorCode::InternalError,
            "something broke in the server; its log has the details under this request id",
        )
    }

    /// No such job, image or path.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// The server is stopping.
    #[must_use]
    pub fn draining() -> Self {
        Self::new(
            ErrorCode::Draining,
            "the server is stopping and takes no new jobs",
        )
        .with_retry_after(5)
    }

    /// The queue is full; `retry_after_s` is when a place is expected.
    #[must_use]
    pub fn queue_full(queued: u32, retry_after_s: u64) -> Self {
        Self::new(
            ErrorCode::QueueFull,
            format!("the queue is full: {queued} jobs wait, the most it takes"),
        )
        .with_retry_after(retry_after_s)
    }

    /// A range that the image does not have.
    #[must_use]
    pub fn range_not_satisfiable(bytes: usize) -> Self {
        Self {
            status: StatusCode::RANGE_NOT_SATISFIABLE,
            ..Self::new(
                ErrorCode::InvalidValue,
                format!("Range must lie within the image's {bytes} bytes"),
            )
        }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.object.param = Some(param.into());
        self
    }

    /// Says when to try again, in seconds.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

/// The status that a code goes out with.
fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::InvalidApiKey => StatusCode::UNAUTHORIZED,
        ErrorCode::ForbiddenOrigin => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::JobFinished | ErrorCode::IdempotencyKeyReused | ErrorCode::JobCancelled => {
            StatusCode::CONFLICT
        }
        ErrorCode::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::QueueFull
        | ErrorCode::UploadsFull
        | ErrorCode::ModelLoading
        | ErrorCode::Draining
        | ErrorCode::StorageUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::ModelLoadFailed
        | ErrorCode::DrawingFailed
        | ErrorCode::AttemptsExhausted
        | ErrorCode::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// Whether sending the same request again could draw twice or cannot help, where the status alone would make
/// clients try.
fn must_not_retry(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ModelLoadFailed
            | ErrorCode::DrawingFailed
            | ErrorCode::AttemptsExhausted
            | ErrorCode::JobFinished
            | ErrorCode::JobCancelled
            | ErrorCode::IdempotencyKeyReused
    )
}

impl From<ErrorObject> for ApiError {
    fn from(object: ErrorObject) -> Self {
        Self {
            status: status(object.code),
            object: Box::new(object),
            retry_after_s: None,
        }
    }
}

impl From<InvalidRequest> for ApiError {
    fn from(error: InvalidRequest) -> Self {
        Self::from(error.into_object())
    }
}

impl From<scumble_jobs::Error> for ApiError {
    fn from(error: scumble_jobs::Error) -> Self {
        use scumble_jobs::Error;
        match error {
            Error::QueueFull { queued } => Self::queue_full(queued, 1),
            Error::UploadsFull { .. } => Self::new(
                ErrorCode::UploadsFull,
                format!("{error}; delete some, or come back when some have expired"),
            )
            .with_retry_after(UPLOADS_RETRY_AFTER_S),
            Error::NotFound(_) | Error::InvalidId(_) => Self::not_found("there is no such job"),
            Error::Closed => Self::draining(),
            error => {
                tracing::error!(%error, "the job store failed");
                Self::new(
                    ErrorCode::StorageUnavailable,
                    "the job data cannot be read or written now",
                )
                .with_retry_after(5)
            }
        }
    }
}

impl IntoResponse for ApiError {
    /// Without a body: [`crate::request_scope`] writes it, since only there the request id is known.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if must_not_retry(self.object.code) {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response.extensions_mut().insert(self.object);
        response
    }
}

/// What a response that failed without an [`ApiError`] means: the router's own 404 and 405, an extractor's refusal.
#[must_use]
pub fn object_for_status(status: StatusCode) -> ErrorObject {
    let (code, message) = match status {
        StatusCode::NOT_FOUND => (ErrorCode::NotFound, "there is nothing at this path"),
        StatusCode::METHOD_NOT_ALLOWED => (
            ErrorCode::MethodNotAllowed,
            "this path has no such method; Allow lists those it has",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => (ErrorCode::PayloadTooLarge, "the body is too large"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => (
            ErrorCode::UnsupportedMediaType,
            "the body must be application/json",
        ),
        status if status.is_client_error() => (
            ErrorCode::InvalidValue,
            "the path or query of this request cannot be understood",
        ),
        _ => (
            ErrorCode::InternalError,
            "something broke in the server; its log has the details under this request id",
        ),
    };
    ErrorObject::new(code, message)
}

/// A handler panicked: the client gets a 500 with the request id, the process lives.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that CatchPanicLayer calls"
)]
pub fn panicked(payload: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!(
        panic = panic_message(payload.as_ref()),
        "a handler panicked"
    );
    ApiError::internal().into_response()
}

/// The text of a panic, where it has one.
#[must_use]
pub fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}
