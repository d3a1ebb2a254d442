//! Pixels in and out of tensors, rounded as the reference's image processor does.

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, ErrorKind, Result};
use crate::image::pixels::{GrayImage, RgbImage};

impl RgbImage {
    /// From a tensor `[1, 3, height, width]` or `[3, height, width]` with values in [-1, 1]; what lies outside is
    /// clamped. Rounds half to even, as numpy does in the reference's post-processing.
    ///
    /// Errors if it has another shape or holds values that are not finite.
    pub fn from_tensor(image: &Tensor) -> Result<Self> {
        let image = if image.rank() == 4 {
            image.squeeze(0)?
        } else {
            image.clone()
        };
        let (channels, height, width) = image.dims3()?;
        if channels != 3 {
            return Err(Error::new(
                ErrorKind::UnsupportedModel,
                format!("an image must have 3 channels, the autoencoder gave {channels}"),
            ));
        }
        let values = image
            .to_dtype(DType::F32)?
            .permute((1, 2, 0))?
            .flatten_all()?
            .to_vec1::<f32>()?;
        if values.iter().any(|value| !value.is_finite()) {
            return Err(Error::new(
                ErrorKind::NotFinite,
                "the autoencoder produced pixels that are not finite",
            ));
        }
        let pixels = values
            .into_iter()
            .map(|value| to_byte(value / 2.0 + 0.5))
            .collect();
        Self::new(width, height, pixels)
    }

    /// `[1, 3, height, width]`, f32, in [-1, 1].
    pub fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        let values: Vec<f32> = self
            .pixels()
            .iter()
            .map(|byte| 2.0 * (f32::from(*byte) / 255.0) - 1.0)
            .collect();
        Ok(
            Tensor::from_vec(values, (1, self.height(), self.width(), 3), device)?
                .permute((0, 3, 1, 2))?
                .contiguous()?,
        )
    }
}

impl GrayImage {
    /// `[1, 1, height, width]`, f32: 1 where at least half is to be repainted (128 of 255), else 0. The reference's mask
    /// processor.
    pub fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        let values: Vec<f32> = self
            .pixels()
            .iter()
            .map(|byte| if *byte >= 128 { 1.0 } else { 0.0 })
            .collect();
        let shape = (1, 1, self.height(), self.width());
        Ok(Tensor::from_vec(values, shape, device)?)
    }

    /// [`GrayImage::to_tensor`] at the latents' size, `[1, 1, height / scale, width / scale]`: the top left pixel of
    /// each latent decides, as in the reference's nearest-neighbour interpolation.
    ///
    /// Errors unless both sides are multiples of `scale`, pixels to a latent.
    pub fn to_latent_tensor(&self, scale: usize, device: &Device) -> Result<Tensor> {
        if scale == 0 || !self.width().is_multiple_of(scale) || !self.height().is_multiple_of(scale)
        {
            return Err(Error::parameter(format!(
                "a mask's sides must be multiples of {scale} pixels, got {}x{}",
                self.width(),
                self.height()
            )));
        }
        let values: Vec<u8> = self
            .rows()
            .step_by(scale)
            .flat_map(|row| row.iter().step_by(scale).copied())
            .collect();
        Self::new(self.width() / scale, self.height() / scale, values)?.to_tensor(device)
    }
}

/// Maps [0, 1] to 0..=255.
fn to_byte(value: f32) -> u8 {
    let scaled = (value.clamp(0.0, 1.0) * 255.0).round_ties_even();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=255 above"
    )]
    let byte = scaled as u8;
    byte
}
