//! `AutoencoderKL`: Stable Diffusion's own autoencoder.

use candle_core::Tensor;
use serde_json::json;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::ops::{Activation, Bands, Conv2d, GroupNorm, Linear, attention};
use crate::unet::{Resnet, ResnetSizes, Upsampler};
use crate::vae::VaeConfig;
use crate::weights::{Loader, Scope};

const NORM_EPS: f64 = 1e-6;
/// The bounds that the encoder was trained with.
const LOG_VARIANCE_MIN: f64 = -30.0;
const LOG_VARIANCE_MAX: f64 = 20.0;
const DEFAULT_CHANNELS: [usize; 1] = [64];

/// Pixels of an image's side per latent.
pub(super) fn scale(config: &Config) -> Result<usize> {
    const LEVELS_MAX: usize = 8;
    let levels = config
        .counts("block_out_channels", &DEFAULT_CHANNELS)?
        .len();
    if levels > LEVELS_MAX {
        return Err(Error::config(
            config.file(),
            format_args!("block_out_channels may have at most {LEVELS_MAX} entries, got {levels}"),
        ));
    }
    Ok(1 << (levels - 1))
}

/// Refuses what this does not do.
pub(super) fn check(config: &Config) -> Result<()> {
    config.only("latents_mean", &[])?;
    config.only("latents_std", &[])?;
    for (field, supported) in [
        ("down_block_types", "DownEncoderBlock2D"),
        ("up_block_types", "UpDecoderBlock2D"),
    ] {
        let levels = config
            .counts("block_out_channels", &DEFAULT_CHANNELS)?
            .len();
        let types = config.get(field, vec![supported.to_owned()])?;
        if types.len() != levels {
            return Err(Error::config(
                config.file(),
                format_args!(
                    "{field} must have {levels} entries, as many as block_out_channels, got {}",
                    types.len()
                ),
            ));
        }
        if let Some(other) = types.iter().find(|name| *name != supported) {
            return Err(Error::unsupported(
                config.file(),
                format_args!("{field} names {other:?}, which is not supported, only {supported}"),
            ));
        }
    }
    config.irrelevant(&[
        "layers_per_block",
        "act_fn",
        "norm_num_groups",
        "use_quant_conv",
        "use_post_quant_conv",
        "mid_block_add_attention",
    ]);
    config.only("use_quant_conv", &[json!(true), json!(false)])?;
    config.only("use_post_quant_conv", &[json!(true), json!(false)])
}

/// Sizes, outermost level first.
struct Sizes<'a> {
    config: &'a Config,
    channels: Vec<usize>,
    layers: usize,
    latents: usize,
    groups: usize,
    activation: Activation,
    attends: bool,
}

impl Sizes<'_> {
    fn resnet(&self, scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Resnet> {
        Resnet::load(
            scope,
            self.config,
            ResnetSizes {
                inputs,
                outputs,
                time: None,
                groups: self.groups,
                eps: NORM_EPS,
                activation: self.activation,
            },
        )
    }

    fn outermost(&self) -> usize {
        self.channels.first().copied().unwrap_or_default()
    }

    fn innermost(&self) -> usize {
        self.channels.last().copied().unwrap_or_default()
    }
}

pub(super) struct AutoencoderKl {
    encoder: Encoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
    decoder: Decoder,
    latents: usize,
}

impl AutoencoderKl {
    pub(super) fn load(loader: &Loader<'_>, folder: &str, vae: &VaeConfig) -> Result<Self> {
        let config = &vae.source;
        let sizes = Sizes {
            config,
            channels: config.counts("block_out_channels", &DEFAULT_CHANNELS)?,
            layers: config.count("layers_per_block", 1)?,
            latents: vae.latent_channels,
            groups: config.count("norm_num_groups", 32)?,
            activation: Activation::read(config, "act_fn", "silu")?,
            attends: config.get("mid_block_add_attention", true)?,
        };
        let weights = loader.open_for_f32(folder, "diffusion_pytorch_model")?;
        let root = weights.root();
        let latents = sizes.latents;
        let model = Self {
            encoder: Encoder::load(&root.at("encoder"), &sizes)?,
            quant_conv: if config.get("use_quant_conv", true)? {
                Some(Conv2d::load(
                    &root.at("quant_conv"),
                    2 * latents,
                    2 * latents,
                    1,
                )?)
            } else {
                None
            },
            post_quant_conv: if config.get("use_post_quant_conv", true)? {
                Some(Conv2d::load(
                    &root.at("post_quant_conv"),
                    latents,
                    latents,
                    1,
                )?)
            } else {
                None
            },
            decoder: Decoder::load(&root.at("decoder"), &sizes)?,
            latents,
        };
        weights.finish(|_| false);
        Ok(model)
    }

