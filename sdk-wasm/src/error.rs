//! The one error of the client. It says what happened; the words of a refusal stay the server's, as they came.

use crate::retry::{Failure, parse_retry_after};
use crate::transport::{Response, TransportError};

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientError {
    /// The caller asked to stop.
    Aborted,
    /// The worker cannot be reached, or the connection broke.
    Connection(String),
    /// No response came within the time limit.
    Timeout,
    /// The server's words are not the contract's.
    InvalidResponse(&'static str),
    /// A response that is not a success.
    Refused(Box<Refusal>),
}

/// A response that is not a success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The error object as JSON, or whatever a proxy wrote in its place.
    pub body: Vec<u8>,
    /// `X-Request-Id`.
    pub request_id: Option<String>,
    /// `Retry-After`, in milliseconds.
    pub retry_after_ms: Option<u32>,
    /// `x-should-retry`.
    pub should_retry: Option<bool>,
}

impl ClientError {
    pub(crate) fn connection(error: TransportError) -> Self {
        Self::Connection(error.0)
    }

    pub(crate) fn refused<B>(response: &Response<B>, body: Vec<u8>) -> Self {
        Self::Refused(Box::new(Refusal {
            status: response.status,
            body,
            request_id: response.header("x-request-id").map(str::to_owned),
            retry_after_ms: response.header("retry-after").and_then(parse_retry_after),
            should_retry: response
                .header("x-should-retry")
                .map(|value| value.trim().eq_ignore_ascii_case("true")),
        }))
    }

    /// What the retry rules need to know; `None` for what no other attempt can change.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match self {
            Self::Aborted | Self::InvalidResponse(_) => None,
            Self::Connection(_) | Self::Timeout => Some(Failure::Connection),
            Self::Refused(refusal) => Some(Failure::Status {
                status: refusal.status,
                should_retry: refusal.should_retry,
                retry_after_ms: refusal.retry_after_ms,
            }),
        }
    }
}
