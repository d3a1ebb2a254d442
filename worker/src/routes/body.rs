//! Bodies with images in them: JSON, forms and plain files, each within limits of size, time and memory.

use crate::{
    app::{App, AppState},
    error::ApiError,
    inputs::Files,
    limits::{BODY_DISCARDED_BYTES_MAX, FORM_OVERHEAD_BYTES_MAX, LARGE_BODY_TIME_FACTOR},
};
use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use multer::{Constraints, Multipart, SizeLimit};
use scumble_protocol::{
    ErrorCode, JobRequest,
    limits::{IMAGE_BYTES_MAX, JOB_BODY_BYTES_MAX, JOB_TEXT_BYTES_MAX},
};
use std::{convert::Infallible, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The part of a form that holds the request.
const REQUEST_PART: &str = "request";
/// Parts of a form that hold a job's images.
const IMAGE_PARTS: [&str; 2] = ["init_image", "mask"];

/// A body, and the right to hold as many bytes in memory.
#[derive(Debug)]
pub struct Received {
    /// The bytes.
    pub bytes: Bytes,
    /// Only for large bodies; to be held as long as the bytes or what was made of them.
    pub room: Option<OwnedSemaphorePermit>,
}

/// A job's request with the files that came beside it.
#[derive(Debug)]
pub struct JobBody {
    /// The request.
    pub request: JobRequest,
    /// The files of a form.
    pub files: Files,
    /// To be held until the files are in the store.
    pub room: Option<OwnedSemaphorePermit>,
}

impl FromRequest<App> for JobBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        match media_type(request.headers()).as_str() {
            "application/json" => {
                let received = receive(app, request.into_body(), JOB_BODY_BYTES_MAX).await?;
                Ok(Self {
                    request: JobRequest::from_json(&received.bytes)?,
                    files: Files::default(),
                    room: received.room,
                })
            }
            "multipart/form-data" => {
                let bytes_max = JOB_TEXT_BYTES_MAX
                    + IMAGE_PARTS.len() * IMAGE_BYTES_MAX
                    + FORM_OVERHEAD_BYTES_MAX;
                let boundary = boundary(request.headers())?;
                let received = receive(app, request.into_body(), bytes_max).await?;
                let (request, files) = job_form(received.bytes, boundary).await?;
                Ok(Self {
                    request,
                    files,
                    room: received.room,
                })
            }
            _ => Err(unsupported(
                "Content-Type must be application/json or multipart/form-data",
            )),
        }
    }
}

/// One image as a body, or as the only file of a form.
#[derive(Debug)]
pub struct ImageBody {
    /// Its file.
    pub bytes: Vec<u8>,
    /// To be held until the file is in the store.
    pub room: Option<OwnedSemaphorePermit>,
}

impl FromRequest<App> for ImageBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let media_type = media_type(request.headers());
        if media_type == "multipart/form-data" {
            let boundary = boundary(request.headers())?;
            let bytes_max = IMAGE_BYTES_MAX + FORM_OVERHEAD_BYTES_MAX;
            let received = receive(app, request.into_body(), bytes_max).await?;
            return Ok(Self {
                bytes: image_form(received.bytes, boundary).await?,
                room: received.room,
            });
        }
        if !is_image(&media_type) {
            return Err(unsupported(
                "Content-Type must be image/png, image/jpeg, image/webp or multipart/form-data",
            ));
        }
        let received = receive(app, request.into_body(), IMAGE_BYTES_MAX).await?;
        Ok(Self {
            bytes: received.bytes.into(),
            room: received.room,
        })
    }
}

/// Whether a body of this type may be a picture; what it is, its bytes say.
pub(super) fn is_image(media_type: &str) -> bool {
    matches!(
        media_type,
        "image/png" | "image/jpeg" | "image/jpg" | "image/webp" | "application/octet-stream"
    )
}

/// The `Content-Type` without its parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|media_type| media_type.trim().to_ascii_lowercase())
        .unwrap_or_default()
}

pub(super) fn unsupported(message: &str) -> ApiError {
    ApiError::new(ErrorCode::UnsupportedMediaType, message)
}

fn boundary(headers: &HeaderMap) -> Result<String, ApiError> {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| multer::parse_boundary(value).ok())
        .ok_or_else(|| unsupported("the Content-Type of a form must name its boundary"))
}

/// Reads a body. A large one waits for its turn, so that many at once do not fill the memory; the wait counts as time
/// that it takes to arrive.
///
/// # Errors
/// 400 if it ends early, 408 if it takes too long, 413 if it is larger than `bytes_max`.
pub async fn receive(app: &AppState, body: Body, bytes_max: usize) -> Result<Received, ApiError> {
    let time = app.body_read_timeout;
    let small = tokio::time::timeout(time, read_small(body, bytes_max))
        .await
        .map_err(|_| late(time))??;
    let (start, body) = match small {
        Small::Whole(bytes) => return Ok(Received { bytes, room: None }),
        Small::More(start, body) => (start, body),
    };
    let time = time * LARGE_BODY_TIME_FACTOR;
    let large = read_large(start, body, bytes_max, Arc::clone(&app.large_bodies));
    tokio::time::timeout(time, large)
        .await
        .map_err(|_| late(time))?
}

