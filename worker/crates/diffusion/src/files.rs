//! A model's files: a folder on disk or byte slices inside the binary, behind one interface.

use std::borrow::Cow;
#[cfg(not(target_family = "wasm"))]
use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::{self, Checkpoint};
use crate::error::{Error, ErrorKind, Result};
use crate::weights::ComponentFiles;

/// The largest JSON, vocabulary or merges file that is read, in bytes; the largest known `tokenizer.json` is a tenth.
const TEXT_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Where a model's files are: a folder in the diffusers layout, a single file in the original layout, or bytes in the
/// binary; some components perhaps elsewhere.
///
/// Everything reads it as if it were a folder in the diffusers layout. What a single file lacks of one (configs, the
/// tokenizer's vocabulary) is derived from its tensors' shapes, see [`ModelFiles::open`].
#[derive(Debug, Clone)]
pub struct ModelFiles {
    /// Later ones hide earlier ones.
    mounts: Vec<Mount>,
}

/// A source that answers for one folder of the model, or for all of it.
#[derive(Debug, Clone)]
struct Mount {
    /// Empty for all of it.
    folder: &'static str,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Folder(PathBuf),
    Embedded(&'static [(&'static str, &'static [u8])]),
    Checkpoint(Arc<Checkpoint>),
}

impl ModelFiles {
    /// A model: a folder in the diffusers layout, or a single `.safetensors` file in the layout that Stable Diffusion
    /// was published in.
    ///
    /// A single file holds weights and nothing else. Its family, sizes and configs are told from its tensors' names and
    /// shapes, the rest is as the family's first model has it; the tokenizer is CLIP's. What shapes cannot tell may stand
    /// beside it in `<its name>.scumble.json`, all of it optional:
    ///
    /// - `prediction_type`: `epsilon`, `v_prediction` or `sample`. Without it, Stable Diffusion 2 means `v_prediction`
    ///   (as diffusers takes it), a tensor named `v_pred` means so too, and all else `epsilon`;
    /// - `defaults`, `examples`, `vocabulary`: as in a folder's `scumble.json`;
    /// - `configs`: a folder in the diffusers layout whose configs and tokenizers count instead of the derived ones;
    /// - `tokenizer`, `tokenizer_2`: folders; `vae`, `text_encoder`, `text_encoder_2`: see [`ModelFiles::with_vae`] and
    ///   [`ModelFiles::with_text_encoder`]. Paths are relative to the file.
    ///
    /// Errors if there is nothing at `path` or what is there is no model.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_file() {
            checkpoint::open(path)
        } else {
            Self::folder(path)
        }
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
                "is a file, not a folder in the diffusers layout with a model_index.json",
            ));
        }
        let files = Self::from_folder(path);
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
        Self::from_source(Source::Embedded(files))
    }

    /// The same model with another autoencoder: its folder, a model's folder that has one, or a single `.safetensors`
    /// file in either layout.
    ///
    /// Errors if there is none at `path`.
    pub fn with_vae(self, path: impl AsRef<Path>) -> Result<Self> {
        checkpoint::with_vae(self, path.as_ref())
    }

    /// The same model with text encoders from elsewhere: an encoder's folder, a model's folder (its text encoders, with
    /// their tokenizers), or a single `.safetensors` file.
    ///
    /// What fits a model with two of them is told by its width: the wider one is the second. Errors if there is none at
    /// `path`.
    pub fn with_text_encoder(self, path: impl AsRef<Path>) -> Result<Self> {
        checkpoint::with_text_encoder(self, path.as_ref())
    }

    /// Any folder, without a look inside.
    pub(crate) fn from_folder(path: &Path) -> Self {
        Self::from_source(Source::Folder(path.to_owned()))
    }

    pub(crate) fn from_checkpoint(checkpoint: Checkpoint) -> Self {
        Self::from_source(Source::Checkpoint(Arc::new(checkpoint)))
    }

    fn from_source(source: Source) -> Self {
        Self {
            mounts: vec![Mount { folder: "", source }],
        }
    }

    /// The same with `folder` answered by `other`'s root.
    pub(crate) fn mounted(mut self, folder: &'static str, other: Self) -> Self {
        self.mounts
            .extend(other.mounts.into_iter().map(|mount| Mount {
                folder,
                source: mount.source,
            }));
        self
    }

    /// The source that answers for `path`, and the path inside it.
    fn place<'a>(&self, path: &'a str) -> (&Source, &'a str) {
        const NOTHING: &Source = &Source::Embedded(&[]);
        self.mounts
            .iter()
            .rev()
            .find_map(|mount| {
                if mount.folder.is_empty() {
                    return Some((&mount.source, path));
                }
                match path.strip_prefix(mount.folder)? {
                    "" => Some((&mount.source, "")),
                    rest => Some((&mount.source, rest.strip_prefix('/')?)),
                }
            })
            .unwrap_or((NOTHING, path))
    }

    /// The bytes of a small file, `None` if it is not there. Errors if it cannot be read or is absurdly large.
    pub fn read(&self, path: &str) -> Result<Option<Cow<'static, [u8]>>> {
        match self.place(path) {
            (Source::Embedded(files), inner) => Ok(files
                .iter()
                .find(|(name, _)| *name == inner)
                .map(|(_, bytes)| Cow::Borrowed(*bytes))),
            (Source::Folder(folder), inner) => read_small(&folder.join(inner)),
            (Source::Checkpoint(checkpoint), inner) => checkpoint.read(inner),
        }
    }

    /// The component of a single file that stands for `folder`; `None` where there are files to look for.
    pub(crate) fn component(&self, folder: &str) -> Option<Result<ComponentFiles>> {
        match self.place(folder) {
            (Source::Checkpoint(checkpoint), inner) => Some(checkpoint.component(inner)),
            _ => None,
        }
    }

    /// The bytes of a weights file, memory-mapped where it lies in a folder.
    pub(crate) fn open_weights(&self, path: &str) -> Result<WeightsBytes> {
        match self.place(path) {
            (Source::Embedded(files), inner) => files
                .iter()
                .find(|(name, _)| *name == inner)
                .map(|(_, bytes)| WeightsBytes::Embedded(bytes))
                .ok_or_else(|| Error::missing(path, "is missing")),
            (Source::Folder(folder), inner) => map_file(&folder.join(inner)),
            (Source::Checkpoint(_), _) => Err(Error::missing(&self.name(path), "is missing")),
        }
    }

    /// Whether the file exists.
    pub(crate) fn exists(&self, path: &str) -> bool {
        match self.place(path) {
            (Source::Embedded(files), inner) => files.iter().any(|(name, _)| *name == inner),
            (Source::Folder(folder), inner) => folder.join(inner).is_file(),
            (Source::Checkpoint(checkpoint), inner) => checkpoint.exists(inner),
        }
    }

    /// The names of the files directly inside `folder`, sorted.
    pub(crate) fn list(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = match self.place(folder) {
            (Source::Embedded(files), inner) => files
                .iter()
                .filter_map(|(name, _)| {
                    let rest = name.strip_prefix(inner)?;
                    if inner.is_empty() {
                        Some(rest)
                    } else {
                        rest.strip_prefix('/')
                    }
                })
                .filter(|name| !name.contains('/'))
                .map(str::to_owned)
                .collect(),
            (Source::Folder(root), inner) => std::fs::read_dir(root.join(inner))
                .map(|entries| {
                    entries
                        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                        .collect()
                })
                .unwrap_or_default(),
            (Source::Checkpoint(_), _) => Vec::new(),
        };
        names.sort();
        names
    }

    /// The file's name for messages: with the folder in front where there is one.
    pub(crate) fn name(&self, path: &str) -> String {
        match self.place(path) {
            (Source::Embedded(_), _) => path.to_owned(),
            (Source::Folder(folder), inner) => folder.join(inner).display().to_string(),
            (Source::Checkpoint(checkpoint), inner) => checkpoint.name(inner),
        }
    }
}

