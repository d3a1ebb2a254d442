//! What a job's stream tells, event by event.

use crate::{ErrorObject, ImageResult, JobId, ModelId, Seed, Timings};
use serde::{Deserialize, Serialize};

/// One event of a job's stream. `seq` is also the SSE `id`, and the JSON repeats the SSE event name under `event`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct JobEvent {
    /// What happened.
    #[serde(flatten)]
    pub data: EventData,
    /// The job it happened to.
    pub job_id: JobId,
    /// Grows with every event of the job; gaps are previews that history does not keep.
    #[cfg_attr(feature = "ts", ts(type = "number"))]
    pub seq: u64,
}

/// What happened, by the event's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventData {
    /// Waits in the queue; sent again when the position changes.
    Queued {
        /// 1 is next.
        position: u32,
        /// Estimated wait until it starts, once jobs have been timed.
        #[cfg_attr(feature = "ts", ts(type = "number | null"))]
        eta_ms: Option<u64>,
    },
    /// An engine took it.
    Started {
        /// The model that draws.
        model: ModelId,
        /// `cpu`, `cuda:0`, `metal`.
        device: String,
        /// Denoising steps per image.
        total: u32,
        /// The first image's seed.
        seed: Seed,
    },
    /// A denoising step is done.
    Progress {
        /// Steps done of this image.
        step: u32,
        /// Steps per image.
        total: u32,
        /// Which image of the batch, from 0.
        image: u32,
        /// Since the job started.
        #[cfg_attr(feature = "ts", ts(type = "number"))]
        elapsed_ms: u64,
        /// Estimated time to the end of the job.
        #[cfg_attr(feature = "ts", ts(type = "number"))]
        eta_ms: u64,
        /// Measured over this job so far.
        steps_per_second: f64,
    },
    /// A look at the image as the model expects it to become. Skipped for slow readers and not kept in history.
    Preview {
        /// Steps done of this image.
        step: u32,
        /// Which image of the batch, from 0.
        image: u32,
        /// The encoded picture in base64.
        b64_json: String,
        /// Its type.
        mime_type: String,
        /// Pixels across (may be smaller than the image).
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// An image is finished and stored.
    Image(ImageResult),
    /// All images are finished; the last event.
    Complete {
        /// The images, without pixels.
        images: Vec<ImageResult>,
        /// How long it took.
        timings: Timings,
        /// The single image's pixels, unless the response format is `url` or an `image` event carried them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "ts", ts(optional))]
        image_base64: Option<String>,
    },
    /// The job failed; the last event.
    Error {
        /// Why.
        error: ErrorObject,
    },
    /// The job was cancelled; the last event.
    Cancelled {
        /// Steps done of the image that was being drawn.
        step: u32,
    },
}

impl EventData {
    /// The SSE event name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "queued",
            Self::Started { .. } => "started",
            Self::Progress { .. } => "progress",
            Self::Preview { .. } => "preview",
            Self::Image(_) => "image",
            Self::Complete { .. } => "complete",
            Self::Error { .. } => "error",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    /// Whether nothing follows this event.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Complete { .. } | Self::Error { .. } | Self::Cancelled { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_repeats_the_event_name_and_reads_back() {
        let event = JobEvent {
            data: EventData::Progress {
                step: 3,
                total: 20,
                image: 0,
                elapsed_ms: 120,
                eta_ms: 680,
                steps_per_second: 25.0,
            },
            job_id: JobId::new("job_01jd0000000000000000000000").expect("id"),
            seq: 5,
        };
        let json = serde_json::to_string(&event).expect("json");
        assert_eq!(
            json,
            r#"{"event":"progress","step":3,"total":20,"image":0,"elapsed_ms":120,"eta_ms":680,"steps_per_second":25.0,"job_id":"job_01jd0000000000000000000000","seq":5}"#
        );
        assert_eq!(
            serde_json::from_str::<JobEvent>(&json).expect("event"),
            event
        );
    }
}
