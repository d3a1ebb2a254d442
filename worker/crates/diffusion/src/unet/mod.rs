//! The denoiser: `UNet2DConditionModel`.

mod attention;
mod blocks;
mod config;
mod embeddings;
mod resnet;

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::ops::{Activation, Conv2d, GroupNorm, Linear};
use crate::unet::blocks::{BlockSizes, DownBlock, MidBlock, UpBlock};
use crate::unet::embeddings::{AddedEmbedding, TimestepEmbedding, Timesteps};
use crate::weights::Loader;

pub(crate) use config::UnetConfig;
pub(crate) use embeddings::embed_guidance;
pub(crate) use resnet::{Resnet, ResnetSizes, Upsampler};

/// What the unet is told besides the latents. Batches must agree with the latents'.
pub(crate) struct Conditioning {
    /// The prompt's hidden states, `[batch, tokens, cross_attention_dim]`.
    pub(crate) hidden: Tensor,
    /// For SDXL.
    pub(crate) added: Option<AddedConditioning>,
    /// For models distilled with guidance as an input: the guidance scale's embedding,
    /// `[1, time_cond_proj_dim]`.
    pub(crate) guidance: Option<Tensor>,
}

/// SDXL's pooled prompt and sizes.
pub(crate) struct AddedConditioning {
    /// `[batch, pooled]`.
    pub(crate) pooled: Tensor,
    /// Original height and width, crop top and left, target height and width: `[batch, 6]`.
    pub(crate) time_ids: Tensor,
}

/// A loaded unet.
pub(crate) struct Unet {
    conv_in: Conv2d,
    timesteps: Timesteps,
    time_embedding: TimestepEmbedding,
    /// For models distilled with guidance as an input.
    guidance_projection: Option<Linear>,
    added_embedding: Option<AddedEmbedding>,
    down_blocks: Vec<DownBlock>,
    mid_block: Option<MidBlock>,
    up_blocks: Vec<UpBlock>,
    norm_out: GroupNorm,
    activation: Activation,
    conv_out: Conv2d,
    arithmetic: DType,
    device: Device,
}

impl Unet {
    pub(crate) fn load(loader: &Loader<'_>, folder: &str, config: &UnetConfig) -> Result<Self> {
        let weights = loader.open(folder, "diffusion_pytorch_model")?;
        let root = weights.root();
        let unet = Self {
            conv_in: Conv2d::load(
                &root.at("conv_in"),
                config.in_channels,
                config.first_channels(),
                config.conv_in_kernel,
            )?,
            timesteps: Timesteps::new(
                config.first_channels(),
                config.flip_sin_to_cos,
                config.freq_shift,
            ),
            time_embedding: TimestepEmbedding::load(
                &root.at("time_embedding"),
                config.first_channels(),
                config.time_embed_dim,
                config.activation,
            )?,
            guidance_projection: match config.guidance_dim {
                Some(dim) => Some(Linear::load_without_bias(
                    &root.at("time_embedding.cond_proj"),
                    dim,
                    config.first_channels(),
                )?),
                None => None,
            },
            added_embedding: match &config.added {
                Some(added) => Some(AddedEmbedding::load(
                    &root.at("add_embedding"),
                    config,
                    added,
                )?),
                None => None,
            },
            down_blocks: BlockSizes::down(config)
                .iter()
                .enumerate()
                .map(|(index, sizes)| {
                    DownBlock::load(&root.at("down_blocks").at(index), config, sizes)
                })
                .collect::<Result<Vec<DownBlock>>>()?,
            mid_block: match BlockSizes::mid(config) {
                Some(sizes) => Some(MidBlock::load(&root.at("mid_block"), config, &sizes)?),
                None => None,
            },
            up_blocks: BlockSizes::up(config)
                .iter()
                .enumerate()
                .map(|(index, sizes)| UpBlock::load(&root.at("up_blocks").at(index), config, sizes))
                .collect::<Result<Vec<UpBlock>>>()?,
            norm_out: GroupNorm::load(
                &root.at("conv_norm_out"),
                &config.source,
                config.groups,
                config.first_channels(),
                config.norm_eps,
            )?,
            activation: config.activation,
            conv_out: Conv2d::load(
                &root.at("conv_out"),
                config.first_channels(),
                config.out_channels,
                config.conv_out_kernel,
            )?,
            arithmetic: weights.arithmetic(),
            device: loader.device.clone(),
        };
        weights.finish(|_| false);
        Ok(unet)
    }

    /// One pass: latents `[batch, in_channels, h, w]` at one timestep to `[batch, out_channels, h, w]`, f32 both.
    pub(crate) fn forward(
        &self,
        latents: &Tensor,
        timestep: f64,
        conditioning: &Conditioning,
    ) -> Result<Tensor> {
        let batch = latents.dim(0)?;
        let hidden = conditioning.hidden.to_dtype(self.arithmetic)?;
        let time = self.timesteps.embed(&[timestep], &self.device)?;
        let mut time = time.to_dtype(self.arithmetic)?;
        if let (Some(layer), Some(guidance)) = (&self.guidance_projection, &conditioning.guidance) {
            time = (time + layer.forward(&guidance.to_dtype(self.arithmetic)?)?)?;
        }
        let mut embedding = self.time_embedding.forward(&time)?;
        if let (Some(layer), Some(added)) = (&self.added_embedding, &conditioning.added) {
            embedding =
                embedding.broadcast_add(&layer.forward(added, self.arithmetic, &self.device)?)?;
        } else {
            embedding = embedding
                .broadcast_as((batch, embedding.dim(1)?))?
                .contiguous()?;
        }

        let mut x = self.conv_in.forward(&latents.to_dtype(self.arithmetic)?)?;
        let mut skips = vec![x.clone()];
        for block in &self.down_blocks {
            x = block.forward(&x, &embedding, &hidden, &mut skips)?;
        }
        if let Some(block) = &self.mid_block {
            x = block.forward(&x, &embedding, &hidden)?;
        }
        for block in &self.up_blocks {
            x = block.forward(&x, &embedding, &hidden, &mut skips)?;
        }
        let x = self.activation.apply(&self.norm_out.forward(&x)?)?;
        Ok(self.conv_out.forward(&x)?.to_dtype(DType::F32)?)
    }
}
