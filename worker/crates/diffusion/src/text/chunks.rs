//! A prompt of any length, cut into chunks that the text encoder can take.
//!
//! A chunk is closed when it is full or at a `BREAK`. Where it is full and a comma stands near its end, what follows
//! the comma moves to the next chunk, so that a phrase is not torn: as A1111 does, with its 20 of 75 tokens, in
//! proportion for encoders of other lengths.

use crate::error::{Error, ErrorKind, Result};
use crate::text::Tokenizer;
use crate::text::prompt::{Piece, parse};

/// Tokens of all chunks together, marks and padding included: what the unet may have to attend to. 4,000 characters
/// of one token each stay below it, however the commas lie.
const ENCODED_TOKENS_MAX: usize = 8_192;

/// How far back a comma is looked for, as a share of the chunk.
const COMMA_BACKTRACK: (usize, usize) = (20, 75);

/// What fits into the encoder at once: ids without marks, and a weight for each.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) ids: Vec<u32>,
    pub(crate) weights: Vec<f32>,
}

/// A prompt's chunks, at least one. Errors if it cannot be tokenized or takes too many.
pub(crate) fn chunks(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<Chunk>> {
    let mut chunker = Chunker::new(tokenizer.chunk_tokens(), tokenizer.comma());
    for piece in parse(prompt) {
        match piece {
            Piece::Break => chunker.close(),
            Piece::Text { text, weight } => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "states are at most f32, and the bound of weights is far inside it"
                )]
                let weight = weight as f32;
                for id in tokenizer.ids(&text)? {
                    chunker.push(id, weight);
                }
            }
        }
    }
    let chunks = chunker.finish();
    let chunks_max = (ENCODED_TOKENS_MAX / tokenizer.length()).max(1);
    if chunks.len() > chunks_max {
        return Err(Error::new(
            ErrorKind::InvalidPrompt,
            format!(
                "the prompt must take at most {chunks_max} chunks of {} tokens, got {}",
                tokenizer.chunk_tokens(),
                chunks.len()
            ),
        ));
    }
    Ok(chunks)
}

struct Chunker {
    chunk_tokens: usize,
    comma: Option<u32>,
    backtrack: usize,
    closed: Vec<Chunk>,
    current: Chunk,
    /// Where the last comma stands in the current chunk.
    last_comma: Option<usize>,
}

impl Chunker {
    fn new(chunk_tokens: usize, comma: Option<u32>) -> Self {
        Self {
            chunk_tokens,
            comma,
            backtrack: chunk_tokens * COMMA_BACKTRACK.0 / COMMA_BACKTRACK.1,
            closed: Vec::new(),
            current: Chunk::default(),
            last_comma: None,
        }
    }

    fn push(&mut self, id: u32, weight: f32) {
        if self.current.ids.len() >= self.chunk_tokens {
            // A comma that would open the next chunk ends this one instead, with nothing to move.
            let is_comma = Some(id) == self.comma;
            self.close_full(!is_comma);
        }
        if Some(id) == self.comma {
            self.last_comma = Some(self.current.ids.len());
        }
        self.current.ids.push(id);
        self.current.weights.push(weight);
    }

    fn close_full(&mut self, moves_back_to_comma: bool) {
        let kept = self
            .last_comma
            .filter(|comma| moves_back_to_comma && self.current.ids.len() - comma <= self.backtrack)
            .map_or(self.current.ids.len(), |comma| comma + 1);
        let moved = Chunk {
            ids: self.current.ids.split_off(kept),
            weights: self.current.weights.split_off(kept),
        };
        self.close();
        self.current = moved;
    }

    fn close(&mut self) {
        self.closed.push(std::mem::take(&mut self.current));
        self.last_comma = None;
    }

