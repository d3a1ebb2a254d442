//! Pixels in and out of tensors.

use candle_core::{DType, Tensor};

use crate::error::{Error, ErrorKind, Result};

/// An 8-bit RGB image, row-major, three bytes a pixel, no padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height * 3` bytes.
    pub pixels: Vec<u8>,
}

/// An 8-bit image of one channel, row-major, no padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrayImage {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height` bytes.
    pub pixels: Vec<u8>,
}

impl RgbImage {
    /// From a tensor `[1, 3, height, width]` or `[3, height, width]` with values in [-1, 1]; what lies outside is
    /// clamped. Rounds half to even, as numpy does in the reference's post-processing.
    pub(crate) fn from_tensor(image: &Tensor) -> Result<Self> {
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
        Ok(Self {
            width,
            height,
            pixels,
        })
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
