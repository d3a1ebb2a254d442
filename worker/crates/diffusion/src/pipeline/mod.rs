//! A model's parts put together, and what they draw.

mod conditioning;
mod describe;
mod draw;
mod params;
mod preview;
mod prompts;
mod start;

use std::sync::{Arc, OnceLock};

use candle_core::{Device, Tensor};

use crate::device::LoadOptions;
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::lora::{Lora, LoraSet};
use crate::schedulers::SchedulerConfig;
use crate::text::{ClipTextEncoder, Tokenizer};
use crate::unet::Unet;
use crate::vae::Vae;
use crate::weights::{Loader, Parameters, WeightsSurvey, survey};

pub use describe::{Family, ModelDescription};
pub use draw::Report;
pub use params::{DrawParams, Inpaint, InpaintFill, Start, Task, steps_run};
pub use preview::Preview;
pub use prompts::{PromptEmbedding, PromptTokenizer, TokenCount};

use describe::{PREVIEW_VAE_FOLDER, Parts, TextPart};
use draw::Walk;
use preview::LatentColours;
use prompts::PromptCache;

/// A loaded model, ready to draw.
pub struct Pipeline {
    description: ModelDescription,
    text: Vec<TextEncoding>,
    /// Whether an empty negative prompt is zeros instead of an encoded empty text.
    zeros_for_empty_prompt: bool,
    /// Whether the unet is told a score of beauty, as SDXL's refiner is.
    scores_beauty: bool,
    unet: Unet,
    /// Channels of the guidance scale's embedding, where the unet has guidance as an input.
    guidance_dim: Option<usize>,
    /// Whether the unet sees the mask and what is visible of the image, as inpainting models do.
    sees_mask: bool,
    vae: Vae,
    /// A tiny autoencoder that previews are decoded with.
    preview_vae: Option<Vae>,
    /// Pixels of an image's side per latent.
    vae_scale: usize,
    latent_channels: usize,
    scheduler_config: SchedulerConfig,
    latent_colours: OnceLock<LatentColours>,
    device: Device,
    prompt_cache: PromptCache,
    /// Every weight by its name, shared with the layers.
    parameters: Parameters,
    loras: LoraSet,
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

    /// What a model's weights are, from the headers of their files.
    ///
    /// Errors as [`Pipeline::describe`] does, and if weights are missing or a file is cut.
    pub fn survey(files: &ModelFiles) -> Result<Vec<WeightsSurvey>> {
        let parts = Parts::read(files)?;
        let mut components: Vec<(&str, &str)> = parts
            .text
            .iter()
            .map(|part| (part.encoder_folder, "model"))
            .collect();
        components.extend(["unet", "vae"].map(|folder| (folder, "diffusion_pytorch_model")));
        survey(files, &components)
    }

    /// Reads a model's weights onto `device`.
    ///
    /// Errors as [`Pipeline::describe`] does, and if weights are missing, damaged or do not fit their configs.
    pub fn load(files: &ModelFiles, device: &Device, options: &LoadOptions) -> Result<Self> {
        let parts = Parts::read(files)?;
        let description = parts.describe(files)?;
        let sees_mask = parts.sees_mask();
        let loader = Loader::new(files, device, options);
        let text = parts
            .text
            .into_iter()
            .map(|part| TextEncoding::load(&loader, part))
            .collect::<Result<Vec<TextEncoding>>>()?;
        Ok(Self {
            text,
            zeros_for_empty_prompt: parts.zeros_for_empty_prompt,
            scores_beauty: parts.scores_beauty,
            guidance_dim: parts.unet.guidance_dim,
            sees_mask,
            unet: Unet::load(&loader, "unet", &parts.unet)?,
            vae: Vae::load(&loader, "vae", &parts.vae)?,
            preview_vae: match &parts.preview_vae {
                Some(config) => Some(Vae::load(&loader, PREVIEW_VAE_FOLDER, config)?),
                None => None,
            },
            vae_scale: parts.vae.scale,
            latent_channels: parts.vae.latent_channels,
            scheduler_config: parts.scheduler,
            latent_colours: OnceLock::new(),
            device: device.clone(),
            prompt_cache: PromptCache::default(),
            description,
            parameters: loader.finish()?,
            loras: LoraSet::default(),
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

    /// Makes `loras`, each with its scale, the LoRAs that the model draws with, instead of those before; none is none.
    ///
    /// The weights that they change are computed in f32 from the model's own, which are kept: without LoRAs the model
    /// draws exactly as before. Weights that the former set changed in the same way are left alone, so the same set
    /// again costs nothing. A LoRA at scale 0 is checked and off.
    ///
    /// Errors if a scale is not finite or a LoRA does not fit the model
    /// ([`LoraMismatch`](crate::ErrorKind::LoraMismatch)): then the former set stays. Errors if a weight cannot be
    /// computed: then no LoRA is left.
    pub fn set_loras(&mut self, loras: &[(Arc<Lora>, f64)]) -> Result<()> {
        let family = self.description.family.as_str();
        let set = self.loras.set(&self.parameters, family, loras);
        if self.loras.take_text_changed() {
            self.clear_prompt_cache();
        }
        set
    }

    /// Bytes that the LoRAs' weights take on the device besides the model's own.
    #[must_use]
    pub fn lora_bytes(&self) -> usize {
        self.loras.bytes()
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
