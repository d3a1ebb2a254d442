//! `AutoencoderTiny`: residual convolutions without norms (TAESD's architecture).

use candle_core::Tensor;
use serde_json::json;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::ops::{Activation, Bands, Conv2d};
use crate::vae::VaeConfig;
use crate::weights::{Loader, Scope};

const DEFAULT_CHANNELS: [usize; 4] = [64; 4];
const DEFAULT_ENCODER_BLOCKS: [usize; 4] = [1, 3, 3, 3];
const DEFAULT_DECODER_BLOCKS: [usize; 4] = [3, 3, 3, 1];

/// Pixels of an image's side per latent.
pub(super) fn scale(config: &Config) -> Result<usize> {
    let levels = config
        .counts("num_decoder_blocks", &DEFAULT_DECODER_BLOCKS)?
        .len();
    halvings_scale(config, levels)
}

fn halvings_scale(config: &Config, levels: usize) -> Result<usize> {
    const LEVELS_MAX: usize = 8;
    if levels > LEVELS_MAX {
        return Err(Error::config(
            config.file(),
            format_args!("an autoencoder may have at most {LEVELS_MAX} levels, got {levels}"),
        ));
    }
    Ok(1 << (levels - 1))
}

/// Refuses what this does not do.
pub(super) fn check(config: &Config) -> Result<()> {
    config.only("upsampling_scaling_factor", &[json!(2)])?;
    config.only("upsample_fn", &[json!("nearest")])?;
    // How latents are packed into 8-bit images, which nothing here does; block_out_channels repeats the decoder's.
    config.irrelevant(&["latent_magnitude", "latent_shift", "block_out_channels"]);
    config.irrelevant(&[
        "encoder_block_out_channels",
        "decoder_block_out_channels",
        "act_fn",
    ]);
    config.irrelevant(&["num_encoder_blocks", "num_decoder_blocks"]);
    Ok(())
}

pub(super) struct AutoencoderTiny {
    /// Of every activation.
    channels: usize,
    levels: usize,
    encoder: Vec<Layer>,
    decoder: Vec<Layer>,
}

/// An entry of the reference's sequential, whose index names its tensors, or two.
enum Layer {
    Conv(Conv2d),
    /// Two of the reference's: doubling the size, and a convolution.
    DoubleConv(Conv2d),
    Activation(Activation),
    Block(Block),
}

impl AutoencoderTiny {
    pub(super) fn load(loader: &Loader<'_>, folder: &str, vae: &VaeConfig) -> Result<Self> {
        let config = &vae.source;
        let activation = Activation::read(config, "act_fn", "relu")?;
        let levels = |channels: &'static str,
                      blocks: &'static str,
                      default: &[usize]|
         -> Result<Vec<(usize, usize)>> {
            let channels = config.counts(channels, &DEFAULT_CHANNELS)?;
            let blocks = config.counts(blocks, default)?;
            if channels.len() != blocks.len()
                || channels.windows(2).any(|pair| pair.first() != pair.last())
            {
                return Err(Error::unsupported(
                    config.file(),
                    "the levels of an AutoencoderTiny must all have the same channels, one entry a level",
                ));
            }
            Ok(channels.into_iter().zip(blocks).collect())
        };
        let encoder_levels = levels(
            "encoder_block_out_channels",
            "num_encoder_blocks",
            &DEFAULT_ENCODER_BLOCKS,
        )?;
        let decoder_levels = levels(
            "decoder_block_out_channels",
            "num_decoder_blocks",
            &DEFAULT_DECODER_BLOCKS,
        )?;
        if encoder_levels.len() != decoder_levels.len() {
            return Err(Error::config(
                config.file(),
                "num_encoder_blocks and num_decoder_blocks must have the same length",
            ));
        }

        let weights = loader.open_for_f32(folder, "diffusion_pytorch_model")?;
        let widest = encoder_levels.iter().chain(&decoder_levels);
        let model = Self {
            channels: widest.map(|(channels, _)| *channels).max().unwrap_or(1),
            levels: encoder_levels.len(),
            encoder: encoder(
                &weights.root().at("encoder.layers"),
                &encoder_levels,
                vae.latent_channels,
                activation,
            )?,
            decoder: decoder(
                &weights.root().at("decoder.layers"),
                &decoder_levels,
                vae.latent_channels,
                activation,
            )?,
        };
        weights.finish(|_| false);
        Ok(model)
    }

