//! Files to pixels: PNG, JPEG and WebP from strangers, checked from the header before anything is decoded.

use image::{
    DynamicImage, ImageDecoder, ImageError, Limits,
    codecs::{jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder},
    metadata::Orientation,
};
use scumble_diffusion::{GrayImage, RgbImage, split_alpha};
use scumble_protocol::limits::{IMAGE_BYTES_MAX, IMAGE_SIDE_PIXELS_MAX};
use std::io::Cursor;

/// Bytes that one picture may take while it is decoded: the largest with four 16-bit channels, and room to work in.
const DECODED_BYTES_MAX: u64 =
    IMAGE_SIDE_PIXELS_MAX as u64 * IMAGE_SIDE_PIXELS_MAX as u64 * 8 + (32 << 20);

/// What a file is, by its first bytes and not by what it was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureFormat {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
    /// WebP.
    Webp,
}

impl PictureFormat {
    /// The format that these are the first bytes of.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else if bytes.starts_with(b"\xff\xd8\xff") {
            Some(Self::Jpeg)
        } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            Some(Self::Webp)
        } else {
            None
        }
    }

    /// The media type.
    #[must_use]
    pub const fn mime_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Webp => "WebP",
        }
    }
}

/// Why a file is no picture that can be used. The message follows the name of the field.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// None of the formats.
    #[error("must be a PNG, JPEG or WebP file; what is there is none of them")]
    UnknownFormat,
    /// Too many bytes.
    #[error("must be at most {IMAGE_BYTES_MAX} bytes, got {bytes}")]
    TooManyBytes {
        /// How many.
        bytes: usize,
    },
    /// Too many pixels.
    #[error(
        "must be at most {IMAGE_SIDE_PIXELS_MAX}x{IMAGE_SIDE_PIXELS_MAX} pixels, got {width}x{height}"
    )]
    TooManyPixels {
        /// Across.
        width: u32,
        /// Down.
        height: u32,
    },
    /// The file ends early.
    #[error("must be a whole file; this {0} ends early")]
    Truncated(&'static str),
    /// The file is not what its format asks for.
    #[error("must be a sound file; this {format} cannot be decoded: {reason}")]
    Broken {
        /// Which format.
        format: &'static str,
        /// What the decoder says.
        reason: String,
    },
    /// More than one picture could take.
    #[error("must be a picture that decodes within {DECODED_BYTES_MAX} bytes of memory")]
    TooMuchMemory,
}

impl PictureError {
    /// A decoder's error in our words.
    pub(crate) fn explain(format: PictureFormat, error: ImageError) -> Self {
        match error {
            ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Self::Truncated(format.name())
            }
            ImageError::Limits(_) => Self::TooMuchMemory,
            error => Self::Broken {
                format: format.name(),
                reason: innermost(&error).to_lowercase(),
            },
        }
    }
}

/// A decoded picture, upright.
#[derive(Debug, Clone)]
pub struct Picture {
    pixels: DynamicImage,
    /// What the file is.
    pub format: PictureFormat,
    /// Whether the file has more frames than the one that was decoded, its first.
    pub is_animated: bool,
}

impl Picture {
    /// Decodes a file. Its EXIF orientation is applied; of an animation, the first frame counts. Colours are taken as
    /// sRGB whatever profile the file has.
    ///
    /// # Errors
    /// If the file is too large, too wide, none of the formats, or broken.
    pub fn decode(bytes: &[u8]) -> Result<Self, PictureError> {
        if bytes.len() > IMAGE_BYTES_MAX {
            return Err(PictureError::TooManyBytes { bytes: bytes.len() });
        }
        let format = PictureFormat::of(bytes).ok_or(PictureError::UnknownFormat)?;
        let explain = |error| PictureError::explain(format, error);
        let (pixels, is_animated) = match format {
            PictureFormat::Png => {
                // Here and not only below: the decoder reads on to the pixels before it tells the size.
                png_size(bytes).map_or(Ok(()), |(width, height)| check_size(width, height))?;
                let decoder =
                    PngDecoder::with_limits(Cursor::new(bytes), limits()).map_err(explain)?;
                let is_animated = decoder.is_apng().map_err(explain)?;
                (read(decoder, format)?, is_animated)
            }
            PictureFormat::Jpeg => {
                let decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(explain)?;
                if !jpeg_has_end(bytes) {
                    // The decoder would fill what is missing with grey.
                    return Err(PictureError::Truncated(format.name()));
                }
                (read(decoder, format)?, false)
            }
            PictureFormat::Webp => {
                let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(explain)?;
                let is_animated = decoder.has_animation();
                (read(decoder, format)?, is_animated)
            }
        };
        Ok(Self {
            pixels,
            format,
            is_animated,
        })
    }

