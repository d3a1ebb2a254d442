//! Down, mid and up blocks, with or without attention to the prompt.

use candle_core::Tensor;

use crate::error::{Error, ErrorKind, Result};
use crate::ops::Conv2d;
use crate::unet::attention::{Transformer, TransformerSizes};
use crate::unet::config::{MidKind, UnetConfig};
use crate::unet::resnet::{Resnet, ResnetSizes, Upsampler};
use crate::weights::Scope;

/// Sizes of one block.
pub(super) struct BlockSizes {
    /// Input channels of each residual block; all give `transformer.channels`.
    resnet_inputs: Vec<usize>,
    transformer: TransformerSizes,
    /// Depths of the transformers, one after each residual block; none where the block does not attend.
    transformer_layers: Vec<usize>,
    /// Whether the block ends by halving or doubling the size.
    resamples: bool,
}

impl BlockSizes {
    pub(super) fn down(config: &UnetConfig) -> Vec<Self> {
        let mut inputs = config.first_channels();
        let mut blocks = Vec::new();
        for (index, (transformer, layers)) in transformers(config)
            .zip(&config.layers_per_block)
            .enumerate()
        {
            let outputs = transformer.channels;
            blocks.push(Self {
                resnet_inputs: std::iter::once(inputs)
                    .chain(std::iter::repeat(outputs))
                    .take(*layers)
                    .collect(),
                transformer,
                transformer_layers: attended(
                    &config.down_attention,
                    &config.down_transformer_layers,
                    index,
                ),
                resamples: index + 1 < config.block_out_channels.len(),
            });
            inputs = outputs;
        }
        blocks
    }

    /// `None` where there is no mid block.
    pub(super) fn mid(config: &UnetConfig) -> Option<Self> {
        let transformer = transformers(config).last()?;
        let transformer_layers = match config.mid {
            MidKind::None => return None,
            MidKind::Plain => Vec::new(),
            MidKind::Attends(layers) => vec![layers],
        };
        Some(Self {
            resnet_inputs: vec![transformer.channels; 1 + transformer_layers.len()],
            transformer,
            transformer_layers,
            resamples: false,
        })
    }

    /// From the inside out. Every residual block also takes one skip from the way down.
    pub(super) fn up(config: &UnetConfig) -> Vec<Self> {
        let mut skips = vec![config.first_channels()];
        for block in Self::down(config) {
            let count = block.resnet_inputs.len() + usize::from(block.resamples);
            skips.extend(std::iter::repeat_n(block.transformer.channels, count));
        }
        let mut sizes: Vec<(TransformerSizes, usize)> = transformers(config)
            .zip(config.layers_per_block.iter().copied())
            .collect();
        sizes.reverse();
        let count = sizes.len();
        let mut inputs = sizes
            .first()
            .map_or(0, |(transformer, _)| transformer.channels);
        let mut blocks = Vec::new();
        for (index, (transformer, layers)) in sizes.into_iter().enumerate() {
            let mut resnet_inputs = Vec::new();
            for _ in 0..=layers {
                resnet_inputs.push(inputs + skips.pop().unwrap_or_default());
                inputs = transformer.channels;
            }
            blocks.push(Self {
                resnet_inputs,
                transformer,
                transformer_layers: attended(
                    &config.up_attention,
                    &config.up_transformer_layers,
                    index,
                ),
                resamples: index + 1 < count,
            });
        }
        blocks
    }

    fn resnets(&self, scope: &Scope<'_>, config: &UnetConfig) -> Result<Vec<Resnet>> {
        self.resnet_inputs
            .iter()
            .enumerate()
            .map(|(index, inputs)| {
                Resnet::load(
                    &scope.at("resnets").at(index),
                    &config.source,
                    ResnetSizes {
                        inputs: *inputs,
                        outputs: self.transformer.channels,
                        time: Some(config.time_embed_dim),
                        groups: config.groups,
                        eps: config.norm_eps,
                        activation: config.activation,
                    },
                )
            })
            .collect()
    }

    fn attentions(&self, scope: &Scope<'_>, config: &UnetConfig) -> Result<Vec<Transformer>> {
        self.transformer_layers
            .iter()
            .enumerate()
            .map(|(index, layers)| {
                let scope = scope.at("attentions").at(index);
                Transformer::load(&scope, config, self.transformer, *layers)
            })
            .collect()
    }
}

/// The depths of the transformers of the block at `index`, none if it does not attend.
fn attended(attends: &[bool], layers: &[Vec<usize>], index: usize) -> Vec<usize> {
    if attends.get(index).copied().unwrap_or(false) {
        layers.get(index).cloned().unwrap_or_default()
    } else {
        Vec::new()
    }
}

