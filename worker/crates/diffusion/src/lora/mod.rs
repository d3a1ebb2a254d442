//! LoRAs: small files that change a model's weights.
//!
//! A [`Lora`] is read once and belongs to no model. [`Pipeline::set_loras`] computes `W + Σ scale · alpha / rank · B A`
//! for the weights that a set of them changes, puts the results in their place and keeps the model's own weights, so
//! that undoing it is putting back the very tensors.
//!
//! [`Pipeline::set_loras`]: crate::Pipeline::set_loras

mod apply;
mod changes;
mod describe;
mod file;
mod layer;
mod names;
mod scaling;

use std::fmt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::{WeightsBytes, map_file};
use crate::weights::Header;

pub(crate) use apply::LoraSet;
pub use describe::LoraDescription;

use changes::read_changes;
use file::{LoraFile, is_pickle, refuse_pickle};
use layer::Change;

/// The largest file that is read, in bytes; the largest known LoRA is a third.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;

/// A LoRA, read and checked, in host memory in its file's precision.
pub struct Lora {
    name: String,
    description: LoraDescription,
    changes: Vec<Change>,
}

impl Lora {
    /// Reads a `.safetensors` file in kohya's, LyCORIS's, diffusers' or peft's way of naming.
    ///
    /// Errors if it cannot be read, is no safetensors file, holds what is no part of a LoRA or of one that is not
    /// implemented, or if its tensors do not fit together.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let (bytes, data_start, file) = open(path.as_ref())?;
        let data = bytes.get(data_start..).unwrap_or_default();
        Ok(Self {
            changes: read_changes(&file, data)?,
            description: LoraDescription::of(&file),
            name: file.name,
        })
    }

    /// What the file at `path` is, from its header alone. Errors as [`Lora::open`] does, but for the tensors' numbers.
    pub fn describe(path: impl AsRef<Path>) -> Result<LoraDescription> {
        let (_, _, file) = open(path.as_ref())?;
        Ok(LoraDescription::of(&file))
    }

    /// What it is.
    #[must_use]
    pub fn description(&self) -> &LoraDescription {
        &self.description
    }
}

impl fmt::Debug for Lora {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lora")
            .field("name", &self.name)
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

/// The file's bytes, where its tensors start in them, and its header.
fn open(path: &Path) -> Result<(WeightsBytes, usize, LoraFile)> {
    let name = path.display().to_string();
    refuse_pickle(path)?;
    let bytes = map_file(path)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(Error::weights(
            &name,
            format_args!(
                "is {} bytes; a LoRA may have at most {FILE_BYTES_MAX}",
                bytes.len()
            ),
        ));
    }
    // A zip archive, in which torch keeps its pickles, or a bare one.
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") {
        return Err(is_pickle(&name));
    }
    let header = Header::read(&name, &bytes)?;
    let file = LoraFile::sort(name, header.texts, header.tensors)?;
    Ok((bytes, header.data_start, file))
}
