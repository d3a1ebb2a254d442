//! The one error shape, which OpenAI's clients parse as it is.

use serde::{Deserialize, Serialize};

/// `{"error": {…}}`: the body of every response that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorObject,
}

/// What went wrong, for a person (`message`) and for a program (`code`, `param`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct ErrorObject {
    /// What was wrong and what would be right.
    pub message: String,
    /// The broad class, as OpenAI names it.
    #[serde(rename = "type")]
    pub kind: ErrorType,
    /// What a client branches on.
    pub code: ErrorCode,
    /// The request's field that is at fault.
    pub param: Option<String>,
    /// What to quote when reporting the failure.
    pub request_id: Option<String>,
}

/// The broad class of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorType {
    /// The request was at fault; sending it again cannot help.
    InvalidRequestError,
    /// No key, or a wrong one.
    AuthenticationError,
    /// Too much for now; `Retry-After` says when to try again.
    RateLimitError,
    /// Our fault; the request id is in the log.
    ServerError,
    /// The connection failed or broke; made by clients, never sent.
    ConnectionError,
    /// A class this client does not know yet.
    #[serde(other)]
    Unknown,
}

/// What exactly went wrong: stable names that clients branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The body is not JSON.
    InvalidJson,
    /// A field has a value outside its bound or of a wrong type.
    InvalidValue,
    /// A field that the contract does not have.
    UnknownField,
    /// A required field is missing.
    MissingField,
    /// No such model here; the message lists those there are.
    ModelNotFound,
    /// No such scheduler; the message lists those there are.
    SchedulerNotFound,
    /// No such job, image or path.
    NotFound,
    /// The path has no such method.
    MethodNotAllowed,
    /// The body is not of a type that the path takes.
    UnsupportedMediaType,
    /// The body is larger than its limit.
    PayloadTooLarge,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The job has ended and cannot be cancelled.
    JobFinished,
    /// The same idempotency key came with another body.
    IdempotencyKeyReused,
    /// No key was sent, or one that is not known.
    InvalidApiKey,
    /// The `Host` or `Origin` is not one that this server answers to.
    ForbiddenOrigin,
    /// The image cannot be used: it is none, is broken, or is of a kind that is not taken.
    InvalidImage,
    /// No such LoRA here; the message lists those there are.
    LoraNotFound,
    /// The queue is full; `Retry-After` says when to try again.
    QueueFull,
    /// As many bytes of uploads are kept as may be; `Retry-After` says when to try again.
    UploadsFull,
    /// The model is still loading.
    ModelLoading,
    /// The server is stopping and takes no new jobs.
    Draining,
    /// The job data cannot be stored now.
    StorageUnavailable,
    /// The job's model could not be loaded; the job will not be tried again.
    ModelLoadFailed,
    /// Drawing failed; the job will not be tried again.
    DrawingFailed,
    /// The job was tried as often as allowed and the worker died each time.
    AttemptsExhausted,
    /// Something broke on our side.
    InternalError,
    /// The job was cancelled; made by clients for a result that will not come.
    JobCancelled,
    /// The worker cannot be reached; made by clients, never sent.
    ConnectionFailed,
    /// The server said something that is not this contract; made by clients, never sent.
    InvalidResponse,
    /// The caller's time limit passed; made by clients, never sent.
    Timeout,
    /// The caller's `AbortSignal` fired; made by clients, never sent.
    Aborted,
    /// A code this client does not know yet.
    #[serde(other)]
    Unknown,
}

impl ErrorObject {
    /// An error of `code`, its `type` derived from the code.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            kind: code.kind(),
            code,
            param: None,
            request_id: None,
        }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }
}

impl ErrorCode {
    /// The broad class that the code belongs to.
    #[must_use]
    pub const fn kind(self) -> ErrorType {
        match self {
            Self::InvalidApiKey => ErrorType::AuthenticationError,
            Self::QueueFull | Self::UploadsFull => ErrorType::RateLimitError,
            Self::ModelLoading
            | Self::Draining
            | Self::StorageUnavailable
            | Self::ModelLoadFailed
            | Self::DrawingFailed
            | Self::AttemptsExhausted
            | Self::InternalError => ErrorType::ServerError,
            Self::ConnectionFailed | Self::InvalidResponse | Self::Timeout => {
                ErrorType::ConnectionError
            }
            Self::Unknown => ErrorType::Unknown,
            _ => ErrorType::InvalidRequestError,
        }
    }
}
