//! What a model is, read from its configs.

use std::fmt;

use serde_json::{Map, Value};

use crate::config::{Config, parse};
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::pipeline::params::{DrawParams, Task, steps_run};
use crate::schedulers::{
    Corrections, PredictionType, SchedulerConfig, SchedulerKind, TimestepSpacing,
};
use crate::text::{ClipConfig, configured_length};
use crate::unet::UnetConfig;
use crate::vae::VaeConfig;

/// Which line of Stable Diffusion a model belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Stable Diffusion 1.x and models of its shape: one text encoder of OpenAI's kind.
    Sd1,
    /// Stable Diffusion 2.x: one OpenCLIP text encoder.
    Sd2,
    /// SDXL: two text encoders, pooled text and sizes.
    Sdxl,
}

impl Family {
    /// The name in the API: `sd1`, `sd2`, `sdxl`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sd1 => "sd1",
            Self::Sd2 => "sd2",
            Self::Sdxl => "sdxl",
        }
    }

    fn default_guidance_scale(self) -> f64 {
        match self {
            Self::Sd1 | Self::Sd2 => 7.5,
            Self::Sdxl => 5.0,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A model's family, defaults and bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelDescription {
    /// Its family.
    pub family: Family,
    /// What it can draw from.
    pub tasks: Vec<Task>,
    /// Native width, in pixels.
    pub width: usize,
    /// Native height, in pixels.
    pub height: usize,
    /// Width and height must be multiples of this.
    pub dimension_multiple: usize,
    /// Least width and height.
    pub dimension_min: usize,
    /// Greatest width and height.
    pub dimension_max: usize,
    /// Default steps.
    pub steps: usize,
    /// Default guidance scale.
    pub guidance_scale: f64,
    /// Default scheduler.
    pub scheduler: SchedulerKind,
    /// Whether guidance is an input of the model (as of latent consistency models), so that it costs nothing and a
    /// negative prompt changes nothing.
    pub is_guidance_embedded: bool,
    /// Whether the files are of the reference's latent consistency pipeline, which spreads all steps over the timesteps
    /// that `strength` leaves.
    pub is_consistency_model: bool,
    /// Tokens that the text encoder sees, start and end marks included.
    pub prompt_tokens: usize,
    /// Most of the text encoder's last layers that can be left out.
    pub clip_skip_max: usize,
    /// Prompts that the model draws well.
    pub examples: Vec<String>,
    /// The words that the model knows, where its files say so.
    pub vocabulary: Option<Value>,
}

impl ModelDescription {
    /// How many steps a drawing takes: all from noise, from an image its strength's share of them ([`steps_run`]).
    #[must_use]
    pub fn steps_run(&self, params: &DrawParams) -> usize {
        let strength = params.start.strength();
        self.steps_run_of(
            params.start.task(),
            params.scheduler,
            params.steps,
            strength,
        )
    }

    /// The same before there is an image to draw from.
    #[must_use]
    pub fn steps_run_of(
        &self,
        task: Task,
        scheduler: SchedulerKind,
        steps: usize,
        strength: Option<f64>,
    ) -> usize {
        let spreads_all = self.is_consistency_model
            && scheduler == SchedulerKind::Lcm
            && task == Task::ImageToImage;
        match strength {
            Some(strength) if !spreads_all => steps_run(steps, strength),
            _ => steps,
        }
    }
}

const DEFAULT_STEPS: usize = 30;
/// What models that were distilled to draw in one to four steps take at best.
const DISTILLED_STEPS: usize = 4;
/// What consistency models with guidance as an input were trained around.
const CONSISTENCY_GUIDANCE_SCALE: f64 = 8.5;
/// Native sizes below this are toys that fall apart when enlarged much; a real model stands more.
const REAL_NATIVE_SIDE_MIN: usize = 256;
const REAL_DIMENSION_MAX: usize = 2048;

/// Where a model may have a tiny autoencoder (TAESD) for its previews.
pub(super) const PREVIEW_VAE_FOLDER: &str = "vae_preview";

/// The configs of a model's parts, read and checked.
pub(super) struct Parts {
    pub(super) family: Family,
    pub(super) text: Vec<TextPart>,
    pub(super) zeros_for_empty_prompt: bool,
    pub(super) unet: UnetConfig,
    pub(super) vae: VaeConfig,
    /// A tiny autoencoder to draw previews with, if the model comes with one.
    pub(super) preview_vae: Option<VaeConfig>,
    pub(super) scheduler: SchedulerConfig,
    pub(super) scores_beauty: bool,
    is_consistency_model: bool,
    prompt_tokens: usize,
}

/// The reference's pipelines that a model may name as its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PipelineClass {
    StableDiffusion,
    Inpaint,
    LatentConsistency,
    Xl,
}

