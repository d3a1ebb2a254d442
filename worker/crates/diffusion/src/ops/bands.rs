//! Activations in bands of rows: convolutions over images that would not fit in memory at once.
//!
//! Peers cut a large image into overlapping tiles, put each through the whole autoencoder and blend the seams; group
//! norms then see other statistics in every tile, and the seams never quite match. Here every layer is finished for
//! all bands before the next one starts: a convolution borrows the rows that it needs from the neighbouring bands, and
//! a norm takes its statistics over all of them. The result is the undivided one but for the rounding of those sums.
//!
//! What is in memory: the activations between two layers, and what the kernels need for one band (some ten times the
//! band). Undivided, those ten are of the whole image.

use std::collections::VecDeque;

use candle_core::Tensor;

use crate::error::Result;
use crate::ops::{Activation, Conv2d, GroupNorm, upsample_nearest};

/// The most elements of one band, where a single row is not more: 32 MiB in f32.
pub(crate) const BAND_ELEMENTS_MAX: usize = 8 * 1024 * 1024;

/// `[batch, channels, height, width]` in bands of rows, from top to bottom; at least one.
#[derive(Clone)]
pub(crate) struct Bands {
    bands: VecDeque<Tensor>,
    elements_max: usize,
}

/// Whether a band was given a row of the one above and of the one below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Neighbours {
    pub(crate) above: bool,
    pub(crate) below: bool,
}

impl Bands {
    /// Divides `x` so that a band has at most `elements_max` elements when it has `channels` channels, in multiples of
    /// `multiple` rows.
    pub(crate) fn divide(
        x: &Tensor,
        channels: usize,
        multiple: usize,
        elements_max: usize,
    ) -> Result<Self> {
        let (batch, _, height, width) = x.dims4()?;
        let rows_max = elements_max / (batch * channels * width).max(1);
        let rows = (rows_max / multiple * multiple).max(multiple).max(1);
        let mut bands = VecDeque::with_capacity(height.div_ceil(rows));
        let mut start = 0;
        while start < height {
            let length = rows.min(height - start);
            bands.push_back(if length == height {
                x.clone()
            } else {
                x.narrow(2, start, length)?.contiguous()?
            });
            start += length;
        }
        Ok(Self {
            bands,
            elements_max,
        })
    }

    /// All rows in one tensor.
    pub(crate) fn join(self) -> Result<Tensor> {
        let bands = Vec::from(self.bands);
        match bands.as_slice() {
            [only] => Ok(only.clone()),
            several => Ok(Tensor::cat(several, 2)?),
        }
    }

    /// The same function of every element.
    pub(crate) fn map(self, function: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        self.each(|band| function(&band))
    }

    /// One band of this and the same one of `other` after another; neither is kept longer than that.
    pub(crate) fn zip(
        self,
        mut other: Self,
        function: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Self> {
        self.each(|band| match other.bands.pop_front() {
            Some(second) => function(&band, &second),
            None => Ok(band),
        })
    }

    fn each(mut self, mut function: impl FnMut(Tensor) -> Result<Tensor>) -> Result<Self> {
        for _ in 0..self.bands.len() {
            if let Some(band) = self.bands.pop_front() {
                self.bands.push_back(function(band)?);
            }
        }
        Ok(self)
    }

    pub(crate) fn convolve(self, conv: &Conv2d) -> Result<Self> {
        self.convolve_after(conv, |band, _| Ok(band.clone()))
    }

    /// Norm, activation, convolution.
    pub(crate) fn normalise_and_convolve(
        self,
        norm: &GroupNorm,
        activation: Activation,
        conv: &Conv2d,
    ) -> Result<Self> {
        let statistics = norm.statistics(&self.bands)?;
        self.convolve_after(conv, |band, _| {
            activation.apply(&norm.normalise(band, &statistics)?)
        })
    }

    /// Twice the size by nearest neighbours, then a convolution. What is doubled is never there as a whole.
    pub(crate) fn double_and_convolve(self, conv: &Conv2d) -> Result<Self> {
        let quartered = self.divide_again(4)?;
        quartered.convolve_after(conv, |band, neighbours| {
            let (_, _, height, width) = band.dims4()?;
            let doubled = upsample_nearest(band, 2 * height, 2 * width)?;
            // Of a neighbour's row, which became two, the closer one.
            let above = usize::from(neighbours.above);
            let below = usize::from(neighbours.below);
            Ok(doubled.narrow(2, above, 2 * height - above - below)?)
        })
    }

    /// Bands that may become `growth` times as large.
    fn divide_again(self, growth: usize) -> Result<Self> {
        let elements_max = self.elements_max;
        let mut bands = VecDeque::new();
        for band in self.bands {
            let channels = band.dim(1)?;
            bands.extend(Self::divide(&band, channels, 1, elements_max / growth)?.bands);
        }
        Ok(Self {
            bands,
            elements_max,
        })
    }

    /// Convolves what `before` makes of each band, which it is given with the rows of its neighbours.
    fn convolve_after(
        mut self,
        conv: &Conv2d,
        before: impl Fn(&Tensor, Neighbours) -> Result<Tensor>,
    ) -> Result<Self> {
        let needs = conv.needs();
        let mut convolved = VecDeque::with_capacity(self.bands.len());
        let mut last_row: Option<Tensor> = None;
        while let Some(band) = self.bands.pop_front() {
            let first_row = match self.bands.front() {
                Some(next) if needs.below => Some(next.narrow(2, 0, 1)?),
                _ => None,
            };
            let neighbours = Neighbours {
                above: last_row.is_some(),
                below: first_row.is_some(),
            };
            let rows: Vec<&Tensor> = last_row.iter().chain([&band]).chain(&first_row).collect();
            let input = match rows.as_slice() {
                [only] => before(only, neighbours)?,
                several => before(&Tensor::cat(several, 2)?, neighbours)?,
            };
            convolved.push_back(conv.forward_band(&input, neighbours)?);
            last_row = if needs.above && !self.bands.is_empty() {
                // A copy, for a view would keep the whole band.
                Some(band.narrow(2, band.dim(2)? - 1, 1)?.force_contiguous()?)
            } else {
                None
            };
        }
        self.bands = convolved;
        Ok(self)
    }
}
