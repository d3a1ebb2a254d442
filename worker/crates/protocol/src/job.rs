//! A job as the API shows it.

use crate::{ErrorObject, JobId, NormalizedRequest, Seed};
use serde::{Deserialize, Serialize};

/// Where a job stands. The last three are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Accepted and on disk; waits for an engine.
    Queued,
    /// An engine is drawing it.
    Running,
    /// Its images are there.
    Succeeded,
    /// It ended in an error.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

impl JobStatus {
    /// Whether the job has ended.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// A job: the body of `GET /v1/jobs/{id}` and of the 202 that accepts it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct Job {
    /// The job's id.
    pub job_id: JobId,
    /// Where it stands.
    pub status: JobStatus,
    /// Place in the queue while queued: 1 is next.
    pub position: Option<u32>,
    /// Which attempt runs or ran last; more than 1 after a crash. 0 while it never ran.
    pub attempt: u32,
    /// When it was accepted (RFC 3339, UTC).
    pub created_at: String,
    /// When an engine took it (RFC 3339, UTC).
    pub started_at: Option<String>,
    /// When it ended (RFC 3339, UTC).
    pub finished_at: Option<String>,
    /// What is drawn, every default filled in, the drawn seed included.
    pub request: NormalizedRequest,
    /// What was adjusted or could not be honoured.
    pub warnings: Vec<String>,
    /// How long it took, once it has succeeded.
    pub timings: Option<Timings>,
    /// The images, once it has succeeded (pixels by `url`).
    pub images: Vec<ImageResult>,
    /// Why it failed.
    pub error: Option<ErrorObject>,
}

/// One finished image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct ImageResult {
    /// Place in the batch, from 0.
    pub index: u32,
    /// The seed that draws this very image alone.
    pub seed: Seed,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// `image/png`, `image/webp` or `image/jpeg`.
    pub mime_type: String,
    /// Where the bytes are, relative to the server.
    pub url: String,
    /// The encoded file in base64, where the response format asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub image_base64: Option<String>,
}

/// How long each part of a job took, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct Timings {
    /// From accepted to taken by an engine.
    #[cfg_attr(feature = "ts", ts(type = "number"))]
    pub queue_ms: u64,
    /// Text to embeddings.
    #[cfg_attr(feature = "ts", ts(type = "number"))]
    pub encode_ms: u64,
    /// All denoising steps.
    #[cfg_attr(feature = "ts", ts(type = "number"))]
    pub denoise_ms: u64,
    /// Latents to pixels.
    #[cfg_attr(feature = "ts", ts(type = "number"))]
    pub decode_ms: u64,
    /// From taken by an engine to the last image stored.
    #[cfg_attr(feature = "ts", ts(type = "number"))]
    pub total_ms: u64,
}
