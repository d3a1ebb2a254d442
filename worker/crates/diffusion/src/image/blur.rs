//! Softening a mask's edges.

use crate::error::{Error, Result};
use crate::image::pixels::GrayImage;

/// The widest blur, in pixels of standard deviation.
const SIGMA_MAX: f64 = 256.0;

impl GrayImage {
    /// A Gaussian blur of `sigma` pixels, as A1111 understands `mask_blur`: `sigma` is the standard deviation, the
    /// kernel ends at `floor(2.5 sigma + 0.5)` pixels to each side, the image is mirrored at its border
    /// without repeating the outermost pixel, and bytes are rounded after each direction. 0 changes nothing. A1111's own
    /// bytes are up to 8 of 255 away: OpenCV cuts its kernel to 8 fractional bits.
    ///
    /// What is further than the kernel's end from everything that is not zero, in columns or in rows, stays exactly
    /// zero.
    ///
    /// Errors unless `sigma` is within 0..=256.
    pub fn blurred(&self, sigma: f64) -> Result<Self> {
        if !(0.0..=SIGMA_MAX).contains(&sigma) {
            return Err(Error::parameter(format!(
                "mask_blur must be 0..={SIGMA_MAX} pixels, got {sigma}"
            )));
        }
        let kernel = kernel(sigma);
        if kernel.len() == 1 {
            return Ok(self.clone());
        }
        let columns_done = blur_rows(self, &kernel)?.transposed();
        Ok(blur_rows(&columns_done, &kernel)?.transposed())
    }
}

/// How far a blur of `sigma` pixels reaches, in pixels.
fn blur_reach(sigma: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sigma is within 0..=256"
    )]
    let reach = (2.5 * sigma + 0.5) as usize;
    reach
}

/// Weights that add up to 1, the middle one in the middle.
fn kernel(sigma: f64) -> Vec<f64> {
    let reach = blur_reach(sigma);
    let side = (1..=reach).map(|distance| {
        #[expect(clippy::cast_precision_loss, reason = "at most 640")]
        let distance = distance as f64 / sigma;
        libm::exp(-0.5 * distance * distance)
    });
    let side: Vec<f64> = side.collect();
    let total = 1.0 + 2.0 * side.iter().sum::<f64>();
    let before = side.iter().rev().copied();
    before
        .chain([1.0])
        .chain(side.iter().copied())
        .map(|weight| weight / total)
        .collect()
}

fn blur_rows(image: &GrayImage, kernel: &[f64]) -> Result<GrayImage> {
    let reach = kernel.len() / 2;
    let mut pixels = Vec::with_capacity(image.pixels().len());
    let mut line = Vec::with_capacity(image.width() + 2 * reach);
    for row in image.rows() {
        line.clear();
        let wide = (0..row.len() + 2 * reach).map(|at| mirrored(at, reach, row.len()));
        line.extend(wide.map(|at| row.get(at).copied().map_or(0.0, f64::from)));
        pixels.extend(line.windows(kernel.len()).map(|window| {
            let sum: f64 = window
                .iter()
                .zip(kernel)
                .map(|(value, weight)| value * weight)
                .sum();
            to_byte(sum)
        }));
    }
    GrayImage::new(image.width(), image.height(), pixels)
}

/// The pixel of a line of `length` that is seen at `at - before`: beyond an end, as in a mirror that stands on the
/// outermost pixel.
fn mirrored(at: usize, before: usize, length: usize) -> usize {
    let last = length - 1;
    if last == 0 {
        return 0;
    }
    let period = 2 * last;
    // `before` rounded up to whole periods keeps the difference positive.
    let at = (at + before.next_multiple_of(period) - before) % period;
    at.min(period - at)
}

fn to_byte(value: f64) -> u8 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=255"
    )]
    let byte = value.round().clamp(0.0, 255.0) as u8;
    byte
}
