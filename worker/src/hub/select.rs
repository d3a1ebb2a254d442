//! Which files of a repository a model needs: those of its components, as safetensors, in one precision.

use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt};

/// The file that says what a model's components are.
pub(super) const INDEX: &str = "model_index.json";
/// What a model needs besides its components, where it is there.
const OWN_SETTINGS: &str = "scumble.json";
/// Components that no picture is drawn with.
const COMPONENTS_LEFT_OUT: [&str; 3] = ["safety_checker", "feature_extractor", "image_encoder"];
/// Configs, vocabularies, merges, SentencePiece models.
const SMALL_ENDINGS: [&str; 3] = [".json", ".txt", ".model"];
/// What weights are called in components of diffusers and of transformers.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];
const WEIGHTS_ENDING: &str = ".safetensors";
const INDEX_MARK: &str = ".safetensors.index";
/// The precision that is fetched where a repository has only that one beside no plain one.
const USUAL_VARIANT: &str = "fp16";

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteFile {
    /// With `/` between its parts; checked to stay inside the repository.
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) hash: Hash,
}

/// What a file's bytes must hash to; its text is the name of its blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hash {
    /// Of a large file: the SHA-256 of its bytes.
    Sha256(String),
    /// Of a small one: its id in git.
    Git(String),
}

/// What to fetch, and what a person should know about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) files: Vec<RemoteFile>,
    pub(super) notes: Vec<String>,
}

/// The files of a model in the diffusers layout, small ones first. `index` is its `model_index.json`.
pub(super) fn components(
    files: &[RemoteFile],
    index: &Map<String, Value>,
    variant: Option<&str>,
) -> Result<Selection, String> {
    let mut small = Selection::default();
    let mut weights = Vec::new();
    small.files.extend(
        files
            .iter()
            .filter(|file| file.path == OWN_SETTINGS)
            .cloned(),
    );
    for (name, class) in index {
        let class = class.get(1).and_then(Value::as_str);
        if name.starts_with('_') || class.is_none() || COMPONENTS_LEFT_OUT.contains(&name.as_str())
        {
            continue;
        }
        let inside: Vec<(&str, &RemoteFile)> = files
            .iter()
            .filter_map(|file| {
                let inside = file.path.strip_prefix(name.as_str())?.strip_prefix('/')?;
                (!inside.contains('/')).then_some((inside, file))
            })
            .collect();
        if inside.is_empty() {
            return Err(format!("has no folder {name}, which its {INDEX} names"));
        }
        let chosen = component(name, &inside, variant, &mut small.notes)?;
        let (large, others): (Vec<_>, Vec<_>) = chosen
            .into_iter()
            .partition(|file| file.path.ends_with(WEIGHTS_ENDING));
        small.files.extend(others);
        weights.extend(large);
    }
    small.files.extend(weights);
    Ok(small)
}

/// The file beside `scumble.json` that it names.
pub(super) fn named_by_settings<'a>(
    files: &'a [RemoteFile],
    settings: &Value,
) -> Option<&'a RemoteFile> {
    let name = settings.get("vocabulary")?.as_str()?;
    files.iter().find(|file| file.path == name)
}

/// The one checkpoint of a repository that is no folder of components: the file named, or the only one there is.
pub(super) fn single_file<'a>(
    files: &'a [RemoteFile],
    wanted: Option<&str>,
) -> Result<&'a RemoteFile, String> {
    let checkpoints: Vec<&RemoteFile> = files
        .iter()
        .filter(|file| file.path.ends_with(WEIGHTS_ENDING))
        .collect();
    let names = || {
        let names: Vec<&str> = checkpoints.iter().map(|file| file.path.as_str()).collect();
        names.join(", ")
    };
    match (wanted, checkpoints.as_slice()) {
        (Some(wanted), _) if !wanted.ends_with(WEIGHTS_ENDING) => Err(format!(
            "gives out only {WEIGHTS_ENDING} files here, and {wanted} is none"
        )),
        (Some(wanted), _) => checkpoints
            .iter()
            .find(|file| file.path == wanted)
            .copied()
            .ok_or_else(|| format!("has no file {wanted}; there are {}", names())),
        (None, [only]) => Ok(only),
        (None, []) => Err(format!(
            "has neither a {INDEX} nor a {WEIGHTS_ENDING} file: nothing to draw with, or only pickles, which can run \
             any code when opened"
        )),
        (None, _) => Err(format!(
            "has no {INDEX} but several checkpoints; name one with --file: {}",
            names()
        )),
    }
}

