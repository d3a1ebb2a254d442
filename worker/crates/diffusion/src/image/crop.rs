//! Parts of images.

use crate::error::{Error, Result};
use crate::image::pixels::{GrayImage, Image};

/// A part of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Columns left of it.
    pub x: usize,
    /// Rows above it.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// The smallest multiple that is at least `side`; `side` itself for a multiple of 0.
#[must_use]
pub fn round_up(side: usize, multiple: usize) -> usize {
    side.checked_next_multiple_of(multiple).unwrap_or(side)
}

impl<const CHANNELS: usize> Image<CHANNELS> {
    /// A part of it. Errors if it is empty or juts out.
    pub fn crop(&self, region: Region) -> Result<Self> {
        let inside = |start: usize, length: usize, side: usize| {
            start
                .checked_add(length)
                .is_some_and(|end| length > 0 && end <= side)
        };
        if !inside(region.x, region.width, self.width())
            || !inside(region.y, region.height, self.height())
        {
            return Err(Error::parameter(format!(
                "a part of an image of {}x{} pixels must be inside it, got {region:?}",
                self.width(),
                self.height()
            )));
        }
        let columns = region.x * CHANNELS..(region.x + region.width) * CHANNELS;
        let mut pixels = Vec::with_capacity(region.width * region.height * CHANNELS);
        for row in self.rows().skip(region.y).take(region.height) {
            pixels.extend_from_slice(row.get(columns.clone()).unwrap_or_default());
        }
        Self::new(region.width, region.height, pixels)
    }

    /// Repeats the last column and the last row up to `width` and `height`; a side that is as long already stays.
    ///
    /// Errors if a side would be over [`super::SIDE_MAX`].
    pub fn extend_to(&self, width: usize, height: usize) -> Result<Self> {
        self.repeat_border(super::Edges {
            right: width.saturating_sub(self.width()),
            bottom: height.saturating_sub(self.height()),
            ..super::Edges::default()
        })
    }

    /// Repeats the outermost pixels to every side.
    pub(super) fn repeat_border(&self, edges: super::Edges) -> Result<Self> {
        let side = |before: usize, length: usize, after: usize| {
            before
                .checked_add(after)
                .and_then(|more| more.checked_add(length))
                .unwrap_or(usize::MAX)
        };
        let width = side(edges.left, self.width(), edges.right);
        let height = side(edges.top, self.height(), edges.bottom);
        // Checks the size before anything of that size is made.
        let mut extended = Self::filled(width, height, [0; CHANNELS])?;
        let middle = edges.left * CHANNELS..(edges.left + self.width()) * CHANNELS;
        for (y, row) in extended.rows_mut().enumerate() {
            let source = y.saturating_sub(edges.top).min(self.height() - 1);
            let Some(source) = self.rows().nth(source) else {
                continue;
            };
            if let Some(left) = row.get_mut(..middle.start) {
                repeat(left, source.first_chunk::<CHANNELS>());
            }
            if let Some(right) = row.get_mut(middle.end..) {
                repeat(right, source.last_chunk::<CHANNELS>());
            }
            if let Some(middle) = row.get_mut(middle.clone()) {
                middle.copy_from_slice(source);
            }
        }
        Ok(extended)
    }
}

fn repeat<const CHANNELS: usize>(row: &mut [u8], pixel: Option<&[u8; CHANNELS]>) {
    if let Some(pixel) = pixel {
        for target in row.chunks_exact_mut(CHANNELS) {
            target.copy_from_slice(pixel);
        }
    }
}

/// What an only-masked inpaint draws: the box of everything in the mask that is not zero, `padding` pixels wider to
/// every side, then grown to the shape of the drawing, `width` by `height`, as far as the mask reaches. `None` where
/// the mask is all zero, or a side of the drawing is.
///
/// To the pixel A1111's `get_crop_region` and `expand_crop_region` and the reference's `padding_mask_crop`: the growth
/// goes evenly to both sides, an odd pixel right or below; at the border it goes to the other side; an image that is
/// too small for the shape is taken whole in that direction.
#[must_use]
pub fn masked_region(
    mask: &GrayImage,
    padding: usize,
    width: usize,
    height: usize,
) -> Option<Region> {
    if width == 0 || height == 0 {
        return None;
    }
    let (columns, rows) = bounds(mask)?;
    let columns = columns.padded(padding, mask.width());
    let rows = rows.padded(padding, mask.height());
    // In floats, as both do: an exact ratio would now and then give another pixel.
    let shape = to_f64(width) / to_f64(height);
    let (columns, rows) = if to_f64(columns.length) / to_f64(rows.length) > shape {
        let wanted = to_f64(columns.length) / shape;
        (columns, rows.grown(wanted, mask.height()))
    } else {
        let wanted = to_f64(rows.length) * shape;
        (columns.grown(wanted, mask.width()), rows)
    };
    Some(Region {
        x: columns.start,
        y: rows.start,
        width: columns.length,
        height: rows.length,
    })
}

/// Where the mask is not zero: its columns and its rows.
fn bounds(mask: &GrayImage) -> Option<(Line, Line)> {
    let mut columns: Option<(usize, usize)> = None;
    let mut rows: Option<(usize, usize)> = None;
    for (y, row) in mask.rows().enumerate() {
        let Some(first) = row.iter().position(|value| *value != 0) else {
            continue;
        };
        let last = row.iter().rposition(|value| *value != 0).unwrap_or(first);
        columns = Some(columns.map_or((first, last), |(left, right)| {
            (left.min(first), right.max(last))
        }));
        rows = Some(rows.map_or((y, y), |(top, _)| (top, y)));
    }
    let line = |(first, last): (usize, usize)| Line {
        start: first,
        length: last - first + 1,
    };
    Some((line(columns?), line(rows?)))
}

/// One direction of a region.
#[derive(Clone, Copy)]
struct Line {
    start: usize,
    length: usize,
}

impl Line {
    fn padded(self, padding: usize, side: usize) -> Self {
        let start = self.start.saturating_sub(padding);
        let end = (self.start + self.length).saturating_add(padding).min(side);
        Self {
            start,
            length: end - start,
        }
    }

    fn grown(self, wanted: f64, side: usize) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the fraction is meant to go; a float beyond the range becomes the closest integer"
        )]
        let more = (wanted - to_f64(self.length)) as usize;
        let length = self.length.saturating_add(more);
        if length >= side {
            return Self {
                start: 0,
                length: side,
            };
        }
        let start = self.start.saturating_sub(more / 2);
        Self {
            // Shifted back where it would jut out on the far side.
            start: start.min(side - length),
            length,
        }
    }
}

fn to_f64(pixels: usize) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "sides of images and drawings are far below 2^53"
    )]
    let exact = pixels as f64;
    exact
}
