//! Images sent once to be used by several jobs.

use crate::UploadId;
use serde::{Deserialize, Serialize};

/// An image that the worker keeps for a while: the body of `GET /v1/uploads/{id}` and of the 201 that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct Upload {
    /// What a job names it by, as `init_image` or `mask`.
    pub id: UploadId,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Pixels across, turned upright as its EXIF orientation says.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// `image/png`, `image/webp` or `image/jpeg`: what the bytes are, whatever they were called.
    pub mime_type: String,
    /// Bytes of the file.
    #[cfg_attr(feature = "ts", ts(type = "number"))]
    pub bytes: u64,
    /// When it came (RFC 3339, UTC).
    pub created_at: String,
    /// When it goes (RFC 3339, UTC); jobs that use it keep their own hold on it.
    pub expires_at: String,
}
