//! Which files hold a component's weights: one, a variant of it, or several with an index.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::DType;
use safetensors::tensor::Dtype;
use serde::Deserialize;

use crate::config::parse;
use crate::error::{Error, ErrorKind, Result};
use crate::files::ModelFiles;
use crate::weights::{TensorFile, enumerate};

/// A component's weights, wherever they lie.
pub(crate) struct ComponentFiles {
    /// The file to name in errors.
    pub(crate) name: String,
    pub(crate) files: Vec<TensorFile>,
    /// By their names in diffusers, without the component's.
    pub(crate) tensors: BTreeMap<String, Place>,
}

/// Where one tensor's numbers lie.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Index of the file.
    pub(crate) file: usize,
    /// What the file calls it.
    pub(crate) name_in_file: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// The first byte and the one after the last.
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Whether the file has rows and columns the other way round than the model.
    pub(crate) transposed: bool,
}

/// Finds a component's weights.
///
/// In a folder that is, in this order, `<stem>.safetensors` or, in several files, `<stem>.safetensors.index.json`; then
/// the same with `.fp16` or `.bf16` before the ending. Where weights are to be stored in 16 bits, the variant of that
/// kind comes first: it is half as much to read and holds the same numbers.
pub(crate) fn find(
    files: &ModelFiles,
    folder: &str,
    stem: &str,
    storage: DType,
) -> Result<ComponentFiles> {
    if let Some(component) = files.component(folder) {
        return component;
    }
    let variants = match storage {
        DType::F16 => [".fp16", "", ".bf16"],
        DType::BF16 => [".bf16", "", ".fp16"],
        _ => ["", ".fp16", ".bf16"],
    };
    for variant in variants {
        let whole = in_folder(folder, &format!("{stem}{variant}.safetensors"));
        if files.exists(&whole) {
            return one_file(files, &whole);
        }
        let index = in_folder(folder, &format!("{stem}.safetensors.index{variant}.json"));
        if files.exists(&index) {
            return sharded(files, folder, &index);
        }
    }
    Err(nothing(files, folder, stem))
}

fn in_folder(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

fn nothing(files: &ModelFiles, folder: &str, stem: &str) -> Error {
    let is_pickle = |name: &String| {
        [".bin", ".ckpt", ".pt", ".pth"]
            .iter()
            .any(|ending| name.ends_with(ending))
    };
    match files.list(folder).into_iter().find(is_pickle) {
        Some(pickle) => Error::unsupported(&files.name(&in_folder(folder, &pickle)), PICKLE),
        None => Error::missing(
            &files.name(&in_folder(folder, &format!("{stem}.safetensors"))),
            "is missing",
        ),
    }
}

/// Why pickles are refused.
pub(crate) const PICKLE: &str =
    "is a pickle, which can run any code when opened; save the weights as .safetensors";

fn open(files: &ModelFiles, path: &str) -> Result<TensorFile> {
    TensorFile::new(files.name(path), files.open_weights(path)?)
}

fn one_file(files: &ModelFiles, path: &str) -> Result<ComponentFiles> {
    let file = open(files, path)?;
    Ok(ComponentFiles {
        name: file.name.clone(),
        tensors: places(&file, 0).collect(),
        files: vec![file],
    })
}

fn places(file: &TensorFile, index: usize) -> impl Iterator<Item = (String, Place)> {
    file.header.tensors.iter().map(move |(name, info)| {
        let place = Place {
            file: index,
            name_in_file: name.clone(),
            dtype: info.dtype,
            shape: info.shape.clone(),
            start: info.data_offsets.0,
            end: info.data_offsets.1,
            transposed: false,
        };
        (name.clone(), place)
    })
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The most files that one component may come in.
const SHARDS_MAX: usize = 1000;

/// Weights in several files: every tensor must be in the one that the index names, and nowhere else.
fn sharded(files: &ModelFiles, folder: &str, index_path: &str) -> Result<ComponentFiles> {
    let name = files.name(index_path);
    let bytes = files.read(index_path)?.unwrap_or_default();
    let index: Index = parse(&bytes)
        .and_then(serde_json::from_value)
        .map_err(|error| {
            Error::config(&name, format_args!("is no index of weight files: {error}"))
        })?;
    let shards: BTreeSet<&String> = index.weight_map.values().collect();
    if shards.is_empty() || shards.len() > SHARDS_MAX {
        return Err(Error::config(
            &name,
            format_args!("must name 1..={SHARDS_MAX} files, got {}", shards.len()),
        ));
    }
    if let Some(other) = shards
        .iter()
        .find(|shard| shard.contains(['/', '\\']) || !shard.ends_with(".safetensors"))
    {
        return Err(Error::config(
            &name,
            format_args!("names {other:?}, which is no .safetensors file beside it"),
        ));
    }
    let missing: Vec<String> = shards
        .iter()
        .filter(|shard| !files.exists(&in_folder(folder, shard)))
        .map(|shard| (*shard).clone())
        .collect();
    if !missing.is_empty() {
        return Err(Error::new(
            ErrorKind::MissingFile,
            format!(
                "{name}: names files that are missing: {}",
                enumerate(&missing)
            ),
        ));
    }
    let mut component = ComponentFiles {
        name,
        files: Vec::new(),
        tensors: BTreeMap::new(),
    };
    let mut misplaced = Vec::new();
    for shard in shards {
        let file = open(files, &in_folder(folder, shard))?;
        for (tensor, place) in places(&file, component.files.len()) {
            if index.weight_map.get(&tensor) == Some(shard) {
                component.tensors.insert(tensor, place);
            } else {
                misplaced.push(format!(
                    "{tensor} (in {shard}, which the index does not say)"
                ));
            }
        }
        component.files.push(file);
    }
    for (tensor, shard) in &index.weight_map {
        if !component.tensors.contains_key(tensor) {
            misplaced.push(format!(
                "{tensor} (not in {shard}, though the index says so)"
            ));
        }
    }
    if misplaced.is_empty() {
        Ok(component)
    } else {
        Err(Error::weights(
            &component.name,
            format_args!(
                "tensors are not where they should be: {}",
                enumerate(&misplaced)
            ),
        ))
    }
}
