//! From words to what the unet attends to.

mod clip;
mod tokenizer;

pub(crate) use clip::{ClipConfig, ClipTextEncoder, TextOutput};
pub(crate) use tokenizer::{Tokenizer, configured_length};
