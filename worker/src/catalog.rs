//! The models that this worker can draw with: a table, looked up by id and never joined to a path.

use crate::hub::HubId;
use places::Found;
use scumble_diffusion::{
    Error as DiffusionError, ModelDescription, ModelFiles, Pipeline, SchedulerKind,
    Task as DrawingTask, WeightsSurvey,
};
use scumble_protocol::{
    DimensionRange, Model, ModelDefaults, ModelId, ModelLimits, ModelList, ModelVocabulary,
    Scheduler, SchedulerList, SchedulerName, Task,
    limits::{DIMENSION_PIXELS_MAX, DIMENSION_PIXELS_MIN, DIMENSION_PIXELS_MULTIPLE},
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

mod places;

pub use places::{ModelPlaces, ModelSource};

/// The embedded model's id.
const EMBEDDED_ID: &str = "pocket";
/// Before the engine knows its device: weights are f32 on a CPU.
const BYTES_PER_WEIGHT: u64 = 4;
/// After every model that the user names.
const RANK_EMBEDDED: usize = usize::MAX - 1;
const RANK_FOUND: usize = usize::MAX;

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/pocket.rs"));
}

/// Why there is no catalog.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// What was named is not a model.
    #[error("model {id} cannot be used: {source}")]
    Model {
        /// The model.
        id: ModelId,
        /// What is wrong with it.
        source: DiffusionError,
    },
    /// What was named is not there.
    #[error(
        "there is no model {place}: no such folder or file, and none of the models found is called so{hint}"
    )]
    NotThere {
        /// As written.
        place: String,
        /// What may help.
        hint: String,
    },
    /// Two models would have one id.
    #[error("two models are called {0}; name one of them with --model other-id=PATH")]
    DuplicateId(ModelId),
    /// Nothing to draw with.
    #[error(
        "there is no model to draw with: this build has none inside; name one with --model, or fetch one with \
         `scumble models pull`"
    )]
    Empty,
}

/// What models are looked for.
#[derive(Debug, Clone)]
pub struct ModelSearch<'a> {
    /// Named by the user; the first one is the default.
    pub sources: &'a [ModelSource],
    /// Another autoencoder for all of those.
    pub vae: Option<&'a Path>,
    /// Where others may lie.
    pub places: &'a ModelPlaces,
}

/// Where a model came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Inside the binary.
    Embedded,
    /// Named by the user.
    Named(PathBuf),
    /// It lay in the models folder.
    Folder(PathBuf),
    /// It was pulled from the hub.
    Hub(HubId, PathBuf),
}

impl Origin {
    /// Its folder or file, unless it is inside the binary.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Embedded => None,
            Self::Named(path) | Self::Folder(path) | Self::Hub(_, path) => Some(path),
        }
    }
}

/// One model.
#[derive(Debug)]
pub struct CatalogModel {
    /// What jobs name it by.
    pub id: ModelId,
    /// Where its files are.
    pub files: ModelFiles,
    /// What its files say about it.
    pub description: ModelDescription,
    /// What its weights are.
    pub weights: Vec<WeightsSurvey>,
    /// Where it came from.
    pub origin: Origin,
    /// The words it knows, where its files say so.
    pub vocabulary: Option<ModelVocabulary>,
    /// The solver of a job that names none.
    pub scheduler: SchedulerName,
    /// Its place among the models that the user named; after them the embedded one and those found.
    rank: usize,
    loaded: AtomicBool,
}

/// Something that was found where models lie and cannot be used.
#[derive(Debug, Clone)]
pub struct UnusableModel {
    /// What it would be called.
    pub id: ModelId,
    /// Where it is.
    pub origin: Origin,
    /// Why it cannot be used.
    pub reason: String,
}

/// The models, the default one first; never empty.
#[derive(Debug)]
pub struct Catalog {
    first: CatalogModel,
    others: Vec<CatalogModel>,
    unusable: Vec<UnusableModel>,
    found_at_s: u64,
    /// As models lie in the engine's memory; said by the engine once it knows its device.
    bytes_per_weight: AtomicU64,
}