/// A file of weights, by its name.
#[derive(Debug, PartialEq, Eq)]
struct WeightsName<'a> {
    stem: &'a str,
    variant: Option<&'a str>,
    is_shard: bool,
}

fn component(
    name: &str,
    inside: &[(&str, &RemoteFile)],
    variant: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<Vec<RemoteFile>, String> {
    let mut chosen: Vec<RemoteFile> = inside
        .iter()
        .filter(|(file, _)| {
            SMALL_ENDINGS.iter().any(|ending| file.ends_with(ending)) && !file.contains(".index.")
        })
        .map(|(_, file)| (*file).clone())
        .collect();
    let mut variants: BTreeMap<Option<&str>, Vec<(WeightsName<'_>, &RemoteFile)>> = BTreeMap::new();
    for (file, remote) in inside {
        if let Some(parsed) = weights_name(file) {
            variants
                .entry(parsed.variant)
                .or_default()
                .push((parsed, remote));
        }
    }
    let taken = [variant, None, Some(USUAL_VARIANT)]
        .into_iter()
        .find(|wanted| variants.contains_key(wanted));
    let Some(taken) = taken else {
        // Tokenizers and schedulers have configs of their own names and no weights.
        let has_config = inside.iter().any(|(file, _)| *file == "config.json");
        return if has_config {
            Err(no_weights(name, inside, variants.keys().flatten()))
        } else {
            Ok(chosen)
        };
    };
    if taken != variant {
        notes.push(match (variant, taken) {
            (Some(variant), _) => format!("{name} has no {variant} weights; its others are taken"),
            (None, _) => format!("{name} has only {USUAL_VARIANT} weights, which are taken"),
        });
    }
    let of_variant = variants.remove(&taken).unwrap_or_default();
    let whole = of_variant.iter().find(|(parsed, _)| !parsed.is_shard);
    match whole {
        Some((_, file)) => chosen.push((*file).clone()),
        None => {
            chosen.extend(
                inside
                    .iter()
                    .filter(|(file, _)| index_variant(file) == Some(taken))
                    .map(|(_, file)| (*file).clone()),
            );
            chosen.extend(of_variant.into_iter().map(|(_, file)| file.clone()));
        }
    }
    Ok(chosen)
}

fn no_weights<'a>(
    name: &str,
    inside: &[(&str, &RemoteFile)],
    variants: impl Iterator<Item = &'a &'a str>,
) -> String {
    let variants: Vec<&str> = variants.copied().collect();
    if !variants.is_empty() {
        return format!(
            "has for {name} only the variants {}; choose one with --variant",
            variants.join(", ")
        );
    }
    let pickle = inside.iter().find(|(file, _)| {
        [".bin", ".ckpt", ".pt", ".pth"]
            .iter()
            .any(|ending| file.ends_with(ending))
    });
    match pickle {
        Some((file, _)) => format!(
            "has for {name} only {file}, a pickle, which can run any code when opened; ask its owner for safetensors"
        ),
        None => format!("has no weights for {name}"),
    }
}

/// What a file of weights is, if it is one: `stem[.variant][-00001-of-00002].safetensors`, or with the number before
/// the variant, as older writers put it.
fn weights_name(file: &str) -> Option<WeightsName<'_>> {
    let base = file.strip_suffix(WEIGHTS_ENDING)?;
    let (base, numbered_last) = without_shard(base);
    let (first, variant) = match base.split_once('.') {
        None => (base, None),
        Some((first, variant)) if !variant.contains('.') => (first, Some(variant)),
        Some(_) => return None,
    };
    let (stem, numbered_first) = without_shard(first);
    STEMS.contains(&stem).then_some(WeightsName {
        stem,
        variant,
        is_shard: numbered_first || numbered_last,
    })
}

