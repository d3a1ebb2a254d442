//! Group and layer normalisation.

use candle_core::Tensor;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::weights::Scope;

/// Normalises groups of channels of `[batch, channels, ..]`.
pub(crate) struct GroupNorm {
    /// `[1, channels]`, both.
    weight: Tensor,
    bias: Tensor,
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
            weight: scope.get("weight", channels)?.reshape((1, channels))?,
            bias: scope.get("bias", channels)?.reshape((1, channels))?,
            groups,
            eps,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, channels) = (x.dim(0)?, x.dim(1)?);
        let grouped = x.reshape((batch, self.groups, ()))?;
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
            .broadcast_mul(&self.weight)?
            .reshape((batch, channels, 1))?;
        let bias = self.bias.reshape((1, channels, 1))?;
        Ok(centred
            .reshape((batch, channels, ()))?
            .broadcast_mul(&factor)?
            .broadcast_add(&bias)?
            .reshape(x.shape())?)
    }
}

/// Normalises the last dimension.
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
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
            &self.weight,
            &self.bias,
            eps,
        )?)
    }
}
