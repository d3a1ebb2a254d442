//! Reading back what files say, ours and others'. The files are strangers': everything read has a bound.

use super::{PARAMETERS_KEYWORD, REQUEST_KEYWORD, UNICODE_COMMENT, infotext};
use crate::decode::{PictureError, PictureFormat};
use exif::{Tag, Value};
use image::{
    ImageDecoder,
    codecs::{jpeg::JpegDecoder, webp::WebPDecoder},
};
use png::text_metadata::{ITXtChunk, ZTXtChunk};
use scumble_protocol::{PictureText, PngInfo, TextSource, limits::IMAGE_BYTES_MAX};
use std::io::Cursor;

/// Texts of one file that are read.
const TEXTS_MAX: usize = 64;
/// Bytes of one text, decompressed; longer ones are cut or left out.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Bytes of all texts of one file.
const TEXTS_BYTES_MAX: usize = 4 << 20;

/// What was found in a file so far.
#[derive(Default)]
struct Found {
    texts: Vec<PictureText>,
    bytes: usize,
    width: u32,
    height: u32,
    warnings: Vec<String>,
}

/// What a picture's file says about how it was drawn. Reads no pixels.
///
/// # Errors
/// If the file is too large, none of the formats, or has no sound header.
pub fn read(bytes: &[u8]) -> Result<PngInfo, PictureError> {
    if bytes.len() > IMAGE_BYTES_MAX {
        return Err(PictureError::TooManyBytes { bytes: bytes.len() });
    }
    let found = match PictureFormat::of(bytes).ok_or(PictureError::UnknownFormat)? {
        PictureFormat::Png => read_png(bytes)?,
        format @ PictureFormat::Jpeg => {
            let decoder = JpegDecoder::new(Cursor::new(bytes));
            read_exif(decoder.map_err(|error| PictureError::explain(format, error))?)
        }
        format @ PictureFormat::Webp => {
            let decoder = WebPDecoder::new(Cursor::new(bytes));
            read_exif(decoder.map_err(|error| PictureError::explain(format, error))?)
        }
    };
    Ok(understand(found))
}

fn understand(mut found: Found) -> PngInfo {
    let text = |keys: &[&str]| {
        found
            .texts
            .iter()
            .find(|text| keys.contains(&text.key.as_str()))
            .map(|text| text.text.clone())
    };
    let has = |keys: &[&str]| text(keys).is_some();
    let parameters = text(&[PARAMETERS_KEYWORD, "UserComment"]);
    let scumble = text(&[REQUEST_KEYWORD]).and_then(|json| serde_json::from_str(&json).ok());
    let source = if has(&[REQUEST_KEYWORD]) {
        Some(TextSource::Scumble)
    } else if has(&["invokeai_metadata", "sd-metadata", "Dream"]) {
        Some(TextSource::Invokeai)
    } else if has(&["workflow"]) || text(&["prompt"]).is_some_and(|text| text.starts_with('{')) {
        Some(TextSource::Comfyui)
    } else {
        parameters.as_ref().map(|text| {
            if text.contains("Version: Scumble ") {
                TextSource::Scumble
            } else {
                TextSource::Automatic1111
            }
        })
    };
    if has(&[REQUEST_KEYWORD]) && scumble.is_none() {
        found
            .warnings
            .push("the request in the file is not one that this version understands".to_owned());
    }
    PngInfo {
        source,
        request: parameters.as_deref().map(infotext::parse),
        parameters,
        scumble,
        texts: found.texts,
        width: found.width,
        height: found.height,
        warnings: found.warnings,
    }
}

impl Found {
    fn push(&mut self, key: &str, text: &str) {
        if self.texts.len() >= TEXTS_MAX {
            return self.warn(format!("there are more than {TEXTS_MAX} texts"));
        }
        let room = TEXT_BYTES_MAX.min(TEXTS_BYTES_MAX.saturating_sub(self.bytes));
        let cut = cut(text, room);
        if cut.len() < text.len() {
            self.warn(format!("{key} is cut to {} bytes", cut.len()));
        }
        self.bytes += cut.len();
        self.texts.push(PictureText {
            key: key.to_owned(),
            text: cut.to_owned(),
        });
    }

    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) && self.warnings.len() < TEXTS_MAX {
            self.warnings.push(warning);
        }
    }
}

