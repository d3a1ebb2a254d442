//! Group and layer normalisation.

use candle_core::{DType, Tensor};

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::weights::{Parameter, Scope};

/// Normalises groups of channels of `[batch, channels, ..]`.
pub(crate) struct GroupNorm {
    weight: Parameter,
    bias: Parameter,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Errors if the channels do not divide into the groups; `config` is the file to name then.
    pub(crate) fn load(
        scope: &Scope<'_>,
        config: &Config,
        groups: usize,
        channels: usize,
        eps: f64,
    ) -> Result<Self> {
        if !channels.is_multiple_of(groups) {
            return Err(Error::config(
                config.file(),
                format_args!(
                    "norm_num_groups must divide every layer's channels, got {groups} groups and {channels} channels"
                ),
            ));
        }
        Ok(Self {
            weight: scope.get("weight", channels)?,
            bias: scope.get("bias", channels)?,
            groups,
            eps,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.normalise(x, &self.statistics([x])?)
    }

    /// Over all of `bands` together, which differ in their heights only. Sums over a group overflow in f16, so all of
    /// this is in f32.
    pub(crate) fn statistics<'a>(
        &self,
        bands: impl IntoIterator<Item = &'a Tensor, IntoIter: Clone>,
    ) -> Result<Statistics> {
        let bands = bands.into_iter().map(|band| -> Result<Tensor> {
            Ok(band
                .to_dtype(DType::F32)?
                .reshape((band.dim(0)?, self.groups, ()))?)
        });
        let (mut sum, mut count) = (None, 0);
        for band in bands.clone() {
            let band = band?;
            count += band.dim(2)?;
            sum = Some(add(sum, band.sum_keepdim(2)?)?);
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53 elements")]
        let count = count as f64;
        let mean = (total(sum)? / count)?;
        let mut squares = None;
        for band in bands {
            let centred = band?.broadcast_sub(&mean)?;
            squares = Some(add(squares, centred.sqr()?.sum_keepdim(2)?)?);
        }
        let variance = (total(squares)? / count)?;
        Ok(Statistics {
            scale: (variance + self.eps)?.sqrt()?.recip()?,
            mean,
        })
    }

    /// Of `x` whole or of a band of it, with the statistics of all. Keeps `x`'s dtype; the arithmetic is in f32.
    pub(crate) fn normalise(&self, x: &Tensor, statistics: &Statistics) -> Result<Tensor> {
        let (batch, channels) = (x.dim(0)?, x.dim(1)?);
        let in_f32 = |parameter: &Parameter| -> Result<Tensor> {
            Ok(parameter.stored().to_dtype(DType::F32)?)
        };
        let centred = x
            .to_dtype(DType::F32)?
            .reshape((batch, self.groups, ()))?
            .broadcast_sub(&statistics.mean)?;
        // One factor and one offset a channel: [batch, channels, 1].
        let factor = statistics
            .scale
            .broadcast_as((batch, self.groups, channels / self.groups))?
            .reshape((batch, channels))?
            .broadcast_mul(&in_f32(&self.weight)?.reshape((1, channels))?)?
            .reshape((batch, channels, 1))?;
        let bias = in_f32(&self.bias)?.reshape((1, channels, 1))?;
        Ok(centred
            .reshape((batch, channels, ()))?
            .broadcast_mul(&factor)?
            .broadcast_add(&bias)?
            .reshape(x.shape())?
            .to_dtype(x.dtype())?)
    }
}

/// What a group norm knows of its whole input: `[batch, groups, 1]`, both in f32.
pub(crate) struct Statistics {
    mean: Tensor,
    /// One over the standard deviation.
    scale: Tensor,
}

fn add(sum: Option<Tensor>, more: Tensor) -> Result<Tensor> {
    Ok(match sum {
        Some(sum) => (sum + more)?,
        None => more,
    })
}

fn total(sum: Option<Tensor>) -> Result<Tensor> {
    sum.ok_or_else(|| Error::new(ErrorKind::Internal, "a norm was given no bands"))
}

/// Normalises the last dimension.
pub(crate) struct LayerNorm {
    weight: Parameter,
    bias: Parameter,
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn load(scope: &Scope<'_>, channels: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: scope.get("weight", channels)?,
            bias: scope.get("bias", channels)?,
            eps,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        #[expect(clippy::cast_possible_truncation, reason = "epsilons of 1e-5 and 1e-6")]
        let eps = self.eps as f32;
        Ok(candle_nn::ops::layer_norm(
            &x.contiguous()?,
            &self.weight.tensor()?,
            &self.bias.tensor()?,
            eps,
        )?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use candle_core::Device;

    use crate::rng::{Noise as _, SeededNoise};

    use super::*;

    #[test]
    fn norms_of_16_bits_are_those_of_f32_but_for_rounding() {
        let parameter = |value: f64| {
            let ones = Tensor::ones(4, DType::F32, &Device::Cpu).unwrap();
            Parameter::new("norm".to_owned(), (ones * value).unwrap(), DType::F32)
        };
        let norm = GroupNorm {
            weight: parameter(1.5),
            bias: parameter(-0.5),
            groups: 2,
            eps: 1e-6,
        };
        // Far from zero and far apart: a sum or a square of these is not within f16.
        let values = SeededNoise::new(5).draw(4 * 64 * 64);
        let x = Tensor::from_vec(values, (1, 4, 64, 64), &Device::Cpu).unwrap();
        let x = ((x * 2000.0).unwrap() + 3000.0).unwrap();
        for (dtype, tolerance) in [(DType::F16, 4e-3), (DType::BF16, 3e-2)] {
            let x = x.to_dtype(dtype).unwrap();
            let near = norm.forward(&x).unwrap();
            assert_eq!(near.dtype(), dtype);
            let exact = norm.forward(&x.to_dtype(DType::F32).unwrap()).unwrap();
            let worst = (exact - near.to_dtype(DType::F32).unwrap())
                .unwrap()
                .abs()
                .unwrap();
            let worst = worst.flatten_all().unwrap().max(0).unwrap();
            let worst = worst.to_scalar::<f32>().unwrap();
            println!("{dtype:?}: {worst:.1e}");
            assert!(worst <= tolerance, "{dtype:?}: {worst:e}");
        }
    }
}
