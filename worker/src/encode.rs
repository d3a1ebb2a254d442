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

/// A finished image as a file that says how it was drawn, if it is to.
///
/// # Errors
/// If the encoder refuses the size.
pub fn encode_image(
    image: &RgbImage,
    format: OutputFormat,
    metadata: Option<&PictureMetadata>,
) -> Result<Vec<u8>, ImageError> {
    match format {
        OutputFormat::Png => png(image, metadata),
        OutputFormat::Webp => webp(image, metadata),
        OutputFormat::Jpeg => jpeg(image, JPEG_QUALITY, metadata),
    }
}

/// A preview as a file.
///
/// # Errors
/// If the encoder refuses the size.
pub fn encode_preview(image: &RgbImage, format: PreviewFormat) -> Result<Vec<u8>, ImageError> {
    match format {
        PreviewFormat::Png => png(image, None),
        PreviewFormat::Webp => webp(image, None),
        PreviewFormat::Jpeg => jpeg(image, PREVIEW_JPEG_QUALITY, None),
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

fn png(image: &RgbImage, metadata: Option<&PictureMetadata>) -> Result<Vec<u8>, ImageError> {
    let mut file = Vec::new();
    let (width, height) = size(image);
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    encoder.set_filter(png::Filter::Adaptive);
    let mut writer = encoder.write_header().map_err(png_error)?;
    if let Some(metadata) = metadata {
        write_texts(&mut writer, metadata).map_err(png_error)?;
    }
    writer.write_image_data(image.pixels()).map_err(png_error)?;
    writer.finish().map_err(png_error)?;
    Ok(file)
}

/// As A1111 writes it: plain where the text is Latin-1, so that the oldest readers see it.
fn write_texts<W: std::io::Write>(
    writer: &mut png::Writer<W>,
    metadata: &PictureMetadata,
) -> Result<(), png::EncodingError> {
    let parameters = metadata.parameters.as_str();
    if parameters.chars().all(|char| u32::from(char) < 256) {
        writer.write_text_chunk(&TEXtChunk::new(PARAMETERS_KEYWORD, parameters))?;
    } else {
        writer.write_text_chunk(&ITXtChunk::new(PARAMETERS_KEYWORD, parameters))?;
    }
    writer.write_text_chunk(&ITXtChunk::new(REQUEST_KEYWORD, metadata.request.as_str()))
}

fn png_error(error: png::EncodingError) -> ImageError {
    match error {
        png::EncodingError::IoError(error) => ImageError::IoError(error),
        error => ImageError::Encoding(EncodingError::new(
            ImageFormatHint::Exact(image::ImageFormat::Png),
            error,
        )),
    }
}

fn webp(image: &RgbImage, metadata: Option<&PictureMetadata>) -> Result<Vec<u8>, ImageError> {
    let mut file = Vec::new();
    write(WebPEncoder::new_lossless(&mut file), image, metadata)?;
    Ok(file)
}

fn jpeg(
    image: &RgbImage,
    quality: u8,
    metadata: Option<&PictureMetadata>,
) -> Result<Vec<u8>, ImageError> {
    let mut file = Vec::new();
    write(
        JpegEncoder::new_with_quality(&mut file, quality),
        image,
        metadata,
    )?;
    Ok(file)
}

fn write(
    mut encoder: impl ImageEncoder,
    image: &RgbImage,
    metadata: Option<&PictureMetadata>,
) -> Result<(), ImageError> {
    if let Some(exif) = metadata.and_then(PictureMetadata::to_exif) {
        encoder
            .set_exif_metadata(exif)
            .map_err(ImageError::Unsupported)?;
    }
    let (width, height) = size(image);
    encoder.write_image(image.pixels(), width, height, ColorType::Rgb8.into())
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
            let file = encode_image(&picture, format, None).expect("encodes");
            let read = image::load_from_memory(&file).expect("decodes").to_rgb8();
            assert_eq!(read.dimensions(), (5, 3));
            assert_eq!(read.into_raw(), picture.pixels(), "{format:?}");
        }
        let file = encode_image(&picture, OutputFormat::Jpeg, None).expect("encodes");
        assert!(file.starts_with(&[0xff, 0xd8, 0xff]));
    }
}
