//! CLIP's byte-pair tokenizer, from `tokenizer.json` or, where a model has none, from `vocab.json` and `merges.txt`.

use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::utils::SysRegex;
use tokenizers::{AddedToken, PreTokenizerWrapper};

use crate::config::{Config, parse};
use crate::error::{Error, ErrorKind, Result};
use crate::files::ModelFiles;
use crate::text::words::Words;

/// Splits text as CLIP does: contractions, runs of letters, single digits, runs of anything else.
const CLIP_WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Text to token ids, and ids to what the text encoder sees.
pub(crate) struct Tokenizer {
    tokenizer: Words,
    start: u32,
    end: u32,
    pad: u32,
    comma: Option<u32>,
    length: usize,
}

impl Tokenizer {
    /// Reads the tokenizer in `folder`. `positions` is how many tokens the text encoder can take.
    pub(crate) fn load(files: &ModelFiles, folder: &str, positions: usize) -> Result<Self> {
        let settings = Config::read(files, &format!("{folder}/tokenizer_config.json"))?;
        let marks = Marks::read(files, folder, &settings)?;
        let (tokenizer, file) = match settings.fields().get("vocabulary") {
            Some(name) if name == "clip" => (clip_words(&marks)?, settings.file().to_owned()),
            _ => read_tokenizer(files, folder, &marks)?,
        };
        let id = |name: &str, text: &str| {
            tokenizer.token_to_id(text).ok_or_else(|| {
                Error::config(
                    &file,
                    format_args!("{name} is {text:?}, which is not in the vocabulary"),
                )
            })
        };
        let start = id("bos_token", &marks.start)?;
        let end = id("eos_token", &marks.end)?;
        let pad = id("pad_token", &marks.pad)?;
        Ok(Self {
            start,
            end,
            pad,
            comma: tokenizer.token_to_id(",</w>"),
            length: length(&settings, positions)?,
            tokenizer,
        })
    }

    /// Tokens that the encoder sees at once, marks and padding included.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Tokens of a prompt that fit in one chunk: without the marks.
    pub(crate) fn chunk_tokens(&self) -> usize {
        self.length - 2
    }

    /// The comma's id, where the vocabulary has one.
    pub(crate) fn comma(&self) -> Option<u32> {
        self.comma
    }

    /// The largest id that a prompt can hold.
    pub(crate) fn largest_id(&self) -> usize {
        self.tokenizer.largest_id()
    }

    /// The ids of a text, however many, without marks.
    pub(crate) fn ids(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer.ids(text)
    }

    /// A chunk as the encoder sees it: start mark, the chunk's ids, end mark, padding.
    pub(crate) fn frame(&self, chunk: &[u32]) -> Vec<u32> {
        let mut ids = Vec::with_capacity(self.length);
        ids.push(self.start);
        ids.extend_from_slice(chunk);
        ids.push(self.end);
        ids.resize(self.length, self.pad);
        ids
    }
}

/// How many tokens the encoder sees, marks and padding included.
pub(crate) fn configured_length(
    files: &ModelFiles,
    folder: &str,
    positions: usize,
) -> Result<usize> {
    length(
        &Config::read(files, &format!("{folder}/tokenizer_config.json"))?,
        positions,
    )
}

fn length(settings: &Config, positions: usize) -> Result<usize> {
    // Tokenizers without a limit say 1e30.
    let limit: f64 = settings.get("model_max_length", f64::INFINITY)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, and positions is the bound"
    )]
    let length = (limit as usize).min(positions);
    if length < 3 {
        return Err(Error::config(
            settings.file(),
            format_args!(
                "model_max_length must leave room for a start mark, a token and an end mark, got {length}"
            ),
        ));
    }
    Ok(length)
}

