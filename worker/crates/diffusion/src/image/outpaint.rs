//! Pictures with something missing: around them, or where they are transparent.

use crate::error::Result;
use crate::image::crop::Region;
use crate::image::pixels::{GrayImage, Image, RgbImage};

/// How far a canvas reaches beyond the picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Edges {
    /// Columns more on the left.
    pub left: usize,
    /// Rows more above.
    pub top: usize,
    /// Columns more on the right.
    pub right: usize,
    /// Rows more below.
    pub bottom: usize,
}

/// A larger canvas around a picture, and the mask of what is new on it: 255 there, 0 on the picture.
///
/// New pixels repeat the closest one of the picture, so that what is kept of them in image-to-image has its colours.
///
/// Errors if a side would be over [`super::SIDE_MAX`].
pub fn extend(image: &RgbImage, edges: Edges) -> Result<(RgbImage, GrayImage)> {
    let extended = image.repeat_border(edges)?;
    let mut mask = GrayImage::filled(extended.width(), extended.height(), [u8::MAX])?;
    let picture = Region {
        x: edges.left,
        y: edges.top,
        width: image.width(),
        height: image.height(),
    };
    let columns = picture.x..picture.x + picture.width;
    for row in mask.rows_mut().skip(picture.y).take(picture.height) {
        if let Some(kept) = row.get_mut(columns.clone()) {
            kept.fill(0);
        }
    }
    Ok((extended, mask))
}

/// A picture with transparency, from its `width * height * 4` bytes of red, green, blue and alpha: its colours as they
/// stand, and the mask of what is transparent, 255 less alpha.
///
/// Errors as [`Image::new`] does.
pub fn split_alpha(width: usize, height: usize, rgba: Vec<u8>) -> Result<(RgbImage, GrayImage)> {
    let rgba = Image::<4>::new(width, height, rgba)?;
    let mut colours = Vec::with_capacity(width * height * 3);
    let mut mask = Vec::with_capacity(width * height);
    for pixel in rgba.iter() {
        if let [red, green, blue, alpha] = pixel {
            colours.extend_from_slice(&[*red, *green, *blue]);
            mask.push(u8::MAX - alpha);
        }
    }
    Ok((
        RgbImage::new(width, height, colours)?,
        GrayImage::new(width, height, mask)?,
    ))
}
