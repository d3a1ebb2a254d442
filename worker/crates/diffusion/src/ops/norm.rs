//! Group and layer normalisation.

use candle_core::{DType, Tensor};

use crate::config::Config;
use crate::error::{Error, Result};
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
        let (batch, channels) = (x.dim(0)?, x.dim(1)?);
        let in_f32 = |parameter: &Parameter| -> Result<Tensor> {
            Ok(parameter.stored().to_dtype(DType::F32)?)
        };
        // Sums over a group overflow in f16.
        let grouped = x.to_dtype(DType::F32)?.reshape((batch, self.groups, ()))?;
        let elements = grouped.dim(2)?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53 elements")]
        let count = elements as f64;
        let mean = (grouped.sum_keepdim(2)? / count)?;
        let centred = grouped.broadcast_sub(&mean)?;
        let variance = (centred.sqr()?.sum_keepdim(2)? / count)?;
        let scale = (variance + self.eps)?.sqrt()?.recip()?;
        // One factor and one offset a channel: [batch, channels, 1].
        let factor = scale
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
