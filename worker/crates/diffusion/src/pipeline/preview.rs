//! What an image looks like before it is finished.

use candle_core::{D, DType, Tensor};

use crate::error::Result;
use crate::image::RgbImage;
use crate::pipeline::Pipeline;
use crate::pipeline::start::Canvas;

/// The state of an image after a step.
pub struct Preview<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) canvas: &'a Canvas,
    pub(super) latents: &'a Tensor,
    pub(super) denoised: &'a Tensor,
}

impl Preview<'_> {
    /// An image of what the model expects to end at, of the result's size. A tiny autoencoder, the model's own or one
    /// that lies beside it in `vae_preview`, decodes it in full; without one every latent becomes a square of one
    /// colour. What a mask keeps is in it as it will stay.
    pub fn render(&self) -> Result<RgbImage> {
        let pipeline = self.pipeline;
        let pixels = match &pipeline.preview_vae {
            Some(vae) => vae.decode(self.denoised)?,
            None if pipeline.vae.is_tiny() => pipeline.vae.decode(self.denoised)?,
            None => self.squares()?,
        };
        self.canvas.finish(RgbImage::from_tensor(&pixels)?)
    }

    fn squares(&self) -> Result<Tensor> {
        let pipeline = self.pipeline;
        let colours = match pipeline.latent_colours.get() {
            Some(colours) => colours,
            None => {
                let measured = LatentColours::measure(pipeline)?;
                pipeline.latent_colours.get_or_init(|| measured)
            }
        };
        let (_, _, height, width) = self.denoised.dims4()?;
        let scale = pipeline.vae_scale;
        Ok(colours
            .apply(self.denoised)?
            .upsample_nearest2d(height * scale, width * scale)?)
    }

    /// The latents after the step, `[1, channels, h, w]`.
    #[must_use]
    pub fn latents(&self) -> &Tensor {
        self.latents
    }

    /// The noise-free latents that the model expects to end at, of the same shape.
    #[must_use]
    pub fn denoised(&self) -> &Tensor {
        self.denoised
    }
}

/// The linear map from a latent to its colour that is closest to the autoencoder's around zero.
///
/// Measured from the autoencoder itself by decoding flat patches, so that it is right for every family and every
/// retrained autoencoder without a table of numbers.
pub(super) struct LatentColours {
    /// `[channels, 3]`.
    slopes: Tensor,
    /// `[1, 3]`.
    offset: Tensor,
}

impl LatentColours {
    /// Latents to a side of the flat patches: enough for the middle not to see the border too much.
    const PATCH: usize = 4;

    fn measure(pipeline: &Pipeline) -> Result<Self> {
        let channels = pipeline.latent_channels;
        // One latent up and one down, by a standard deviation, for each channel; and all zero.
        let unit = Tensor::eye(channels, DType::F32, &pipeline.device)?;
        let zero = Tensor::zeros((1, channels), DType::F32, &pipeline.device)?;
        let patches = Tensor::cat(&[&unit, &unit.neg()?, &zero], 0)?
            .reshape((2 * channels + 1, channels, 1, 1))?
            .broadcast_as((2 * channels + 1, channels, Self::PATCH, Self::PATCH))?
            .contiguous()?;
        let colours = pipeline
            .vae
            .decode(&patches)?
            .flatten_from(2)?
            .mean(D::Minus1)?;
        let up = colours.narrow(0, 0, channels)?;
        let down = colours.narrow(0, channels, channels)?;
        Ok(Self {
            slopes: ((up - down)? / 2.0)?.contiguous()?,
            offset: colours.narrow(0, 2 * channels, 1)?.contiguous()?,
        })
    }

    /// `[1, channels, h, w]` to `[1, 3, h, w]`.
    fn apply(&self, latents: &Tensor) -> Result<Tensor> {
        let (_, channels, height, width) = latents.dims4()?;
        let rows = latents
            .reshape((channels, height * width))?
            .t()?
            .contiguous()?;
        Ok(rows
            .matmul(&self.slopes)?
            .broadcast_add(&self.offset)?
            .t()?
            .contiguous()?
            .reshape((1, 3, height, width))?)
    }
}
