//! What a LoRA is, from the header of its file.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::Value;

use super::file::{LoraFile, Part, PartInfo};
use super::scaling::PeftConfig;
use crate::pipeline::Family;

/// How many of a LoRA's trained words are kept, the most frequent ones.
const TRIGGERS_MAX: usize = 20;
/// The longest text of a file's metadata that is kept, in characters.
const METADATA_TEXT_CHARS_MAX: usize = 500;

/// What a LoRA is, as far as its file's header tells.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraDescription {
    /// The family it was trained for, where its widths or its metadata tell.
    pub family: Option<Family>,
    /// The model it was trained for in a person's words, other families included: `SDXL`, `FLUX`.
    pub base: Option<String>,
    /// Width of the prompt's embedding that its cross attentions read.
    pub cross_attention_width: Option<usize>,
    /// Layers it changes by the part of the model that they are in: `unet`, `text_encoder`, `text_encoder_2`.
    pub targets: BTreeMap<String, usize>,
    /// Layers it changes.
    pub layers: usize,
    /// Least and greatest rank of its layers. None where it has whole matrices only.
    pub rank: Option<RangeInclusive<usize>>,
    /// The alpha that it was trained with, where its metadata tells.
    pub alpha: Option<f64>,
    /// How its changes are written down: `lora`, `dora`, `loha`, `lokr`, `full`.
    pub kinds: Vec<&'static str>,
    /// Its title, where its metadata has one.
    pub title: Option<String>,
    /// The words to put in a prompt, as its author gave them.
    pub trigger_phrase: Option<String>,
    /// What its training images were tagged with, the most frequent first, and how often.
    pub tags: Vec<(String, u64)>,
}

/// Names of layers that only other models have.
const OTHER_MODELS: &[(&str, &str)] = &[
    ("double_blocks", "FLUX"),
    ("single_blocks", "FLUX"),
    ("single_transformer_blocks", "FLUX"),
    ("joint_blocks", "SD 3"),
    ("add_k_proj", "SD 3"),
    ("lora_te3_", "SD 3"),
    ("lora_prior_unet", "Stable Cascade"),
    ("caption_projection", "PixArt"),
    ("noise_refiner", "Z-Image"),
    ("transformer.", "a diffusion transformer"),
];

impl LoraDescription {
    pub(super) fn of(file: &LoraFile) -> Self {
        let cross_attention_width = cross_attention_width(file);
        let (family, base) = base(file, cross_attention_width);
        Self {
            family,
            base,
            cross_attention_width,
            targets: targets(file),
            layers: file.layers.len(),
            rank: ranks(file),
            alpha: alpha(file),
            kinds: kinds(file),
            title: text(file, &["modelspec.title", "ss_output_name"]),
            trigger_phrase: text(file, &["modelspec.trigger_phrase"]),
            tags: tags(file),
        }
    }
}

/// Columns of the layer's change, from the shapes of its parts alone.
fn columns(parts: &BTreeMap<Part, PartInfo>) -> Option<usize> {
    let of = |part: Part| -> Option<usize> {
        let shape = parts.get(&part)?.info.shape.get(1..)?;
        Some(shape.iter().product())
    };
    let kronecker = |whole, down| of(whole).or_else(|| of(down));
    of(Part::Down)
        .or_else(|| of(Part::HadamardDown1))
        .or_else(|| of(Part::Difference))
        .or_else(|| {
            let left = kronecker(Part::KroneckerWhole1, Part::KroneckerDown1)?;
            let right = kronecker(Part::KroneckerWhole2, Part::KroneckerDown2)?;
            left.checked_mul(right)
        })
}

fn width_of(file: &LoraFile, endings: &[&str], is_in: impl Fn(&str) -> bool) -> Option<usize> {
    file.layers
        .iter()
        .filter(|(layer, _)| is_in(layer))
        .filter(|(layer, _)| {
            let layer = layer.replace('.', "_");
            endings.iter().any(|ending| layer.ends_with(ending))
        })
        .find_map(|(_, parts)| columns(parts))
}

fn cross_attention_width(file: &LoraFile) -> Option<usize> {
    width_of(file, &["attn2_to_k", "attn2_to_v"], |_| true)
}

