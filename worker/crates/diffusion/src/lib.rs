//! Prompts to pixels: Stable Diffusion on candle.
//!
//! [`ModelFiles`] names a model in the diffusers layout, [`Pipeline::describe`] says what it is from its configs alone,
//! [`Pipeline::load`] reads its weights, and [`Pipeline::draw`] draws, reporting and stoppable after every step. Everything about a model comes from its own files; noise comes from the seed alone ([`SeededNoise`]).
//!
//! Synchronous, without threads of its own, network or clock.

mod checkpoint;
mod config;
mod device;
mod error;
mod files;
pub mod image;
mod lora;
mod ops;
mod pipeline;
mod rng;
pub mod schedulers;
mod text;
mod unet;
mod vae;
mod weights;

pub use candle_core::{Device, Tensor};
pub use device::{
    DeviceChoice, LoadOptions, Precision, device_memory_available_bytes, device_name,
};
pub use error::{Error, ErrorKind};
pub use files::ModelFiles;
pub use image::{Edges, GrayImage, RgbImage, extend, split_alpha};
pub use lora::{Lora, LoraDescription};
pub use pipeline::{
    DrawParams, Family, Inpaint, InpaintFill, ModelDescription, Pipeline, Preview, PromptEmbedding,
    PromptTokenizer, Report, Start, Task, TokenCount, steps_run,
};
pub use rng::{Noise, SeededNoise};
pub use schedulers::SchedulerKind;
pub use weights::WeightsSurvey;
