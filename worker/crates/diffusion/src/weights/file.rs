//! One safetensors file: its header read and checked, its bytes mapped.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use safetensors::SafeTensors;
use safetensors::tensor::TensorInfo;
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, Result};
use crate::files::WeightsBytes;

/// The header is preceded by its length in this many bytes.
const LENGTH_BYTES: usize = 8;

/// What a safetensors file's header says.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) tensors: BTreeMap<String, TensorInfo>,
    /// What the writer said besides, by name.
    pub(crate) texts: HashMap<String, String>,
    /// Where the tensors' offsets count from.
    pub(crate) data_start: usize,
}

impl Header {
    /// Reads and checks a file's header. `file` is its name for errors.
    ///
    /// Errors if the file is something else, is truncated, names a tensor twice, or contradicts itself.
    pub(crate) fn read(file: &str, bytes: &[u8]) -> Result<Self> {
        if let Some(other) = something_else(bytes) {
            return Err(Error::weights(file, other));
        }
        // Before anything else: the parser would keep the last of them, and then complain of a hole in the file.
        let twice = names_given_twice(header_json(bytes));
        if !twice.is_empty() {
            return Err(Error::weights(
                file,
                format_args!("names tensors twice: {}", enumerate(&twice)),
            ));
        }
        let (header_bytes, metadata) = SafeTensors::read_metadata(bytes)
            .map_err(|error| Error::weights(file, describe_damage(&error, bytes.len())))?;
        let mut tensors = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            tensors.insert(name, info.clone());
        }
        Ok(Self {
            tensors,
            texts: metadata.metadata().clone().unwrap_or_default(),
            data_start: LENGTH_BYTES + header_bytes,
        })
    }
}

/// A safetensors file, open.
pub(crate) struct TensorFile {
    /// Its name for errors.
    pub(crate) name: String,
    pub(crate) header: Header,
    bytes: WeightsBytes,
}

impl TensorFile {
    /// Errors as [`Header::read`] does.
    pub(crate) fn new(name: String, bytes: WeightsBytes) -> Result<Self> {
        Ok(Self {
            header: Header::read(&name, &bytes)?,
            bytes,
            name,
        })
    }

    /// Bytes `start..end` of the tensors.
    pub(crate) fn data(&self, start: usize, end: usize) -> Option<&[u8]> {
        let from = self.header.data_start.checked_add(start)?;
        self.bytes
            .get(from..self.header.data_start.checked_add(end)?)
    }

    /// Gives the memory of bytes that were read back; reading them again would fetch them from the file.
    pub(crate) fn release(&self, start: usize, end: usize) {
        self.bytes
            .release(self.header.data_start + start, end.saturating_sub(start));
    }
}

/// What a file is that is no safetensors file, as far as its first bytes tell.
fn something_else(bytes: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 12] = [
        (
            b"PK\x03\x04",
            "is a zip archive, as PyTorch's pickles are, which can run any code when opened; save the weights as \
             .safetensors",
        ),
        (
            b"\x80\x02",
            "is a pickle, which can run any code when opened; save the weights as .safetensors",
        ),
        (
            b"version https://git-lfs",
            "is a Git LFS pointer, not the weights themselves; fetch them with git lfs pull",
        ),
        (
            b"GGUF",
            "is a GGUF file, which is not supported; use .safetensors",
        ),
        (
            b"<!",
            "is a web page, not safetensors weights; the download went wrong",
        ),
        (
            b"<h",
            "is a web page, not safetensors weights; the download went wrong",
        ),
        (
            b"<H",
            "is a web page, not safetensors weights; the download went wrong",
        ),
        (
            b"{\"",
            "is JSON, not safetensors weights; the download went wrong",
        ),
        (
            b"\x1f\x8b",
            "is compressed with gzip; unpack it to the .safetensors file",
        ),
        (b"\x89HDF", "is an HDF5 file, not safetensors weights"),
        (b"\x89PNG", "is a PNG picture, not safetensors weights"),
        (
            b"\xff\xd8\xff",
            "is a JPEG picture, not safetensors weights",
        ),
    ];
    // A real header starts with its length; none of these could be one, for it would be many gigabytes, or, for the
    // two-byte marks, the brace that must come ninth is missing.
    if bytes.get(LENGTH_BYTES) == Some(&b'{') {
        return None;
    }
    KINDS
        .iter()
        .find(|(start, _)| bytes.starts_with(start))
        .map(|(_, what)| *what)
}

/// The header, or nothing where its length is not to be believed.
fn header_json(bytes: &[u8]) -> &[u8] {
    let length = bytes
        .first_chunk::<LENGTH_BYTES>()
        .and_then(|length| usize::try_from(u64::from_le_bytes(*length)).ok())
        .and_then(|length| length.checked_add(LENGTH_BYTES));
    length
        .and_then(|end| bytes.get(LENGTH_BYTES..end))
        .unwrap_or_default()
}

/// Names that a JSON object gives more than once. The parser of safetensors would keep the last.
fn names_given_twice(json: &[u8]) -> Vec<String> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<String>, A::Error> {
            let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
            while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                if !seen.insert(name.clone()) {
                    twice.insert(name);
                }
            }
            Ok(twice.into_iter().collect())
        }
    }
    serde_json::Deserializer::from_slice(json)
        .deserialize_map(Names)
        .unwrap_or_default()
}

fn describe_damage(error: &safetensors::SafeTensorError, length: usize) -> String {
    use safetensors::SafeTensorError as Damage;
    match error {
        Damage::HeaderTooSmall => {
            format!("is truncated: {length} bytes cannot be a safetensors file")
        }
        Damage::InvalidHeaderLength | Damage::MetadataIncompleteBuffer => {
            format!(
                "is truncated or has trailing bytes: its header does not describe a file of {length} bytes"
            )
        }
        other => format!("is not a sound safetensors file: {other}"),
    }
}

/// How many problems of one kind are spelled out; the rest is counted.
const PROBLEMS_SHOWN_MAX: usize = 8;

/// The first names, and how many more there are.
pub(crate) fn enumerate(names: &[String]) -> String {
    let shown: Vec<&str> = names
        .iter()
        .take(PROBLEMS_SHOWN_MAX)
        .map(String::as_str)
        .collect();
    let rest = names.len() - shown.len();
    if rest == 0 {
        shown.join(", ")
    } else {
        format!("{} and {rest} more", shown.join(", "))
    }
}