fn base(file: &LoraFile, cross_attention_width: Option<usize>) -> (Option<Family>, Option<String>) {
    let (sd1, sd2, sdxl) = (
        (Some(Family::Sd1), "SD 1.x"),
        (Some(Family::Sd2), "SD 2.x"),
        (Some(Family::Sdxl), "SDXL"),
    );
    let other = OTHER_MODELS.iter().find_map(|(needle, model)| {
        let named = file.layers.keys().any(|layer| layer.contains(needle));
        named.then_some((None, *model))
    });
    let has_second = file
        .layers
        .keys()
        .any(|layer| component(layer) == "text_encoder_2");
    let from_layers = other.or_else(|| match cross_attention_width {
        Some(768) => Some(sd1),
        Some(1024) => Some(sd2),
        Some(1280) => Some((None, "the SDXL refiner")),
        Some(2048) => Some(sdxl),
        _ if has_second => Some(sdxl),
        Some(_) => None,
        None => {
            let queries = ["self_attn_q_proj", "self_attn_k_proj", "mlp_fc1"];
            match width_of(file, &queries, |layer| component(layer) == "text_encoder")? {
                768 => Some(sd1),
                1024 => Some(sd2),
                _ => None,
            }
        }
    });
    let from_metadata = || {
        let said = text(file, &["modelspec.architecture", "ss_base_model_version"])?;
        [
            ("stable-diffusion-xl", sdxl),
            ("sdxl", sdxl),
            ("stable-diffusion-v1", sd1),
            ("sd_v1", sd1),
            ("stable-diffusion-v2", sd2),
            ("sd_v2", sd2),
        ]
        .into_iter()
        .find_map(|(start, base)| said.starts_with(start).then_some(base))
    };
    match from_layers.or_else(from_metadata) {
        Some((family, base)) => (family, Some(base.to_owned())),
        None => (None, None),
    }
}

/// The part of a model that a layer of this name is in.
fn component(layer: &str) -> &'static str {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| layer.starts_with(prefix));
    if starts(&["lora_te2_", "text_encoder_2."]) {
        "text_encoder_2"
    } else if starts(&["lora_te_", "lora_te1_", "text_encoder."]) {
        "text_encoder"
    } else {
        "unet"
    }
}

fn targets(file: &LoraFile) -> BTreeMap<String, usize> {
    let mut targets = BTreeMap::new();
    for layer in file.layers.keys() {
        *targets.entry(component(layer).to_owned()).or_insert(0) += 1;
    }
    targets
}

fn ranks(file: &LoraFile) -> Option<RangeInclusive<usize>> {
    let ranks = file.layers.values().flat_map(|parts| {
        [
            Part::Down,
            Part::HadamardDown1,
            Part::KroneckerDown1,
            Part::KroneckerDown2,
        ]
        .into_iter()
        .filter_map(|part| parts.get(&part)?.info.shape.first().copied())
    });
    ranks.fold(None, |range: Option<RangeInclusive<usize>>, rank| {
        Some(match range {
            None => rank..=rank,
            Some(range) => rank.min(*range.start())..=rank.max(*range.end()),
        })
    })
}

fn alpha(file: &LoraFile) -> Option<f64> {
    let said = file.metadata.get("ss_network_alpha");
    said.and_then(|alpha| alpha.parse().ok())
        .or_else(|| PeftConfig::read(file).ok()?.first_alpha())
        .filter(|alpha: &f64| alpha.is_finite())
}

fn kinds(file: &LoraFile) -> Vec<&'static str> {
    let has = |wanted: &[Part]| {
        file.layers
            .values()
            .any(|parts| wanted.iter().any(|part| parts.contains_key(part)))
    };
    [
        ("lora", &[Part::Down][..]),
        ("dora", &[Part::Magnitude, Part::DoraScale]),
        ("loha", &[Part::HadamardDown1]),
        ("lokr", &[Part::KroneckerWhole1, Part::KroneckerDown1]),
        ("full", &[Part::Difference, Part::BiasDifference]),
    ]
    .into_iter()
    .filter_map(|(kind, parts)| has(parts).then_some(kind))
    .collect()
}

fn text(file: &LoraFile, keys: &[&str]) -> Option<String> {
    keys.iter()
        .filter_map(|key| file.metadata.get(*key))
        .map(|text| {
            text.chars()
                .take(METADATA_TEXT_CHARS_MAX)
                .collect::<String>()
        })
        // kohya's trainer writes what was not set as this.
        .find(|text| !text.is_empty() && text != "None")
}

/// kohya's trainer writes, for every folder of images, how often each tag was seen.
fn tags(file: &LoraFile) -> Vec<(String, u64)> {
    let frequencies: Option<Value> = file
        .metadata
        .get("ss_tag_frequency")
        .and_then(|text| serde_json::from_str(text).ok());
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let folders = frequencies.as_ref().and_then(Value::as_object);
    for folder in folders.into_iter().flat_map(|folders| folders.values()) {
        for (tag, count) in folder.as_object().into_iter().flatten() {
            let tag: String = tag.trim().chars().take(METADATA_TEXT_CHARS_MAX).collect();
            let total = counts.entry(tag).or_insert(0);
            *total = total.saturating_add(count.as_u64().unwrap_or_default());
        }
    }
    let mut tags: Vec<(String, u64)> = counts.into_iter().collect();
    tags.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
    tags.truncate(TRIGGERS_MAX);
    tags
}