impl Catalog {
    /// The models that the user names in the order given, then the embedded one if this build has it, then those found.
    /// Reads configs and the headers of weights.
    ///
    /// # Errors
    /// If a model that the user names cannot be used, two of them share an id, or there is none at all. What is merely
    /// found and cannot be used is in [`Catalog::unusable`].
    pub fn open(search: &ModelSearch<'_>) -> Result<Self, CatalogError> {
        let mut models: Vec<CatalogModel> = Vec::new();
        let mut by_id = Vec::new();
        for (rank, source) in search.sources.iter().enumerate() {
            match search.places.resolve(source) {
                Some(found) => models.push(CatalogModel::named(found, rank)?),
                None => by_id.push((rank, source)),
            }
        }
        if !embedded::FILES.is_empty() && !is_taken(&models, &embedded_id()) {
            models.push(CatalogModel::embedded()?);
        }
        let unusable = add_found(search.places.found(), &mut models);
        for (rank, source) in by_id {
            name_by_id(source, rank, &mut models, &unusable)?;
        }
        if let Some(id) = duplicate(&models) {
            return Err(CatalogError::DuplicateId(id));
        }
        if let Some(vae) = search.vae {
            models = models
                .into_iter()
                .map(|model| model.with_vae_if_named(vae))
                .collect::<Result<_, _>>()?;
        }
        models.sort_by_key(|model| model.rank);
        let mut models = models.into_iter();
        Ok(Self {
            first: models.next().ok_or(CatalogError::Empty)?,
            others: models.collect(),
            unusable,
            found_at_s: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            bytes_per_weight: AtomicU64::new(BYTES_PER_WEIGHT),
        })
    }

    /// What was found and cannot be used.
    #[must_use]
    pub fn unusable(&self) -> &[UnusableModel] {
        &self.unusable
    }

    /// Bytes that a model's weights take in the engine's memory, from the headers of its files.
    #[must_use]
    pub fn memory_bytes(&self, model: &CatalogModel) -> u64 {
        let bytes_per_weight = self.bytes_per_weight.load(Ordering::Relaxed);
        model.parameters().saturating_mul(bytes_per_weight)
    }

    /// Told by the engine.
    pub fn set_bytes_per_weight(&self, bytes: u64) {
        self.bytes_per_weight.store(bytes, Ordering::Relaxed);
    }

    /// Every model, the default one first.
    pub fn iter(&self) -> impl Iterator<Item = &CatalogModel> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The model that draws when none is named.
    #[must_use]
    pub const fn default_model(&self) -> &CatalogModel {
        &self.first
    }

    /// The model of this id.
    #[must_use]
    pub fn get(&self, id: &ModelId) -> Option<&CatalogModel> {
        self.iter().find(|model| model.id == *id)
    }

    /// The ids in a sentence.
    #[must_use]
    pub fn ids(&self) -> String {
        let ids: Vec<&str> = self.iter().map(|model| model.id.as_str()).collect();
        ids.join(", ")
    }

    /// As `GET /v1/models` shows them.
    #[must_use]
    pub fn to_list(&self) -> ModelList {
        ModelList {
            object: "list".to_owned(),
            data: self.iter().map(|model| self.to_model(model)).collect(),
        }
    }

    /// As `GET /v1/models/{id}` shows one.
    #[must_use]
    pub fn to_model(&self, model: &CatalogModel) -> Model {
        let description = &model.description;
        Model {
            id: model.id.clone(),
            object: "model".to_owned(),
            created: self.found_at_s,
            owned_by: "scumble".to_owned(),
            family: description.family.to_string(),
            loaded: model.is_loaded(),
            size_bytes: self.memory_bytes(model),
            tasks: CatalogModel::tasks(description),
            defaults: ModelDefaults {
                width: pixels(description.width),
                height: pixels(description.height),
                steps: u32::try_from(description.steps).unwrap_or(u32::MAX),
                guidance_scale: description.guidance_scale,
                scheduler: model.scheduler.clone(),
            },
            limits: ModelLimits {
                width: model.dimensions(),
                height: model.dimensions(),
                prompt_tokens: u32::try_from(description.prompt_tokens).unwrap_or(u32::MAX),
            },
            examples: description.examples.clone(),
            vocabulary: model.vocabulary.clone(),
        }
    }
}

impl Found {
    fn origin(&self) -> Origin {
        match &self.hub {
            Some(hub) => Origin::Hub(hub.clone(), self.path.clone()),
            None => Origin::Folder(self.path.clone()),
        }
    }
}

impl CatalogModel {
    fn open(
        id: ModelId,
        origin: Origin,
        rank: usize,
        files: Result<ModelFiles, DiffusionError>,
    ) -> Result<Self, DiffusionError> {
        let files = files?;
        let description = Pipeline::describe(&files)?;
        Ok(Self {
            weights: Pipeline::survey(&files)?,
            vocabulary: description.vocabulary.as_ref().map(vocabulary),
            scheduler: scheduler_name(description.scheduler),
            loaded: AtomicBool::new(false),
            id,
            files,
            description,
            origin,
            rank,
        })
    }

