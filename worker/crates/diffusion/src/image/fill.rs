//! What stands in a hole before the model paints there.
//!
//! Of `inpaint_fill`'s four, `original` needs nothing and `noise` replaces latents; these are the other two. A1111's
//! names: `fill` is [`smear`] (`blur` here), `latent nothing` comes closest to [`fill_with_mean`] (`fill` here), and
//! both of its latent modes smear first. The reference always starts from the original.

use crate::error::Result;
use crate::image::pixels::{GrayImage, Image, RgbImage};

/// What stands in for the mean of nothing.
const MIDDLE_GREY: [u8; 3] = [128; 3];
/// Standard deviations of the blurs that are laid over each other, in pixels, and how often each is.
const SMEARS: [(f32, usize); 5] = [(256.0, 1), (64.0, 1), (16.0, 2), (4.0, 4), (2.0, 2)];

/// Replaces the masked part by the mean colour of the rest, as far as the mask is white; by a middle grey where there
/// is no rest. What the mask leaves at zero is kept.
///
/// Errors if the mask has another size than the image.
pub fn fill_with_mean(image: &RgbImage, mask: &GrayImage) -> Result<RgbImage> {
    image.check_size(mask, "the mask")?;
    let colour = mean_outside(image, mask);
    let filled = RgbImage::filled(image.width(), image.height(), colour)?;
    super::paste(
        image,
        &filled,
        super::Region {
            x: 0,
            y: 0,
            width: image.width(),
            height: image.height(),
        },
        mask,
    )
}

/// Weighted by how far the mask is black.
fn mean_outside(image: &RgbImage, mask: &GrayImage) -> [u8; 3] {
    let (mut sums, mut total) = ([0u64; 3], 0u64);
    for (pixel, weight) in image.iter().zip(mask.pixels()) {
        let kept = u64::from(u8::MAX - weight);
        total += kept;
        for (sum, value) in sums.iter_mut().zip(pixel) {
            *sum += kept * u64::from(*value);
        }
    }
    if total == 0 {
        return MIDDLE_GREY;
    }
    // An average of bytes is a byte.
    sums.map(|sum| u8::try_from((sum + total / 2) / total).unwrap_or(u8::MAX))
}

/// Smears the colours around a hole into it: ever finer blurs of what is kept, laid over each other, the kept pixels
/// on top. What the mask leaves at zero is kept; where no blur reaches, the hole has the mean colour of the rest.
///
/// Errors if the mask has another size than the image.
pub fn smear(image: &RgbImage, mask: &GrayImage) -> Result<RgbImage> {
    image.check_size(mask, "the mask")?;
    let kept = keep(image, mask)?;
    let mut canvas = Image::<4>::filled(image.width(), image.height(), [0; 4])?;
    for (sigma, repeats) in SMEARS {
        let blurred = blur(&kept, sigma)?;
        for _ in 0..repeats {
            lay_over(&mut canvas, &blurred);
        }
    }
    lay_over(&mut canvas, &kept);
    let background = mean_outside(image, mask);
    let mut pixels = Vec::with_capacity(image.pixels().len());
    for ((pixel, original), weight) in canvas.iter().zip(image.iter()).zip(mask.pixels()) {
        match pixel {
            _ if *weight == 0 => pixels.extend_from_slice(original),
            [_, _, _, 0] => pixels.extend_from_slice(&background),
            [red, green, blue, _] => pixels.extend_from_slice(&[*red, *green, *blue]),
            _ => {}
        }
    }
    RgbImage::new(image.width(), image.height(), pixels)
}

/// Red, green, blue and alpha, the colours multiplied by alpha; alpha is how far the mask is black.
fn keep(image: &RgbImage, mask: &GrayImage) -> Result<Image<4>> {
    let mut pixels = Vec::with_capacity(image.pixels().len() / 3 * 4);
    for (pixel, weight) in image.iter().zip(mask.pixels()) {
        let alpha = u8::MAX - weight;
        pixels.extend(pixel.iter().map(|value| divide_by_255(*value, alpha)));
        pixels.push(alpha);
    }
    Image::new(image.width(), image.height(), pixels)
}

/// `value * weight / 255`, rounded.
fn divide_by_255(value: u8, weight: u8) -> u8 {
    u8::try_from((u32::from(value) * u32::from(weight) + 127) / 255).unwrap_or(u8::MAX)
}

