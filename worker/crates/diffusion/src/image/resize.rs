//! Resizing as Pillow does it, which is what the reference's image processor calls.
//!
//! A separable Lanczos filter of three lobes, stretched where the image shrinks, in fixed point with 22 fractional
//! bits and bytes between the two passes. Crates resize in floats or in other precisions, and differ in a few pixels;
//! these bytes go into a model that is checked digit by digit.

use crate::error::Result;
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
        self.resize_part(Target::all(width), Target::all(height))
    }

    /// To `width` by `height` pixels in the way of `fit`. Errors as [`Image::resize`] does.
    pub fn fit(&self, width: usize, height: usize, fit: Fit) -> Result<Self> {
        match fit {
            Fit::Stretch => self.resize(width, height),
            Fit::Fill => self.fill_out(width, height),
            Fit::Crop => self.cover(width, height),
        }
    }

    /// The sides that keep the shape and have `width` or `height`: the larger ones to cover it, the smaller ones to be
    /// inside.
    fn same_shape(&self, width: usize, height: usize, cover: bool) -> (usize, usize) {
        // Products instead of ratios: exact.
        let wider = width * self.height() > self.width() * height;
        if wider == cover {
            (width, (self.height() * width / self.width()).max(1))
        } else {
            ((self.width() * height / self.height()).max(1), height)
        }
    }

    fn cover(&self, width: usize, height: usize) -> Result<Self> {
        check_sides(width, height)?;
        let (scaled_width, scaled_height) = self.same_shape(width, height, true);
        // Only what is kept is ever made: a line of pixels covers a square with a very long one.
        let middle = |scaled: usize, length: usize| Target {
            scaled,
            start: scaled / 2 - length / 2,
            length,
        };
        self.resize_part(middle(scaled_width, width), middle(scaled_height, height))
    }

    fn fill_out(&self, width: usize, height: usize) -> Result<Self> {
        check_sides(width, height)?;
        let (scaled_width, scaled_height) = self.same_shape(width, height, false);
        let scaled = self.resize(scaled_width, scaled_height)?;
        if scaled_width < width {
            // The same downwards.
            return Ok(scaled.transposed().fill_out_rows(width)?.transposed());
        }
        scaled.fill_out_rows(height)
    }

    /// Centres the rows among repetitions of the border as the reference makes it: Pillow's bicubic filter in an empty
    /// box at the edge, which is the outermost row and an eighth of its difference to the next.
    fn fill_out_rows(&self, height: usize) -> Result<Self> {
        const OUTERMOST: i64 = 9 << (PRECISION_BITS - 3);
        const NEXT: i64 = -1 << (PRECISION_BITS - 3);
        let above = height / 2 - self.height() / 2;
        let below = height - above - self.height();
        let (first, last) = if self.height() == 1 {
            (self.clone(), self.clone())
        } else {
            let border = |start, weights: [i64; 2]| {
                let weights = weights.to_vec();
                self.resize_columns(&[Taps { start, weights }])
            };
            (
                border(0, [OUTERMOST, NEXT])?,
                border(self.height() - 2, [NEXT, OUTERMOST])?,
            )
        };
        let mut pixels = first.pixels().repeat(above);
        pixels.extend_from_slice(self.pixels());
        pixels.extend(last.pixels().repeat(below));
        Self::new(self.width(), height, pixels)
    }

    fn resize_part(&self, columns: Target, rows: Target) -> Result<Self> {
        check_sides(columns.length, rows.length)?;
        let narrow = |image: Self| -> Result<Self> {
            if columns == Target::all(image.width()) {
                return Ok(image);
            }
            image.resize_rows(&taps(image.width(), columns))
        };
        let lower = |image: Self| -> Result<Self> {
            if rows == Target::all(image.height()) {
                return Ok(image);
            }
            image.resize_columns(&taps(image.height(), rows))
        };
        // The bytes between the passes are rounded and clamped, so their order is seen. Pillow 13 begins with the rows
        // where more than twice as many of them go as of the columns; before, it always began with the columns.
        let rows_lost = self.height().saturating_sub(rows.scaled);
        let columns_lost = self.width().saturating_sub(columns.scaled);
        if rows_lost > 2 * columns_lost {
            return narrow(lower(self.clone())?);
        }
        lower(narrow(self.clone())?)
    }

    fn resize_rows(&self, taps: &[Taps]) -> Result<Self> {
        let mut pixels = Vec::with_capacity(taps.len() * self.height() * CHANNELS);
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
        Self::new(taps.len(), self.height(), pixels)
    }

    fn resize_columns(&self, taps: &[Taps]) -> Result<Self> {
        let mut pixels = Vec::with_capacity(self.width() * taps.len() * CHANNELS);
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
        Self::new(self.width(), taps.len(), pixels)
    }
}

fn check_sides(width: usize, height: usize) -> Result<()> {
    Image::<1>::bytes(width, height).map(drop)
}

/// One direction of a resize: of `scaled` pixels, `length` are made from `start` on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Target {
    scaled: usize,
    start: usize,
    length: usize,
}

impl Target {
    fn all(length: usize) -> Self {
        Self {
            scaled: length,
            start: 0,
            length,
        }
    }
}

/// What one pixel of the target is made of: `weights` of the pixels from `start` on, in fixed point.
struct Taps {
    start: usize,
    weights: Vec<i64>,
}

fn taps(source: usize, target: Target) -> Vec<Taps> {
    let scale = to_f64(source) / to_f64(target.scaled);
    let stretch = scale.max(1.0);
    let (support, shrink) = (LOBES * stretch, 1.0 / stretch);
    (target.start..target.start + target.length)
        .map(|index| {
            let centre = (to_f64(index) + 0.5) * scale;
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
    #[expect(
        clippy::cast_precision_loss,
        reason = "at most the square of a side, far below 2^53"
    )]
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
