//! Single files: a whole model, or one component, in one `.safetensors`.
//!
//! The layout is the one of the original Stable Diffusion code: `model.diffusion_model.` is the unet,
//! `first_stage_model.` the autoencoder, `cond_stage_model.` or `conditioner.embedders.` the text encoders. A file is
//! looked at once, when it is named: its tensors get the names that diffusers gives them ([`names`]), and the configs that
//! a folder would hold are derived from their shapes ([`configs`]). From there on it is read like any folder.

mod configs;
mod names;
mod settings;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::parse;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{ModelFiles, map_file, read_small};
use crate::weights::{ComponentFiles, Header, PICKLE, Place, TensorFile};

use configs::Shapes;
use settings::Settings;

/// A single file, looked at: what stands in it, and the small files that a folder would have beside.
pub(crate) struct Checkpoint {
    path: PathBuf,
    /// The header's tensors when the file was looked at, to notice if it is another file by now.
    header: Header,
    /// By the folder that each stands for; a lone component stands for the root.
    components: BTreeMap<&'static str, BTreeMap<String, Place>>,
    derived: Derived,
    /// A folder whose small files count before the derived ones.
    configs: Option<PathBuf>,
}

/// The small files that a folder would have, or why one cannot be told from the file.
pub(crate) type Derived = BTreeMap<&'static str, Result<Value>>;

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Checkpoint {
    /// As [`ModelFiles::read`].
    pub(crate) fn read(&self, path: &str) -> Result<Option<Cow<'static, [u8]>>> {
        if let Some(folder) = &self.configs
            && let Some(bytes) = read_small(&folder.join(path))?
        {
            return Ok(Some(bytes));
        }
        match self.derived.get(path) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(Cow::Owned(value.to_string().into_bytes()))),
            Some(Err(error)) => Err(error.clone()),
        }
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        let has = |folder: &PathBuf| folder.join(path).is_file();
        self.configs.as_ref().is_some_and(has) || self.derived.contains_key(path)
    }

    /// A file's name for messages.
    pub(crate) fn name(&self, path: &str) -> String {
        match &self.configs {
            Some(folder) if folder.join(path).is_file() => folder.join(path).display().to_string(),
            _ if path.is_empty() => self.path.display().to_string(),
            _ => format!("{} ({path} derived from it)", self.path.display()),
        }
    }

    /// The weights that stand for `folder`. Errors if there are none, or the file is no longer what it was.
    pub(crate) fn component(&self, folder: &str) -> Result<ComponentFiles> {
        let name = self.path.display().to_string();
        let tensors = self
            .components
            .get(folder)
            .ok_or_else(|| Error::missing(&name, format_args!("holds no {folder}")))?;
        let file = TensorFile::new(name.clone(), map_file(&self.path)?)?;
        if file.header.data_start != self.header.data_start
            || file.header.tensors.len() != self.header.tensors.len()
        {
            return Err(Error::weights(&name, "has changed since it was first read"));
        }
        Ok(ComponentFiles {
            name: if folder.is_empty() {
                name
            } else {
                format!("{name} ({folder})")
            },
            files: vec![file],
            tensors: tensors.clone(),
        })
    }
}

/// Reads a file's header. Errors if it is a pickle or anything else than sound safetensors.
fn read_header(path: &Path) -> Result<Header> {
    let name = path.display().to_string();
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("ckpt" | "pt" | "pth" | "bin" | "pkl") => {
            return Err(Error::unsupported(&name, PICKLE));
        }
        Some("gguf") => {
            return Err(Error::unsupported(
                &name,
                "is a GGUF file, which is not supported; use .safetensors",
            ));
        }
        _ => {}
    }
    Header::read(&name, &map_file(path)?)
}

/// As [`ModelFiles::open`] for a file.
pub(crate) fn open(path: &Path) -> Result<ModelFiles> {
    let header = read_header(path)?;
    let name = path.display().to_string();
    let model = names::model(&name, &header)?;
    let settings = Settings::read(path)?;
    let derived = configs::model(&name, &model, &settings, &header);
    let mut files = ModelFiles::from_checkpoint(Checkpoint {
        path: path.to_owned(),
        header,
        components: model.components,
        derived,
        configs: settings.configs.clone(),
    });
    for (folder, tokenizer) in [
        ("tokenizer", &settings.tokenizer),
        ("tokenizer_2", &settings.tokenizer_2),
    ] {
        if let Some(path) = tokenizer {
            files = files.mounted(folder, component_folder(path, "tokenizer_config.json")?);
        }
    }
    for path in [&settings.text_encoder, &settings.text_encoder_2]
        .into_iter()
        .flatten()
    {
        files = with_text_encoder(files, path)?;
    }
    match &settings.vae {
        Some(path) => with_vae(files, path),
        None => Ok(files),
    }
}