fn read_tokenizer(files: &ModelFiles, folder: &str, marks: &Marks) -> Result<(Words, String)> {
    let path = format!("{folder}/tokenizer.json");
    let file = files.name(&path);
    if let Some(bytes) = files.read(&path)? {
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|error| Error::config(&file, format_args!("is not a tokenizer: {error}")))?;
        // Marks, padding and the limit are added here, the same way for every kind of file.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| Error::config(&file, error))?;
        return Ok((Words::Read(Box::new(tokenizer)), file));
    }
    let path = format!("{folder}/vocab.json");
    let file = files.name(&path);
    let vocabulary = read_vocabulary(files, &path)?;
    let merges = read_merges(files, &format!("{folder}/merges.txt"))?;
    let fail = |error: tokenizers::Error| {
        Error::config(&file, format_args!("is no CLIP vocabulary: {error}"))
    };
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .unk_token(marks.unknown.clone())
        .end_of_word_suffix("</w>".to_owned())
        .build()
        .map_err(fail)?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer
        .with_normalizer(Some(normalizers().map_err(fail)?))
        .map_err(fail)?;
    // Checked here because a pattern that does not compile would only show when the first prompt comes.
    SysRegex::new(CLIP_WORDS).map_err(fail)?;
    let split = Split::new(
        SplitPattern::Regex(CLIP_WORDS.to_owned()),
        SplitDelimiterBehavior::Removed,
        true,
    )
    .map_err(fail)?;
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![
        PreTokenizerWrapper::Split(split),
        PreTokenizerWrapper::ByteLevel(ByteLevel::default().add_prefix_space(false)),
    ])));
    // Where a mark stands in a text it is itself, also if it is a letter: Stable Diffusion 2 pads with "!".
    let marks = [&marks.unknown, &marks.start, &marks.end, &marks.pad];
    let marks = marks.map(|text| AddedToken::from(text.as_str(), true));
    tokenizer.add_special_tokens(marks).map_err(fail)?;
    Ok((Words::Read(Box::new(tokenizer)), file))
}

/// What CLIP's tokenizer does to a text before it looks for words.
pub(super) fn normalizers() -> tokenizers::Result<Normalizers> {
    Ok(Normalizers::new(vec![
        NFC.into(),
        Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ")?.into(),
        tokenizers::normalizers::utils::Lowercase.into(),
    ]))
}

#[cfg(not(target_family = "wasm"))]
fn clip_words(marks: &Marks) -> Result<Words> {
    let normalizers =
        normalizers().map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
    let words = crate::text::words::clip::ClipWords::new(normalizers, &marks.pad);
    Ok(Words::Clip(Box::new(words)))
}

#[cfg(target_family = "wasm")]
fn clip_words(_marks: &Marks) -> Result<Words> {
    Err(Error::new(
        ErrorKind::UnsupportedModel,
        "this build has no vocabulary of its own; name the model's tokenizer",
    ))
}

fn read_vocabulary(files: &ModelFiles, path: &str) -> Result<tokenizers::models::bpe::Vocab> {
    let file = files.name(path);
    let bytes = files.read(path)?.ok_or_else(|| {
        Error::missing(
            &file,
            "is missing, and so is the tokenizer.json that could stand in for it",
        )
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::config(&file, format_args!("is not a vocabulary: {error}")))
}

fn read_merges(files: &ModelFiles, path: &str) -> Result<Vec<(String, String)>> {
    let file = files.name(path);
    let bytes = files
        .read(path)?
        .ok_or_else(|| Error::missing(&file, "is missing"))?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| Error::config(&file, format_args!("is not text: {error}")))?;
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.starts_with("#version") && !line.trim().is_empty())
        .map(|(index, line)| {
            line.split_once(' ')
                .map(|(left, right)| (left.to_owned(), right.trim_end().to_owned()))
                .ok_or_else(|| {
                    Error::config(
                        &file,
                        format_args!("line {} must be two pieces, got {line:?}", index + 1),
                    )
                })
        })
        .collect()
}

/// The texts of the marks: from `tokenizer_config.json`, else from `special_tokens_map.json`, else CLIP's own.
struct Marks {
    start: String,
    end: String,
    pad: String,
    unknown: String,
}

impl Marks {
    fn read(files: &ModelFiles, folder: &str, settings: &Config) -> Result<Self> {
        let map = read_special_tokens_map(files, folder)?;
        let text = |name: &str, default: &str| {
            token_text(settings.fields().get(name))
                .or_else(|| token_text(map.get(name)))
                .unwrap_or_else(|| default.to_owned())
        };
        Ok(Self {
            start: text("bos_token", "<|startoftext|>"),
            end: text("eos_token", "<|endoftext|>"),
            pad: text("pad_token", "<|endoftext|>"),
            unknown: text("unk_token", "<|endoftext|>"),
        })
    }
}

fn read_special_tokens_map(files: &ModelFiles, folder: &str) -> Result<Value> {
    let path = format!("{folder}/special_tokens_map.json");
    match files.read(&path)? {
        None => Ok(Value::Null),
        Some(bytes) => parse(&bytes).map_err(|error| {
            Error::config(&files.name(&path), format_args!("is not JSON: {error}"))
        }),
    }
}

