//! What a model's weights are, from the headers of their files: nothing of the weights themselves is read.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::DType;

use super::find;
use crate::error::Result;
use crate::files::ModelFiles;

/// What one component's weights are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsSurvey {
    /// The component: `unet`, `vae`, `text_encoder`, ….
    pub component: String,
    /// The files that its weights are read from.
    pub files: Vec<String>,
    /// Bytes of its tensors in these files.
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
    let found = find(files, folder, stem, DType::F32)?;
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut bytes = 0u64;
    for place in found.tensors.values() {
        let numbers = place
            .shape
            .iter()
            .map(|size| u64::try_from(*size).unwrap_or(u64::MAX))
            .fold(1, u64::saturating_mul);
        *counts.entry(format!("{:?}", place.dtype)).or_default() += numbers;
        bytes = bytes.saturating_add(u64::try_from(place.end - place.start).unwrap_or(u64::MAX));
    }
    Ok(WeightsSurvey {
        component: folder.to_owned(),
        files: found.files.into_iter().map(|file| file.name).collect(),
        bytes,
        tensors: found.tensors.len(),
        parameters: counts.values().sum(),
        dtypes: counts.into_keys().collect(),
    })
}
