//! Safetensors files: found, checked and handed out tensor by tensor.
//!
//! A model asks for every tensor it needs by name and shape. What is missing, misshapen or of a wrong type is noted
//! and stands in as zeros until [`Weights::finish`] reports all of it at once, together with what nobody asked for.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Shape, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata};

mod parameter;
mod survey;

use crate::device::LoadOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{ModelFiles, WeightsBytes};

pub(crate) use parameter::{Parameter, Parameters};
pub use survey::WeightsSurvey;
pub(crate) use survey::survey;

/// How many problems of one file are spelled out; the rest is counted.
const PROBLEMS_SHOWN_MAX: usize = 8;

/// Loads the components of one model: their files, where the weights go, and in which precision.
pub(crate) struct Loader<'a> {
    pub(crate) files: &'a ModelFiles,
    pub(crate) device: &'a Device,
    storage: DType,
    arithmetic: DType,
    parameters: RefCell<Parameters>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(files: &'a ModelFiles, device: &'a Device, options: &LoadOptions) -> Self {
        let storage = options.precision.storage(device);
        Self {
            files,
            device,
            storage,
            // The CPU has no fast arithmetic in 16 bits.
            arithmetic: if device.is_cpu() { DType::F32 } else { storage },
            parameters: RefCell::default(),
        }
    }

    /// A component that computes in the precision asked for.
    pub(crate) fn open(&self, folder: &str, stem: &str) -> Result<Weights<'_>> {
        Weights::open(self, folder, stem, self.arithmetic)
    }

    /// A component that computes in f32 whatever its weights are stored in, for it would overflow in f16.
    pub(crate) fn open_for_f32(&self, folder: &str, stem: &str) -> Result<Weights<'_>> {
        Weights::open(self, folder, stem, DType::F32)
    }

    /// Everything that was loaded, by name.
    pub(crate) fn into_parameters(self) -> Parameters {
        self.parameters.into_inner()
    }
}

/// One component's weights file, open.
pub(crate) struct Weights<'a> {
    loader: &'a Loader<'a>,
    /// The component's folder, with which its parameters' names begin.
    component: String,
    file: String,
    bytes: WeightsBytes,
    metadata: Metadata,
    data_start: usize,
    arithmetic: DType,
    notes: RefCell<Notes>,
}

#[derive(Default)]
struct Notes {
    used: BTreeSet<String>,
    missing: Vec<String>,
    wrong: Vec<String>,
}

impl<'a> Weights<'a> {
    /// Opens `<folder>/<stem>.safetensors` or its `.fp16.` variant.
    fn open(loader: &'a Loader<'a>, folder: &str, stem: &str, arithmetic: DType) -> Result<Self> {
        let files = loader.files;
        let path = find(files, folder, stem)?;
        let file = files.name(&path);
        let bytes = files.open_weights(&path)?;
        let (header_bytes, metadata) = SafeTensors::read_metadata(&bytes)
            .map_err(|error| Error::weights(&file, describe_damage(&error, bytes.len())))?;
        // The header is preceded by its length in eight bytes.
        let data_start = header_bytes + 8;
        Ok(Self {
            loader,
            component: folder.to_owned(),
            file,
            bytes,
            metadata,
            data_start,
            arithmetic,
            notes: RefCell::default(),
        })
    }

    /// What the component's layers compute in.
    pub(crate) fn arithmetic(&self) -> DType {
        self.arithmetic
    }

    /// The root of the tensors' names.
    pub(crate) fn root(&self) -> Scope<'_> {
        Scope {
            weights: self,
            name: self.component.clone(),
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

    /// The tensor of this name in the file and this shape; zeros and a note where that cannot be.
    fn tensor(&self, name: &str, shape: &Shape) -> Result<Tensor> {
        let device = self.loader.device;
        let Some(info) = self.metadata.info(name) else {
            self.notes.borrow_mut().missing.push(name.to_owned());
            return Ok(Tensor::zeros(shape, self.loader.storage, device)?);
        };
        self.notes.borrow_mut().used.insert(name.to_owned());
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
                let tensor = Tensor::from_raw_buffer(bytes, dtype, shape.dims(), device)?;
                Ok(tensor.to_dtype(self.loader.storage)?)
            }
            _ => {
                self.notes.borrow_mut().wrong.push(format!(
                    "{name} is {:?} {:?}, should be a float of {:?}",
                    info.dtype,
                    info.shape,
                    shape.dims()
                ));
                Ok(Tensor::zeros(shape, self.loader.storage, device)?)
            }
        }
    }
}

/// A place in the tree of tensor names.
#[derive(Clone)]
pub(crate) struct Scope<'a> {
    weights: &'a Weights<'a>,
    /// Where this is in the model, by the names of today's diffusers.
    name: String,
    /// Where this is in the file.
    prefix: String,
}

impl<'a> Scope<'a> {
    /// A place below this one.
    pub(crate) fn at(&self, name: impl std::fmt::Display) -> Scope<'a> {
        let name = name.to_string();
        self.at_either(&name, &name)
    }

    /// The weight of this name and shape.
    pub(crate) fn get(&self, name: &str, shape: impl Into<Shape>) -> Result<Parameter> {
        let tensor = self
            .weights
            .tensor(&join(&self.prefix, name), &shape.into())?;
        let parameter = Parameter::new(join(&self.name, name), tensor, self.weights.arithmetic);
        self.weights
            .loader
            .parameters
            .borrow_mut()
            .insert(parameter.name().to_owned(), parameter.clone());
        Ok(parameter)
    }

    /// The place named `name`, or `former` where the file was written when the layer was still called that.
    pub(crate) fn at_either(&self, name: &str, former: &str) -> Scope<'a> {
        let current = join(&self.prefix, name);
        let old = join(&self.prefix, former);
        let has = |place: &str| self.weights.contains(&join(place, "weight"));
        Scope {
            weights: self.weights,
            name: join(&self.name, name),
            prefix: if name != former && !has(&current) && has(&old) {
                old
            } else {
                current
            },
        }
    }

    /// The place named `name`, which some files leave out of their names: there it is this place itself.
    pub(crate) fn at_if_in_file(&self, name: &str, in_file: bool) -> Scope<'a> {
        Scope {
            weights: self.weights,
            name: join(&self.name, name),
            prefix: if in_file {
                join(&self.prefix, name)
            } else {
                self.prefix.clone()
            },
        }
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}.{name}")
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

/// What is wrong with a file of this length, in words.
pub(crate) fn describe_damage(error: &safetensors::SafeTensorError, length: usize) -> String {
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
