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

/// Splits text as CLIP does: contractions, runs of letters, single digits, runs of anything else.
const CLIP_WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Words to token ids of a fixed length.
pub(crate) struct Tokenizer {
    tokenizer: tokenizers::Tokenizer,
    start: u32,
    end: u32,
    pad: u32,
    length: usize,
}

/// A prompt as the text encoder sees it.
pub(crate) struct Tokens {
    /// Start mark, prompt, end mark, padding: always the tokenizer's length.
    pub(crate) ids: Vec<u32>,
    /// Tokens of the whole prompt, without marks.
    pub(crate) prompt_tokens: usize,
    /// Whether the prompt was cut.
    pub(crate) truncated: bool,
}

impl Tokenizer {
    /// Reads the tokenizer in `folder`. `positions` is how many tokens the text encoder can take.
    pub(crate) fn load(files: &ModelFiles, folder: &str, positions: usize) -> Result<Self> {
        let settings = Config::read(files, &format!("{folder}/tokenizer_config.json"))?;
        let (tokenizer, file) = read_tokenizer(files, folder, &settings)?;
        let special = SpecialTokens {
            settings: &settings,
            map: read_special_tokens_map(files, folder)?,
            tokenizer: &tokenizer,
            file: &file,
        };
        let start = special.id("bos_token", "<|startoftext|>")?;
        let end = special.id("eos_token", "<|endoftext|>")?;
        let pad = special.id("pad_token", "<|endoftext|>")?;
        Ok(Self {
            start,
            end,
            pad,
            length: length(&settings, positions)?,
            tokenizer,
        })
    }

    /// Tokens of a prompt that fit, marks not counted.
    pub(crate) fn prompt_tokens_max(&self) -> usize {
        self.length - 2
    }

    /// The largest id that a prompt can hold.
    pub(crate) fn largest_id(&self) -> usize {
        let largest = self.tokenizer.get_vocab(true).into_values().max();
        usize::try_from(largest.unwrap_or_default()).unwrap_or(usize::MAX)
    }

    /// Tokenizes a prompt, cuts it to the length, adds the marks and pads.
    pub(crate) fn tokenize(&self, prompt: &str) -> Result<Tokens> {
        let encoding = self.tokenizer.encode_fast(prompt, false).map_err(|error| {
            Error::new(
                ErrorKind::InvalidPrompt,
                format!("the prompt cannot be tokenized: {error}"),
            )
        })?;
        let words = encoding.get_ids();
        let kept = words.len().min(self.prompt_tokens_max());
        let mut ids = Vec::with_capacity(self.length);
        ids.push(self.start);
        ids.extend(words.iter().take(kept));
        ids.push(self.end);
        ids.resize(self.length, self.pad);
        Ok(Tokens {
            ids,
            prompt_tokens: words.len(),
            truncated: kept < words.len(),
        })
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

fn read_tokenizer(
    files: &ModelFiles,
    folder: &str,
    settings: &Config,
) -> Result<(tokenizers::Tokenizer, String)> {
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
        return Ok((tokenizer, file));
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
        .unk_token(
            token_text(settings.fields().get("unk_token"))
                .unwrap_or_else(|| "<|endoftext|>".to_owned()),
        )
        .end_of_word_suffix("</w>".to_owned())
        .build()
        .map_err(fail)?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer
        .with_normalizer(Some(Normalizers::new(vec![
            NFC.into(),
            Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ")
                .map_err(fail)?
                .into(),
            tokenizers::normalizers::utils::Lowercase.into(),
        ])))
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
    let marks = ["bos_token", "eos_token", "pad_token", "unk_token"]
        .iter()
        .filter_map(|name| token_text(settings.fields().get(*name)))
        .filter(|text| text.starts_with("<|"))
        .map(|text| AddedToken::from(text, true))
        .collect::<Vec<AddedToken>>();
    tokenizer.add_special_tokens(marks).map_err(fail)?;
    Ok((tokenizer, file))
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

/// Looks up the marks: in `tokenizer_config.json`, else in `special_tokens_map.json`, else CLIP's own.
struct SpecialTokens<'a> {
    settings: &'a Config,
    map: Value,
    tokenizer: &'a tokenizers::Tokenizer,
    file: &'a str,
}

impl SpecialTokens<'_> {
    fn id(&self, name: &str, default: &str) -> Result<u32> {
        let text = token_text(self.settings.fields().get(name))
            .or_else(|| token_text(self.map.get(name)))
            .unwrap_or_else(|| default.to_owned());
        self.tokenizer.token_to_id(&text).ok_or_else(|| {
            Error::config(
                self.file,
                format_args!("{name} is {text:?}, which is not in the vocabulary"),
            )
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
