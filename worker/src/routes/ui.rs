//! The studio's files.

use crate::{error::ApiError, ui};
use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use rust_embed::EmbeddedFile;

/// What the studio may load: its own files, and pictures and workers that it makes itself. WebAssembly is allowed,
/// other code from strings is not.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; \
    style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; font-src 'self' data:; \
    connect-src 'self' blob: data:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; \
    form-action 'self'; frame-ancestors 'none'";

/// Shown at `/` by a build without the studio.
const NOT_BUILT: &str = "Scumble is running, but this build has no studio inside.\n\n\
    `cargo xtask demo` builds it and starts again with it.\n\
    The API works as it is: GET /v1/models, POST /v1/jobs.\n";

/// Everything that is no API path: the studio's files, and its page for a navigation to any other path.
///
/// # Errors
/// 404 for a file that is not there, 405 for what is not a read.
pub async fn file(method: Method, uri: Uri, headers: HeaderMap) -> Result<Response, ApiError> {
    let path = uri.path().trim_start_matches('/');
    if path == "v1" || path.starts_with("v1/") {
        return Err(nothing_here());
    }
    if method != Method::GET && method != Method::HEAD {
        return Ok((
            StatusCode::METHOD_NOT_ALLOWED,
            [(header::ALLOW, "GET, HEAD")],
        )
            .into_response());
    }
    if let Some(file) = ui::file(path) {
        return Ok(respond(path, file, &headers));
    }
    if !is_navigation(&headers) && !path.is_empty() {
        return Err(nothing_here());
    }
    match ui::index() {
        Some(index) => Ok(respond("index.html", index, &headers)),
        None if path.is_empty() => Ok(NOT_BUILT.into_response()),
        None => Err(nothing_here()),
    }
}

fn nothing_here() -> ApiError {
    ApiError::not_found("there is nothing at this path")
}

/// Whether a person typed or followed the address, as opposed to a page asking for a file.
fn is_navigation(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

fn respond(path: &str, file: EmbeddedFile, request: &HeaderMap) -> Response {
    let etag = format!("\"{}\"", hex::encode(file.metadata.sha256_hash()));
    let is_known = request
        .get(header::IF_NONE_MATCH)
        .and_then(|known| known.to_str().ok())
        .is_some_and(|known| {
            known
                .split(',')
                .any(|known| known.trim().trim_start_matches("W/") == etag)
        });
    let media_type = match path {
        "" => mime_guess::mime::TEXT_HTML_UTF_8,
        path => mime_guess::from_path(path).first_or_octet_stream(),
    };
    // Files under assets/ have their content's hash in their name and never change; the page names the newest.
    let cache_control = if path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Body::from(file.data.into_owned()).into_response()
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, cache_control),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [
        (header::ETAG, etag),
        (header::CONTENT_TYPE, media_type.to_string()),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    response
}
