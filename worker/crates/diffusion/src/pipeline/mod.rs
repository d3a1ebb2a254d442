//! A model's parts put together, and what they draw.

mod describe;
mod draw;
mod params;
mod preview;
mod prompts;

use std::sync::OnceLock;

use candle_core::{Device, Tensor};

use crate::device::LoadOptions;
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::schedulers::SchedulerConfig;
use crate::text::{ClipTextEncoder, Tokenizer};
use crate::unet::Unet;
use crate::vae::Vae;
use crate::weights::{Loader, Parameters};

pub use describe::{Family, ModelDescription};
pub use draw::Report;
pub use params::{DrawParams, Inpaint, InpaintFill, Start, steps_run};
pub use preview::Preview;
pub use prompts::{PromptEmbedding, PromptTokenizer, TokenCount};

use describe::{Parts, TextPart};
use preview::LatentColours;
use prompts::PromptCache;

/// A loaded model, ready to draw.
pub struct Pipeline {
    description: ModelDescription,
    text: Vec<TextEncoding>,
    /// Whether an empty negative prompt is zeros instead of an encoded empty text.
    zeros_for_empty_prompt: bool,
    unet: Unet,
    vae: Vae,
    /// Pixels of an image's side per latent.
    vae_scale: usize,
    latent_channels: usize,
    scheduler_config: SchedulerConfig,
    latent_colours: OnceLock<LatentColours>,
    device: Device,
    prompt_cache: PromptCache,
    /// Every weight by its name, shared with the layers.
    parameters: Parameters,
}

/// A tokenizer with its encoder.
struct TextEncoding {
    tokenizer: Tokenizer,
    encoder: ClipTextEncoder,
}

impl Pipeline {
    /// What a model is, from its configs alone: no weights are read.
    ///
    /// Errors if a config is missing, malformed, or asks for something that is not implemented.
    pub fn describe(files: &ModelFiles) -> Result<ModelDescription> {
        Parts::read(files)?.describe(files)
    }

    /// Reads a model's weights onto `device`.
    ///
    /// Errors as [`Pipeline::describe`] does, and if weights are missing, damaged or do not fit their configs.
    pub fn load(files: &ModelFiles, device: &Device, options: &LoadOptions) -> Result<Self> {
        let parts = Parts::read(files)?;
        let description = parts.describe(files)?;
        let loader = Loader::new(files, device, options);
        let text = parts
            .text
            .into_iter()
            .map(|part| TextEncoding::load(&loader, part))
            .collect::<Result<Vec<TextEncoding>>>()?;
        Ok(Self {
            text,
            zeros_for_empty_prompt: parts.zeros_for_empty_prompt,
            unet: Unet::load(&loader, "unet", &parts.unet)?,
            vae: Vae::load(&loader, "vae", &parts.vae)?,
            vae_scale: parts.vae.scale,
            latent_channels: parts.vae.latent_channels,
            scheduler_config: parts.scheduler,
            latent_colours: OnceLock::new(),
            device: device.clone(),
            prompt_cache: PromptCache::default(),
            description,
            parameters: loader.into_parameters(),
        })
    }

    /// What the model is.
    #[must_use]
    pub fn description(&self) -> &ModelDescription {
        &self.description
    }

    /// The device that the model is on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The schedule that the model was trained with.
    #[must_use]
    pub fn scheduler_config(&self) -> &SchedulerConfig {
        &self.scheduler_config
    }

    /// Decodes latents `[1, channels, h, w]` to an image `[1, 3, h * s, w * s]` in about [-1, 1].
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        self.vae.decode(latents)
    }

    /// Encodes an image `[1, 3, h, w]` in [-1, 1] to latents `[1, channels, h / s, w / s]`.
    pub fn encode(&self, image: &Tensor) -> Result<Tensor> {
        self.vae.encode(image)
    }

    /// Every weight by its name in diffusers, the component in front: `unet.conv_in.weight`,
    /// `text_encoder.text_model.final_layer_norm.bias`.
    #[allow(dead_code, reason = "LoRA's way in")]
    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}

impl TextEncoding {
    fn load(loader: &Loader<'_>, part: TextPart) -> Result<Self> {
        let files = loader.files;
        let tokenizer = Tokenizer::load(files, part.tokenizer_folder, part.config.positions)?;
        if tokenizer.largest_id() >= part.config.vocab_size {
            return Err(Error::config(
                &files.name(&format!("{}/config.json", part.encoder_folder)),
                format_args!(
                    "vocab_size must be above the tokenizer's largest id {}, got {}",
                    tokenizer.largest_id(),
                    part.config.vocab_size
                ),
            ));
        }
        Ok(Self {
            tokenizer,
            encoder: ClipTextEncoder::load(loader, part.encoder_folder, part.config)?,
        })
    }
}