    fn finish(mut self) -> Vec<Chunk> {
        if !self.current.ids.is_empty() || self.closed.is_empty() {
            self.close();
        }
        self.closed
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COMMA: u32 = 0;

    fn lengths(chunk_tokens: usize, ids: &[u32]) -> Vec<usize> {
        let mut chunker = Chunker::new(chunk_tokens, Some(COMMA));
        for id in ids {
            chunker.push(*id, 1.0);
        }
        chunker
            .finish()
            .iter()
            .map(|chunk| chunk.ids.len())
            .collect()
    }

    /// `length` tokens with commas at `commas`.
    fn with_commas(length: usize, commas: &[usize]) -> Vec<u32> {
        (0..length)
            .map(|index| if commas.contains(&index) { COMMA } else { 7 })
            .collect()
    }

    #[test]
    fn nothing_is_one_empty_chunk() {
        assert_eq!(lengths(75, &[]), [0]);
    }

    #[test]
    fn chunks_are_filled_to_the_last_token() {
        assert_eq!(lengths(75, &with_commas(75, &[])), [75]);
        assert_eq!(lengths(75, &with_commas(76, &[])), [75, 1]);
        assert_eq!(lengths(75, &with_commas(225, &[])), [75, 75, 75]);
        assert_eq!(lengths(22, &with_commas(50, &[])), [22, 22, 6]);
    }

    #[test]
    fn what_follows_a_near_comma_moves_to_the_next_chunk() {
        assert_eq!(lengths(75, &with_commas(80, &[60])), [61, 19]);
        assert_eq!(lengths(75, &with_commas(80, &[55])), [56, 24]);
        assert_eq!(lengths(75, &with_commas(80, &[54])), [75, 5]);
        assert_eq!(lengths(75, &with_commas(80, &[74])), [75, 5]);
        assert_eq!(lengths(75, &with_commas(80, &[40, 58, 62])), [63, 17]);
        assert_eq!(lengths(22, &with_commas(24, &[17])), [18, 6]);
        assert_eq!(lengths(22, &with_commas(24, &[16])), [22, 2]);
    }

    #[test]
    fn a_chunk_that_ends_with_the_prompt_is_not_torn_open() {
        assert_eq!(lengths(75, &with_commas(75, &[60])), [75]);
    }

    #[test]
    fn a_comma_after_a_full_chunk_opens_the_next() {
        assert_eq!(lengths(75, &with_commas(80, &[60, 75])), [75, 5]);
    }

    #[test]
    fn a_break_closes_a_chunk_even_an_empty_one() {
        let mut chunker = Chunker::new(75, Some(COMMA));
        chunker.close();
        chunker.push(7, 1.0);
        chunker.close();
        chunker.close();
        chunker.push(8, 0.5);
        chunker.close();
        let chunks = chunker.finish();
        let ids: Vec<&[u32]> = chunks.iter().map(|chunk| chunk.ids.as_slice()).collect();
        assert_eq!(ids, [&[][..], &[7], &[], &[8]]);
    }

    proptest! {
        #[test]
        fn no_token_is_lost_and_no_chunk_overfull(
            chunk_tokens in 1usize..80,
            ids in prop::collection::vec(0u32..4, 0..400),
        ) {
            let mut chunker = Chunker::new(chunk_tokens, Some(COMMA));
            for (index, id) in ids.iter().enumerate() {
                chunker.push(*id, index as f32);
            }
            let chunks = chunker.finish();
            let least = chunk_tokens - chunk_tokens * COMMA_BACKTRACK.0 / COMMA_BACKTRACK.1;
            for (index, chunk) in chunks.iter().enumerate() {
                prop_assert!(chunk.ids.len() <= chunk_tokens);
                prop_assert_eq!(chunk.ids.len(), chunk.weights.len());
                if index + 1 < chunks.len() {
                    prop_assert!(chunk.ids.len() >= least);
                }
            }
            let joined: Vec<u32> = chunks.iter().flat_map(|chunk| chunk.ids.clone()).collect();
            let weights: Vec<f32> = chunks.iter().flat_map(|chunk| chunk.weights.clone()).collect();
            prop_assert_eq!(joined, ids);
            prop_assert!(weights.iter().enumerate().all(|(index, weight)| *weight == index as f32));
        }
    }
}
