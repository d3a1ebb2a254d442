//! The outermost layer: gives every request its id, writes the bodies of errors, and logs one line.

use crate::{error::object_for_status, limits::REQUEST_ID_BYTES_MAX};
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use scumble_protocol::{ErrorBody, ErrorObject};
use std::time::Instant;
use tracing::Instrument as _;

/// The header that carries the id both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Runs the rest of the stack inside the request's scope.
pub async fn run(request: Request, next: Next) -> Response {
    let request_id = client_id(request.headers())
        .unwrap_or_else(|| format!("req_{}", ulid::Ulid::generate().to_string().to_lowercase()));
    let span = tracing::info_span!("request", %request_id, method = %request.method(), path = request.uri().path());
    async move {
        let started = Instant::now();
        let mut response = next.run(request).await;
        write_error(&mut response, &request_id);
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        let status = response.status().as_u16();
        let elapsed_ms = started.elapsed().as_millis();
        if status == 500 {
            tracing::warn!(status, elapsed_ms, "answered");
        } else {
            tracing::debug!(status, elapsed_ms, "answered");
        }
        response
    }
    .instrument(span)
    .await
}

/// A client's own id is taken over if it is short and plain, so that two logs can be joined.
fn client_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let is_plain = (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    is_plain.then(|| id.to_owned())
}

/// Gives every failed response the one error shape.
fn write_error(response: &mut Response, request_id: &str) {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return;
    }
    let mut error = response
        .extensions_mut()
        .remove::<Box<ErrorObject>>()
        .map_or_else(|| object_for_status(status), |object| *object);
    error.request_id = Some(request_id.to_owned());
    let body = serde_json::to_vec(&ErrorBody { error }).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    *response.body_mut() = Body::from(body);
}