/// The bytes of a small file, `None` if it is not there. Errors if it cannot be read or is absurdly large.
pub(crate) fn read_small(path: &Path) -> Result<Option<Cow<'static, [u8]>>> {
    let length = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path, &error)),
    };
    if length > TEXT_FILE_BYTES_MAX {
        return Err(Error::config(
            &path.display().to_string(),
            format_args!(
                "is {length} bytes; a file of this kind may have at most {TEXT_FILE_BYTES_MAX}"
            ),
        ));
    }
    std::fs::read(path)
        .map(|bytes| Some(Cow::Owned(bytes)))
        .map_err(|error| io_error(path, &error))
}

fn io_error(path: &Path, error: &std::io::Error) -> Error {
    let name = path.display();
    if error.kind() == std::io::ErrorKind::NotFound {
        return Error::missing(&name.to_string(), "there is no such file");
    }
    Error::new(ErrorKind::Io, format!("{name}: cannot be read: {error}"))
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

impl WeightsBytes {
    /// Gives the memory of bytes that were read back where they came from a file, so that a loaded model is in memory
    /// once and not twice. They can still be read, from the file again.
    #[cfg(unix)]
    pub(crate) fn release(&self, start: usize, length: usize) {
        if let Self::Mapped(map) = self
            && start.saturating_add(length) <= map.len()
        {
            #[expect(
                unsafe_code,
                reason = "the mapping is read-only, so its pages hold what the file holds and can be dropped"
            )]
            // Only a hint: where it fails, memory is given back when the file is closed.
            let _ = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, length)
            };
        }
    }

    #[cfg(not(unix))]
    pub(crate) fn release(&self, _start: usize, _length: usize) {}
}

/// Maps a weights file into memory. Errors if it cannot be opened.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn map_file(path: &Path) -> Result<WeightsBytes> {
    let open = || -> std::io::Result<WeightsBytes> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            // Mapping nothing is an error on some systems; the parser says what is wrong with an empty file.
            return Ok(WeightsBytes::Embedded(&[]));
        }
        #[expect(
            unsafe_code,
            reason = "a mapping is only unsound if the file is changed while it is read, which every loader of weights \
                      accepts; it is dropped as soon as the tensors are copied out"
        )]
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(WeightsBytes::Mapped(map))
    };
    open().map_err(|error| io_error(path, &error))
}

/// Reads a weights file. Errors if it cannot be read.
#[cfg(target_family = "wasm")]
pub(crate) fn map_file(path: &Path) -> Result<WeightsBytes> {
    std::fs::read(path)
        .map(WeightsBytes::Read)
        .map_err(|error| io_error(path, &error))
}
