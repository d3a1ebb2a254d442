//! From words to what the unet attends to.

mod chunks;
mod clip;
mod prompt;
mod tokenizer;
mod weighing;
mod words;

pub(crate) use chunks::{Chunk, chunks};
pub(crate) use clip::{ClipConfig, ClipTextEncoder, Readout};
pub(crate) use tokenizer::{Tokenizer, configured_length};
pub(crate) use weighing::weigh;