/// `model-00001-of-00002` without its number, and whether it had one.
fn without_shard(base: &str) -> (&str, bool) {
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = base.rsplit_once("-of-").and_then(|(before, total)| {
        let (stem, number) = before.rsplit_once('-')?;
        (digits(total) && digits(number)).then_some(stem)
    });
    parsed.map_or((base, false), |stem| (stem, true))
}

/// The variant whose shards an index lists, if the file is such an index: `stem.safetensors.index[.variant].json`, or
/// `stem.variant.safetensors.index.json`.
fn index_variant(file: &str) -> Option<Option<&str>> {
    let (before, after) = file.strip_suffix(".json")?.split_once(INDEX_MARK)?;
    let after = after.strip_prefix('.');
    let (stem, before) = before
        .split_once('.')
        .map_or((before, None), |(stem, variant)| (stem, Some(variant)));
    STEMS.contains(&stem).then_some(after.or(before))
}

impl Hash {
    /// The hash as the hub writes it, if it is one.
    pub(super) fn sha256(text: &str) -> Option<Self> {
        is_hex(text, 64).then(|| Self::Sha256(text.to_lowercase()))
    }

    /// An object id of git, if it is one.
    pub(super) fn git(text: &str) -> Option<Self> {
        is_hex(text, 40).then(|| Self::Git(text.to_lowercase()))
    }

