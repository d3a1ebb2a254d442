//! The images that jobs start from: taken from a body, a form or an upload, looked at before the job is accepted.

use crate::{
    app::AppState,
    decode::Picture,
    record::{from_bytes, to_bytes},
};
use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use scumble_jobs::{Blob, NewUpload, UploadRecord};
use scumble_protocol::{
    ErrorCode, ErrorObject, ImageInput, ImageSource, ImageSourceKind, JobRequest, UploadId,
};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

/// What is known of an image without decoding it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Pixels across, upright.
    pub width: u32,
    /// Pixels down, upright.
    pub height: u32,
    /// What the file is.
    pub mime_type: String,
    /// Whether any pixel is less than opaque.
    pub has_transparency: bool,
    /// Whether the file has further frames.
    pub is_animated: bool,
}

impl ImageFacts {
    /// What can be seen of a decoded picture.
    #[must_use]
    pub fn of(picture: &Picture) -> Self {
        Self {
            width: picture.width(),
            height: picture.height(),
            mime_type: picture.format.mime_type().to_owned(),
            has_transparency: picture.has_transparency(),
            is_animated: picture.is_animated,
        }
    }
}

/// An image that was looked at.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its file.
    pub blob: Blob,
    /// What is known of it.
    pub facts: ImageFacts,
}

impl Input {
    /// As the API shows it.
    #[must_use]
    pub fn to_wire(&self) -> ImageInput {
        ImageInput {
            sha256: self.blob.sha256().to_owned(),
            width: self.facts.width,
            height: self.facts.height,
            mime_type: self.facts.mime_type.clone(),
        }
    }

    /// Decodes a file; takes a while and much memory.
    ///
    /// # Errors
    /// Names `field` and what is wrong with the file.
    pub fn look_at(field: &str, bytes: Vec<u8>) -> Result<Self, ErrorObject> {
        let picture = Picture::decode(&bytes).map_err(|error| invalid(field, error))?;
        Ok(Self {
            facts: ImageFacts::of(&picture),
            blob: Blob::new(bytes),
        })
    }
}

/// The images of one job.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// What it starts from.
    pub init_image: Option<Input>,
    /// Which part of that is drawn anew.
    pub mask: Option<Input>,
}

impl Inputs {
    /// What the store is to keep.
    #[must_use]
    pub fn into_blobs(self) -> Vec<Blob> {
        [self.init_image, self.mask]
            .into_iter()
            .flatten()
            .map(|input| input.blob)
            .collect()
    }
}

/// The files of a form, beside its request.
#[derive(Debug, Default)]
pub struct Files {
    /// The part `init_image`.
    pub init_image: Option<Vec<u8>>,
    /// The part `mask`.
    pub mask: Option<Vec<u8>>,
}

/// Gets a request's images from wherever they are, and looks at them. Leaves the request without them.
///
/// # Errors
/// Names the field at fault: an image that is none, or an upload that is not there.
pub async fn resolve(
    app: &AppState,
    request: &mut JobRequest,
    files: Files,
) -> Result<Inputs, ErrorObject> {
    Ok(Inputs {
        init_image: resolve_one(
            app,
            "init_image",
            request.init_image.take(),
            files.init_image,
        )
        .await?,
        mask: resolve_one(app, "mask", request.mask.take(), files.mask).await?,
    })
}

async fn resolve_one(
    app: &AppState,
    field: &'static str,
    source: Option<ImageSource>,
    file: Option<Vec<u8>>,
) -> Result<Option<Input>, ErrorObject> {
    match (source, file) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => {
            let message = format!("{field} must come once, in the request or as a part of its own");
            Err(ErrorObject::new(ErrorCode::InvalidValue, message).with_param(field))
        }
        (None, Some(bytes)) => look_at(app, field, bytes).await.map(Some),
        (Some(source), None) => resolve_source(app, field, &source).await.map(Some),
    }
}

/// The image that a field names or holds.
///
/// # Errors
/// Names `field`: an image that is none, or an upload that is not there.
pub async fn resolve_source(
    app: &AppState,
    field: &'static str,
    source: &ImageSource,
) -> Result<Input, ErrorObject> {
    match source.kind() {
        ImageSourceKind::Base64(text) => look_at(app, field, base64_bytes(field, text)?).await,
        ImageSourceKind::Upload(id) => {
            let (record, bytes) = uploaded(app, field, id).await?;
            Ok(Input {
                facts: from_bytes(&record.details).map_err(|_| gone(field, id))?,
                blob: Blob::new(bytes),
            })
        }
    }
}