    /// Unscaled latents to images in about [-1, 1], in bands of at most `band_elements_max`.
    pub(super) fn decode(&self, latents: &Tensor, band_elements_max: usize) -> Result<Tensor> {
        match &self.post_quant_conv {
            Some(conv) => self
                .decoder
                .forward(&conv.forward(latents)?, band_elements_max),
            None => self.decoder.forward(latents, band_elements_max),
        }
    }

    /// Images in [-1, 1] to the distribution of their latents, mean and standard deviation, in bands of at most
    /// `band_elements_max`.
    pub(super) fn encode(
        &self,
        images: &Tensor,
        band_elements_max: usize,
    ) -> Result<(Tensor, Tensor)> {
        let moments = self.encoder.forward(images, band_elements_max)?;
        let moments = match &self.quant_conv {
            Some(conv) => conv.forward(&moments)?,
            None => moments,
        };
        let mean = moments.narrow(1, 0, self.latents)?.contiguous()?;
        let log_variance = moments
            .narrow(1, self.latents, self.latents)?
            .contiguous()?;
        let deviation = (log_variance.clamp(LOG_VARIANCE_MIN, LOG_VARIANCE_MAX)? * 0.5)?.exp()?;
        Ok((mean, deviation))
    }
}

struct Encoder {
    conv_in: Conv2d,
    /// Channels of the widest activations.
    outermost: usize,
    levels: Vec<(Vec<Resnet>, Option<Conv2d>)>,
    mid: Mid,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    fn load(scope: &Scope<'_>, sizes: &Sizes<'_>) -> Result<Self> {
        let mut inputs = sizes.outermost();
        let mut levels = Vec::new();
        for (index, outputs) in sizes.channels.iter().copied().enumerate() {
            let scope = scope.at("down_blocks").at(index);
            let mut resnets = Vec::new();
            for layer in 0..sizes.layers {
                resnets.push(sizes.resnet(&scope.at("resnets").at(layer), inputs, outputs)?);
                inputs = outputs;
            }
            let downsampler = if index + 1 < sizes.channels.len() {
                Some(Conv2d::load_downsampling(
                    &scope.at("downsamplers.0.conv"),
                    outputs,
                    0,
                )?)
            } else {
                None
            };
            levels.push((resnets, downsampler));
        }
        let innermost = sizes.innermost();
        Ok(Self {
            conv_in: Conv2d::load(&scope.at("conv_in"), 3, sizes.outermost(), 3)?,
            outermost: sizes.outermost(),
            levels,
            mid: Mid::load(&scope.at("mid_block"), sizes)?,
            norm_out: GroupNorm::load(
                &scope.at("conv_norm_out"),
                sizes.config,
                sizes.groups,
                innermost,
                NORM_EPS,
            )?,
            conv_out: Conv2d::load(&scope.at("conv_out"), innermost, 2 * sizes.latents, 3)?,
        })
    }

    fn forward(&self, images: &Tensor, band_elements_max: usize) -> Result<Tensor> {
        // Bands stay even through every halving.
        let multiple = 1 << self.levels.len();
        let channels = self.outermost;
        let mut x = Bands::divide(images, channels, multiple, band_elements_max)?
            .convolve(&self.conv_in)?;
        for (resnets, downsampler) in &self.levels {
            for resnet in resnets {
                x = resnet.forward_in_bands(x)?;
            }
            if let Some(downsampler) = downsampler {
                x = x.convolve(downsampler)?;
            }
        }
        let x = self.mid.forward(&x.join()?)?;
        self.conv_out
            .forward(&Activation::Silu.apply(&self.norm_out.forward(&x)?)?)
    }
}