impl PipelineClass {
    const NAMES: [(&str, Self); 8] = [
        ("StableDiffusionPipeline", Self::StableDiffusion),
        ("StableDiffusionImg2ImgPipeline", Self::StableDiffusion),
        ("StableDiffusionInpaintPipeline", Self::Inpaint),
        ("LatentConsistencyModelPipeline", Self::LatentConsistency),
        (
            "LatentConsistencyModelImg2ImgPipeline",
            Self::LatentConsistency,
        ),
        ("StableDiffusionXLPipeline", Self::Xl),
        ("StableDiffusionXLImg2ImgPipeline", Self::Xl),
        ("StableDiffusionXLInpaintPipeline", Self::Xl),
    ];

    fn read(index: &Config) -> Result<Self> {
        let name: String = index.require("_class_name")?;
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, class)| *class).ok_or_else(|| {
            let names: Vec<&str> = Self::NAMES.iter().map(|(known, _)| *known).collect();
            Error::unsupported(
                index.file(),
                format_args!(
                    "_class_name = {name:?} is not supported, only {}",
                    names.join(", ")
                ),
            )
        })
    }

    /// What the pipeline corrects in old scheduler configs.
    fn corrections(self) -> Corrections {
        Corrections {
            steps_offset: matches!(self, Self::StableDiffusion | Self::Inpaint),
            clip_sample: self == Self::StableDiffusion,
        }
    }
}

/// A tokenizer's and its encoder's place.
pub(super) struct TextPart {
    pub(super) tokenizer_folder: &'static str,
    pub(super) encoder_folder: &'static str,
    pub(super) config: ClipConfig,
}

impl Parts {
    pub(super) fn read(files: &ModelFiles) -> Result<Self> {
        let index = Config::read(files, "model_index.json")?;
        let class = PipelineClass::read(&index)?;
        let is_xl = class == PipelineClass::Xl;
        component(&index, "unet", &["UNet2DConditionModel"])?;
        component(&index, "vae", &["AutoencoderKL", "AutoencoderTiny"])?;
        let text = text_parts(files, &index, is_xl)?;
        let first = text
            .first()
            .ok_or_else(|| Error::config(index.file(), "text_encoder is missing"))?;
        let prompt_tokens = prompt_tokens(files, &text)?;
        let family = match (is_xl, first.config.is_open_clip()) {
            (true, _) => Family::Sdxl,
            (false, true) => Family::Sd2,
            (false, false) => Family::Sd1,
        };
        let parts = Self {
            family,
            zeros_for_empty_prompt: is_xl && index.get("force_zeros_for_empty_prompt", true)?,
            scores_beauty: is_xl && index.get("requires_aesthetics_score", false)?,
            is_consistency_model: class == PipelineClass::LatentConsistency,
            unet: UnetConfig::read(files, "unet")?,
            vae: VaeConfig::read(files, "vae")?,
            preview_vae: if files.exists(&format!("{PREVIEW_VAE_FOLDER}/config.json")) {
                Some(VaeConfig::read(files, PREVIEW_VAE_FOLDER)?)
            } else {
                None
            },
            scheduler: SchedulerConfig::read(
                &Config::read(files, "scheduler/scheduler_config.json")?,
                class.corrections(),
            )?,
            prompt_tokens,
            text,
        };
        parts.check(files, is_xl)?;
        Ok(parts)
    }

    /// Parts that are sound each for itself must also fit together.
    fn check(&self, files: &ModelFiles, is_xl: bool) -> Result<()> {
        let unet = &self.unet;
        let file = files.name("unet/config.json");
        let latents = self.vae.latent_channels;
        let inputs = [latents, 2 * latents + 1];
        if !inputs.contains(&unet.in_channels) || unet.out_channels != latents {
            return Err(Error::unsupported(
                &file,
                format_args!(
                    "in_channels must be the vae's latent_channels {latents}, or {} for inpainting, and out_channels \
                     {latents}, got {} and {}",
                    2 * latents + 1,
                    unet.in_channels,
                    unet.out_channels
                ),
            ));
        }
        if let Some(preview) = &self.preview_vae
            && (preview.latent_channels, preview.scale) != (latents, self.vae.scale)
        {
            return Err(Error::config(
                &files.name(&format!("{PREVIEW_VAE_FOLDER}/config.json")),
                format_args!(
                    "latent_channels and the pixels to a latent must be the vae's, {latents} and {}, got {} and {}",
                    self.vae.scale, preview.latent_channels, preview.scale
                ),
            ));
        }
        let context: usize = self.text.iter().map(|part| part.config.hidden_size).sum();
        if let Some(other) = unet
            .cross_attention_dims
            .iter()
            .find(|dim| **dim != context)
        {
            return Err(Error::config(
                &file,
                format_args!(
                    "cross_attention_dim must be {context}, the width of the text encoding, got {other}"
                ),
            ));
        }
        match (&unet.added, is_xl) {
            (None, false) => Ok(()),
            (Some(added), true) => {
                let pooled = self
                    .text
                    .last()
                    .and_then(|part| part.config.projection)
                    .unwrap_or_default();
                let sizes = if self.scores_beauty { 5 } else { 6 };
                let needed = pooled + sizes * added.time_dim;
                if added.input_dim == needed {
                    Ok(())
                } else {
                    Err(Error::config(
                        &file,
                        format_args!(
                            "projection_class_embeddings_input_dim must be {needed}, the pooled text's width and \
                             {sizes} size embeddings, got {}",
                            added.input_dim
                        ),
                    ))
                }
            }
            (None, true) => Err(Error::unsupported(
                &file,
                "addition_embed_type must be \"text_time\" in a StableDiffusionXLPipeline",
            )),
            (Some(_), false) => Err(Error::unsupported(
                &file,
                "addition_embed_type must be null in a StableDiffusionPipeline",
            )),
        }
    }

