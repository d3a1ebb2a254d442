//! Prompts: counted, encoded, remembered.

use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;

use crate::error::{Error, ErrorKind, Result};
use crate::files::ModelFiles;
use crate::pipeline::describe::Parts;
use crate::pipeline::{Family, Pipeline, TextEncoding};
use crate::text::{Chunk, Readout, Tokenizer, chunks, weigh};

/// Encoded prompts that a pipeline remembers, in bytes: some hundreds of Stable Diffusion 1's, a hundred of SDXL's.
const PROMPT_CACHE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How many tokens a prompt takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenCount {
    /// Tokens of the prompt, without start and end marks.
    pub tokens: usize,
    /// The same for each chunk that the text encoder reads, at least one. They add up to `tokens`.
    pub chunks: Vec<usize>,
    /// How many of them fit in one chunk.
    pub chunk_tokens: usize,
}

/// An encoded prompt.
#[derive(Clone)]
pub struct PromptEmbedding {
    /// What the unet attends to, `[1, chunks * length, width]`.
    pub hidden: Tensor,
    /// SDXL's summary of the prompt, `[1, pooled]`: that of its first chunk.
    pub pooled: Option<Tensor>,
}

/// A model's tokenizers without its weights, to count with. Can be shared between threads.
pub struct PromptTokenizer {
    tokenizers: Vec<Tokenizer>,
}

impl PromptTokenizer {
    /// Reads a model's configs and vocabularies.
    ///
    /// Errors as [`Pipeline::describe`] does, and if a vocabulary is missing or malformed.
    pub fn load(files: &ModelFiles) -> Result<Self> {
        let parts = Parts::read(files)?;
        let tokenizers = parts
            .text
            .iter()
            .map(|part| Tokenizer::load(files, part.tokenizer_folder, part.config.positions))
            .collect::<Result<Vec<Tokenizer>>>()?;
        Ok(Self { tokenizers })
    }

    /// Counts a prompt's tokens as [`Pipeline::tokenize`] does.
    ///
    /// Errors if the prompt takes more chunks than are read.
    pub fn tokenize(&self, prompt: &str) -> Result<TokenCount> {
        count(self.tokenizers.iter(), prompt)
    }
}

impl Pipeline {
    /// Counts a prompt's tokens, brackets and weights not counted.
    ///
    /// Errors if the prompt takes more chunks than are read.
    pub fn tokenize(&self, prompt: &str) -> Result<TokenCount> {
        count(self.text.iter().map(|text| &text.tokenizer), prompt)
    }

    /// Encodes a prompt of any length as the model's unet wants it, or remembers how it was encoded before.
    ///
    /// The prompt is read in chunks of [`TokenCount::chunk_tokens`]; brackets weigh words and `BREAK` starts a chunk,
    /// as A1111 has it. `clip_skip` leaves out as many of the text encoder's last layers. Errors if it is above
    /// [`ModelDescription::clip_skip_max`](crate::ModelDescription::clip_skip_max) or the prompt takes more chunks
    /// than are read.
    pub fn encode_prompt(&self, prompt: &str, clip_skip: usize) -> Result<PromptEmbedding> {
        self.check_clip_skip(clip_skip)?;
        if let Some(embedding) = self.prompt_cache.get(prompt, clip_skip) {
            return Ok(embedding);
        }
        let embedding = self.encode_afresh(prompt, clip_skip)?;
        self.prompt_cache.put(prompt, clip_skip, &embedding);
        Ok(embedding)
    }

    /// Encodes a prompt and what to steer away from, padded to as many chunks as the longer one has with what nothing
    /// at all encodes to: a batch of two, the negative prompt first. Layers are left out of the prompt only, as
    /// diffusers does.
    pub(super) fn encode_guided(
        &self,
        prompt: &str,
        negative_prompt: &str,
        clip_skip: usize,
    ) -> Result<PromptEmbedding> {
        let prompt = self.encode_prompt(prompt, clip_skip)?;
        if negative_prompt.is_empty() && self.zeros_for_empty_prompt {
            let zeros = PromptEmbedding {
                hidden: prompt.hidden.zeros_like()?,
                pooled: prompt.pooled.as_ref().map(Tensor::zeros_like).transpose()?,
            };
            return batch_of_two(&zeros, &prompt);
        }
        let negative = self.encode_prompt(negative_prompt, 0)?;
        let length = prompt.hidden.dim(1)?.max(negative.hidden.dim(1)?);
        batch_of_two(
            &self.pad(negative, length, 0)?,
            &self.pad(prompt, length, clip_skip)?,
        )
    }

