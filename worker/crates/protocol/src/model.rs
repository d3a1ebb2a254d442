//! What can draw, and how.

use crate::{ModelId, SchedulerName, Task};
use serde::{Deserialize, Serialize};

/// `GET /v1/models`, in the shape that OpenAI's clients also read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct ModelList {
    /// Always `list`.
    pub object: String,
    /// The models, the default one first.
    pub data: Vec<Model>,
}

/// A model that this worker can draw with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct Model {
    /// What a job names it by.
    pub id: ModelId,
    /// Always `model`.
    pub object: String,
    /// Unix time, in seconds, at which the worker found it (OpenAI's clients expect the field).
    #[cfg_attr(feature = "ts", ts(type = "number"))]
    pub created: u64,
    /// Always `scumble`.
    pub owned_by: String,
    /// Its family, as read from its files: `sd1`, `sd2`, `sdxl`, ….
    pub family: String,
    /// Whether its weights are in memory.
    pub loaded: bool,
    /// Bytes that its weights take in the engine's memory, loaded or not.
    #[cfg_attr(feature = "ts", ts(type = "number"))]
    pub size_bytes: u64,
    /// What it can do.
    pub tasks: Vec<Task>,
    /// What a job gets that asks for nothing.
    pub defaults: ModelDefaults,
    /// What a job may ask for.
    pub limits: ModelLimits,
    /// Prompts that it draws well.
    pub examples: Vec<String>,
    /// The words it knows, where its files say so (small models know few).
    pub vocabulary: Option<ModelVocabulary>,
}

/// What a job gets that asks for nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct ModelDefaults {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Denoising steps.
    pub steps: u32,
    /// Guidance scale.
    pub guidance_scale: f64,
    /// Scheduler.
    pub scheduler: SchedulerName,
}

/// What a job may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct ModelLimits {
    /// Width in pixels.
    pub width: DimensionRange,
    /// Height in pixels.
    pub height: DimensionRange,
    /// Tokens of one chunk of the text encoder, start and end marks included.
    pub prompt_tokens: u32,
}

/// Pixels: `minimum..=maximum` in steps of `multiple`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct DimensionRange {
    /// Smallest.
    pub minimum: u32,
    /// Largest.
    pub maximum: u32,
    /// Step between two sizes.
    pub multiple: u32,
}

/// The words that a small model knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
#[serde(default)]
pub struct ModelVocabulary {
    /// Things.
    pub objects: Vec<String>,
    /// Ways of drawing them.
    pub styles: Vec<String>,
    /// Colours of plain backgrounds.
    pub colors: Vec<String>,
    /// Places.
    pub scenes: Vec<String>,
}

/// `GET /v1/schedulers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct SchedulerList {
    /// The schedulers, in the order a menu would show them.
    pub data: Vec<Scheduler>,
}

/// A way through the noise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct Scheduler {
    /// What a job names it by.
    pub name: SchedulerName,
    /// What a menu shows.
    pub label: String,
    /// Other names it answers to.
    pub aliases: Vec<String>,
}