/// A token is written as a string or as an object with its `content`.
fn token_text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Object(fields) => Some(fields.get("content")?.as_str()?.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    const POSITIONS: usize = 77;

    /// What transformers makes of a text; see `tests/golden/prompts.py`.
    #[derive(Deserialize)]
    struct Tokenized {
        tokenizer: String,
        text: String,
        ids: Vec<u32>,
    }

    fn model(name: &str) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        match name {
            "pocket" => root.join("../../models/pocket"),
            name => root.join("tests/golden").join(name),
        }
    }

    fn tokenizer(name: &str) -> Tokenizer {
        let files = ModelFiles::folder(model(name)).unwrap();
        Tokenizer::load(&files, "tokenizer", POSITIONS).unwrap()
    }

    /// The tokenizer of `sd1`, padding with a letter.
    fn padded() -> Tokenizer {
        let copy = tempfile::tempdir().unwrap();
        let folder = copy.path().join("tokenizer");
        std::fs::create_dir(&folder).unwrap();
        let index = "model_index.json";
        std::fs::copy(model("sd1").join(index), copy.path().join(index)).unwrap();
        let original = model("sd1").join("tokenizer");
        for file in ["vocab.json", "merges.txt"] {
            std::fs::copy(original.join(file), folder.join(file)).unwrap();
        }
        let settings = std::fs::read(original.join("tokenizer_config.json")).unwrap();
        let mut settings: Value = serde_json::from_slice(&settings).unwrap();
        settings
            .as_object_mut()
            .unwrap()
            .insert("pad_token".to_owned(), "!".into());
        std::fs::write(folder.join("tokenizer_config.json"), settings.to_string()).unwrap();
        let files = ModelFiles::folder(copy.path()).unwrap();
        Tokenizer::load(&files, "tokenizer", POSITIONS).unwrap()
    }

    #[test]
    fn strange_texts_have_the_ids_that_transformers_gives_them() {
        let file = model("prompts").join("tokens.json");
        let wanted: Vec<Tokenized> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert!(wanted.len() > 100);
        for name in ["sd1", "sd2", "pocket", "padded"] {
            let tokenizer = match name {
                "padded" => padded(),
                name => tokenizer(name),
            };
            for entry in wanted.iter().filter(|entry| entry.tokenizer == name) {
                let got = tokenizer.ids(&entry.text).unwrap();
                assert_eq!(got, entry.ids, "{name} {:?}", entry.text);
            }
        }
    }

    #[test]
    fn a_chunk_stands_between_marks_and_is_padded_with_the_models_own_mark() {
        let tokenizer = padded();
        let ids = tokenizer.ids("the red cat").unwrap();
        let framed = tokenizer.frame(&ids);
        assert_eq!(framed.len(), tokenizer.length());
        assert_eq!(framed.first(), Some(&tokenizer.start));
        assert_eq!(framed.get(1..4), Some(ids.as_slice()));
        assert_eq!(framed.get(4), Some(&tokenizer.end));
        assert!(framed.iter().skip(5).all(|id| *id == tokenizer.pad));
        assert_eq!(tokenizer.token("!"), tokenizer.pad);
    }

    impl Tokenizer {
        fn token(&self, text: &str) -> u32 {
            self.tokenizer.token_to_id(text).unwrap()
        }
    }

    proptest! {
        #[test]
        fn every_text_has_ids_of_the_vocabulary(
            text in prop_oneof![any::<String>(), "\\PC{0,60}", "[a-z,!'<|>\\x00 ]{0,80}"],
        ) {
            static TOKENIZERS: std::sync::LazyLock<Vec<Tokenizer>> =
                std::sync::LazyLock::new(|| vec![tokenizer("sd1"), tokenizer("sd2"), tokenizer("pocket"), padded()]);
            for tokenizer in TOKENIZERS.iter() {
                let ids = tokenizer.ids(&text).unwrap();
                let largest = u32::try_from(tokenizer.largest_id()).unwrap();
                prop_assert!(ids.iter().all(|id| *id <= largest));
            }
        }
    }

    #[test]
    fn four_thousand_characters_of_anything_are_tokenized() {
        let tokenizer = tokenizer("pocket");
        for text in [
            "a",
            "🦊",
            "\0",
            "\u{301}",
            "ش",
            "a ",
            ",",
            "'s",
            "<|endoftext|>",
        ] {
            let long: String = text.chars().cycle().take(4_000).collect();
            assert!(!tokenizer.ids(&long).unwrap().is_empty(), "{text:?}");
        }
    }
}
