//! What a picture's file says about how it was drawn.

use super::body::{is_image, media_type, receive, unsupported};
use crate::{app::App, error::ApiError, inputs::source_bytes, metadata};
use axum::{
    Json,
    extract::{FromRequest, Request, State},
};
use scumble_protocol::{
    ErrorCode, PngInfo, PngInfoRequest,
    limits::{IMAGE_BYTES_MAX, IMAGE_TEXT_BYTES_MAX},
};
use tokio::{sync::OwnedSemaphorePermit, task::spawn_blocking};

/// `POST /v1/png-info`: reads the texts of a picture (PNG, JPEG or WebP, as the body, or as JSON with the file in base64
/// or an upload's id), ours and those of other programs.
///
/// # Errors
/// 400 for what is no picture, 413, 415.
pub async fn read(State(app): State<App>, picture: PictureBody) -> Result<Json<PngInfo>, ApiError> {
    let PictureBody { bytes, room } = picture;
    let _permit = app
        .decoders
        .acquire()
        .await
        .map_err(|_| ApiError::internal())?;
    let info = spawn_blocking(move || metadata::read(&bytes))
        .await
        .map_err(|error| {
            tracing::error!(%error, "reading a picture's texts panicked");
            ApiError::internal()
        })?;
    drop(room);
    info.map(Json).map_err(|error| {
        ApiError::new(ErrorCode::InvalidImage, format!("image {error}")).with_param("image")
    })
}

/// A picture to be read, as a body or in one.
#[derive(Debug)]
pub struct PictureBody {
    bytes: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
}

impl FromRequest<App> for PictureBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let media_type = media_type(request.headers());
        if is_image(&media_type) {
            let received = receive(app, request.into_body(), IMAGE_BYTES_MAX).await?;
            return Ok(Self {
                bytes: received.bytes.into(),
                room: received.room,
            });
        }
        if media_type != "application/json" {
            return Err(unsupported(
                "Content-Type must be application/json, image/png, image/jpeg or image/webp",
            ));
        }
        let received = receive(app, request.into_body(), IMAGE_TEXT_BYTES_MAX + 1_024).await?;
        let wanted: PngInfoRequest = serde_json::from_slice(&received.bytes).map_err(|error| {
            let message = format!("image must be the file in base64 or an upload's id: {error}");
            ApiError::new(ErrorCode::InvalidValue, message).with_param("image")
        })?;
        Ok(Self {
            bytes: source_bytes(app, "image", &wanted.image).await?,
            room: received.room,
        })
    }
}