    /// Forgets every encoded prompt: to be called when a text encoder's weights change.
    pub fn clear_prompt_cache(&self) {
        self.prompt_cache.clear();
    }

    /// Errors unless the text encoders have so many layers to leave out.
    pub(super) fn check_clip_skip(&self, clip_skip: usize) -> Result<()> {
        let max = self.description.clip_skip_max;
        if clip_skip <= max {
            Ok(())
        } else {
            Err(Error::parameter(format!(
                "clip_skip must be 0..={max} for this model, got {clip_skip}"
            )))
        }
    }

    fn encode_afresh(&self, prompt: &str, clip_skip: usize) -> Result<PromptEmbedding> {
        let is_xl = self.description.family == Family::Sdxl;
        let readout = Readout {
            // SDXL was trained on the layer before the last, as it is; its skipping starts there.
            layers_skipped: clip_skip + usize::from(is_xl),
            is_normed: !is_xl,
        };
        let read: Vec<Vec<Chunk>> = self
            .text
            .iter()
            .map(|text| chunks(&text.tokenizer, prompt))
            .collect::<Result<_>>()?;
        // Encoders walk in step, also where their vocabularies cut the prompt differently.
        let count = read.iter().map(Vec::len).max().unwrap_or(1);
        let mut states = Vec::new();
        let mut pooled = None;
        for (text, chunks) in self.text.iter().zip(&read) {
            let encoded = text.encode(chunks, count, readout)?;
            states.push(encoded.hidden);
            pooled = encoded.pooled;
        }
        Ok(PromptEmbedding {
            hidden: Tensor::cat(&states, 2)?,
            pooled: pooled.filter(|_| is_xl),
        })
    }

    /// Adds empty chunks until `hidden` is `length` tokens long.
    fn pad(
        &self,
        embedding: PromptEmbedding,
        length: usize,
        clip_skip: usize,
    ) -> Result<PromptEmbedding> {
        let mut missing = length.saturating_sub(embedding.hidden.dim(1)?);
        if missing == 0 {
            return Ok(embedding);
        }
        let empty = self.encode_prompt("", clip_skip)?.hidden;
        let mut states = vec![embedding.hidden];
        while missing > 0 {
            missing = missing.saturating_sub(empty.dim(1)?);
            states.push(empty.clone());
        }
        Ok(PromptEmbedding {
            hidden: Tensor::cat(&states, 1)?,
            pooled: embedding.pooled,
        })
    }
}

impl TextEncoding {
    /// Encodes the chunks, each by itself, and as many empty ones as bring them to `count`. `pooled` is that of the
    /// first chunk, not weighted.
    fn encode(&self, chunks: &[Chunk], count: usize, readout: Readout) -> Result<PromptEmbedding> {
        let empty = Chunk::default();
        let mut states = Vec::with_capacity(count);
        let mut pooled = None;
        let padded = chunks.iter().chain(std::iter::repeat(&empty)).take(count);
        for chunk in padded {
            let ids = self.tokenizer.frame(&chunk.ids);
            let output = self.encoder.encode(&ids, readout)?;
            // The marks and the padding weigh 1.
            let mut weights = Vec::with_capacity(ids.len());
            weights.push(1.0);
            weights.extend_from_slice(&chunk.weights);
            weights.resize(ids.len(), 1.0);
            states.push(weigh(output.hidden, &weights)?);
            pooled.get_or_insert(output.pooled);
        }
        Ok(PromptEmbedding {
            hidden: Tensor::cat(&states, 1)?,
            pooled,
        })
    }
}

