//! Between latents and pixels.

mod kl;
mod tiny;

use candle_core::Tensor;
use serde_json::json;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::weights::Loader;

use kl::AutoencoderKl;
use tiny::AutoencoderTiny;

/// What both kinds of autoencoder have in common, from `vae/config.json`.
pub(crate) struct VaeConfig {
    source: Config,
    kind: VaeKind,
    pub(crate) latent_channels: usize,
    /// Pixels of an image's side per latent.
    pub(crate) scale: usize,
    /// Latents are multiplied by this after encoding, divided by it before decoding.
    scaling_factor: f64,
    /// Subtracted before that, added after.
    shift_factor: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum VaeKind {
    Kl,
    Tiny,
}

impl VaeConfig {
    pub(crate) fn read(files: &ModelFiles, folder: &str) -> Result<Self> {
        let source = Config::read(files, &format!("{folder}/config.json"))?;
        let class: String = source.require("_class_name")?;
        let (kind, scale, default_scaling) = match class.as_str() {
            "AutoencoderKL" => (VaeKind::Kl, kl::scale(&source)?, 0.18215),
            "AutoencoderTiny" => (VaeKind::Tiny, tiny::scale(&source)?, 1.0),
            other => {
                return Err(Error::unsupported(
                    source.file(),
                    format_args!(
                        "_class_name = {other:?} is not supported, only AutoencoderKL or AutoencoderTiny"
                    ),
                ));
            }
        };
        for field in ["in_channels", "out_channels"] {
            source.only(field, &[json!(3)])?;
        }
        let config = Self {
            kind,
            latent_channels: source.count("latent_channels", 4)?,
            scale,
            scaling_factor: source.positive("scaling_factor", default_scaling)?,
            shift_factor: source.get("shift_factor", 0.0)?,
            source,
        };
        match kind {
            VaeKind::Kl => kl::check(&config.source)?,
            VaeKind::Tiny => tiny::check(&config.source)?,
        }
        // All arithmetic is in f32; the sample size only matters to tiling.
        config.source.irrelevant(&["force_upcast", "sample_size"]);
        config.source.no_unknown_fields()?;
        Ok(config)
    }
}

/// A loaded autoencoder.
pub(crate) struct Vae {
    model: Model,
    scaling_factor: f64,
    shift_factor: f64,
}

enum Model {
    Kl(Box<AutoencoderKl>),
    Tiny(Box<AutoencoderTiny>),
}

impl Vae {
    pub(crate) fn load(loader: &Loader<'_>, folder: &str, config: &VaeConfig) -> Result<Self> {
        let model = match config.kind {
            VaeKind::Kl => Model::Kl(Box::new(AutoencoderKl::load(loader, folder, config)?)),
            VaeKind::Tiny => Model::Tiny(Box::new(AutoencoderTiny::load(loader, folder, config)?)),
        };
        Ok(Self {
            model,
            scaling_factor: config.scaling_factor,
            shift_factor: config.shift_factor,
        })
    }

    /// Latents as the unet knows them, `[batch, latent_channels, h, w]`, to images in about [-1, 1],
    /// `[batch, 3, h * scale, w * scale]`.
    pub(crate) fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let latents = ((latents / self.scaling_factor)? + self.shift_factor)?;
        match &self.model {
            Model::Kl(model) => model.decode(&latents),
            Model::Tiny(model) => model.decode(&latents),
        }
    }

    /// The way back, without noise: the mode of the distribution where the autoencoder gives one.
    pub(crate) fn encode(&self, images: &Tensor) -> Result<Tensor> {
        let latents = match &self.model {
            Model::Kl(model) => model.encode(images)?.0,
            Model::Tiny(model) => model.encode(images)?,
        };
        self.scaled(&latents)
    }

    /// The way back with noise: a sample of the distribution. Asks `draw_noise` once, unless the autoencoder gives
    /// latents outright.
    pub(crate) fn encode_sample(
        &self,
        images: &Tensor,
        draw_noise: &mut dyn FnMut() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let latents = match &self.model {
            Model::Kl(model) => {
                let (mean, deviation) = model.encode(images)?;
                (mean + (deviation * draw_noise()?)?)?
            }
            Model::Tiny(model) => model.encode(images)?,
        };
        self.scaled(&latents)
    }

    /// Whether encoding draws noise.
    pub(crate) fn samples(&self) -> bool {
        matches!(self.model, Model::Kl(_))
    }

    fn scaled(&self, latents: &Tensor) -> Result<Tensor> {
        Ok(((latents - self.shift_factor)? * self.scaling_factor)?)
    }

    /// Whether decoding is so cheap that a preview can do it.
    pub(crate) fn is_tiny(&self) -> bool {
        matches!(self.model, Model::Tiny(_))
    }
}
