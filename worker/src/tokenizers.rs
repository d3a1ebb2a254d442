//! The tokenizers that prompts are counted with, apart from those of the engine's thread: a counter must not wait for
//! a drawing.

use crate::{catalog::CatalogModel, limits::TOKENIZERS_LOADED_MAX};
use scumble_diffusion::{Error, PromptTokenizer};
use scumble_protocol::ModelId;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// The tokenizers in memory, the one used last at the end.
#[derive(Default)]
pub struct Tokenizers {
    loaded: Mutex<Vec<(ModelId, Arc<PromptTokenizer>)>>,
}

impl Tokenizers {
    /// The model's tokenizer, read now if it is not in memory; the one not used for longest makes room. Blocks while
    /// it or another one is read.
    ///
    /// # Errors
    /// If its files cannot be read.
    pub fn get(&self, model: &CatalogModel) -> Result<Arc<PromptTokenizer>, Error> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let used = match loaded.iter().position(|(id, _)| *id == model.id) {
            Some(index) => loaded.remove(index),
            None => {
                let tokenizer = PromptTokenizer::load(&model.files)?;
                (model.id.clone(), Arc::new(tokenizer))
            }
        };
        if loaded.len() >= TOKENIZERS_LOADED_MAX {
            loaded.remove(0);
        }
        let tokenizer = Arc::clone(&used.1);
        loaded.push(used);
        Ok(tokenizer)
    }
}

impl fmt::Debug for Tokenizers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokenizers")
    }
}