    /// Whether the unet sees the mask and what is visible of the image.
    pub(super) fn sees_mask(&self) -> bool {
        self.unet.in_channels != self.vae.latent_channels
    }

    fn tasks(&self) -> Vec<Task> {
        if self.sees_mask() {
            vec![Task::Inpaint]
        } else if self.scores_beauty {
            vec![Task::ImageToImage, Task::Inpaint]
        } else {
            vec![Task::TextToImage, Task::ImageToImage, Task::Inpaint]
        }
    }

    /// Steps and guidance that suit the model where its files do not say. Distillation shows in the scheduler that the
    /// files name: SD-Turbo's and SDXL-Turbo's is Euler's on trailing timesteps (of noise predictions without rescaled
    /// betas, which others need them for), a consistency model's is LCM's.
    fn default_steps_and_guidance(&self) -> (usize, f64) {
        let scheduler = &self.scheduler;
        let is_turbo = matches!(
            scheduler.own_kind(),
            SchedulerKind::Euler | SchedulerKind::EulerAncestral
        ) && scheduler.timestep_spacing == Some(TimestepSpacing::Trailing)
            && scheduler.prediction_type == PredictionType::Epsilon
            && !scheduler.rescale_betas_zero_snr;
        if self.unet.guidance_dim.is_some() {
            (DISTILLED_STEPS, CONSISTENCY_GUIDANCE_SCALE)
        } else if scheduler.own_kind() == SchedulerKind::Lcm {
            (DISTILLED_STEPS, 1.0)
        } else if is_turbo {
            (DISTILLED_STEPS, 0.0)
        } else {
            (DEFAULT_STEPS, self.family.default_guidance_scale())
        }
    }

    /// SDXL leaves out the last layer of its own accord.
    fn clip_skip_max(&self) -> usize {
        let layers = self.text.iter().map(|part| part.config.layers).min();
        layers
            .unwrap_or_default()
            .saturating_sub(usize::from(self.family == Family::Sdxl))
    }

    pub(super) fn describe(&self, files: &ModelFiles) -> Result<ModelDescription> {
        let scale = self.vae.scale;
        let (height, width) = self.unet.sample_size;
        let (height, width) = (height * scale, width * scale);
        let native = height.max(width);
        let own = OwnSettings::read(files)?;
        let (steps, guidance_scale) = self.default_steps_and_guidance();
        Ok(ModelDescription {
            family: self.family,
            tasks: self.tasks(),
            width,
            height,
            // The unet copes with sizes that do not halve evenly, as the reference's does.
            dimension_multiple: scale,
            dimension_min: (scale << self.unet.halvings()).min(native),
            dimension_max: if native < REAL_NATIVE_SIDE_MIN {
                native * 2
            } else {
                REAL_DIMENSION_MAX.max(native)
            },
            steps: own.steps.unwrap_or(steps),
            guidance_scale: own.guidance_scale.unwrap_or(guidance_scale),
            is_guidance_embedded: self.unet.guidance_dim.is_some(),
            is_consistency_model: self.is_consistency_model,
            scheduler: own.scheduler.unwrap_or_else(|| self.scheduler.own_kind()),
            prompt_tokens: self.prompt_tokens,
            clip_skip_max: self.clip_skip_max(),
            examples: own.examples,
            vocabulary: own.vocabulary,
        })
    }
}

