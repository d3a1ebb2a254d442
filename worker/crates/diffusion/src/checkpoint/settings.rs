//! `<name>.scumble.json` beside a single file: what its tensors cannot tell.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::parse;
use crate::error::{Error, Result};
use crate::files::read_small;

/// See [`crate::ModelFiles::open`]. Paths are made relative to the file's folder.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    pub(super) prediction_type: Option<String>,
    pub(super) configs: Option<PathBuf>,
    pub(super) tokenizer: Option<PathBuf>,
    pub(super) tokenizer_2: Option<PathBuf>,
    pub(super) text_encoder: Option<PathBuf>,
    pub(super) text_encoder_2: Option<PathBuf>,
    pub(super) vae: Option<PathBuf>,
    defaults: Option<Value>,
    examples: Option<Value>,
    vocabulary: Option<Value>,
}

impl Settings {
    /// Errors if the file is there and is malformed.
    pub(super) fn read(model: &Path) -> Result<Self> {
        let path = model.with_extension("scumble.json");
        let Some(bytes) = read_small(&path)? else {
            return Ok(Self::default());
        };
        let name = path.display().to_string();
        let mut settings: Self = parse(&bytes)
            .and_then(serde_json::from_value)
            .map_err(|error| Error::config(&name, error))?;
        let folder = model.parent().unwrap_or(Path::new(""));
        for path in [
            &mut settings.configs,
            &mut settings.tokenizer,
            &mut settings.tokenizer_2,
            &mut settings.text_encoder,
            &mut settings.text_encoder_2,
            &mut settings.vae,
        ]
        .into_iter()
        .flatten()
        {
            *path = folder.join(&*path);
        }
        if let Some(configs) = &settings.configs
            && !configs.is_dir()
        {
            return Err(Error::missing(
                &name,
                format_args!("configs names {}, which is no folder", configs.display()),
            ));
        }
        Ok(settings)
    }

    /// What a model's folder would have as its `scumble.json`.
    pub(super) fn own(&self) -> Value {
        let fields = [
            ("defaults", &self.defaults),
            ("examples", &self.examples),
            ("vocabulary", &self.vocabulary),
        ];
        let mut own = Map::new();
        for (name, value) in fields {
            if let Some(value) = value {
                own.insert(name.to_owned(), value.clone());
            }
        }
        Value::Object(own)
    }
}