    fn named(found: Found, rank: usize) -> Result<Self, CatalogError> {
        let id = found.id;
        let files = ModelFiles::open(&found.path);
        let origin = found.hub.map_or_else(
            || Origin::Named(found.path.clone()),
            |hub| Origin::Hub(hub, found.path.clone()),
        );
        Self::open(id.clone(), origin, rank, files)
            .map_err(|source| CatalogError::Model { id, source })
    }

    fn with_vae_if_named(self, vae: &Path) -> Result<Self, CatalogError> {
        if !self.is_named() {
            return Ok(self);
        }
        let files = self.files.with_vae(vae);
        Self::open(self.id.clone(), self.origin, self.rank, files).map_err(|source| {
            CatalogError::Model {
                id: self.id,
                source,
            }
        })
    }

    fn embedded() -> Result<Self, CatalogError> {
        let id = embedded_id();
        let files = ModelFiles::embedded(embedded::FILES);
        Self::open(id.clone(), Origin::Embedded, RANK_EMBEDDED, Ok(files))
            .map_err(|source| CatalogError::Model { id, source })
    }

    /// Whether the user named it, and wants it loaded from the start.
    #[must_use]
    pub const fn is_named(&self) -> bool {
        self.rank < RANK_EMBEDDED
    }

    /// Whether nothing should run if it does not: the user named it, or it is the one inside.
    #[must_use]
    pub const fn must_be_sound(&self) -> bool {
        self.rank < RANK_FOUND
    }

    /// What a model of this description can do.
    #[must_use]
    pub fn tasks(description: &ModelDescription) -> Vec<Task> {
        description.tasks.iter().copied().map(task).collect()
    }

    /// Numbers in all its weights.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.weights.iter().map(|part| part.parameters).sum()
    }

    /// Bytes of the files with its weights.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.weights.iter().map(|part| part.bytes).sum()
    }

    /// The sizes that the model draws.
    #[must_use]
    pub fn dimensions(&self) -> DimensionRange {
        DimensionRange {
            minimum: pixels(self.description.dimension_min).max(DIMENSION_PIXELS_MIN),
            maximum: pixels(self.description.dimension_max).min(DIMENSION_PIXELS_MAX),
            multiple: pixels(self.description.dimension_multiple).max(DIMENSION_PIXELS_MULTIPLE),
        }
    }

    /// Whether its weights are in memory.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Relaxed)
    }

    /// Told by the engine.
    pub fn set_loaded(&self, loaded: bool) {
        self.loaded.store(loaded, Ordering::Relaxed);
    }
}

/// Adds what was found to the models, as far as it can be used; the rest with its reasons.
fn add_found(found: Vec<Found>, models: &mut Vec<CatalogModel>) -> Vec<UnusableModel> {
    let mut unusable = Vec::new();
    for found in found {
        let origin = found.origin();
        if models
            .iter()
            .any(|model| model.origin.path() == origin.path())
        {
            continue;
        }
        let free = [Some(found.id.clone()), found.other_id]
            .into_iter()
            .flatten()
            .find(|id| !is_taken(models, id));
        let opened = match free {
            Some(id) => CatalogModel::open(
                id,
                origin.clone(),
                RANK_FOUND,
                ModelFiles::open(&found.path),
            )
            .map_err(|error| error.to_string()),
            None => Err(format!(
                "another model is called {} as well; name this one with --model other-id={}",
                found.id,
                found.path.display()
            )),
        };
        match opened {
            Ok(model) => models.push(model),
            Err(_) if found.is_a_guess => {}
            Err(reason) => unusable.push(UnusableModel {
                id: found.id,
                origin,
                reason,
            }),
        }
    }
    unusable
}

/// A source that is no place must be the id of a model that was found, or is inside.
fn name_by_id(
    source: &ModelSource,
    rank: usize,
    models: &mut [CatalogModel],
    unusable: &[UnusableModel],
) -> Result<(), CatalogError> {
    let is_called = |id: &ModelId| id.as_str() == source.place;
    if let Some(model) = models.iter_mut().find(|model| is_called(&model.id)) {
        model.rank = rank;
        if let Some(id) = &source.id {
            model.id = id.clone();
        }
        return Ok(());
    }
    let hint = match unusable.iter().find(|model| is_called(&model.id)) {
        Some(model) => format!("; the one that is cannot be used: {}", model.reason),
        None if source.place.parse::<HubId>().is_ok() => {
            format!(
                "; `scumble models pull {}` fetches it from the hub",
                source.place
            )
        }
        None => String::new(),
    };
    Err(CatalogError::NotThere {
        place: source.place.clone(),
        hint,
    })
}

