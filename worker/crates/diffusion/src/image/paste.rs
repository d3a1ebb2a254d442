//! What was drawn, laid over the original.

use crate::error::Result;
use crate::image::crop::Region;
use crate::image::pixels::{GrayImage, RgbImage};
use crate::image::resize::Fit;

/// Lays `drawn` over `region` of `original` as far as `mask`, of the original's size, lets it: 0 keeps the original's
/// bytes, 255 takes the drawing's, what is between mixes them, rounded to the closest.
///
/// Outside the region everything is kept. A drawing of another size than the region is resized to it, keeping its shape
/// and cutting what juts out, as the reference does.
///
/// Errors if the mask has another size than the original or the region is not inside it.
pub fn paste(
    original: &RgbImage,
    drawn: &RgbImage,
    region: Region,
    mask: &GrayImage,
) -> Result<RgbImage> {
    original.check_size(mask, "the mask")?;
    let mask = mask.crop(region)?;
    let drawn = drawn.fit(region.width, region.height, Fit::Crop)?;
    let mut result = original.clone();
    let columns = region.x * 3..(region.x + region.width) * 3;
    let rows = result.rows_mut().skip(region.y);
    for ((row, drawn), mask) in rows.zip(drawn.rows()).zip(mask.rows()) {
        let Some(part) = row.get_mut(columns.clone()) else {
            continue;
        };
        let pixels = part.chunks_exact_mut(3).zip(drawn.chunks_exact(3));
        for ((old, new), weight) in pixels.zip(mask) {
            for (old, new) in old.iter_mut().zip(new) {
                *old = mix(*old, *new, *weight);
            }
        }
    }
    Ok(result)
}

/// `(old * (255 - weight) + new * weight) / 255`, rounded.
fn mix(old: u8, new: u8, weight: u8) -> u8 {
    let sum = u32::from(old) * u32::from(u8::MAX - weight) + u32::from(new) * u32::from(weight);
    // An average of bytes is a byte.
    u8::try_from((sum + 127) / 255).unwrap_or(u8::MAX)
}