    /// Unscaled latents to images in about [-1, 1], in bands of at most `band_elements_max`.
    pub(super) fn decode(&self, latents: &Tensor, band_elements_max: usize) -> Result<Tensor> {
        // Keeps outliers within what the decoder was trained on.
        let bounded = ((latents / 3.0)?.tanh()? * 3.0)?;
        let bands = Bands::divide(&bounded, self.channels, 1, band_elements_max)?;
        Ok(((run(&self.decoder, bands)?.join()? * 2.0)? - 1.0)?)
    }

    /// Images in [-1, 1] to unscaled latents, in bands of at most `band_elements_max`.
    pub(super) fn encode(&self, images: &Tensor, band_elements_max: usize) -> Result<Tensor> {
        // Bands stay even through every halving.
        let multiple = 1 << self.levels;
        let images = ((images + 1.0)? / 2.0)?;
        let bands = Bands::divide(&images, self.channels, multiple, band_elements_max)?;
        run(&self.encoder, bands)?.join()
    }
}

fn run(layers: &[Layer], mut x: Bands) -> Result<Bands> {
    for layer in layers {
        x = match layer {
            Layer::Conv(conv) => x.convolve(conv)?,
            Layer::DoubleConv(conv) => x.double_and_convolve(conv)?,
            Layer::Activation(activation) => x.map(|band| activation.apply(band))?,
            Layer::Block(block) => block.forward(x)?,
        };
    }
    Ok(x)
}

fn encoder(
    scope: &Scope<'_>,
    levels: &[(usize, usize)],
    latents: usize,
    activation: Activation,
) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    let mut last = 0;
    for (index, (channels, blocks)) in levels.iter().enumerate() {
        let here = scope.at(layers.len());
        layers.push(Layer::Conv(if index == 0 {
            Conv2d::load(&here, 3, *channels, 3)?
        } else {
            Conv2d::load_without_bias(&here, *channels, *channels)?.halving()
        }));
        for _ in 0..*blocks {
            let here = scope.at(layers.len());
            layers.push(Layer::Block(Block::load(&here, *channels, activation)?));
        }
        last = *channels;
    }
    let here = scope.at(layers.len());
    layers.push(Layer::Conv(Conv2d::load(&here, last, latents, 3)?));
    Ok(layers)
}

fn decoder(
    scope: &Scope<'_>,
    levels: &[(usize, usize)],
    latents: usize,
    activation: Activation,
) -> Result<Vec<Layer>> {
    let first = levels.first().map_or(0, |(channels, _)| *channels);
    let mut layers = vec![
        Layer::Conv(Conv2d::load(&scope.at(0), latents, first, 3)?),
        Layer::Activation(activation),
    ];
    // The reference's sequential counts doubling and convolution as two.
    let mut doubled = 0;
    for (index, (channels, blocks)) in levels.iter().enumerate() {
        for _ in 0..*blocks {
            let here = scope.at(layers.len() + doubled);
            layers.push(Layer::Block(Block::load(&here, *channels, activation)?));
        }
        layers.push(if index + 1 == levels.len() {
            let here = scope.at(layers.len() + doubled);
            Layer::Conv(Conv2d::load(&here, *channels, 3, 3)?)
        } else {
            doubled += 1;
            let here = scope.at(layers.len() + doubled);
            Layer::DoubleConv(Conv2d::load_without_bias(&here, *channels, *channels)?)
        });
    }
    Ok(layers)
}

/// Three convolutions around a shortcut, closed by a ReLU.
struct Block {
    convs: [Conv2d; 3],
    activation: Activation,
}

impl Block {
    fn load(scope: &Scope<'_>, channels: usize, activation: Activation) -> Result<Self> {
        let conv = |index: usize| Conv2d::load(&scope.at("conv").at(index), channels, channels, 3);
        Ok(Self {
            convs: [conv(0)?, conv(2)?, conv(4)?],
            activation,
        })
    }

    fn forward(&self, x: Bands) -> Result<Bands> {
        let [first, second, third] = &self.convs;
        let activate = |band: &Tensor| self.activation.apply(band);
        let y = x.clone().convolve(first)?.map(activate)?;
        let y = y.convolve(second)?.map(activate)?.convolve(third)?;
        x.zip(y, |x, y| Activation::Relu.apply(&(x + y)?))
    }
}