/// A folder that must hold `file`.
fn component_folder(path: &Path, file: &str) -> Result<ModelFiles> {
    let files = ModelFiles::from_folder(path);
    if files.exists(file) {
        Ok(files)
    } else {
        Err(Error::missing(&files.name(file), "is missing"))
    }
}

/// As [`ModelFiles::with_vae`].
pub(crate) fn with_vae(files: ModelFiles, path: &Path) -> Result<ModelFiles> {
    if path.is_file() {
        let header = read_header(path)?;
        let name = path.display().to_string();
        let tensors = names::vae(&name, &header)?;
        let own = read_json(&files, "vae/config.json").ok();
        let config = configs::vae(&name, &Shapes(&tensors), is_xl(&files), own.as_ref());
        return Ok(files.mounted("vae", lone_component(path, header, tensors, config)));
    }
    let inside = path.join("vae");
    let folder = if inside.is_dir() { &inside } else { path };
    let vae = component_folder(folder, "config.json")?;
    Ok(files.mounted("vae", vae))
}

/// As [`ModelFiles::with_text_encoder`].
pub(crate) fn with_text_encoder(files: ModelFiles, path: &Path) -> Result<ModelFiles> {
    if path.is_file() {
        let header = read_header(path)?;
        let name = path.display().to_string();
        let is_xl = is_xl(&files);
        let tensors = names::text_encoder(&name, &header)?;
        let shapes = Shapes(&tensors);
        let second = is_xl && shapes.has("text_projection.weight");
        let config = configs::text_encoder(&name, &shapes, second || uses_open_clip(&files));
        let encoder = lone_component(path, header, tensors, config);
        return Ok(files.mounted(text_folder(second), encoder));
    }
    if path.join("config.json").is_file() {
        let encoder = ModelFiles::from_folder(path);
        let config = read_json(&encoder, "config.json")?;
        let projects = config
            .get("architectures")
            .is_some_and(|classes| classes.to_string().contains("WithProjection"));
        let second = is_xl(&files) && projects;
        return Ok(files.mounted(text_folder(second), encoder));
    }
    let mut found = component_folder(&path.join("text_encoder"), "config.json")
        .map(|first| files.mounted("text_encoder", first))?;
    for folder in ["text_encoder_2", "tokenizer", "tokenizer_2"] {
        let inside = path.join(folder);
        if inside.is_dir() {
            found = found.mounted(folder, ModelFiles::from_folder(&inside));
        }
    }
    Ok(found)
}

fn text_folder(second: bool) -> &'static str {
    if second {
        "text_encoder_2"
    } else {
        "text_encoder"
    }
}

fn lone_component(
    path: &Path,
    header: Header,
    tensors: BTreeMap<String, Place>,
    config: Result<Value>,
) -> ModelFiles {
    ModelFiles::from_checkpoint(Checkpoint {
        path: path.to_owned(),
        header,
        components: BTreeMap::from([("", tensors)]),
        derived: BTreeMap::from([("config.json", config)]),
        configs: None,
    })
}

fn read_json(files: &ModelFiles, path: &str) -> Result<Value> {
    let name = files.name(path);
    let bytes = files
        .read(path)?
        .ok_or_else(|| Error::missing(&name, "is missing"))?;
    parse(&bytes).map_err(|error| Error::config(&name, format_args!("is not JSON: {error}")))
}

fn is_xl(files: &ModelFiles) -> bool {
    read_json(files, "model_index.json")
        .ok()
        .and_then(|index| Some(index.get("_class_name")?.as_str()?.contains("XL")))
        .unwrap_or(false)
}

/// Whether the unet attends to what OpenCLIP's text encoder of Stable Diffusion 2 says.
fn uses_open_clip(files: &ModelFiles) -> bool {
    read_json(files, "unet/config.json")
        .is_ok_and(|unet| unet.get("cross_attention_dim") == Some(&json!(names::OPEN_CLIP_WIDTH)))
}

/// What a file is instead of a model, in the words of an error.
fn unsupported(file: &str, what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::UnsupportedModel, format!("{file}: {what}"))
}
