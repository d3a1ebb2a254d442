//! Two-dimensional convolution and resizing.

use candle_core::Tensor;

use crate::error::Result;
use crate::ops::bands::Neighbours;
use crate::weights::{Parameter, Scope};

/// A convolution with a square kernel over `[batch, channels, height, width]`.
pub(crate) struct Conv2d {
    weight: Parameter,
    bias: Option<Parameter>,
    padding: Padding,
    stride: usize,
}

/// Zeros around the input.
#[derive(Debug, Clone, Copy)]
enum Padding {
    Even(usize),
    /// One column right and one row below, as the autoencoder's downsampling was trained.
    RightAndBelow,
}

impl Conv2d {
    /// Stride 1, keeping the size.
    pub(crate) fn load(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
        kernel: usize,
    ) -> Result<Self> {
        Ok(Self {
            weight: scope.get("weight", (outputs, inputs, kernel, kernel))?,
            bias: Some(scope.get("bias", outputs)?),
            padding: Padding::Even((kernel - 1) / 2),
            stride: 1,
        })
    }

    /// Kernel 3, stride 1, keeping the size, without bias.
    pub(crate) fn load_without_bias(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self> {
        Ok(Self {
            weight: scope.get("weight", (outputs, inputs, 3, 3))?,
            bias: None,
            padding: Padding::Even(1),
            stride: 1,
        })
    }

    /// Kernel 3, halving the size. `padding` 0 means one column right and one row below.
    pub(crate) fn load_downsampling(
        scope: &Scope<'_>,
        channels: usize,
        padding: usize,
    ) -> Result<Self> {
        let mut conv = Self::load(scope, channels, channels, 3)?;
        conv.stride = 2;
        conv.padding = match padding {
            0 => Padding::RightAndBelow,
            even => Padding::Even(even),
        };
        Ok(conv)
    }

    /// The same with stride 2 where this one has 1.
    pub(crate) fn halving(mut self) -> Self {
        self.stride = 2;
        self
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self.padding {
            Padding::Even(padding) => self.convolve(x, padding),
            Padding::RightAndBelow => {
                self.convolve(&x.pad_with_zeros(2, 0, 1)?.pad_with_zeros(3, 0, 1)?, 0)
            }
        }
    }

    /// Which rows of its neighbours a band must be given. With stride 2 bands have even heights, but for the last.
    pub(crate) fn needs(&self) -> Neighbours {
        match self.padding {
            Padding::Even(0) => Neighbours::default(),
            Padding::Even(_) => Neighbours {
                above: true,
                below: self.stride == 1,
            },
            Padding::RightAndBelow => Neighbours {
                above: false,
                below: true,
            },
        }
    }

    /// The part of the result that belongs to a band, given with one row of each of its `neighbours`.
    pub(crate) fn forward_band(&self, x: &Tensor, neighbours: Neighbours) -> Result<Tensor> {
        if neighbours == Neighbours::default() {
            return self.forward(x);
        }
        let above = usize::from(!neighbours.above);
        let below = usize::from(!neighbours.below);
        let x = match self.padding {
            Padding::Even(padding) => x
                .pad_with_zeros(2, above * padding, below * padding)?
                .pad_with_zeros(3, padding, padding)?,
            Padding::RightAndBelow => x.pad_with_zeros(2, 0, below)?.pad_with_zeros(3, 0, 1)?,
        };
        self.convolve(&x, 0)
    }

    fn convolve(&self, x: &Tensor, padding: usize) -> Result<Tensor> {
        let y = x
            .contiguous()?
            .conv2d(&self.weight.tensor()?, padding, self.stride, 1, 1)?;
        Ok(match &self.bias {
            Some(bias) => y.broadcast_add(&bias.tensor()?.reshape((1, (), 1, 1))?)?,
            None => y,
        })
    }
}

/// Nearest-neighbour resizing of `[batch, channels, height, width]`.
pub(crate) fn upsample_nearest(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    Ok(x.contiguous()?.upsample_nearest2d(height, width)?)
}
