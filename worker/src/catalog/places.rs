//! Where models lie on disk: what the command line names, the models folder, the hub's cache.

use crate::hub::{CachedModel, HubCache, HubId};
use scumble_protocol::{ModelId, limits::NAME_BYTES_MAX};
use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Entries of a models folder that are looked at.
const ENTRIES_MAX: usize = 10_000;
/// The file that makes a folder a model.
const INDEX: &str = "model_index.json";

/// A model named on the command line: a folder, a file, a hub id, or the id of a model found elsewhere; `id=` before it
/// names it anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSource {
    /// What jobs are to name it by; else the name that its place gives.
    pub id: Option<ModelId>,
    /// Where it is, as written.
    pub place: String,
}

/// Where models are looked for.
#[derive(Debug, Clone)]
pub struct ModelPlaces {
    /// A folder of models: folders in the diffusers layout, and single files.
    pub folder: Option<PathBuf>,
    /// The hub's cache; its folder is the models folder itself where the user named one.
    pub cache: Option<HubCache>,
}

/// A model that lies somewhere; whether it is sound is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) id: ModelId,
    /// What it is called if another model has the first name.
    pub(super) other_id: Option<ModelId>,
    pub(super) path: PathBuf,
    pub(super) hub: Option<HubId>,
    /// Whether it is likely something else altogether, of which nobody wants to hear.
    pub(super) is_a_guess: bool,
}

impl FromStr for ModelSource {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        if let Some((id, place)) = text.split_once('=')
            && let Ok(id) = ModelId::new(id)
        {
            return Ok(Self {
                id: Some(id),
                place: place.to_owned(),
            });
        }
        Ok(Self {
            id: None,
            place: text.to_owned(),
        })
    }
}

impl ModelPlaces {
    /// The folder or file that a source names, if there is one: on disk, or in the hub's cache.
    pub(super) fn resolve(&self, source: &ModelSource) -> Option<Found> {
        let path = PathBuf::from(&source.place);
        let (name, path, hub) = if path.exists() {
            (path_id(&path), path, None)
        } else {
            let id: HubId = source.place.parse().ok()?;
            let snapshot = self.cache.as_ref()?.snapshot(&id)?;
            let (path, _) = model_in(&snapshot);
            (slug(id.name()), path, Some(id))
        };
        Some(Found {
            id: source.id.clone().unwrap_or(name),
            other_id: None,
            path,
            hub,
            is_a_guess: false,
        })
    }

    /// Everything that may be a model, the folder's own first, by name.
    pub(super) fn found(&self) -> Vec<Found> {
        let mut found = self.in_folder();
        if let Some(cache) = &self.cache {
            let shared = self.folder.as_deref() != Some(cache.folder());
            let models = cache.models().into_iter();
            found.extend(models.filter_map(|cached| in_cache(cached, shared)));
        }
        found
    }

    fn in_folder(&self) -> Vec<Found> {
        let entries = self
            .folder
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok());
        let mut paths: Vec<PathBuf> = entries
            .flatten()
            .take(ENTRIES_MAX)
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| is_model_folder(path) || is_checkpoint(path))
            .collect();
        paths.sort();
        paths
            .into_iter()
            .map(|path| Found {
                id: path_id(&path),
                other_id: None,
                path,
                hub: None,
                is_a_guess: false,
            })
            .collect()
    }
}

fn in_cache(cached: CachedModel, shared: bool) -> Option<Found> {
    let (path, is_folder) = model_in(&cached.snapshot?);
    // Language models and the like lie in the same cache; a whole checkpoint might still be one of ours.
    if !is_folder && !path.is_file() {
        return None;
    }
    Some(Found {
        id: slug(cached.id.name()),
        other_id: Some(slug(&format!(
            "{}-{}",
            cached.id.organisation(),
            cached.id.name()
        ))),
        hub: Some(cached.id),
        path,
        is_a_guess: shared && !is_folder,
    })
}

/// What of a snapshot is the model, and whether it is the whole folder: else its only checkpoint, if it has just one.
fn model_in(snapshot: &Path) -> (PathBuf, bool) {
    if is_model_folder(snapshot) {
        return (snapshot.to_owned(), true);
    }
    let entries = fs::read_dir(snapshot).into_iter().flatten();
    let mut files = entries
        .take(ENTRIES_MAX)
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_checkpoint(path));
    match (files.next(), files.next()) {
        (Some(only), None) => (only, false),
        _ => (snapshot.to_owned(), false),
    }
}

fn is_model_folder(path: &Path) -> bool {
    path.join(INDEX).is_file()
}

/// Pickles as well: they are listed with the reason why they cannot be used.
fn is_checkpoint(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("safetensors" | "ckpt")) && path.is_file()
}

/// A folder's or file's name as an id.
fn path_id(path: &Path) -> ModelId {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let name = if absolute.is_file() {
        absolute.file_stem()
    } else {
        absolute.file_name()
    };
    slug(&name.unwrap_or_default().to_string_lossy())
}

/// A name as an id: lower case, with `-` for what ids do not have.
fn slug(name: &str) -> ModelId {
    let slug: String = name
        .to_lowercase()
        .chars()
        .map(|char| match char {
            'a'..='z' | '0'..='9' | '.' | '_' => char,
            _ => '-',
        })
        .skip_while(|char| !char.is_ascii_alphanumeric())
        .take(NAME_BYTES_MAX)
        .collect();
    ModelId::new(slug.trim_end_matches('-'))
        .or_else(|_| ModelId::new("model"))
        .expect("the fallback follows the rule for names: this is a bug")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_name_as_id_unless_one_is_given() {
        let id = |text: &str| path_id(Path::new(text)).to_string();
        assert_eq!(id("/models/Stable Diffusion v1.5"), "stable-diffusion-v1.5");
        assert_eq!(id("models/sd-turbo/"), "sd-turbo");
        assert_eq!(id("/models/---"), "model");
        let source = |text: &str| -> (Option<String>, String) {
            let source: ModelSource = text.parse().expect("never fails");
            (source.id.map(|id| id.to_string()), source.place)
        };
        assert_eq!(
            source("fox=/models/x"),
            (Some("fox".to_owned()), "/models/x".to_owned())
        );
        assert_eq!(source("Not An Id=/x"), (None, "Not An Id=/x".to_owned()));
    }

    #[test]
    fn folders_and_checkpoints_are_found_one_level_deep_and_by_name() {
        let folder = tempfile::tempdir().expect("folder");
        let make = |path: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs::write(path, "").expect("file");
        };
        make("b/model_index.json");
        make("a.safetensors");
        make("c.ckpt");
        make("notes.txt");
        make("deep/er/model_index.json");
        make("no-model/x.safetensors");
        let places = ModelPlaces {
            folder: Some(folder.path().to_owned()),
            cache: Some(HubCache::new(folder.path().to_owned(), true)),
        };
        let ids: Vec<String> = places
            .found()
            .into_iter()
            .map(|found| found.id.to_string())
            .collect();
        assert_eq!(ids, ["a", "b", "c"]);
    }
}
