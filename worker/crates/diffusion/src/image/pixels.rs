//! The images themselves.

use std::fmt;

use crate::error::{Error, Result};

/// The most pixels to a side. What is decoded from a file has stricter limits.
pub const SIDE_MAX: usize = 65_535;

/// An 8-bit image: row-major, `CHANNELS` bytes a pixel, no padding, at least one pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Image<const CHANNELS: usize> {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

/// Red, green, blue.
pub type RgbImage = Image<3>;

/// One channel; as a mask, 255 is to be repainted and 0 is to be kept.
pub type GrayImage = Image<1>;

impl<const CHANNELS: usize> Image<CHANNELS> {
    /// From `width * height * CHANNELS` bytes.
    ///
    /// Errors if a side is not within 1..=[`SIDE_MAX`] or the bytes are more or fewer.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        let wanted = Self::bytes(width, height)?;
        if pixels.len() != wanted {
            return Err(Error::parameter(format!(
                "an image of {width}x{height} pixels must have {wanted} bytes, got {}",
                pixels.len()
            )));
        }
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// All of one colour. Errors as [`Image::new`] does.
    pub fn filled(width: usize, height: usize, colour: [u8; CHANNELS]) -> Result<Self> {
        let mut pixels = Vec::with_capacity(Self::bytes(width, height)?);
        for _ in 0..width * height {
            pixels.extend_from_slice(&colour);
        }
        Self::new(width, height, pixels)
    }

    /// Bytes of such an image.
    pub(super) fn bytes(width: usize, height: usize) -> Result<usize> {
        for (name, side) in [("width", width), ("height", height)] {
            if !(1..=SIDE_MAX).contains(&side) {
                return Err(Error::parameter(format!(
                    "an image's {name} must be 1..={SIDE_MAX} pixels, got {side}"
                )));
            }
        }
        width
            .checked_mul(height)
            .and_then(|count| count.checked_mul(CHANNELS))
            .ok_or_else(|| {
                Error::parameter(format!(
                    "an image of {width}x{height} pixels is too large for this machine"
                ))
            })
    }

    /// Pixels in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// All bytes.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// All bytes, without a copy.
    #[must_use]
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// One pixel, if it is inside.
    #[must_use]
    pub fn pixel(&self, x: usize, y: usize) -> Option<[u8; CHANNELS]> {
        if x >= self.width || y >= self.height {
            return None;
        }
        let start = (y * self.width + x) * CHANNELS;
        self.pixels.get(start..start + CHANNELS)?.try_into().ok()
    }

    /// Rows of `width * CHANNELS` bytes.
    pub(super) fn rows(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        self.pixels.chunks_exact(self.width * CHANNELS)
    }

    /// The same to write to.
    pub(super) fn rows_mut(&mut self) -> impl ExactSizeIterator<Item = &mut [u8]> {
        self.pixels.chunks_exact_mut(self.width * CHANNELS)
    }

    /// Pixels of `CHANNELS` bytes.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.pixels.chunks_exact(CHANNELS)
    }

    /// The same to write to.
    pub(super) fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = &mut [u8]> {
        self.pixels.chunks_exact_mut(CHANNELS)
    }

    /// Rows to columns.
    pub(super) fn transposed(&self) -> Self {
        let mut pixels = vec![0; self.pixels.len()];
        for (x, column) in pixels.chunks_exact_mut(self.height * CHANNELS).enumerate() {
            let source = self
                .pixels
                .chunks_exact(CHANNELS)
                .skip(x)
                .step_by(self.width);
            for (target, pixel) in column.chunks_exact_mut(CHANNELS).zip(source) {
                target.copy_from_slice(pixel);
            }
        }
        Self {
            width: self.height,
            height: self.width,
            pixels,
        }
    }

    /// Errors unless `other` has this size.
    pub(super) fn check_size<const OTHER: usize>(
        &self,
        other: &Image<OTHER>,
        name: &str,
    ) -> Result<()> {
        if (self.width, self.height) == (other.width, other.height) {
            return Ok(());
        }
        Err(Error::parameter(format!(
            "{name} must have the image's size, {}x{}, got {}x{}",
            self.width, self.height, other.width, other.height
        )))
    }
}

impl GrayImage {
    /// Black to white and white to black.
    #[must_use]
    pub fn inverted(mut self) -> Self {
        for value in &mut self.pixels {
            *value = u8::MAX - *value;
        }
        self
    }

    /// Whether nothing is to be repainted.
    #[must_use]
    pub fn is_black(&self) -> bool {
        self.pixels.iter().all(|value| *value == 0)
    }

    /// What A1111 lays a repainted whole picture over the original with: every value doubled, at most 255, so that a
    /// blurred edge is new up to its middle and fades outwards. Zero stays zero.
    #[must_use]
    pub fn doubled(mut self) -> Self {
        for value in &mut self.pixels {
            *value = value.saturating_mul(2);
        }
        self
    }
}

impl<const CHANNELS: usize> fmt::Debug for Image<CHANNELS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("channels", &CHANNELS)
            .field("width", &self.width)
            .field("height", &self.height)
            .finish_non_exhaustive()
    }
}
