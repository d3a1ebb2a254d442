//! Scumble's wire contract: what goes over HTTP between a worker and its clients.
//!
//! Requests are parsed here into newtypes that carry their own limits, so nothing downstream checks a value
//! again. The crate does no I/O, reads no clock and knows no async runtime; it builds for wasm, where the SDK
//! uses the very same types. The TypeScript types are generated from them (feature `ts`).

mod error;
mod event;
mod job;
pub mod limits;
mod lora;
mod model;
mod png_info;
mod request;
pub mod sse;
mod tokenize;
mod upload;
mod values;

pub use error::{ErrorBody, ErrorCode, ErrorObject, ErrorType};
pub use event::{EventData, JobEvent};
pub use job::{ImageResult, Job, JobStatus, Timings};
pub use lora::{Lora, LoraList, LoraTag};
pub use model::{
    DimensionRange, Model, ModelDefaults, ModelLimits, ModelList, ModelVocabulary, Scheduler,
    SchedulerList,
};
pub use png_info::{PictureText, PngInfo, PngInfoRequest, ReadParameters, TextSource};
pub use request::{
    ImageInput, InpaintFill, InvalidRequest, JobRequest, LoraChoice, NormalizedRequest, Outpaint,
    OutputFormat, Preview, PreviewFormat, ResponseFormat, Task,
};
pub use tokenize::{TokenCount, TokenizeRequest};
pub use upload::Upload;
pub use values::{
    BatchSize, ClipSkip, Dimension, GuidanceRescale, GuidanceScale, ImageSource, ImageSourceKind,
    JobId, LoraName, LoraScale, MaskBlur, ModelId, NegativePrompt, OnlyMaskedPadding,
    OutpaintPixels, PreviewInterval, Prompt, SchedulerName, Seed, Steps, Strength, UploadId,
    ValueError,
};