    /// In hex: the name of the blob.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::Git(hex) => hex,
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(hex) => write!(f, "sha256 {hex}"),
            Self::Git(hex) => write!(f, "git {hex}"),
        }
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn repository(paths: &[&str]) -> Vec<RemoteFile> {
        paths
            .iter()
            .map(|path| RemoteFile {
                path: (*path).to_owned(),
                size: 1,
                hash: Hash::Git("0".repeat(40)),
            })
            .collect()
    }

    fn index() -> Map<String, Value> {
        let index = json!({
            "_class_name": "StableDiffusionPipeline",
            "feature_extractor": ["transformers", "CLIPImageProcessor"],
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            "image_encoder": [null, null],
            "requires_safety_checker": true,
            "scheduler": ["diffusers", "PNDMScheduler"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
        });
        index.as_object().expect("object").clone()
    }

    fn chosen(paths: &[&str], variant: Option<&str>) -> Result<(Vec<String>, Vec<String>), String> {
        let base = [
            "README.md",
            "model_index.json",
            "v1-5-pruned.ckpt",
            "v1-5-pruned.safetensors",
            "safety_checker/config.json",
            "safety_checker/model.safetensors",
            "feature_extractor/preprocessor_config.json",
            "scheduler/scheduler_config.json",
            "tokenizer/merges.txt",
            "tokenizer/vocab.json",
            "unet/config.json",
        ];
        let all: Vec<&str> = base.iter().chain(paths).copied().collect();
        let selection = components(&repository(&all), &index(), variant)?;
        let names = selection.files.into_iter().map(|file| file.path);
        Ok((names.collect(), selection.notes))
    }

    const SMALL: [&str; 4] = [
        "scheduler/scheduler_config.json",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
    ];

    fn assert_chosen(paths: &[&str], variant: Option<&str>, wanted: &[&str], notes: usize) {
        let (files, said) = chosen(paths, variant).expect("a selection");
        let wanted: Vec<&str> = SMALL.iter().chain(wanted).copied().collect();
        assert_eq!(files, wanted);
        assert_eq!(said.len(), notes, "{said:?}");
    }

    #[test]
    fn only_the_components_that_draw_are_taken_and_only_as_safetensors() {
        let paths = [
            "unet/diffusion_pytorch_model.bin",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "unet/diffusion_pytorch_model.non_ema.safetensors",
            "unet/diffusion_pytorch_model.safetensors",
            "unet/diffusion_flax_model.msgpack",
            "unet/model.onnx",
            "unet/openvino/model.safetensors",
            "scumble.json",
        ];
        let (files, notes) = chosen(&paths, None).expect("a selection");
        let mut wanted = vec!["scumble.json"];
        wanted.extend(SMALL);
        wanted.push("unet/diffusion_pytorch_model.safetensors");
        assert_eq!(files, wanted);
        assert!(notes.is_empty());
    }

    #[test]
    fn a_variant_is_taken_where_it_is_there_and_else_said_to_be_missing() {
        let fp16 = "unet/diffusion_pytorch_model.fp16.safetensors";
        let plain = "unet/diffusion_pytorch_model.safetensors";
        assert_chosen(&[fp16, plain], Some("fp16"), &[fp16], 0);
        assert_chosen(&[plain], Some("fp16"), &[plain], 1);
        assert_chosen(&[fp16], None, &[fp16], 1);
        let odd = ["unet/diffusion_pytorch_model.non_ema.safetensors"];
        let error = chosen(&odd, None).expect_err("no plain weights");
        assert!(error.contains("non_ema"), "{error}");
        assert_chosen(&odd, Some("non_ema"), &odd, 0);
    }

    #[test]
    fn shards_come_with_the_index_of_their_variant() {
        let plain = [
            "unet/diffusion_pytorch_model.safetensors.index.json",
            "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
            "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
        ];
        let fp16 = [
            "unet/diffusion_pytorch_model.fp16-00001-of-00001.safetensors",
            "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
        ];
        let older = [
            "unet/diffusion_pytorch_model-00001-of-00001.fp16.safetensors",
            "unet/diffusion_pytorch_model.fp16.safetensors.index.json",
        ];
        let pickles = ["unet/diffusion_pytorch_model.bin.index.json"];
        let all: Vec<&str> = [&plain[..], &fp16, &pickles].concat();
        assert_chosen(&all, None, &plain, 0);
        assert_chosen(&all, Some("fp16"), &[fp16[1], fp16[0]], 0);
        let all: Vec<&str> = [&plain[..], &older].concat();
        assert_chosen(&all, Some("fp16"), &[older[1], older[0]], 0);
    }

    #[test]
    fn a_component_of_pickles_alone_or_of_nothing_is_refused() {
        let error = chosen(&["unet/diffusion_pytorch_model.bin"], None).expect_err("pickle");
        assert!(error.contains("pickle"), "{error}");
        let error = chosen(&[], None).expect_err("nothing");
        assert!(error.contains("no weights for unet"), "{error}");
        let files = repository(&["model_index.json"]);
        let error = components(&files, &index(), None).expect_err("no folders");
        assert!(error.contains("scheduler"), "{error}");
    }

    #[test]
    fn a_repository_without_an_index_gives_one_checkpoint() {
        let two = repository(&["a.safetensors", "b.safetensors", "c.ckpt"]);
        let one = repository(&["a.safetensors"]);
        assert_eq!(single_file(&one, None).expect("file").path, "a.safetensors");
        let named = single_file(&two, Some("b.safetensors")).expect("file");
        assert_eq!(named.path, "b.safetensors");
        let error = single_file(&two, None).expect_err("which");
        assert!(
            error.contains("--file: a.safetensors, b.safetensors"),
            "{error}"
        );
        assert!(single_file(&two, Some("c.ckpt")).is_err());
        assert!(single_file(&repository(&["c.ckpt"]), None).is_err());
    }
}
