//! The LoRAs that this worker can draw with: a table, looked up by name and never joined to a path.

use scumble_diffusion::{Error as DiffusionError, Lora, LoraDescription};
use scumble_protocol::{Lora as WireLora, LoraList, LoraName, LoraTag, limits::NAME_BYTES_MAX};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// LoRAs that are looked at in a folder; further files are left out, which is logged.
const LORAS_FOUND_MAX: usize = 1_000;
/// LoRAs whose contents stay in memory, the ones used last.
const LORAS_OPEN_MAX: usize = 8;

/// The LoRAs, by name.
#[derive(Debug, Default)]
pub struct LoraShelf {
    loras: Vec<ShelvedLora>,
}

/// A LoRA's file and what it is.
#[derive(Debug)]
pub struct ShelvedLora {
    /// What jobs name it by.
    pub name: LoraName,
    /// What its file says about it.
    pub description: LoraDescription,
    path: PathBuf,
    size_bytes: u64,
}

impl LoraShelf {
    /// The `.safetensors` files of a folder. Reads headers only. What cannot be used is logged and left out.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|end| end == "safetensors"))
            .collect();
        paths.sort();
        if paths.len() > LORAS_FOUND_MAX {
            let files = paths.len();
            tracing::warn!(
                files,
                "more LoRAs than {LORAS_FOUND_MAX}: the rest is left out"
            );
            paths.truncate(LORAS_FOUND_MAX);
        }
        let mut shelf = Self::default();
        for path in paths {
            match ShelvedLora::look_at(path) {
                Ok(lora) if shelf.get(&lora.name).is_some() => {
                    let path = lora.path.display();
                    tracing::warn!(%path, "LoRA left out: another is called {} too", lora.name);
                }
                Ok(lora) => shelf.loras.push(lora),
                Err(reason) => tracing::warn!("LoRA left out: {reason}"),
            }
        }
        shelf
            .loras
            .sort_by(|left, right| left.name.as_str().cmp(right.name.as_str()));
        Ok(shelf)
    }

    /// The LoRA of this name.
    #[must_use]
    pub fn get(&self, name: &LoraName) -> Option<&ShelvedLora> {
        self.loras.iter().find(|lora| lora.name == *name)
    }

    /// The names in a sentence.
    #[must_use]
    pub fn names(&self) -> String {
        if self.loras.is_empty() {
            return "the LoRAs of this worker, which has none".to_owned();
        }
        let names: Vec<&str> = self.loras.iter().map(|lora| lora.name.as_str()).collect();
        names.join(", ")
    }

    /// As `GET /v1/loras` shows them.
    #[must_use]
    pub fn to_list(&self) -> LoraList {
        LoraList {
            data: self.loras.iter().map(ShelvedLora::to_wire).collect(),
        }
    }
}

impl ShelvedLora {
    fn look_at(path: PathBuf) -> Result<Self, String> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = name_of(&stem)
            .ok_or_else(|| format!("{}: its name has no letter or digit", path.display()))?;
        let description = Lora::describe(&path).map_err(|error| error.to_string())?;
        let size_bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Ok(Self {
            name,
            description,
            path,
            size_bytes,
        })
    }

    fn to_wire(&self) -> WireLora {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let description = &self.description;
        let rank = description.rank.as_ref();
        let tags = description.tags.iter().map(|(tag, images)| LoraTag {
            tag: tag.clone(),
            images: *images,
        });
        let targets = description.targets.iter();
        WireLora {
            name: self.name.clone(),
            family: description.family.map(|family| family.to_string()),
            base: description.base.clone(),
            title: description.title.clone(),
            trigger_phrase: description.trigger_phrase.clone(),
            tags: tags.collect(),
            kinds: description.kinds.iter().map(ToString::to_string).collect(),
            targets: targets
                .map(|(part, layers)| (part.clone(), count(*layers)))
                .collect(),
            rank_min: rank.map(|rank| count(*rank.start())),
            rank_max: rank.map(|rank| count(*rank.end())),
            alpha: description.alpha,
            size_bytes: self.size_bytes,
        }
    }
}

/// A file's name as the name of a LoRA: lower case, with `-` for what names do not have.
#[must_use]
pub fn name_of(text: &str) -> Option<LoraName> {
    let name: String = text
        .to_lowercase()
        .chars()
        .map(|char| match char {
            'a'..='z' | '0'..='9' | '.' | '_' => char,
            _ => '-',
        })
        .skip_while(|char| !char.is_ascii_alphanumeric())
        .take(NAME_BYTES_MAX)
        .collect();
    LoraName::new(name.trim_end_matches('-')).ok()
}

/// The LoRAs that were used last, in memory. A file that changed on the disk is read again.
#[derive(Debug, Default)]
pub struct OpenLoras {
    open: Vec<OpenLora>,
}

#[derive(Debug)]
struct OpenLora {
    path: PathBuf,
    modified: Option<SystemTime>,
    lora: Arc<Lora>,
}

impl OpenLoras {
    /// The LoRA's contents.
    ///
    /// # Errors
    /// If its file cannot be read or is no sound LoRA.
    pub fn get(&mut self, shelved: &ShelvedLora) -> Result<Arc<Lora>, DiffusionError> {
        let modified = fs::metadata(&shelved.path)
            .and_then(|metadata| metadata.modified())
            .ok();
        let known = self
            .open
            .iter()
            .position(|open| open.path == shelved.path && open.modified == modified);
        let used = match known {
            Some(index) => self.open.remove(index),
            None => {
                self.open.retain(|open| open.path != shelved.path);
                OpenLora {
                    path: shelved.path.clone(),
                    modified,
                    lora: Arc::new(Lora::open(&shelved.path)?),
                }
            }
        };
        let lora = Arc::clone(&used.lora);
        self.open.push(used);
        if self.open.len() > LORAS_OPEN_MAX {
            self.open.remove(0);
        }
        Ok(lora)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_becomes_a_name_that_is_no_path() {
        let name = |text: &str| name_of(text).map(|name| name.to_string());
        assert_eq!(name("Ink Wash").as_deref(), Some("ink-wash"));
        assert_eq!(name("../v2.1_(final)").as_deref(), Some("v2.1_-final"));
        assert_eq!(name("…"), None);
    }
}