fn text_parts(files: &ModelFiles, index: &Config, is_xl: bool) -> Result<Vec<TextPart>> {
    let mut parts = Vec::new();
    let wanted: &[(&'static str, &'static str)] = if is_xl {
        &[
            ("tokenizer", "text_encoder"),
            ("tokenizer_2", "text_encoder_2"),
        ]
    } else {
        &[("tokenizer", "text_encoder")]
    };
    for (tokenizer_folder, encoder_folder) in wanted {
        // SDXL's refiner has only the second.
        if is_xl && is_absent(index, tokenizer_folder)? && is_absent(index, encoder_folder)? {
            continue;
        }
        component(
            index,
            tokenizer_folder,
            &["CLIPTokenizer", "CLIPTokenizerFast"],
        )?;
        let class = component(
            index,
            encoder_folder,
            &["CLIPTextModel", "CLIPTextModelWithProjection"],
        )?;
        parts.push(TextPart {
            tokenizer_folder,
            encoder_folder,
            config: ClipConfig::read(
                files,
                encoder_folder,
                class == "CLIPTextModelWithProjection",
            )?,
        });
    }
    if let (true, Some(last)) = (is_xl, parts.last())
        && last.config.projection.is_none()
    {
        return Err(Error::unsupported(
            index.file(),
            "text_encoder_2 must be a CLIPTextModelWithProjection",
        ));
    }
    Ok(parts)
}

/// Whether the index names nothing for a component.
fn is_absent(index: &Config, name: &'static str) -> Result<bool> {
    let entry: Vec<Value> = index.get(name, Vec::new())?;
    Ok(entry.iter().all(Value::is_null))
}

/// The tokens that every text encoder sees at once. Errors if they differ: their states stand side by side.
fn prompt_tokens(files: &ModelFiles, text: &[TextPart]) -> Result<usize> {
    let mut common = None;
    for part in text {
        let length = configured_length(files, part.tokenizer_folder, part.config.positions)?;
        let wanted = *common.get_or_insert(length);
        if length != wanted {
            return Err(Error::config(
                &files.name(&format!("{}/tokenizer_config.json", part.tokenizer_folder)),
                format_args!(
                    "model_max_length must be {wanted}, as the other tokenizer has it, got {length}"
                ),
            ));
        }
    }
    Ok(common.unwrap_or_default())
}

/// The class of a component. Errors if it is not one of those supported.
fn component(index: &Config, name: &'static str, supported: &[&str]) -> Result<String> {
    let entry: Vec<Value> = index.require(name)?;
    let class = entry.get(1).and_then(Value::as_str).unwrap_or_default();
    if supported.contains(&class) {
        Ok(class.to_owned())
    } else {
        Err(Error::unsupported(
            index.file(),
            format_args!(
                "{name} = {} is not supported, only {}",
                Value::from(entry),
                supported.join(" or ")
            ),
        ))
    }
}

/// What `scumble.json` next to `model_index.json` says, if it is there.
#[derive(Default)]
struct OwnSettings {
    steps: Option<usize>,
    guidance_scale: Option<f64>,
    scheduler: Option<SchedulerKind>,
    examples: Vec<String>,
    vocabulary: Option<Value>,
}

impl OwnSettings {
    fn read(files: &ModelFiles) -> Result<Self> {
        if !files.exists("scumble.json") {
            return Ok(Self::default());
        }
        let config = Config::read(files, "scumble.json")?;
        let defaults: Map<String, Value> = config.get("defaults", Map::new())?;
        let defaults = Config::from_fields(config.file(), defaults);
        let steps = match defaults.optional::<Value>("steps")? {
            None => None,
            Some(_) => Some(defaults.count("steps", DEFAULT_STEPS)?),
        };
        let guidance_scale: Option<f64> = defaults.optional("guidance_scale")?;
        if let Some(scale) = guidance_scale
            && !(0.0..=30.0).contains(&scale)
        {
            return Err(Error::config(
                config.file(),
                format_args!("guidance_scale must be 0..=30, got {scale}"),
            ));
        }
        let scheduler = match defaults.optional::<String>("scheduler")? {
            None => None,
            Some(name) => Some(
                name.parse()
                    .map_err(|error: Error| Error::config(config.file(), error))?,
            ),
        };
        let vocabulary = match config.optional::<String>("vocabulary")? {
            None => None,
            Some(path) => Some(read_vocabulary(files, &path)?),
        };
        Ok(Self {
            steps,
            guidance_scale,
            scheduler,
            examples: config.get("examples", Vec::new())?,
            vocabulary,
        })
    }
}

fn read_vocabulary(files: &ModelFiles, path: &str) -> Result<Value> {
    let file = files.name(path);
    let bytes = files
        .read(path)?
        .ok_or_else(|| Error::missing(&file, "is missing, though scumble.json names it"))?;
    parse(&bytes).map_err(|error| Error::config(&file, format_args!("is not JSON: {error}")))
}
