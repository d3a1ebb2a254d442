//! Timesteps and sizes as vectors.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::ops::{Activation, Linear};
use crate::unet::AddedConditioning;
use crate::unet::config::{AddedConfig, UnetConfig};
use crate::weights::Scope;

/// Sines and cosines of a number at frequencies from 1 down to 1/10000 (Vaswani et al. 2017).
pub(crate) struct Timesteps {
    channels: usize,
    flip_sin_to_cos: bool,
    /// In f32, as the reference computes them: at large timesteps their rounding shows.
    frequencies: Vec<f32>,
}

impl Timesteps {
    pub(crate) fn new(channels: usize, flip_sin_to_cos: bool, freq_shift: f64) -> Self {
        const PERIOD_MAX: f64 = 10_000.0;
        let half = channels / 2;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "channel counts are small; single precision is what is wanted"
        )]
        let frequencies = (0..half)
            .map(|index| {
                let exponent = -PERIOD_MAX.ln() as f32 * index as f32;
                (exponent / (half as f64 - freq_shift) as f32).exp()
            })
            .collect();
        Self {
            channels,
            flip_sin_to_cos,
            frequencies,
        }
    }

    /// `[values, channels]`.
    pub(crate) fn embed(&self, values: &[f64], device: &Device) -> Result<Tensor> {
        let mut rows = Vec::with_capacity(values.len() * self.channels);
        for value in values {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the reference computes in single precision"
            )]
            let value = *value as f32;
            let angles = self.frequencies.iter().map(|frequency| value * frequency);
            let sines = angles.clone().map(f32::sin);
            let cosines = angles.map(f32::cos);
            if self.flip_sin_to_cos {
                rows.extend(cosines.chain(sines));
            } else {
                rows.extend(sines.chain(cosines));
            }
            if self.channels % 2 == 1 {
                rows.push(0.0);
            }
        }
        Ok(Tensor::from_vec(
            rows,
            (values.len(), self.channels),
            device,
        )?)
    }
}

/// The embedding of a guidance scale, `[1, channels]`, of models that were distilled with guidance as an input: sines
/// and cosines as of a timestep, on a scale where no guidance is 0 (Meng et al. 2023, section 3.1).
pub(crate) fn embed_guidance(scale: f64, channels: usize, device: &Device) -> Result<Tensor> {
    const PERIOD_MAX: f32 = 10_000.0;
    const STRETCH: f32 = 1000.0;
    let half = channels / 2;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "channel counts are small; the reference computes in single precision"
    )]
    let angles: Vec<f32> = {
        let value = (scale - 1.0) as f32 * STRETCH;
        let decay = PERIOD_MAX.ln() / (half as f32 - 1.0);
        (0..half)
            .map(|index| value * (index as f32 * -decay).exp())
            .collect()
    };
    let mut values: Vec<f32> = angles.iter().copied().map(f32::sin).collect();
    values.extend(angles.iter().copied().map(f32::cos));
    values.resize(channels, 0.0);
    Ok(Tensor::from_vec(values, (1, channels), device)?)
}

/// Two linear layers with an activation between.
pub(crate) struct TimestepEmbedding {
    linear_1: Linear,
    activation: Activation,
    linear_2: Linear,
}

impl TimestepEmbedding {
    pub(crate) fn load(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
        activation: Activation,
    ) -> Result<Self> {
        Ok(Self {
            linear_1: Linear::load(&scope.at("linear_1"), inputs, outputs)?,
            activation,
            linear_2: Linear::load(&scope.at("linear_2"), outputs, outputs)?,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.linear_2
            .forward(&self.activation.apply(&self.linear_1.forward(x)?)?)
    }
}

/// SDXL's pooled prompt and sizes, added to the timestep's embedding.
pub(crate) struct AddedEmbedding {
    sizes: Timesteps,
    embedding: TimestepEmbedding,
}

impl AddedEmbedding {
    pub(crate) fn load(
        scope: &Scope<'_>,
        config: &UnetConfig,
        added: &AddedConfig,
    ) -> Result<Self> {
        Ok(Self {
            sizes: Timesteps::new(added.time_dim, config.flip_sin_to_cos, config.freq_shift),
            // The reference makes this one with silu whatever act_fn says.
            embedding: TimestepEmbedding::load(
                scope,
                added.input_dim,
                config.time_embed_dim,
                Activation::Silu,
            )?,
        })
    }

    /// `[batch, time_embed_dim]` in `arithmetic`.
    pub(crate) fn forward(
        &self,
        added: &AddedConditioning,
        arithmetic: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let batch = added.pooled.dim(0)?;
        let ids: Vec<f64> = added
            .time_ids
            .flatten_all()?
            .to_vec1::<f32>()?
            .into_iter()
            .map(f64::from)
            .collect();
        let sizes = self.sizes.embed(&ids, device)?.reshape((batch, ()))?;
        self.embedding
            .forward(&Tensor::cat(&[&added.pooled, &sizes], 1)?.to_dtype(arithmetic)?)
    }
}