/// The model that a person means by its name in the list, a path or a hub id: what it is called, and where it is.
/// Whether it is sound is another question.
#[must_use]
pub fn locate(place: &str, places: &ModelPlaces) -> Option<(ModelId, Origin)> {
    let source = ModelSource {
        id: None,
        place: place.to_owned(),
    };
    if let Some(found) = places.resolve(&source) {
        let origin = match found.hub {
            Some(hub) => Origin::Hub(hub, found.path),
            None => Origin::Named(found.path),
        };
        return Some((found.id, origin));
    }
    if place == EMBEDDED_ID && !embedded::FILES.is_empty() {
        return Some((embedded_id(), Origin::Embedded));
    }
    let is_called = |id: &ModelId| id.as_str() == place;
    places
        .found()
        .into_iter()
        .find(|found| is_called(&found.id) || found.other_id.as_ref().is_some_and(is_called))
        .map(|found| {
            let origin = found.origin();
            (found.id, origin)
        })
}

/// The files of a model that lies there.
///
/// # Errors
/// If there are none, or they are no model.
pub fn model_files(origin: &Origin) -> Result<ModelFiles, DiffusionError> {
    match origin.path() {
        None => Ok(ModelFiles::embedded(embedded::FILES)),
        Some(path) => ModelFiles::open(path),
    }
}

fn duplicate(models: &[CatalogModel]) -> Option<ModelId> {
    models.iter().enumerate().find_map(|(index, model)| {
        let earlier = models.get(..index)?;
        is_taken(earlier, &model.id).then(|| model.id.clone())
    })
}

fn is_taken(models: &[CatalogModel], id: &ModelId) -> bool {
    models.iter().any(|model| model.id == *id)
}

/// The words in a model's own list. An entry is a word, or an object with a `name` and perhaps `synonyms`; synonyms come
/// after all names, so that the first words are the ones to show.
fn vocabulary(list: &Value) -> ModelVocabulary {
    let words = |keys: &[&str]| -> Vec<String> {
        let entries = || {
            keys.iter()
                .filter_map(|key| list.get(key)?.as_array())
                .flatten()
        };
        let names =
            entries().filter_map(|entry| entry.as_str().or_else(|| entry.get("name")?.as_str()));
        let synonyms = entries()
            .filter_map(|entry| entry.get("synonyms")?.as_array())
            .flatten()
            .filter_map(Value::as_str);
        names.chain(synonyms).map(str::to_owned).collect()
    };
    ModelVocabulary {
        objects: words(&["objects"]),
        styles: words(&["styles"]),
        colors: words(&["colors", "colours"]),
        scenes: words(&["scenes"]),
    }
}

/// Every scheduler, as `GET /v1/schedulers` shows them.
#[must_use]
pub fn scheduler_list() -> SchedulerList {
    SchedulerList {
        data: SchedulerKind::all()
            .map(|kind| Scheduler {
                name: scheduler_name(kind),
                label: kind.label().to_owned(),
                aliases: kind
                    .aliases()
                    .iter()
                    .map(|&alias| alias.to_owned())
                    .collect(),
            })
            .collect(),
    }
}

/// A scheduler's main name.
#[must_use]
pub fn scheduler_name(kind: SchedulerKind) -> SchedulerName {
    SchedulerName::new(kind.name())
        .expect("scheduler names follow the rule for names: this is a bug")
}

/// In the API's words.
const fn task(task: DrawingTask) -> Task {
    match task {
        DrawingTask::TextToImage => Task::TextToImage,
        DrawingTask::ImageToImage => Task::ImageToImage,
        DrawingTask::Inpaint => Task::Inpaint,
    }
}

fn embedded_id() -> ModelId {
    ModelId::new(EMBEDDED_ID).expect("the constant follows the rule for names: this is a bug")
}

fn pixels(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(DIMENSION_PIXELS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vocabulary_may_list_words_or_things_with_synonyms() {
        let list = serde_json::json!({
            "objects": [{"name": "rabbit", "synonyms": ["bunny"]}, "fox"],
            "styles": ["flat"],
            "colours": [{"name": "gray", "rgb": [1, 2, 3], "synonyms": ["grey"]}],
            "templates": ["{object}"],
        });
        let words = vocabulary(&list);
        assert_eq!(words.objects, ["rabbit", "fox", "bunny"]);
        assert_eq!(words.styles, ["flat"]);
        assert_eq!(words.colors, ["gray", "grey"]);
        assert!(words.scenes.is_empty());
    }
}
