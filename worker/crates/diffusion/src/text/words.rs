//! A vocabulary: the one in a model's files, or CLIP's own.

use crate::error::{Error, ErrorKind, Result};

/// Text to token ids.
pub(super) enum Words {
    /// Read from a model's files.
    Read(Box<tokenizers::Tokenizer>),
    /// OpenAI's, which the models of every family here were trained with, for those whose files hold none.
    #[cfg(not(target_family = "wasm"))]
    Clip(Box<clip::ClipWords>),
}

impl Words {
    /// The id of a mark, or of a token that ends a word (`,</w>`).
    pub(super) fn token_to_id(&self, token: &str) -> Option<u32> {
        match self {
            Self::Read(tokenizer) => tokenizer.token_to_id(token),
            #[cfg(not(target_family = "wasm"))]
            Self::Clip(words) => words.token_to_id(token),
        }
    }

    /// The largest id that a text can have.
    pub(super) fn largest_id(&self) -> usize {
        let largest = match self {
            Self::Read(tokenizer) => tokenizer.get_vocab(true).into_values().max(),
            #[cfg(not(target_family = "wasm"))]
            Self::Clip(words) => words.token_to_id(clip::END),
        };
        usize::try_from(largest.unwrap_or_default()).unwrap_or(usize::MAX)
    }

    /// The ids of a text, however many, without marks.
    pub(super) fn ids(&self, text: &str) -> Result<Vec<u32>> {
        match self {
            Self::Read(tokenizer) => Ok(tokenizer
                .encode_fast(text, false)
                .map_err(|error| untokenizable(&error))?
                .get_ids()
                .to_vec()),
            #[cfg(not(target_family = "wasm"))]
            Self::Clip(words) => words.ids(text).map_err(|error| untokenizable(&error)),
        }
    }
}

fn untokenizable(error: &tokenizers::Error) -> Error {
    Error::new(
        ErrorKind::InvalidPrompt,
        format!("the prompt cannot be tokenized: {error}"),
    )
}

#[cfg(not(target_family = "wasm"))]
pub(super) mod clip {
    //! CLIP's vocabulary, which comes with the crate `instant-clip-tokenizer`.

    use instant_clip_tokenizer::{Token, Tokenizer};
    use tokenizers::normalizers::Sequence as Normalizers;
    use tokenizers::{NormalizedString, Normalizer};

    const START: &str = "<|startoftext|>";
    pub(in crate::text) const END: &str = "<|endoftext|>";
    /// What the crate takes for marks, and CLIP's own tokenizer for ordinary text.
    const OTHER_MARKS: [&str; 2] = ["<start_of_text>", "<end_of_text>"];

    pub(in crate::text) struct ClipWords {
        words: Tokenizer,
        normalizers: Normalizers,
        /// Texts that are a token wherever they stand.
        marks: Vec<(String, u32)>,
    }

    impl ClipWords {
        /// `normalizers` is what CLIP's tokenizer does to a text first; `pad` what it pads with.
        pub(in crate::text) fn new(normalizers: Normalizers, pad: &str) -> Self {
            let mut words = Self {
                words: Tokenizer::new(),
                normalizers,
                marks: Vec::new(),
            };
            for mark in [START, END, pad] {
                if let Some(id) = words.token_to_id(mark) {
                    words.marks.push((mark.to_owned(), id));
                }
            }
            words
        }

        /// Knows marks, single visible ASCII characters within words, and what ends a word.
        pub(in crate::text) fn token_to_id(&self, token: &str) -> Option<u32> {
            match token {
                START => return Some(id(self.words.start_of_text())),
                END => return Some(id(self.words.end_of_text())),
                _ => {}
            }
            if let [character @ b'!'..=b'~'] = token.as_bytes() {
                // The vocabulary begins with them, in order.
                return Some(u32::from(character - b'!'));
            }
            let mut tokens = Vec::new();
            self.words.encode(token.strip_suffix("</w>")?, &mut tokens);
            match tokens.as_slice() {
                [only] => Some(id(*only)),
                _ => None,
            }
        }

        pub(in crate::text) fn ids(&self, text: &str) -> tokenizers::Result<Vec<u32>> {
            let mut ids = Vec::new();
            let mut rest = text;
            while let Some((before, (mark, id))) = self.next_mark(rest) {
                self.push(rest.get(..before).unwrap_or_default(), &mut ids)?;
                ids.push(*id);
                rest = rest.get(before + mark.len()..).unwrap_or_default();
            }
            self.push(rest, &mut ids)?;
            Ok(ids)
        }

        /// The first mark in a text, and where.
        fn next_mark(&self, text: &str) -> Option<(usize, &(String, u32))> {
            self.marks
                .iter()
                .filter_map(|mark| Some((text.find(&mark.0)?, mark)))
                .min_by_key(|(at, _)| *at)
        }

        /// Adds the ids of a text without marks.
        fn push(&self, text: &str, ids: &mut Vec<u32>) -> tokenizers::Result<()> {
            let mut normalized = NormalizedString::from(text);
            self.normalizers.normalize(&mut normalized)?;
            let mut tokens = Vec::new();
            let mut rest = normalized.get();
            // Cut behind the bracket, where words end anyway.
            while let Some(at) = OTHER_MARKS.iter().filter_map(|mark| rest.find(mark)).min() {
                let (before, after) = rest.split_at(at + 1);
                self.words.encode(before, &mut tokens);
                rest = after;
            }
            self.words.encode(rest, &mut tokens);
            ids.extend(tokens.into_iter().map(id));
            Ok(())
        }
    }

    fn id(token: Token) -> u32 {
        u32::from(token.to_u16())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::clip::ClipWords;
    use crate::text::tokenizer::normalizers;

    #[derive(serde::Deserialize)]
    struct Case {
        pad: String,
        text: String,
        ids: Vec<u32>,
    }

    #[test]
    fn clips_own_vocabulary_gives_the_references_ids() {
        let golden = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden/single/words.json"
        );
        let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
        for case in cases {
            let words = ClipWords::new(normalizers().unwrap(), &case.pad);
            assert_eq!(words.ids(&case.text).unwrap(), case.ids, "{:?}", case.text);
        }
    }

    #[test]
    fn marks_and_ends_of_words_have_their_ids() {
        let words = ClipWords::new(normalizers().unwrap(), "!");
        for (token, id) in [
            ("<|startoftext|>", Some(49406)),
            ("<|endoftext|>", Some(49407)),
            ("!", Some(0)),
            (",</w>", Some(267)),
            ("no such token", None),
        ] {
            assert_eq!(words.token_to_id(token), id, "{token}");
        }
    }
}