fn late(time: std::time::Duration) -> ApiError {
    let message = format!("the body must arrive within {} s", time.as_secs());
    ApiError::new(ErrorCode::RequestTimeout, message)
}

/// What fits beside other requests in any number.
enum Small {
    Whole(Bytes),
    More(BytesMut, Body),
}

async fn read_small(mut body: Body, bytes_max: usize) -> Result<Small, ApiError> {
    let mut bytes = BytesMut::new();
    while let Some(data) = next(&mut body).await? {
        bytes.extend_from_slice(&data);
        if bytes.len() > JOB_TEXT_BYTES_MAX {
            return Ok(Small::More(bytes, body));
        }
    }
    if bytes.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    Ok(Small::Whole(bytes.freeze()))
}

/// Reads what is too large to its end as well, within reason: a client that is still sending would otherwise see a
/// broken connection instead of the answer.
async fn read_large(
    start: BytesMut,
    mut body: Body,
    bytes_max: usize,
    turns: Arc<Semaphore>,
) -> Result<Received, ApiError> {
    let room = turns
        .acquire_owned()
        .await
        .map_err(|_| ApiError::internal())?;
    let mut received = start.len();
    let mut bytes = start;
    while let Some(data) = next(&mut body).await? {
        received = received.saturating_add(data.len());
        if received <= bytes_max {
            bytes.extend_from_slice(&data);
        } else if received > bytes_max.saturating_add(BODY_DISCARDED_BYTES_MAX) {
            break;
        } else {
            bytes = BytesMut::new();
        }
    }
    if received > bytes_max {
        return Err(too_large(bytes_max));
    }
    Ok(Received {
        bytes: bytes.freeze(),
        room: Some(room),
    })
}

fn too_large(bytes_max: usize) -> ApiError {
    let message = format!("the body must be at most {bytes_max} bytes");
    ApiError::new(ErrorCode::PayloadTooLarge, message)
}

/// The next bytes of a body; trailers are passed over.
async fn next(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| ApiError::new(ErrorCode::InvalidJson, "the body ended early"))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// The parts of a job's form, each at most once.
async fn job_form(bytes: Bytes, boundary: String) -> Result<(JobRequest, Files), ApiError> {
    let mut form = form(bytes, boundary, JOB_TEXT_BYTES_MAX);
    let mut request = None;
    let mut files = Files::default();
    while let Some(part) = form.next_field().await.map_err(broken_form)? {
        let name = part.name().unwrap_or_default().to_owned();
        let place = match name.as_str() {
            REQUEST_PART => &mut request,
            "init_image" => &mut files.init_image,
            "mask" => &mut files.mask,
            _ => {
                let message = format!(
                    "unknown part `{name}`, expected one of `{REQUEST_PART}`, `init_image`, `mask`"
                );
                return Err(ApiError::new(ErrorCode::UnknownField, message).with_param(name));
            }
        };
        if place.is_some() {
            let message = format!("{name} must come once, and this form has it twice");
            return Err(ApiError::new(ErrorCode::InvalidValue, message).with_param(name));
        }
        let bytes = part.bytes().await.map_err(broken_form)?;
        if !(name != REQUEST_PART && bytes.is_empty()) {
            // A form's file field that nothing was chosen in is sent empty.
            *place = Some(Vec::from(bytes));
        }
    }
    let Some(request) = request else {
        let message = format!("{REQUEST_PART} is required: the part with the request as JSON");
        return Err(ApiError::new(ErrorCode::MissingField, message).with_param(REQUEST_PART));
    };
    Ok((JobRequest::from_json(&request)?, files))
}

/// The only file of a form, whatever its part is called.
async fn image_form(bytes: Bytes, boundary: String) -> Result<Vec<u8>, ApiError> {
    let mut form = form(bytes, boundary, IMAGE_BYTES_MAX);
    let mut image = None;
    while let Some(part) = form.next_field().await.map_err(broken_form)? {
        if image.is_some() {
            let message = "the form must have one part, the image, and this one has more";
            return Err(ApiError::new(ErrorCode::InvalidValue, message));
        }
        image = Some(Vec::from(part.bytes().await.map_err(broken_form)?));
    }
    image.ok_or_else(|| {
        ApiError::new(
            ErrorCode::MissingField,
            "the form must have one part, the image, and this one has none",
        )
    })
}

/// A form of which every part has its limit.
fn form(bytes: Bytes, boundary: String, text_bytes_max: usize) -> Multipart<'static> {
    let to_u64 = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    let limits = SizeLimit::new()
        .per_field(to_u64(IMAGE_BYTES_MAX))
        .for_field(REQUEST_PART, to_u64(text_bytes_max));
    let whole = futures_util::stream::once(async { Ok::<_, Infallible>(bytes) });
    Multipart::with_constraints(whole, boundary, Constraints::new().size_limit(limits))
}

fn broken_form(error: multer::Error) -> ApiError {
    match error {
        multer::Error::FieldSizeExceeded { limit, field_name } => {
            let name = field_name.unwrap_or_default();
            let message = format!("{name} must be at most {limit} bytes");
            ApiError::new(ErrorCode::PayloadTooLarge, message).with_param(name)
        }
        error => ApiError::new(
            ErrorCode::InvalidValue,
            format!("the form cannot be read: {error}"),
        ),
    }
}
