//! A model's files: a folder on disk or byte slices inside the binary, behind one interface.

use std::borrow::Cow;
#[cfg(not(target_family = "wasm"))]
use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// The largest JSON, vocabulary or merges file that is read, in bytes; the largest known `tokenizer.json` is a tenth.
const TEXT_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Where a model's files are.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Folder(PathBuf),
    Embedded(&'static [(&'static str, &'static [u8])]),
}

impl ModelFiles {
    /// A model: a folder in the diffusers layout, or a single `.safetensors` file.
    ///
    /// Errors if there is neither, or what is there is no model.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::folder(path)
    }

    /// A folder in the diffusers layout. Errors if `path` is no folder or has no `model_index.json`.
    pub fn folder(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !path.exists() {
            return Err(Error::missing(
                &path.display().to_string(),
                "there is no such folder",
            ));
        }
        if !path.is_dir() {
            return Err(Error::unsupported(
                &path.display().to_string(),
                "is a file; a model is a folder in the diffusers layout with a model_index.json",
            ));
        }
        let files = Self {
            source: Source::Folder(path.to_owned()),
        };
        if !files.exists("model_index.json") {
            return Err(Error::missing(
                &files.name("model_index.json"),
                "is missing; a model folder in the diffusers layout starts with it",
            ));
        }
        Ok(files)
    }

    /// Files inside the binary: relative path with `/`, bytes.
    #[must_use]
    pub fn embedded(files: &'static [(&'static str, &'static [u8])]) -> Self {
        Self {
            source: Source::Embedded(files),
        }
    }

    /// The bytes of a small file, `None` if it is not there. Errors if it cannot be read or is absurdly large.
    pub fn read(&self, path: &str) -> Result<Option<Cow<'static, [u8]>>> {
        match &self.source {
            Source::Embedded(files) => Ok(files
                .iter()
                .find(|(name, _)| *name == path)
                .map(|(_, bytes)| Cow::Borrowed(*bytes))),
            Source::Folder(folder) => {
                let full = folder.join(path);
                let length = match std::fs::metadata(&full) {
                    Ok(metadata) => metadata.len(),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(self.io_error(path, &error)),
                };
                if length > TEXT_FILE_BYTES_MAX {
                    return Err(Error::config(
                        &self.name(path),
                        format_args!(
                            "is {length} bytes; a file of this kind may have at most {TEXT_FILE_BYTES_MAX}"
                        ),
                    ));
                }
                std::fs::read(&full)
                    .map(|bytes| Some(Cow::Owned(bytes)))
                    .map_err(|error| self.io_error(path, &error))
            }
        }
    }

    /// The bytes of a weights file, memory-mapped where it lies in a folder.
    pub(crate) fn open_weights(&self, path: &str) -> Result<WeightsBytes> {
        match &self.source {
            Source::Embedded(files) => files
                .iter()
                .find(|(name, _)| *name == path)
                .map(|(_, bytes)| WeightsBytes::Embedded(bytes))
                .ok_or_else(|| Error::missing(path, "is missing")),
            Source::Folder(folder) => {
                map_file(&folder.join(path)).map_err(|error| self.io_error(path, &error))
            }
        }
    }

    /// Whether the file exists.
    pub(crate) fn exists(&self, path: &str) -> bool {
        match &self.source {
            Source::Embedded(files) => files.iter().any(|(name, _)| *name == path),
            Source::Folder(folder) => folder.join(path).is_file(),
        }
    }

    /// The names of the files directly inside `folder`, sorted.
    pub(crate) fn list(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = match &self.source {
            Source::Embedded(files) => files
                .iter()
                .filter_map(|(name, _)| name.strip_prefix(folder)?.strip_prefix('/'))
                .filter(|name| !name.contains('/'))
                .map(str::to_owned)
                .collect(),
            Source::Folder(root) => std::fs::read_dir(root.join(folder))
                .map(|entries| {
                    entries
                        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                        .collect()
                })
                .unwrap_or_default(),
        };
        names.sort();
        names
    }

    /// The file's name for messages: with the folder in front where there is one.
    pub(crate) fn name(&self, path: &str) -> String {
        match &self.source {
            Source::Embedded(_) => path.to_owned(),
            Source::Folder(folder) => folder.join(path).display().to_string(),
        }
    }

    fn io_error(&self, path: &str, error: &std::io::Error) -> Error {
        Error::new(
            ErrorKind::Io,
            format!("{}: cannot be read: {error}", self.name(path)),
        )
    }
}

/// A weights file's bytes.
pub(crate) enum WeightsBytes {
    Embedded(&'static [u8]),
    #[cfg(not(target_family = "wasm"))]
    Mapped(memmap2::Mmap),
    #[cfg(target_family = "wasm")]
    Read(Vec<u8>),
}

impl Deref for WeightsBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Embedded(bytes) => bytes,
            #[cfg(not(target_family = "wasm"))]
            Self::Mapped(map) => map,
            #[cfg(target_family = "wasm")]
            Self::Read(bytes) => bytes,
        }
    }
}

#[cfg(not(target_family = "wasm"))]
pub(crate) fn map_file(path: &Path) -> std::io::Result<WeightsBytes> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        // Mapping nothing is an error on some systems; the parser says what is wrong with an empty file.
        return Ok(WeightsBytes::Embedded(&[]));
    }
    #[expect(
        unsafe_code,
        reason = "a mapping is only unsound if the file is changed while it is read, which every loader of weights accepts; \
                  it is dropped as soon as the tensors are copied out"
    )]
    let map = unsafe { memmap2::Mmap::map(&file)? };
    Ok(WeightsBytes::Mapped(map))
}

#[cfg(target_family = "wasm")]
pub(crate) fn map_file(path: &Path) -> std::io::Result<WeightsBytes> {
    std::fs::read(path).map(WeightsBytes::Read)
}