/// At most `bytes_max` bytes, not in the middle of a character.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn read_png(bytes: &[u8]) -> Result<Found, PictureError> {
    let explain = |error: png::DecodingError| match error {
        png::DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            PictureError::Truncated("PNG")
        }
        png::DecodingError::LimitsExceeded => PictureError::TooMuchMemory,
        error => PictureError::Broken {
            format: "PNG",
            reason: error.to_string().to_lowercase(),
        },
    };
    let mut found = Found::default();
    let mut reader = png::Decoder::new(Cursor::new(bytes))
        .read_info()
        .map_err(explain)?;
    // Some programs write their texts behind the pixels, which are passed over here.
    if reader.finish().is_err() {
        found.warn("the file is broken behind its header: texts there are not read".to_owned());
    }
    let info = reader.info();
    (found.width, found.height) = (info.width, info.height);
    for chunk in &info.uncompressed_latin1_text {
        found.push(&chunk.keyword, &chunk.text);
    }
    for chunk in &info.compressed_latin1_text {
        push_compressed(&mut found, &chunk.keyword, || inflate_latin1(chunk));
    }
    for chunk in &info.utf8_text {
        push_compressed(&mut found, &chunk.keyword, || inflate_utf8(chunk));
    }
    Ok(found)
}

fn push_compressed(
    found: &mut Found,
    keyword: &str,
    inflate: impl FnOnce() -> Result<String, png::DecodingError>,
) {
    // Before the work, so that a thousand bombs cost no more than these.
    if found.texts.len() >= TEXTS_MAX || found.bytes >= TEXTS_BYTES_MAX {
        return found.warn(format!("there are more than {TEXTS_MAX} texts"));
    }
    match inflate() {
        Ok(text) => found.push(keyword, &text),
        Err(_) => {
            found.warn(format!(
                "{keyword} cannot be decompressed into {TEXT_BYTES_MAX} bytes"
            ));
            // It counts against the bound all the same.
            found.bytes += TEXT_BYTES_MAX;
        }
    }
}

fn inflate_latin1(chunk: &ZTXtChunk) -> Result<String, png::DecodingError> {
    let mut chunk = chunk.clone();
    chunk.decompress_text_with_limit(TEXT_BYTES_MAX)?;
    chunk.get_text()
}

fn inflate_utf8(chunk: &ITXtChunk) -> Result<String, png::DecodingError> {
    let mut chunk = chunk.clone();
    chunk.decompress_text_with_limit(TEXT_BYTES_MAX)?;
    chunk.get_text()
}

fn read_exif<D: ImageDecoder>(mut decoder: D) -> Found {
    let mut found = Found::default();
    (found.width, found.height) = decoder.dimensions();
    let Ok(Some(raw)) = decoder.exif_metadata() else {
        return found;
    };
    let Ok(exif) = exif::Reader::new().read_raw(raw) else {
        found.warn("the EXIF data cannot be read".to_owned());
        return found;
    };
    // The fields that programs are known to write into; ComfyUI takes those of the camera.
    for (tag, name) in [
        (Tag::UserComment, "UserComment"),
        (Tag::ImageDescription, "ImageDescription"),
        (Tag::Make, "Make"),
        (Tag::Model, "Model"),
        (Tag::Software, "Software"),
    ] {
        let text = exif
            .get_field(tag, exif::In::PRIMARY)
            .and_then(|field| exif_text(&field.value));
        let Some(text) = text else { continue };
        match text.split_once(':') {
            Some((key @ ("prompt" | "workflow"), json)) if json.starts_with('{') => {
                found.push(key, json);
            }
            _ => found.push(name, &text),
        }
    }
    found
}

fn exif_text(value: &Value) -> Option<String> {
    match value {
        Value::Undefined(bytes, _) => match bytes.strip_prefix(UNICODE_COMMENT) {
            Some(utf16) => Some(from_utf16(utf16)),
            None => {
                let text = bytes.strip_prefix(b"ASCII\0\0\0").unwrap_or(bytes);
                Some(String::from_utf8_lossy(text).trim_matches('\0').to_owned())
            }
        },
        Value::Ascii(lines) => Some(String::from_utf8_lossy(&lines.join(&b'\n')).into_owned()),
        _ => None,
    }
    .filter(|text| !text.trim().is_empty())
}

/// EXIF does not say which byte of a pair comes first, and programs differ. A1111 puts the high one first; where more
/// of the second bytes are zero, it is the other way round, unless a mark says so itself.
pub(super) fn from_utf16(bytes: &[u8]) -> String {
    let pairs = || bytes.chunks_exact(2);
    let zeros = |place: usize| pairs().filter(|pair| pair.get(place) == Some(&0)).count();
    let low_first = match bytes {
        [0xfe, 0xff, ..] => false,
        [0xff, 0xfe, ..] => true,
        _ => zeros(1) > zeros(0),
    };
    let units: Vec<u16> = pairs()
        .filter_map(|pair| {
            let pair: [u8; 2] = pair.try_into().ok()?;
            Some(if low_first {
                u16::from_le_bytes(pair)
            } else {
                u16::from_be_bytes(pair)
            })
        })
        .collect();
    let text = String::from_utf16_lossy(&units);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    text.trim_end_matches('\0').to_owned()
}