    /// Pixels across.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.pixels.width()
    }

    /// Pixels down.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.pixels.height()
    }

    /// Whether any pixel is less than opaque.
    #[must_use]
    pub fn has_transparency(&self) -> bool {
        self.pixels.color().has_alpha()
            && self
                .pixels
                .to_rgba8()
                .pixels()
                .any(|pixel| pixel.0[3] != u8::MAX)
    }

    /// The colours, laid on white where they are less than opaque.
    ///
    /// # Errors
    /// None for what [`Picture::decode`] gave.
    pub fn to_rgb(&self) -> Result<RgbImage, scumble_diffusion::Error> {
        let pixels = if self.pixels.color().has_alpha() {
            let on_white = |value: u8, alpha: u8| {
                let alpha = u16::from(alpha);
                rounded_255th(u16::from(value) * alpha + 255 * (255 - alpha))
            };
            self.pixels
                .to_rgba8()
                .pixels()
                .flat_map(|pixel| {
                    let [red, green, blue, alpha] = pixel.0;
                    [red, green, blue].map(|value| on_white(value, alpha))
                })
                .collect()
        } else {
            self.pixels.to_rgb8().into_raw()
        };
        RgbImage::new(side(self.width()), side(self.height()), pixels)
    }

    /// The colours as they stand, and the mask of what is transparent.
    ///
    /// # Errors
    /// None for what [`Picture::decode`] gave.
    pub fn to_rgb_and_hole(&self) -> Result<(RgbImage, GrayImage), scumble_diffusion::Error> {
        let rgba = self.pixels.to_rgba8().into_raw();
        split_alpha(side(self.width()), side(self.height()), rgba)
    }

    /// The brightness (ITU-R BT.601), laid on black where it is less than opaque: a mask, white where to paint.
    ///
    /// # Errors
    /// None for what [`Picture::decode`] gave.
    pub fn to_mask(&self) -> Result<GrayImage, scumble_diffusion::Error> {
        let brightness = |pixel: &image::Rgba<u8>| {
            let [red, green, blue, alpha] = pixel.0.map(u32::from);
            let luma = (red * 299 + green * 587 + blue * 114 + 500) / 1_000;
            // At most 255 * 255.
            rounded_255th(u16::try_from(luma * alpha).unwrap_or(u16::MAX))
        };
        let pixels = self.pixels.to_rgba8().pixels().map(brightness).collect();
        GrayImage::new(side(self.width()), side(self.height()), pixels)
    }
}

fn read<D: ImageDecoder>(
    mut decoder: D,
    format: PictureFormat,
) -> Result<DynamicImage, PictureError> {
    let explain = |error| PictureError::explain(format, error);
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    decoder.set_limits(limits()).map_err(explain)?;
    // A picture whose EXIF cannot be read is as good as one without.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut pixels = DynamicImage::from_decoder(decoder).map_err(explain)?;
    pixels.apply_orientation(orientation);
    Ok(pixels)
}

fn check_size(width: u32, height: u32) -> Result<(), PictureError> {
    if width > IMAGE_SIDE_PIXELS_MAX || height > IMAGE_SIDE_PIXELS_MAX {
        return Err(PictureError::TooManyPixels { width, height });
    }
    Ok(())
}

/// The size in the header chunk, which comes first (ISO/IEC 15948, section 11.2.2).
fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    Some((number(16)?, number(20)?))
}

fn limits() -> Limits {
    // The sides are checked by hand, for an error with the numbers.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    limits
}

/// The decoder's own words, without those of the layers above it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Whether an end marker follows the first scan. Segments are walked, since the EXIF one may hold a whole small JPEG
/// with an end of its own; inside a scan the two bytes of the marker never stand together.
fn jpeg_has_end(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const END_OF_IMAGE: u8 = 0xd9;
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        match *rest {
            [0xff, 0xff, ..] => rest = rest.get(1..).unwrap_or_default(),
            [0xff, START_OF_SCAN, ref scan @ ..] => {
                return scan.windows(2).any(|pair| pair == [0xff, END_OF_IMAGE]);
            }
            // Markers without a segment.
            [0xff, 0x01 | 0xd0..=0xd8, ref after @ ..] => rest = after,
            [0xff, _, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                rest = rest.get(2 + length..).unwrap_or_default();
            }
            _ => return false,
        }
    }
}

fn rounded_255th(value: u16) -> u8 {
    u8::try_from((u32::from(value) + 127) / 255).unwrap_or(u8::MAX)
}

fn side(pixels: u32) -> usize {
    usize::try_from(pixels).unwrap_or(usize::MAX)
}