struct Decoder {
    conv_in: Conv2d,
    mid: Mid,
    levels: Vec<(Vec<Resnet>, Option<Upsampler>)>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    fn load(scope: &Scope<'_>, sizes: &Sizes<'_>) -> Result<Self> {
        let mut inputs = sizes.innermost();
        let mut levels = Vec::new();
        for (index, outputs) in sizes.channels.iter().copied().rev().enumerate() {
            let scope = scope.at("up_blocks").at(index);
            let mut resnets = Vec::new();
            for layer in 0..=sizes.layers {
                resnets.push(sizes.resnet(&scope.at("resnets").at(layer), inputs, outputs)?);
                inputs = outputs;
            }
            let upsampler = if index + 1 < sizes.channels.len() {
                Some(Upsampler::load(&scope.at("upsamplers.0"), outputs)?)
            } else {
                None
            };
            levels.push((resnets, upsampler));
        }
        let outermost = sizes.outermost();
        Ok(Self {
            conv_in: Conv2d::load(&scope.at("conv_in"), sizes.latents, sizes.innermost(), 3)?,
            mid: Mid::load(&scope.at("mid_block"), sizes)?,
            levels,
            norm_out: GroupNorm::load(
                &scope.at("conv_norm_out"),
                sizes.config,
                sizes.groups,
                outermost,
                NORM_EPS,
            )?,
            conv_out: Conv2d::load(&scope.at("conv_out"), outermost, 3, 3)?,
        })
    }

    fn forward(&self, latents: &Tensor, band_elements_max: usize) -> Result<Tensor> {
        let x = self.mid.forward(&self.conv_in.forward(latents)?)?;
        let mut x = Bands::divide(&x, x.dim(1)?, 1, band_elements_max)?;
        for (resnets, upsampler) in &self.levels {
            for resnet in resnets {
                x = resnet.forward_in_bands(x)?;
            }
            if let Some(upsampler) = upsampler {
                x = upsampler.forward_in_bands(x)?;
            }
        }
        x.normalise_and_convolve(&self.norm_out, Activation::Silu, &self.conv_out)?
            .join()
    }
}

/// Two residual blocks with attention of one head between them.
struct Mid {
    first: Resnet,
    attention: Option<MidAttention>,
    second: Resnet,
}

impl Mid {
    fn load(scope: &Scope<'_>, sizes: &Sizes<'_>) -> Result<Self> {
        let channels = sizes.innermost();
        Ok(Self {
            first: sizes.resnet(&scope.at("resnets.0"), channels, channels)?,
            attention: if sizes.attends {
                Some(MidAttention::load(
                    &scope.at("attentions.0"),
                    sizes,
                    channels,
                )?)
            } else {
                None
            },
            second: sizes.resnet(&scope.at("resnets.1"), channels, channels)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.first.forward(x, None)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(&x)?;
        }
        self.second.forward(&x, None)
    }
}

struct MidAttention {
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl MidAttention {
    fn load(scope: &Scope<'_>, sizes: &Sizes<'_>, channels: usize) -> Result<Self> {
        // The layers of files from before 2023 have their former names.
        let linear = |name: &str, former: &str| {
            Linear::load(&scope.at_either(name, former), channels, channels)
        };
        Ok(Self {
            norm: GroupNorm::load(
                &scope.at("group_norm"),
                sizes.config,
                sizes.groups,
                channels,
                NORM_EPS,
            )?,
            q: linear("to_q", "query")?,
            k: linear("to_k", "key")?,
            v: linear("to_v", "value")?,
            out: linear("to_out.0", "proj_attn")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        let tokens = self
            .norm
            .forward(x)?
            .reshape((batch, channels, height * width))?
            .transpose(1, 2)?
            .contiguous()?;
        let attended = attention(
            &self.q.forward(&tokens)?,
            &self.k.forward(&tokens)?,
            &self.v.forward(&tokens)?,
            1,
            None,
        )?;
        let y = self
            .out
            .forward(&attended)?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((batch, channels, height, width))?;
        Ok((x + y)?)
    }
}
