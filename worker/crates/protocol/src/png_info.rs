//! What a picture's file says about how it was drawn.

use crate::{
    ClipSkip, GuidanceScale, LoraChoice, MaskBlur, NormalizedRequest, SchedulerName, Seed, Steps,
    Strength,
};
use serde::{Deserialize, Serialize};

/// The body of `POST /v1/png-info` where it is JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
#[serde(deny_unknown_fields)]
pub struct PngInfoRequest {
    /// The picture's file in base64, as a `data:` URL or not, or the id of an upload.
    pub image: crate::ImageSource,
}

/// Which program wrote a picture's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TextSource {
    /// A worker of this kind.
    Scumble,
    /// AUTOMATIC1111's web UI, or a program that writes as it does.
    Automatic1111,
    /// ComfyUI.
    Comfyui,
    /// InvokeAI.
    Invokeai,
}

/// One text in a picture's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct PictureText {
    /// The PNG keyword, or the EXIF field.
    pub key: String,
    /// The text, cut where it is too long.
    pub text: String,
}

/// The answer of `POST /v1/png-info`: what a picture's file says about how it was drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct PngInfo {
    /// Which program wrote it, if that can be told.
    pub source: Option<TextSource>,
    /// A1111's text, as it stands in the file.
    pub parameters: Option<String>,
    /// The same in the words of a job, as far as it can be understood.
    pub request: Option<ReadParameters>,
    /// The request that draws the picture, where a worker of this kind wrote it.
    pub scumble: Option<NormalizedRequest>,
    /// Every text in the file, as it stands there.
    pub texts: Vec<PictureText>,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// What could not be read.
    pub warnings: Vec<String>,
}

/// A1111's text in the words of a job. What is missing there, or is out of a job's bounds, is missing here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "ts",
    derive(ts_rs::TS),
    ts(export_to = "protocol.ts", optional_fields)
)]
#[serde(default)]
pub struct ReadParameters {
    /// What was to be drawn.
    #[cfg_attr(feature = "ts", ts(as = "Option<String>"))]
    pub prompt: String,
    /// What was to be steered away from.
    #[cfg_attr(feature = "ts", ts(as = "Option<String>"))]
    pub negative_prompt: String,
    /// Denoising steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Steps>,
    /// Scheduler, by the name that it has here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SchedulerName>,
    /// How strongly the prompt steered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_scale: Option<GuidanceScale>,
    /// The seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<Seed>,
    /// Pixels across.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Pixels down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// The model's name there, which need not be one of this worker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How much of the image was given up to noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<Strength>,
    /// The blur that the mask got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_blur: Option<MaskBlur>,
    /// Last layers of the text encoder that were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_skip: Option<ClipSkip>,
    /// LoRAs that the prompt named, and names there no more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "ts", ts(as = "Option<Vec<LoraChoice>>"))]
    pub loras: Vec<LoraChoice>,
    /// Every field of the last line, as it stands there.
    #[cfg_attr(
        feature = "ts",
        ts(as = "Option<std::collections::BTreeMap<String, String>>")
    )]
    pub fields: std::collections::BTreeMap<String, String>,
}
