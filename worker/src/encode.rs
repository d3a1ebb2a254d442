//! Pixels to files.

use crate::metadata::{PARAMETERS_KEYWORD, PictureMetadata, REQUEST_KEYWORD};
use image::{
    ColorType, ImageEncoder, ImageError,
    codecs::{jpeg::JpegEncoder, webp::WebPEncoder},
    error::{EncodingError, ImageFormatHint},
};
use png::text_metadata::{ITXtChunk, TEXtChunk};
use scumble_diffusion::RgbImage;
use scumble_protocol::{OutputFormat, PreviewFormat};

/// What finished JPEGs are written with, of 100.
const JPEG_QUALITY: u8 = 90;
/// What previews are written with, of 100: they are looked at for a moment.
const PREVIEW_JPEG_QUALITY: u8 = 75;

/// A finished image as a file.
///
/// # Errors
/// If the encoder refuses the size.
pub fn encode_image(image: &RgbImage, format: OutputFormat) -> Result<Vec<u8>, ImageError> {
    match format {
        OutputFormat::Png => png(image),
        OutputFormat::Webp => webp(image),
        OutputFormat::Jpeg => jpeg(image, JPEG_QUALITY),
    }
}

/// A preview as a file.
///
/// # Errors
/// If the encoder refuses the size.
pub fn encode_preview(image: &RgbImage, format: PreviewFormat) -> Result<Vec<u8>, ImageError> {
    match format {
        PreviewFormat::Png => png(image),
        PreviewFormat::Webp => webp(image),
        PreviewFormat::Jpeg => jpeg(image, PREVIEW_JPEG_QUALITY),
    }
}

/// A preview's media type.
#[must_use]
pub const fn preview_mime_type(format: PreviewFormat) -> &'static str {
    match format {
        PreviewFormat::Png => "image/png",
        PreviewFormat::Webp => "image/webp",
        PreviewFormat::Jpeg => "image/jpeg",
    }
}

fn png(image: &RgbImage) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    let encoder =
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive);
    let (width, height) = size(image);
    encoder.write_image(image.pixels(), width, height, ColorType::Rgb8.into())?;
    Ok(bytes)
}

fn webp(image: &RgbImage) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    let (width, height) = size(image);
    WebPEncoder::new_lossless(&mut bytes).write_image(
        image.pixels(),
        width,
        height,
        ColorType::Rgb8.into(),
    )?;
    Ok(bytes)
}

fn jpeg(image: &RgbImage, quality: u8) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    let (width, height) = size(image);
    JpegEncoder::new_with_quality(&mut bytes, quality).write_image(
        image.pixels(),
        width,
        height,
        ColorType::Rgb8.into(),
    )?;
    Ok(bytes)
}

fn size(image: &RgbImage) -> (u32, u32) {
    let side = |pixels| u32::try_from(pixels).unwrap_or(u32::MAX);
    (side(image.width()), side(image.height()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lossless_files_hold_the_very_pixels() {
        let picture = RgbImage::new(5, 3, (0..45).collect()).expect("of the right size");
        for format in [OutputFormat::Png, OutputFormat::Webp] {
            let file = encode_image(&picture, format).expect("encodes");
            let read = image::load_from_memory(&file).expect("decodes").to_rgb8();
            assert_eq!(read.dimensions(), (5, 3));
            assert_eq!(read.into_raw(), picture.pixels(), "{format:?}");
        }
        let file = encode_image(&picture, OutputFormat::Jpeg).expect("encodes");
        assert!(file.starts_with(&[0xff, 0xd8, 0xff]));
    }
}