/// Lays `top`, whose colours are multiplied by alpha, over `canvas`, whose colours are not (Porter and Duff's "over").
fn lay_over(canvas: &mut Image<4>, top: &Image<4>) {
    for (below, above) in canvas.iter_mut().zip(top.iter()) {
        let ([below_colour @ .., below_alpha], [above_colour @ .., above_alpha]) = (below, above)
        else {
            continue;
        };
        if *above_alpha == 0 {
            continue;
        }
        // Of 255 squared, as is the alpha that comes out.
        let below_weight = u32::from(*below_alpha) * u32::from(u8::MAX - above_alpha);
        let alpha = u32::from(*above_alpha) * 255 + below_weight;
        for (below, above) in below_colour.iter_mut().zip(above_colour) {
            let sum = u32::from(*above) * 255 * 255 + u32::from(*below) * below_weight;
            *below = u8::try_from((sum + alpha / 2) / alpha).unwrap_or(u8::MAX);
        }
        *below_alpha = u8::try_from((alpha + 127) / 255).unwrap_or(u8::MAX);
    }
}

/// A Gaussian blur of `sigma` pixels by three box blurs, in a time that does not depend on `sigma`. The border is
/// repeated outwards. Method: Gwosdek et al., "Theoretical Foundations of Gaussian Convolution by Extended Box
/// Filtering", 2011; Pillow's, which A1111 smears with, is the same.
fn blur(image: &Image<4>, sigma: f32) -> Result<Image<4>> {
    const PASSES: usize = 3;
    let line = BoxBlur::of_gaussian(sigma, PASSES);
    let mut blurred = image.clone();
    for _ in 0..2 {
        for _ in 0..PASSES {
            blurred = line.apply(&blurred)?;
        }
        blurred = blurred.transposed();
    }
    Ok(blurred)
}

/// An average over a line of whole pixels with a fraction of one more at each end.
struct BoxBlur {
    /// Whole pixels to each side.
    radius: usize,
    /// Weight of a whole pixel, of 2^24.
    whole: u32,
    /// Weight of each of the two at the ends.
    partial: u32,
}

impl BoxBlur {
    fn of_gaussian(sigma: f32, passes: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a handful of passes")]
        let variance = sigma * sigma / passes as f32;
        let whole = (((12.0 * variance + 1.0).sqrt() - 1.0) / 2.0).floor();
        let next = whole + 1.0;
        let partial = (2.0 * whole + 1.0) * (whole * next - 3.0 * variance)
            / (6.0 * (variance - next * next));
        let one = 1u32 << 24;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "radii are a few hundred pixels, and the fraction is meant to go"
        )]
        let (radius, whole_weight) = (
            whole as u32,
            (one as f32 / (2.0 * (whole + partial) + 1.0)) as u32,
        );
        Self {
            radius: radius as usize,
            whole: whole_weight,
            partial: (one - (2 * radius + 1) * whole_weight) / 2,
        }
    }

    fn apply(&self, image: &Image<4>) -> Result<Image<4>> {
        let mut pixels = Vec::with_capacity(image.pixels().len());
        for row in image.rows() {
            self.apply_to_row(row, &mut pixels);
        }
        Image::new(image.width(), image.height(), pixels)
    }

    fn apply_to_row(&self, row: &[u8], blurred: &mut Vec<u8>) {
        let last = (row.len() / 4).saturating_sub(1);
        // Position `at` of the line with its border repeated, counted from `radius + 1` pixels before it.
        let pixel = |at: usize| -> [u32; 4] {
            let at = at.saturating_sub(self.radius + 1).min(last);
            let bytes = row.get(4 * at..).and_then(|rest| rest.first_chunk::<4>());
            bytes.copied().unwrap_or_default().map(u32::from)
        };
        let mut sums = [0u32; 4];
        for at in 1..=2 * self.radius + 1 {
            add(&mut sums, pixel(at));
        }
        for at in 0..=last {
            let (before, after) = (pixel(at), pixel(at + 2 * self.radius + 2));
            for ((sum, before), after) in sums.iter().zip(before).zip(after) {
                let value = u64::from(*sum) * u64::from(self.whole)
                    + u64::from(before + after) * u64::from(self.partial);
                blurred.push(u8::try_from((value + (1 << 23)) >> 24).unwrap_or(u8::MAX));
            }
            add(&mut sums, after);
            for (sum, leaving) in sums.iter_mut().zip(pixel(at + 1)) {
                *sum -= leaving;
            }
        }
    }
}

fn add(sums: &mut [u32; 4], pixel: [u32; 4]) {
    for (sum, value) in sums.iter_mut().zip(pixel) {
        *sum += value;
    }
}
