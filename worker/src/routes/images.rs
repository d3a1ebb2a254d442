//! A job's pictures as files.

use super::{job_id, unreadable};
use crate::{
    app::App,
    error::ApiError,
    record::{StoredJob, from_bytes},
    routes::jobs::find,
};
use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use scumble_protocol::{JobId, OutputFormat};
use sha2::{Digest as _, Sha256};
use std::ops::Range;

/// Bytes of the content's digest in an `ETag`.
const ETAG_DIGEST_BYTES: usize = 16;

/// `GET /v1/jobs/{job_id}/images/{index}`: the image's file, whole or a range of it. It never changes.
///
/// # Errors
/// 404 if there is no such job or it has no such image (yet), 416 for a range outside the file.
pub async fn get(
    State(app): State<App>,
    Path((path, index)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let job_id = job_id(&path)?;
    let stored: StoredJob = from_bytes(&find(&app, &job_id).await?.payload).map_err(unreadable)?;
    let no_such_image = || ApiError::not_found("the job has no such image, or not yet");
    let index: u32 = index.parse().map_err(|_| no_such_image())?;
    let bytes = app
        .store
        .image(job_id.as_str(), index)
        .await?
        .ok_or_else(no_such_image)?;
    conditional(
        &headers,
        picture(&job_id, index, stored.request.output_format, bytes.clone()),
        bytes,
    )
}

/// The whole file with the headers that keep it from ever running as a page.
pub(super) fn picture(
    job_id: &JobId,
    index: u32,
    format: OutputFormat,
    bytes: Vec<u8>,
) -> Response {
    let extension = match format {
        OutputFormat::Png => "png",
        OutputFormat::Webp => "webp",
        OutputFormat::Jpeg => "jpg",
    };
    let digest = Sha256::digest(&bytes);
    let etag = hex::encode(
        digest
            .iter()
            .take(ETAG_DIGEST_BYTES)
            .copied()
            .collect::<Vec<u8>>(),
    );
    let disposition = format!("inline; filename=\"{job_id}-{index}.{extension}\"");
    let mut response = Body::from(bytes).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, format.mime_type()),
        (
            header::CACHE_CONTROL,
            "private, max-age=31536000, immutable",
        ),
        (header::ACCEPT_RANGES, "bytes"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; sandbox",
        ),
        (
            header::HeaderName::from_static("cross-origin-resource-policy"),
            "same-site",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [
        (header::ETAG, format!("\"{etag}\"")),
        (header::CONTENT_DISPOSITION, disposition),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// What the request's conditions make of the whole file (RFC 9110, sections 13 and 14).
fn conditional(
    request: &HeaderMap,
    mut whole: Response,
    bytes: Vec<u8>,
) -> Result<Response, ApiError> {
    let etag = whole.headers().get(header::ETAG).cloned();
    let etag = etag
        .as_ref()
        .and_then(|etag| etag.to_str().ok())
        .unwrap_or_default();
    let text = |name| request.get(name).and_then(|value| value.to_str().ok());
    if text(header::IF_NONE_MATCH).is_some_and(|known| names(known, etag)) {
        *whole.status_mut() = StatusCode::NOT_MODIFIED;
        *whole.body_mut() = Body::empty();
        return Ok(whole);
    }
    let is_current = text(header::IF_RANGE).is_none_or(|known| known == etag);
    let wanted = text(header::RANGE)
        .filter(|_| is_current)
        .and_then(|range| parse_range(range, bytes.len()));
    match wanted {
        None => Ok(whole),
        Some(None) => Err(ApiError::range_not_satisfiable(bytes.len())),
        Some(Some(range)) => {
            let content_range = format!("bytes {}-{}/{}", range.start, range.end - 1, bytes.len());
            *whole.status_mut() = StatusCode::PARTIAL_CONTENT;
            *whole.body_mut() = Body::from(Bytes::from(bytes).slice(range));
            if let Ok(value) = HeaderValue::try_from(content_range) {
                whole.headers_mut().insert(header::CONTENT_RANGE, value);
            }
            Ok(whole)
        }
    }
}

/// Whether a list of entity tags (or `*`) names this one.
fn names(list: &str, etag: &str) -> bool {
    list.split(',')
        .map(|known| known.trim().trim_start_matches("W/"))
        .any(|known| known == "*" || known == etag)
}

/// The one range asked for: `None` if the header is to be ignored (another unit, several ranges, not a range),
/// `Some(None)` if it lies outside the file.
fn parse_range(header: &str, length: usize) -> Option<Option<Range<usize>>> {
    let (first, last) = header.strip_prefix("bytes=")?.trim().split_once('-')?;
    if first.is_empty() {
        let suffix: usize = last.parse().ok()?;
        let range = length.saturating_sub(suffix)..length;
        return Some((suffix > 0 && length > 0).then_some(range));
    }
    let first: usize = first.parse().ok()?;
    let end = match last {
        "" => length,
        last => last.parse::<usize>().ok()?.saturating_add(1).min(length),
    };
    if end <= first && first < length {
        return None;
    }
    Some((first < length).then_some(first..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_file() {
        assert_eq!(parse_range("bytes=0-3", 10), Some(Some(0..4)));
        assert_eq!(parse_range("bytes=4-", 10), Some(Some(4..10)));
        assert_eq!(parse_range("bytes=-3", 10), Some(Some(7..10)));
        assert_eq!(parse_range("bytes=-30", 10), Some(Some(0..10)));
        assert_eq!(parse_range("bytes=8-99", 10), Some(Some(8..10)));
        assert_eq!(
            parse_range("bytes=9-18446744073709551615", 10),
            Some(Some(9..10))
        );
    }

    #[test]
    fn a_range_outside_the_file_is_refused_and_nonsense_is_ignored() {
        assert_eq!(parse_range("bytes=10-", 10), Some(None));
        assert_eq!(parse_range("bytes=-0", 10), Some(None));
        assert_eq!(parse_range("bytes=0-", 0), Some(None));
        for ignored in [
            "bytes=5-2",
            "items=0-1",
            "bytes=a-b",
            "bytes=0-1,3-4",
            "bytes=-",
            "",
        ] {
            assert_eq!(parse_range(ignored, 10), None, "{ignored}");
        }
    }
}