/// The transformer sizes of every block, from the outside in.
fn transformers(config: &UnetConfig) -> impl Iterator<Item = TransformerSizes> {
    config
        .block_out_channels
        .iter()
        .zip(&config.heads)
        .zip(&config.cross_attention_dims)
        .map(|((channels, heads), context)| TransformerSizes {
            channels: *channels,
            heads: *heads,
            context: *context,
        })
}

/// `DownBlock2D` and `CrossAttnDownBlock2D`.
pub(super) struct DownBlock {
    resnets: Vec<Resnet>,
    /// None, or one after each residual block.
    attentions: Vec<Transformer>,
    downsampler: Option<Conv2d>,
}

impl DownBlock {
    pub(super) fn load(scope: &Scope<'_>, config: &UnetConfig, sizes: &BlockSizes) -> Result<Self> {
        let channels = sizes.transformer.channels;
        Ok(Self {
            resnets: sizes.resnets(scope, config)?,
            attentions: sizes.attentions(scope, config)?,
            downsampler: if sizes.resamples {
                Some(Conv2d::load_downsampling(
                    &scope.at("downsamplers.0.conv"),
                    channels,
                    config.downsample_padding,
                )?)
            } else {
                None
            },
        })
    }

    /// Pushes what every layer gives onto `skips`.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        time: &Tensor,
        context: &Tensor,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        let mut x = x.clone();
        for (index, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(&x, Some(time))?;
            if let Some(attention) = self.attentions.get(index) {
                x = attention.forward(&x, context)?;
            }
            skips.push(x.clone());
        }
        if let Some(downsampler) = &self.downsampler {
            x = downsampler.forward(&x)?;
            skips.push(x.clone());
        }
        Ok(x)
    }
}

/// `UNetMidBlock2DCrossAttn`, or, without a transformer, `UNetMidBlock2D` as a unet has it.
pub(super) struct MidBlock {
    first: Resnet,
    rest: Vec<(Transformer, Resnet)>,
}

impl MidBlock {
    pub(super) fn load(scope: &Scope<'_>, config: &UnetConfig, sizes: &BlockSizes) -> Result<Self> {
        let mut resnets = sizes.resnets(scope, config)?.into_iter();
        let first = resnets
            .next()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a mid block needs a residual block"))?;
        let attentions = sizes.attentions(scope, config)?;
        Ok(Self {
            first,
            rest: attentions.into_iter().zip(resnets).collect(),
        })
    }

    pub(super) fn forward(&self, x: &Tensor, time: &Tensor, context: &Tensor) -> Result<Tensor> {
        let mut x = self.first.forward(x, Some(time))?;
        for (attention, resnet) in &self.rest {
            x = resnet.forward(&attention.forward(&x, context)?, Some(time))?;
        }
        Ok(x)
    }
}

/// `UpBlock2D` and `CrossAttnUpBlock2D`.
pub(super) struct UpBlock {
    resnets: Vec<Resnet>,
    attentions: Vec<Transformer>,
    upsampler: Option<Upsampler>,
}

impl UpBlock {
    pub(super) fn load(scope: &Scope<'_>, config: &UnetConfig, sizes: &BlockSizes) -> Result<Self> {
        Ok(Self {
            resnets: sizes.resnets(scope, config)?,
            attentions: sizes.attentions(scope, config)?,
            upsampler: if sizes.resamples {
                Some(Upsampler::load(
                    &scope.at("upsamplers.0"),
                    sizes.transformer.channels,
                )?)
            } else {
                None
            },
        })
    }

    /// Takes one skip for every residual block; then goes to the size of the next skip, which is not twice this one's
    /// where a size was odd on the way down.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        time: &Tensor,
        context: &Tensor,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        let mut x = x.clone();
        for (index, resnet) in self.resnets.iter().enumerate() {
            let skip = skips.pop().ok_or_else(|| {
                Error::new(ErrorKind::Internal, "an up block found no skip to take")
            })?;
            x = resnet.forward(&Tensor::cat(&[&x, &skip], 1)?, Some(time))?;
            if let Some(attention) = self.attentions.get(index) {
                x = attention.forward(&x, context)?;
            }
        }
        if let Some(upsampler) = &self.upsampler {
            let size = match skips.last() {
                Some(skip) => Some((skip.dim(2)?, skip.dim(3)?)),
                None => None,
            };
            x = upsampler.forward(&x, size)?;
        }
        Ok(x)
    }
}
