//! What a picture's file says about how it was drawn: written into every file, and read back from ours and others'.

mod infotext;
mod read;

pub(crate) use infotext::take_loras;
pub use read::read;

use crate::record::to_bytes;
use exif::{Field, In, Tag, Value, experimental::Writer};
use scumble_protocol::{BatchSize, NormalizedRequest, Seed};
use std::io::Cursor;

/// The keyword of A1111's text in a PNG.
pub(crate) const PARAMETERS_KEYWORD: &str = "parameters";
/// The keyword of the request, as JSON, in a PNG.
pub(crate) const REQUEST_KEYWORD: &str = "scumble";
/// How EXIF marks a comment in UTF-16.
const UNICODE_COMMENT: &[u8; 8] = b"UNICODE\0";

/// U+FEFF with its high byte first.
const BYTE_ORDER_MARK: [u8; 2] = [0xfe, 0xff];

/// What one picture's file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureMetadata {
    /// A1111's text.
    pub parameters: String,
    /// The request that draws this picture alone, as JSON.
    pub request: String,
}

impl PictureMetadata {
    /// What to say of the picture that a request draws from `seed`; `None` if it asks for nothing to be said.
    #[must_use]
    pub fn of(request: &NormalizedRequest, seed: Seed) -> Option<Self> {
        if !request.metadata {
            return None;
        }
        let request = NormalizedRequest {
            seed,
            n: BatchSize::new(1).unwrap_or(request.n),
            ..request.clone()
        };
        Some(Self {
            parameters: infotext::write(&request),
            request: String::from_utf8_lossy(&to_bytes(&request)).into_owned(),
        })
    }

    /// A1111's text as the EXIF of a JPEG or WebP: a user comment in UTF-16, where A1111 has it too. `None` where it
    /// is too long for a JPEG's segment, which the bounds of a request rule out.
    #[must_use]
    pub fn to_exif(&self) -> Option<Vec<u8>> {
        const SEGMENT_BYTES_MAX: usize = 65_000;
        let text: Vec<u8> = self
            .parameters
            .encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect();
        let mut comment = UNICODE_COMMENT.to_vec();
        if read::from_utf16(&text) != self.parameters {
            // Readers have to guess the order of the bytes; where they would guess wrong, a mark says it.
            comment.extend(BYTE_ORDER_MARK);
        }
        comment.extend(text);
        let field = Field {
            tag: Tag::UserComment,
            ifd_num: In::PRIMARY,
            value: Value::Undefined(comment, 0),
        };
        let mut writer = Writer::new();
        writer.push_field(&field);
        let mut file = Cursor::new(Vec::new());
        writer.write(&mut file, false).ok()?;
        Some(file.into_inner()).filter(|bytes| bytes.len() <= SEGMENT_BYTES_MAX)
    }
}
