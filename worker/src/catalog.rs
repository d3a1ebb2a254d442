//! The models that this worker can draw with: a table, looked up by id and never joined to a path.

use scumble_diffusion::{
    Error as DiffusionError, ModelDescription, ModelFiles, Pipeline, SchedulerKind,
    Task as DrawingTask,
};
use scumble_protocol::{
    DimensionRange, Model, ModelDefaults, ModelId, ModelLimits, ModelList, ModelVocabulary,
    Scheduler, SchedulerList, SchedulerName, Task,
    limits::{
        DIMENSION_PIXELS_MAX, DIMENSION_PIXELS_MIN, DIMENSION_PIXELS_MULTIPLE, NAME_BYTES_MAX,
    },
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// The embedded model's id.
const EMBEDDED_ID: &str = "pocket";

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/pocket.rs"));
}

/// A model folder named on the command line: `DIR`, or `id=DIR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSource {
    /// What jobs name it by.
    pub id: ModelId,
    /// A folder in the diffusers layout.
    pub folder: PathBuf,
}

/// Why there is no catalog.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// A folder is not a model.
    #[error("model {id} cannot be used: {source}")]
    Model {
        /// The model.
        id: ModelId,
        /// What is wrong with it.
        source: DiffusionError,
    },
    /// Two models would have one id.
    #[error("two models are called {0}; name one of them with --model other-id=DIR")]
    DuplicateId(ModelId),
    /// Nothing to draw with.
    #[error(
        "there is no model to draw with: this build has none inside; name a folder with --model DIR"
    )]
    Empty,
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
    /// The words it knows, where its files say so.
    pub vocabulary: Option<ModelVocabulary>,
    /// The solver of a job that names none.
    pub scheduler: SchedulerName,
    loaded: AtomicBool,
}

/// The models, the default one first; never empty.
#[derive(Debug)]
pub struct Catalog {
    first: CatalogModel,
    others: Vec<CatalogModel>,
    found_at_s: u64,
}

impl Catalog {
    /// The folders in the order given, then the embedded model if this build has it. Reads configs, not weights.
    ///
    /// # Errors
    /// If a folder is not a model, two share an id, or there is none at all.
    pub fn open(sources: &[ModelSource]) -> Result<Self, CatalogError> {
        let mut models = Vec::new();
        for source in sources {
            models.push(CatalogModel::open(source.id.clone(), || {
                ModelFiles::folder(&source.folder)
            })?);
        }
        if !embedded::FILES.is_empty() {
            models.push(CatalogModel::open(embedded_id(), || {
                Ok(ModelFiles::embedded(embedded::FILES))
            })?);
        }
        for (index, model) in models.iter().enumerate() {
            if models.iter().take(index).any(|other| other.id == model.id) {
                return Err(CatalogError::DuplicateId(model.id.clone()));
            }
        }
        let mut models = models.into_iter();
        Ok(Self {
            first: models.next().ok_or(CatalogError::Empty)?,
            others: models.collect(),
            found_at_s: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        })
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
            tasks: description.tasks.iter().copied().map(task).collect(),
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

impl CatalogModel {
    fn open(
        id: ModelId,
        files: impl FnOnce() -> Result<ModelFiles, DiffusionError>,
    ) -> Result<Self, CatalogError> {
        let described = files().and_then(|files| {
            let description = Pipeline::describe(&files)?;
            Ok((files, description))
        });
        match described {
            Ok((files, description)) => Ok(Self {
                vocabulary: description.vocabulary.as_ref().map(vocabulary),
                scheduler: scheduler_name(description.scheduler),
                loaded: AtomicBool::new(false),
                id,
                files,
                description,
            }),
            Err(source) => Err(CatalogError::Model { id, source }),
        }
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

impl FromStr for ModelSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((id, folder)) = text.split_once('=')
            && let Ok(id) = ModelId::new(id)
        {
            return Ok(Self {
                id,
                folder: folder.into(),
            });
        }
        let folder = PathBuf::from(text);
        Ok(Self {
            id: folder_id(&folder),
            folder,
        })
    }
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

/// The folder's name as an id: lower case, with `-` for what ids do not have.
fn folder_id(folder: &Path) -> ModelId {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let name = absolute
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    let slug: String = name
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

    #[test]
    fn a_folder_gives_its_name_as_id_unless_one_is_given() {
        let id = |text: &str| text.parse::<ModelSource>().expect("source").id.to_string();
        assert_eq!(id("/models/Stable Diffusion v1.5"), "stable-diffusion-v1.5");
        assert_eq!(id("models/sd-turbo/"), "sd-turbo");
        assert_eq!(id("/models/---"), "model");
        assert_eq!(id("fox=/models/x"), "fox");
        let odd = "Not An Id=/x".parse::<ModelSource>().expect("source");
        assert_eq!(odd.folder, Path::new("Not An Id=/x"));
    }
}
