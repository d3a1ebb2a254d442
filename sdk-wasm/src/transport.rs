//! What the core needs from the world: requests, time and chance.

use std::fmt;

/// The response headers that the core reads; a transport copies no others.
pub const HEADERS_READ: [&str; 3] = ["retry-after", "x-should-retry", "x-request-id"];

/// How a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Submits.
    Post,
    /// Cancels.
    Delete,
}

/// A request to the worker. The transport adds the base URL, the key and the caller's own headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// How.
    pub method: Method,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// Headers of this request alone.
    pub headers: Vec<(&'static str, String)>,
    /// A JSON text.
    pub body: Option<String>,
}

impl Request {
    /// A request without body or headers.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: None,
        }
    }
}

/// A response whose head has arrived.
#[derive(Debug)]
pub struct Response<B> {
    /// The HTTP status.
    pub status: u16,
    /// Those of [`HEADERS_READ`] that were sent.
    pub headers: Vec<(&'static str, String)>,
    /// The bytes to come.
    pub body: B,
}

impl<B> Response<B> {
    /// The value of a header of [`HEADERS_READ`].
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find_map(|(key, value)| (*key == name).then_some(value.as_str()))
    }
}

/// The connection could not be made or broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportError(pub String);

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A response's bytes as they arrive. Dropping it ends the request.
#[expect(
    async_fn_in_trait,
    reason = "the client lives on one thread; its futures need not be Send"
)]
pub trait Body {
    /// The next bytes, cut anywhere; `None` at the end.
    ///
    /// # Errors
    /// If the connection breaks.
    async fn chunk(&mut self) -> Result<Option<Vec<u8>>, TransportError>;
}

/// The world: HTTP, a timer and randomness.
#[expect(
    async_fn_in_trait,
    reason = "the client lives on one thread; its futures need not be Send"
)]
pub trait Transport {
    /// A response's bytes.
    type Body: Body;

    /// Sends a request and waits for the head of its response. Dropping the future ends the request.
    ///
    /// # Errors
    /// If no response comes.
    async fn send(&self, request: &Request) -> Result<Response<Self::Body>, TransportError>;

    /// Waits.
    async fn sleep(&self, duration_ms: u32);

    /// A number in 0..1.
    fn random(&self) -> f64;
}
