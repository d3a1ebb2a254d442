//! Resizing as Pillow does it, which is what the reference's image processor calls.
//!
//! A separable Lanczos filter of three lobes, stretched where the image shrinks, in fixed point with 22 fractional
//! bits and bytes between the two passes. Crates resize in floats or in other precisions, and differ in a few pixels;
//! these bytes go into a model that is checked digit by digit.

use crate::error::Result;
use crate::image::crop::Region;
use crate::image::pixels::Image;

/// Lobes of the filter to each side.
const LOBES: f64 = 3.0;
/// Fractional bits of a weight.
const PRECISION_BITS: u32 = 22;

/// How a picture becomes one of another shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Each side for itself; the shape changes with the sides. A1111's "just resize", the reference's `default`.
    Stretch,
    /// Keeps the shape, the whole picture inside, centred; the rest repeats its border. A1111's "resize and fill", the
    /// reference's `fill`.
    Fill,
    /// Keeps the shape, the whole target covered, centred; what juts out is cut. A1111's "crop and resize", the
    /// reference's `crop`.
    Crop,
}

impl<const CHANNELS: usize> Image<CHANNELS> {
    /// Stretches to `width` by `height` pixels. Bit for bit Pillow's `resize(…, LANCZOS)`.
    ///
    /// Errors if a side is not within 1..=[`super::SIDE_MAX`].
    pub fn resize(&self, width: usize, height: usize) -> Result<Self> {
        let mut resized = self.clone();
        // Pillow's order; the bytes between the passes are rounded, so it matters.
        if width != self.width() {
            resized =
                resized.resize_rows(&taps(self.width(), Span::all(self.width()), width), width)?;
        }
        if height != self.height() {
            resized = resized.resize_columns(
                &taps(self.height(), Span::all(self.height()), height),
                height,
            )?;
        }
        Ok(resized)
    }

    /// To `width` by `height` pixels in the way of `fit`. Errors as [`Image::resize`] does.
    pub fn fit(&self, width: usize, height: usize, fit: Fit) -> Result<Self> {
        match fit {
            Fit::Stretch => self.resize(width, height),
            Fit::Fill => self.fill_out(width, height),
            Fit::Crop => self.cover(width, height),
        }
    }

    /// The sides that keep the shape, as large as `width` by `height` in the one or in the other, and which it is.
    fn same_shape(&self, width: usize, height: usize, cover: bool) -> (usize, usize) {
        // Products instead of ratios: exact.
        let wider = width * self.height() > self.width() * height;
        let by_width = (width, (self.height() * width / self.width()).max(1));
        let by_height = ((self.width() * height / self.height()).max(1), height);
        if wider == cover { by_width } else { by_height }
    }

    fn cover(&self, width: usize, height: usize) -> Result<Self> {
        let (scaled_width, scaled_height) = self.same_shape(width, height, true);
        let scaled = self.resize(scaled_width, scaled_height)?;
        scaled.crop(Region {
            x: scaled_width / 2 - width / 2,
            y: scaled_height / 2 - height / 2,
            width,
            height,
        })
    }

    fn fill_out(&self, width: usize, height: usize) -> Result<Self> {
        let (scaled_width, scaled_height) = self.same_shape(width, height, false);
        let scaled = self.resize(scaled_width, scaled_height)?;
        if scaled_width < width {
            // The same downwards.
            return Ok(scaled
                .transposed()
                .fill_out_rows(height, width)?
                .transposed());
        }
        scaled.fill_out_rows(width, height)
    }

    /// Centres rows of the right width, repeating what Pillow makes of an empty box at the border: the first three
    /// rows, weighted as if the border were stretched without end.
    fn fill_out_rows(&self, width: usize, height: usize) -> Result<Self> {
        let above = height / 2 - self.height() / 2;
        let below = height - above - self.height();
        let border = |at: usize| self.resize_columns(&taps(self.height(), Span::empty(at), 1), 1);
        let (first, last) = (border(0)?, border(self.height())?);
        let mut pixels = first.pixels().repeat(above);
        pixels.extend_from_slice(self.pixels());
        pixels.extend(last.pixels().repeat(below));
        Self::new(width, height, pixels)
    }

    fn resize_rows(&self, taps: &[Taps], width: usize) -> Result<Self> {
        let mut pixels = Vec::with_capacity(width * self.height() * CHANNELS);
        for row in self.rows() {
            for tap in taps {
                let mut sums = [0i64; CHANNELS];
                let window = row.chunks_exact(CHANNELS).skip(tap.start);
                for (pixel, weight) in window.zip(&tap.weights) {
                    for (sum, value) in sums.iter_mut().zip(pixel) {
                        *sum += i64::from(*value) * weight;
                    }
                }
                pixels.extend(sums.map(to_byte));
            }
        }
        Self::new(width, self.height(), pixels)
    }

    fn resize_columns(&self, taps: &[Taps], height: usize) -> Result<Self> {
        let mut pixels = Vec::with_capacity(self.width() * height * CHANNELS);
        let mut sums = vec![0i64; self.width() * CHANNELS];
        for tap in taps {
            sums.fill(0);
            for (row, weight) in self.rows().skip(tap.start).zip(&tap.weights) {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += i64::from(*value) * weight;
                }
            }
            pixels.extend(sums.iter().copied().map(to_byte));
        }
        Self::new(self.width(), height, pixels)
    }
}

/// The part of a line that is stretched over the target, in pixels.
struct Span {
    from: f64,
    length: f64,
}

impl Span {
    fn all(pixels: usize) -> Self {
        Self {
            from: 0.0,
            length: to_f64(pixels),
        }
    }

    fn empty(at: usize) -> Self {
        Self {
            from: to_f64(at),
            length: 0.0,
        }
    }
}

/// What one pixel of the target is made of: `weights` of the pixels from `start` on, in fixed point.
struct Taps {
    start: usize,
    weights: Vec<i64>,
}

fn taps(source: usize, span: Span, target: usize) -> Vec<Taps> {
    let scale = span.length / to_f64(target);
    let stretch = scale.max(1.0);
    let (support, shrink) = (LOBES * stretch, 1.0 / stretch);
    (0..target)
        .map(|index| {
            let centre = span.from + (to_f64(index) + 0.5) * scale;
            let start = to_index(centre - support + 0.5).min(source);
            let end = to_index(centre + support + 0.5).min(source);
            let weights: Vec<f64> = (start..end)
                .map(|index| lanczos((to_f64(index) - centre + 0.5) * shrink))
                .collect();
            let total: f64 = weights.iter().sum();
            Taps {
                start,
                weights: weights
                    .into_iter()
                    .map(|weight| to_fixed(weight / total))
                    .collect(),
            }
        })
        .collect()
}

fn lanczos(x: f64) -> f64 {
    if !(-LOBES..LOBES).contains(&x) {
        return 0.0;
    }
    sinc(x) * sinc(x / LOBES)
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    libm::sin(x) / x
}

fn to_fixed(weight: f64) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "normalised weights are a few units at most"
    )]
    let fixed = (weight * f64::from(1 << PRECISION_BITS)).round() as i64;
    fixed
}

fn to_byte(sum: i64) -> u8 {
    let rounded = (sum + (1 << (PRECISION_BITS - 1))) >> PRECISION_BITS;
    u8::try_from(rounded.clamp(0, 255)).unwrap_or(u8::MAX)
}

fn to_f64(pixels: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "sides are at most 65535")]
    let exact = pixels as f64;
    exact
}

/// Negative to 0; fractions are cut.
fn to_index(position: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float beyond the integers' range becomes the closest one"
    )]
    let index = position as usize;
    index
}
