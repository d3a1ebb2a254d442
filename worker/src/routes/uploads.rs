//! Images sent once, to be used by several jobs.

use super::body::ImageBody;
use crate::{
    app::App,
    error::ApiError,
    inputs::{look_at, new_upload, to_upload},
    limits::UPLOADS_KEPT,
};
use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use scumble_jobs::UploadRecord;
use scumble_protocol::{Upload, UploadId};

/// `POST /v1/uploads`: keeps an image (PNG, JPEG or WebP, as the body or as the one file of a form) for a while and
/// answers 201 with its id, which jobs take as `init_image` or `mask`.
///
/// # Errors
/// 400 for what is no image that could be used, 413, 415, 503 where as many uploads are kept as may be.
pub async fn create(State(app): State<App>, body: ImageBody) -> Result<Response, ApiError> {
    if app.shutdown.is_draining() {
        return Err(ApiError::draining());
    }
    let input = look_at(&app, "image", body.bytes).await?;
    let id = format!(
        "upload_{}",
        ulid::Ulid::generate().to_string().to_lowercase()
    );
    let id = UploadId::new(id).map_err(|_| ApiError::internal())?;
    let kept_ms = i64::try_from(UPLOADS_KEPT.as_millis()).unwrap_or(i64::MAX);
    let record = app
        .store
        .put_upload(new_upload(&id, &input, kept_ms))
        .await?;
    drop(body.room);
    let mut response = (StatusCode::CREATED, Json(readable(&record)?)).into_response();
    if let Ok(location) = HeaderValue::try_from(format!("/v1/uploads/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// `GET /v1/uploads/{upload_id}`: what is known of an upload.
///
/// # Errors
/// 404 if there is none of this id, or it has expired.
pub async fn get(
    State(app): State<App>,
    Path(upload_id): Path<String>,
) -> Result<Json<Upload>, ApiError> {
    let record = app.store.upload(&upload_id).await?;
    Ok(Json(readable(&record.ok_or_else(no_such_upload)?)?))
}

/// `DELETE /v1/uploads/{upload_id}`: forgets an upload; jobs that use it keep it.
///
/// # Errors
/// 404 if there is none of this id, or it has expired.
pub async fn delete(
    State(app): State<App>,
    Path(upload_id): Path<String>,
) -> Result<StatusCode, ApiError> {
    if app.store.delete_upload(&upload_id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_such_upload())
    }
}

fn readable(record: &UploadRecord) -> Result<Upload, ApiError> {
    to_upload(record).ok_or_else(|| super::unreadable(crate::record::Unreadable))
}

fn no_such_upload() -> ApiError {
    ApiError::not_found("there is no such upload, or it has expired")
}
