//! What a model's weights are, from the headers of their files: nothing of the weights themselves is read.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::SafeTensors;

use super::{describe_damage, find};
use crate::error::{Error, Result};
use crate::files::ModelFiles;

/// What one component's weights are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsSurvey {
    /// The component: `unet`, `vae`, `text_encoder`, ….
    pub component: String,
    /// The files that its weights are read from.
    pub files: Vec<String>,
    /// Bytes of these files.
    pub bytes: u64,
    /// How many tensors there are.
    pub tensors: usize,
    /// How many numbers there are in all of them.
    pub parameters: u64,
    /// What they are stored in: `F32`, `F16`, ….
    pub dtypes: BTreeSet<String>,
}

/// Surveys the components, each given by its folder and the stem of its weights' name.
///
/// Errors if weights are missing, or a file is damaged so that its header does not fit it.
pub(crate) fn survey(
    files: &ModelFiles,
    components: &[(&str, &str)],
) -> Result<Vec<WeightsSurvey>> {
    components
        .iter()
        .map(|(folder, stem)| component(files, folder, stem))
        .collect()
}

fn component(files: &ModelFiles, folder: &str, stem: &str) -> Result<WeightsSurvey> {
    let path = find(files, folder, stem)?;
    let file = files.name(&path);
    let bytes = files.open_weights(&path)?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes)
        .map_err(|error| Error::weights(&file, describe_damage(&error, bytes.len())))?;
    let tensors = metadata.tensors();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for info in tensors.values() {
        let numbers = info
            .shape
            .iter()
            .map(|size| u64::try_from(*size).unwrap_or(u64::MAX))
            .fold(1, u64::saturating_mul);
        *counts.entry(format!("{:?}", info.dtype)).or_default() += numbers;
    }
    Ok(WeightsSurvey {
        component: folder.to_owned(),
        files: vec![file],
        bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        tensors: tensors.len(),
        parameters: counts.values().sum(),
        dtypes: counts.into_keys().collect(),
    })
}
