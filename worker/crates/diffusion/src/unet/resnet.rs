//! Residual blocks, shared by the unet and the autoencoder.

use candle_core::Tensor;

use crate::config::Config;
use crate::error::Result;
use crate::ops::{Activation, Bands, Conv2d, GroupNorm, Linear, upsample_nearest};
use crate::weights::Scope;

/// Sizes of a residual block.
#[derive(Clone, Copy)]
pub(crate) struct ResnetSizes {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// Channels of the timestep's embedding; the autoencoder has none.
    pub(crate) time: Option<usize>,
    pub(crate) groups: usize,
    pub(crate) eps: f64,
    pub(crate) activation: Activation,
}

/// Two convolutions around the timestep's embedding, with a shortcut.
pub(crate) struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    time: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
    activation: Activation,
}

impl Resnet {
    pub(crate) fn load(scope: &Scope<'_>, config: &Config, sizes: ResnetSizes) -> Result<Self> {
        let ResnetSizes {
            inputs,
            outputs,
            time,
            groups,
            eps,
            activation,
        } = sizes;
        Ok(Self {
            norm1: GroupNorm::load(&scope.at("norm1"), config, groups, inputs, eps)?,
            conv1: Conv2d::load(&scope.at("conv1"), inputs, outputs, 3)?,
            time: match time {
                Some(time) => Some(Linear::load(&scope.at("time_emb_proj"), time, outputs)?),
                None => None,
            },
            norm2: GroupNorm::load(&scope.at("norm2"), config, groups, outputs, eps)?,
            conv2: Conv2d::load(&scope.at("conv2"), outputs, outputs, 3)?,
            shortcut: if inputs == outputs {
                None
            } else {
                Some(Conv2d::load(
                    &scope.at("conv_shortcut"),
                    inputs,
                    outputs,
                    1,
                )?)
            },
            activation,
        })
    }

    /// `x` is `[batch, inputs, h, w]`, `time` `[batch, time]`.
    pub(crate) fn forward(&self, x: &Tensor, time: Option<&Tensor>) -> Result<Tensor> {
        let mut y = self
            .conv1
            .forward(&self.activation.apply(&self.norm1.forward(x)?)?)?;
        if let (Some(layer), Some(time)) = (&self.time, time) {
            let offset = layer.forward(&self.activation.apply(time)?)?;
            y = y.broadcast_add(&offset.unsqueeze(2)?.unsqueeze(3)?)?;
        }
        let y = self
            .conv2
            .forward(&self.activation.apply(&self.norm2.forward(&y)?)?)?;
        Ok(match &self.shortcut {
            Some(shortcut) => (shortcut.forward(x)? + y)?,
            None => (x + y)?,
        })
    }

    /// The same without a timestep, band by band.
    pub(crate) fn forward_in_bands(&self, x: Bands) -> Result<Bands> {
        let y = x
            .clone()
            .normalise_and_convolve(&self.norm1, self.activation, &self.conv1)?
            .normalise_and_convolve(&self.norm2, self.activation, &self.conv2)?;
        x.zip(y, |x, y| {
            Ok(match &self.shortcut {
                Some(shortcut) => (shortcut.forward(x)? + y)?,
                None => (x + y)?,
            })
        })
    }
}

/// Doubles the size, or goes to a given one, and convolves.
pub(crate) struct Upsampler {
    conv: Conv2d,
}

impl Upsampler {
    pub(crate) fn load(scope: &Scope<'_>, channels: usize) -> Result<Self> {
        Ok(Self {
            conv: Conv2d::load(&scope.at("conv"), channels, channels, 3)?,
        })
    }

    /// To twice the input's size, band by band.
    pub(crate) fn forward_in_bands(&self, x: Bands) -> Result<Bands> {
        x.double_and_convolve(&self.conv)
    }

    /// To `size` (height, width), or to twice the input's.
    pub(crate) fn forward(&self, x: &Tensor, size: Option<(usize, usize)>) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let (height, width) = size.unwrap_or((height * 2, width * 2));
        self.conv.forward(&upsample_nearest(x, height, width)?)
    }
}
