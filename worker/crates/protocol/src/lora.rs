//! LoRAs that can be drawn with.

use crate::LoraName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET /v1/loras`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct LoraList {
    /// The LoRAs by name.
    pub data: Vec<Lora>,
}

/// A LoRA that this worker can draw with, as the header of its file says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct Lora {
    /// What a job names it by.
    pub name: LoraName,
    /// The family of the models that it was made for, as models have it, where the file tells.
    pub family: Option<String>,
    /// The same in words, other families included.
    pub base: Option<String>,
    /// Its title, where the file has one.
    pub title: Option<String>,
    /// Words for the prompt, as its author gave them.
    pub trigger_phrase: Option<String>,
    /// What its training images were tagged with, the most frequent first.
    pub tags: Vec<LoraTag>,
    /// How its changes are written down: `lora`, `dora`, `loha`, `lokr`, `full`.
    pub kinds: Vec<String>,
    /// Layers that it changes, by the part of the model that they are in.
    #[cfg_attr(feature = "ts", ts(type = "Record<string, number>"))]
    pub targets: BTreeMap<String, u32>,
    /// Smallest rank of its layers, where they have one.
    pub rank_min: Option<u32>,
    /// Greatest rank.
    pub rank_max: Option<u32>,
    /// The alpha that it was trained with, where the file tells.
    pub alpha: Option<f64>,
    /// Bytes of its file.
    #[cfg_attr(feature = "ts", ts(type = "number"))]
    pub size_bytes: u64,
}

/// A word that training images were tagged with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct LoraTag {
    /// The word or words.
    pub tag: String,
    /// How many images had it.
    #[cfg_attr(feature = "ts", ts(type = "number"))]
    pub images: u64,
}