fn count<'a>(tokenizers: impl Iterator<Item = &'a Tokenizer>, prompt: &str) -> Result<TokenCount> {
    let mut counted: Option<TokenCount> = None;
    for tokenizer in tokenizers {
        let lengths: Vec<usize> = chunks(tokenizer, prompt)?
            .iter()
            .map(|chunk| chunk.ids.len())
            .collect();
        // The first tokenizer's tokens are told; the others can only add chunks.
        match &mut counted {
            None => {
                counted = Some(TokenCount {
                    tokens: lengths.iter().sum(),
                    chunks: lengths,
                    chunk_tokens: tokenizer.chunk_tokens(),
                });
            }
            Some(first) => {
                let longer = first.chunks.len().max(lengths.len());
                first.chunks.resize(longer, 0);
            }
        }
    }
    counted.ok_or_else(|| Error::new(ErrorKind::Internal, "a model has at least one tokenizer"))
}

fn batch_of_two(first: &PromptEmbedding, second: &PromptEmbedding) -> Result<PromptEmbedding> {
    Ok(PromptEmbedding {
        hidden: Tensor::cat(&[&first.hidden, &second.hidden], 0)?,
        pooled: match (&first.pooled, &second.pooled) {
            (Some(first), Some(second)) => Some(Tensor::cat(&[first, second], 0)?),
            _ => None,
        },
    })
}

/// Encoded prompts, the one used last at the end; the one not used for longest makes room.
#[derive(Default)]
pub(super) struct PromptCache {
    entries: Mutex<Vec<CachedPrompt>>,
}

struct CachedPrompt {
    prompt: String,
    clip_skip: usize,
    embedding: PromptEmbedding,
}

impl PromptCache {
    fn get(&self, prompt: &str, clip_skip: usize) -> Option<PromptEmbedding> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let index = entries
            .iter()
            .position(|entry| entry.prompt == prompt && entry.clip_skip == clip_skip)?;
        let used = entries.remove(index);
        let embedding = used.embedding.clone();
        entries.push(used);
        Some(embedding)
    }

    fn put(&self, prompt: &str, clip_skip: usize, embedding: &PromptEmbedding) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(CachedPrompt {
            prompt: prompt.to_owned(),
            clip_skip,
            embedding: embedding.clone(),
        });
        let mut bytes: usize = entries.iter().map(CachedPrompt::bytes).sum();
        let surplus = entries
            .iter()
            .take_while(|entry| {
                let is_over = bytes > PROMPT_CACHE_BYTES_MAX;
                bytes = bytes.saturating_sub(entry.bytes());
                is_over
            })
            .count();
        entries.drain(..surplus);
    }

    fn clear(&self) {
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl CachedPrompt {
    fn bytes(&self) -> usize {
        let tensor = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        size_of::<Self>()
            + self.prompt.len()
            + tensor(&self.embedding.hidden)
            + self.embedding.pooled.as_ref().map_or(0, tensor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn embedding(bytes: usize) -> PromptEmbedding {
        PromptEmbedding {
            hidden: Tensor::zeros((1, 1, bytes / 4), DType::F32, &Device::Cpu).unwrap(),
            pooled: None,
        }
    }

    #[test]
    fn the_prompt_not_used_for_longest_makes_room() {
        let cache = PromptCache::default();
        let third = embedding(PROMPT_CACHE_BYTES_MAX / 3);
        cache.put("a", 0, &third);
        cache.put("b", 0, &third);
        assert!(cache.get("a", 0).is_some());
        cache.put("c", 0, &third);
        assert!(cache.get("b", 0).is_none());
        assert!(cache.get("a", 0).is_some());
        assert!(cache.get("c", 0).is_some());
        cache.put("d", 0, &embedding(PROMPT_CACHE_BYTES_MAX + 4));
        assert!(cache.entries.lock().unwrap().is_empty());
    }

    #[test]
    fn a_prompt_is_remembered_with_its_clip_skip() {
        let cache = PromptCache::default();
        cache.put("a", 1, &embedding(4));
        assert!(cache.get("a", 0).is_none());
        assert!(cache.get("a", 1).is_some());
        cache.clear();
        assert!(cache.get("a", 1).is_none());
    }

    #[test]
    fn tokenizers_can_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<PromptTokenizer>();
    }
}
