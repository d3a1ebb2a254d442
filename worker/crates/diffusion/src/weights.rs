//! Safetensors files: found, checked and handed out tensor by tensor.
//!
//! A model asks for every tensor it needs by name and shape. What is missing, misshapen or of a wrong type is noted
//! and stands in as zeros until [`Weights::finish`] reports all of it at once, together with what nobody asked for.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Shape, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata};

use crate::error::{Error, ErrorKind, Result};
use crate::files::{ModelFiles, WeightsBytes};

/// How many problems of one file are spelled out; the rest is counted.
const PROBLEMS_SHOWN_MAX: usize = 8;

/// One component's weights file, open.
pub(crate) struct Weights {
    file: String,
    bytes: WeightsBytes,
    metadata: Metadata,
    data_start: usize,
    device: Device,
    notes: RefCell<Notes>,
}

#[derive(Default)]
struct Notes {
    used: BTreeSet<String>,
    missing: Vec<String>,
    wrong: Vec<String>,
}

impl Weights {
    /// Opens `<folder>/<stem>.safetensors` or its `.fp16.` variant. Tensors will be f32 on `device`.
    pub(crate) fn open(
        files: &ModelFiles,
        folder: &str,
        stem: &str,
        device: &Device,
    ) -> Result<Self> {
        let path = find(files, folder, stem)?;
        let file = files.name(&path);
        let bytes = files.open_weights(&path)?;
        let (header_bytes, metadata) = SafeTensors::read_metadata(&bytes)
            .map_err(|error| Error::weights(&file, describe_damage(&error, bytes.len())))?;
        // The header is preceded by its length in eight bytes.
        let data_start = header_bytes + 8;
        Ok(Self {
            file,
            bytes,
            metadata,
            data_start,
            device: device.clone(),
            notes: RefCell::default(),
        })
    }

    /// The root of the tensors' names.
    pub(crate) fn root(&self) -> Scope<'_> {
        Scope {
            weights: self,
            prefix: String::new(),
        }
    }

    /// Whether the file has a tensor of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// Reports everything that was wrong, and every tensor that nobody asked for and `ignorable` does not excuse.
    pub(crate) fn finish(self, ignorable: impl Fn(&str) -> bool) -> Result<()> {
        let notes = self.notes.into_inner();
        let surplus: Vec<String> = self
            .metadata
            .tensors()
            .into_keys()
            .filter(|name| !notes.used.contains(name) && !ignorable(name))
            .collect::<BTreeSet<String>>()
            .into_iter()
            .collect();
        let groups: BTreeMap<&str, Vec<String>> = [
            ("does not fit the config", notes.wrong),
            ("missing", notes.missing),
            ("surplus", surplus),
        ]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .collect();
        if groups.is_empty() {
            return Ok(());
        }
        let sentences: Vec<String> = groups
            .into_iter()
            .map(|(what, names)| format!("{what}: {}", enumerate(&names)))
            .collect();
        Err(Error::weights(
            &self.file,
            format_args!(
                "tensors do not match the config next to it; {}",
                sentences.join("; ")
            ),
        ))
    }

    /// The first of `names` that the file has, as f32 of this shape; zeros and a note where that cannot be.
    fn tensor(&self, names: &[String], shape: &Shape) -> Result<Tensor> {
        let found = names
            .iter()
            .find_map(|name| Some((name, self.metadata.info(name)?)));
        let Some((name, info)) = found else {
            self.notes
                .borrow_mut()
                .missing
                .extend(names.first().cloned());
            return Ok(Tensor::zeros(shape, DType::F32, &self.device)?);
        };
        self.notes.borrow_mut().used.insert(name.clone());
        let dtype = match info.dtype {
            Dtype::F32 => Some(DType::F32),
            Dtype::F16 => Some(DType::F16),
            Dtype::BF16 => Some(DType::BF16),
            Dtype::F64 => Some(DType::F64),
            _ => None,
        };
        // Some files keep the projections of a one-head attention as 1x1 convolutions: the same numbers in order.
        let same_numbers = info
            .shape
            .iter()
            .copied()
            .filter(|size| *size != 1)
            .eq(shape.dims().iter().copied().filter(|size| *size != 1))
            && info.shape.len() >= shape.rank();
        let (start, end) = info.data_offsets;
        let bytes = self
            .bytes
            .get(self.data_start + start..self.data_start + end);
        match (dtype, bytes) {
            (Some(dtype), Some(bytes)) if same_numbers => {
                let tensor = Tensor::from_raw_buffer(bytes, dtype, shape.dims(), &self.device)?;
                Ok(tensor.to_dtype(DType::F32)?)
            }
            _ => {
                self.notes.borrow_mut().wrong.push(format!(
                    "{name} is {:?} {:?}, should be a float of {:?}",
                    info.dtype,
                    info.shape,
                    shape.dims()
                ));
                Ok(Tensor::zeros(shape, DType::F32, &self.device)?)
            }
        }
    }
}

/// A place in the tree of tensor names.
#[derive(Clone)]
pub(crate) struct Scope<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl<'a> Scope<'a> {
    /// A place below this one.
    pub(crate) fn at(&self, name: impl std::fmt::Display) -> Scope<'a> {
        Scope {
            weights: self.weights,
            prefix: self.full(&name.to_string()),
        }
    }

    /// The tensor of this name and shape, f32.
    pub(crate) fn get(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        self.weights.tensor(&[self.full(name)], &shape.into())
    }

    /// The place named `name`, or `former` where the file was written when the layer was still called that.
    pub(crate) fn at_either(&self, name: &str, former: &str) -> Scope<'a> {
        let (current, old) = (self.at(name), self.at(former));
        let has = |scope: &Scope<'_>| scope.weights.contains(&scope.full("weight"));
        if !has(&current) && has(&old) {
            old
        } else {
            current
        }
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }
}

/// The path of the component's weights, or why there is none.
fn find(files: &ModelFiles, folder: &str, stem: &str) -> Result<String> {
    let plain = format!("{folder}/{stem}.safetensors");
    for candidate in [plain.clone(), format!("{folder}/{stem}.fp16.safetensors")] {
        if files.exists(&candidate) {
            return Ok(candidate);
        }
    }
    let names = files.list(folder);
    let is_index = |name: &&String| name.ends_with(".safetensors.index.json");
    if let Some(index) = names.iter().find(is_index) {
        return Err(Error::unsupported(
            &files.name(&format!("{folder}/{index}")),
            "weights in several files are not supported, only in one .safetensors file",
        ));
    }
    let is_pickle = |name: &&String| {
        [".bin", ".ckpt", ".pt", ".pth"]
            .iter()
            .any(|ending| name.ends_with(ending))
    };
    if let Some(pickle) = names.iter().find(is_pickle) {
        return Err(Error::unsupported(
            &files.name(&format!("{folder}/{pickle}")),
            "is a pickle, which can run any code when opened; save the weights as .safetensors",
        ));
    }
    Err(Error::new(
        ErrorKind::MissingFile,
        format!("{}: is missing", files.name(&plain)),
    ))
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

fn enumerate(names: &[String]) -> String {
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