/// The file that a field names or holds, unseen.
///
/// # Errors
/// Names `field`: what is not base64, or an upload that is not there.
pub async fn source_bytes(
    app: &AppState,
    field: &str,
    source: &ImageSource,
) -> Result<Vec<u8>, ErrorObject> {
    match source.kind() {
        ImageSourceKind::Base64(text) => base64_bytes(field, text),
        ImageSourceKind::Upload(id) => Ok(uploaded(app, field, id).await?.1),
    }
}

fn base64_bytes(field: &str, text: &str) -> Result<Vec<u8>, ErrorObject> {
    decode_base64(text).ok_or_else(|| invalid(field, "must be whole and sound base64"))
}

/// Decodes off the threads that serve, few at a time.
///
/// # Errors
/// Names `field` and what is wrong with the file.
pub async fn look_at(
    app: &AppState,
    field: &'static str,
    bytes: Vec<u8>,
) -> Result<Input, ErrorObject> {
    let broke = || {
        ErrorObject::new(
            ErrorCode::InternalError,
            "the image could not be looked at; the server's log says why",
        )
    };
    let _permit = app.decoders.acquire().await.map_err(|_| broke())?;
    spawn_blocking(move || Input::look_at(field, bytes))
        .await
        .map_err(|error| {
            tracing::error!(%error, "decoding an image panicked");
            broke()
        })?
}

async fn uploaded(
    app: &AppState,
    field: &str,
    id: &str,
) -> Result<(UploadRecord, Vec<u8>), ErrorObject> {
    let failed = |error: scumble_jobs::Error| {
        tracing::error!(%error, "an upload cannot be read");
        ErrorObject::new(
            ErrorCode::StorageUnavailable,
            "the upload cannot be read now",
        )
    };
    let record = app
        .store
        .upload(id)
        .await
        .map_err(failed)?
        .ok_or_else(|| gone(field, id))?;
    let bytes = app
        .store
        .blob(&record.sha256)
        .await
        .map_err(failed)?
        .ok_or_else(|| gone(field, id))?;
    Ok((record, bytes))
}

fn gone(field: &str, id: &str) -> ErrorObject {
    let message = format!("{field} must be the id of an upload that is kept here, got {id}");
    ErrorObject::new(ErrorCode::InvalidImage, message).with_param(field)
}

/// What the store keeps of an upload.
#[must_use]
pub fn new_upload(id: &UploadId, input: &Input, kept_ms: i64) -> NewUpload {
    NewUpload {
        id: id.as_str().to_owned(),
        blob: input.blob.clone(),
        details: to_bytes(&input.facts),
        kept_ms,
    }
}

/// As the API shows it; `None` if another version wrote it.
#[must_use]
pub fn to_upload(record: &UploadRecord) -> Option<scumble_protocol::Upload> {
    let facts: ImageFacts = from_bytes(&record.details).ok()?;
    Some(scumble_protocol::Upload {
        id: UploadId::new(record.id.as_str()).ok()?,
        sha256: record.sha256.clone(),
        width: facts.width,
        height: facts.height,
        mime_type: facts.mime_type,
        bytes: record.bytes,
        created_at: crate::record::rfc3339(record.created_at_ms),
        expires_at: crate::record::rfc3339(record.expires_at_ms),
    })
}

/// An error about an image: `error` says what it must be.
fn invalid(field: &str, error: impl std::fmt::Display) -> ErrorObject {
    ErrorObject::new(ErrorCode::InvalidImage, format!("{field} {error}")).with_param(field)
}

/// Both alphabets, padded or not, with line breaks or without.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let is_url_safe = text.bytes().any(|byte| matches!(byte, b'-' | b'_'));
    let alphabet = if is_url_safe { &URL_SAFE } else { &STANDARD };
    let engine = GeneralPurpose::new(alphabet, CONFIG);
    if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.retain(|byte| !byte.is_ascii_whitespace());
        engine.decode(bytes).ok()
    } else {
        engine.decode(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_taken_in_every_common_form() {
        for text in ["+/8A", "-_8A", "+/\r\n8A"] {
            assert_eq!(
                decode_base64(text).as_deref(),
                Some(&[0xfb, 0xff, 0x00][..]),
                "{text}"
            );
        }
        for text in ["AA==", "AA"] {
            assert_eq!(decode_base64(text).as_deref(), Some(&[0][..]), "{text}");
        }
        for text in ["A", "A=A=", "+-8A"] {
            assert_eq!(decode_base64(text), None, "{text}");
        }
    }
}
