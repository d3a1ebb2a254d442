//! A model's weights: found, checked and handed out tensor by tensor.
//!
//! A model asks for every tensor it needs by its name in diffusers and its shape. What is missing, misshapen, of a wrong
//! type or not finite is noted and stands in as zeros until [`Loader::finish`] reports all of it at once, together with
//! what nobody asked for.

mod convert;
mod file;
mod find;
mod parameter;
mod survey;

use std::cell::RefCell;
use std::collections::BTreeSet;

use candle_core::{DType, Device, Shape, Tensor};

use crate::device::LoadOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::files::ModelFiles;

pub(crate) use convert::Float;
use convert::convert;
pub(crate) use file::{Header, TensorFile, enumerate};
pub(crate) use find::{ComponentFiles, PICKLE, Place, find};
pub(crate) use parameter::{Parameter, Parameters};
pub use survey::WeightsSurvey;
pub(crate) use survey::survey;

/// Loads the components of one model: their files, where the weights go, and in which precision.
pub(crate) struct Loader<'a> {
    pub(crate) files: &'a ModelFiles,
    pub(crate) device: &'a Device,
    storage: DType,
    arithmetic: DType,
    parameters: RefCell<Parameters>,
    /// What is wrong, a sentence for each component.
    problems: RefCell<Vec<String>>,
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
            problems: RefCell::default(),
        }
    }

    /// A component that computes in the precision asked for.
    pub(crate) fn open(&self, folder: &str, stem: &str) -> Result<Weights<'_>> {
        self.open_for(folder, stem, self.arithmetic)
    }

    /// A component that computes in f32 whatever its weights are stored in, for it would overflow in f16.
    pub(crate) fn open_for_f32(&self, folder: &str, stem: &str) -> Result<Weights<'_>> {
        self.open_for(folder, stem, DType::F32)
    }

    fn open_for(&self, folder: &str, stem: &str, arithmetic: DType) -> Result<Weights<'_>> {
        Ok(Weights {
            loader: self,
            component: folder.to_owned(),
            files: find(self.files, folder, stem, self.storage)?,
            arithmetic,
            notes: RefCell::default(),
        })
    }

    /// Everything that was loaded, by name. Errors if anything was wrong with any component.
    pub(crate) fn finish(self) -> Result<Parameters> {
        let problems = self.problems.into_inner();
        if problems.is_empty() {
            Ok(self.parameters.into_inner())
        } else {
            Err(Error::new(ErrorKind::InvalidWeights, problems.join("; ")))
        }
    }
}

/// One component's weights, open.
pub(crate) struct Weights<'a> {
    loader: &'a Loader<'a>,
    /// The component's folder, with which its parameters' names begin.
    component: String,
    files: ComponentFiles,
    arithmetic: DType,
    notes: RefCell<Notes>,
}

#[derive(Default)]
struct Notes {
    used: BTreeSet<String>,
    missing: Vec<String>,
    wrong: Vec<String>,
    not_finite: Vec<String>,
}

impl Weights<'_> {
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

    /// Whether there is a tensor of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.files.tensors.contains_key(name)
    }

    /// Notes everything that was wrong for [`Loader::finish`], and every tensor that nobody asked for and `ignorable`
    /// does not excuse.
    pub(crate) fn finish(self, ignorable: impl Fn(&str) -> bool) {
        let notes = self.notes.into_inner();
        let surplus: Vec<String> = self
            .files
            .tensors
            .iter()
            .filter(|(name, _)| !notes.used.contains(*name) && !ignorable(name))
            .map(|(_, place)| place.name_in_file.clone())
            .collect();
        let groups = [
            ("does not fit the config", notes.wrong),
            ("missing", notes.missing),
            ("not finite", notes.not_finite),
            ("surplus", surplus),
        ];
        let sentences: Vec<String> = groups
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| format!("{what}: {}", enumerate(&names)))
            .collect();
        if !sentences.is_empty() {
            self.loader.problems.borrow_mut().push(format!(
                "{}: tensors do not match the config; {}",
                self.files.name,
                sentences.join("; ")
            ));
        }
    }

    /// The tensor of this name and shape; zeros and a note where that cannot be.
    fn tensor(&self, name: &str, shape: &Shape) -> Result<Tensor> {
        let zeros = || -> Result<Tensor> {
            Ok(Tensor::zeros(
                shape,
                self.loader.storage,
                self.loader.device,
            )?)
        };
        let Some(place) = self.files.tensors.get(name) else {
            self.notes.borrow_mut().missing.push(name.to_owned());
            return zeros();
        };
        self.notes.borrow_mut().used.insert(name.to_owned());
        let float = Float::of(place.dtype).filter(|_| same_numbers(&place.shape, shape.dims()));
        let (Some(float), Some(file)) = (float, self.files.files.get(place.file)) else {
            self.notes.borrow_mut().wrong.push(format!(
                "{} is {:?} {:?}, should be a float of {:?}",
                place.name_in_file,
                place.dtype,
                place.shape,
                shape.dims()
            ));
            return zeros();
        };
        let bytes = file.data(place.start, place.end).ok_or_else(|| {
            Error::weights(&file.name, format_args!("{} lies outside the file", name))
        })?;
        let (storage, device) = (self.loader.storage, self.loader.device);
        let converted = if place.transposed {
            let (rows, columns) = shape.dims2()?;
            let mut converted = convert(bytes, float, storage, &(columns, rows).into(), device)?;
            converted.tensor = converted.tensor.t()?.contiguous()?;
            converted
        } else {
            convert(bytes, float, storage, shape, device)?
        };
        file.release(place.start, place.end);
        if converted.not_finite > 0 {
            self.notes.borrow_mut().not_finite.push(format!(
                "{} ({} of {} numbers as {storage:?})",
                place.name_in_file,
                converted.not_finite,
                shape.elem_count()
            ));
        }
        Ok(converted.tensor)
    }
}

/// Some files keep the projections of a one-head attention as 1x1 convolutions: the same numbers in order.
fn same_numbers(stored: &[usize], wanted: &[usize]) -> bool {
    let long = |shape: &[usize]| -> Vec<usize> {
        shape.iter().copied().filter(|size| *size != 1).collect()
    };
    stored.len() >= wanted.len() && long(stored) == long(wanted)
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
