//! By how much a layer's product counts.

use serde_json::{Map, Value};

use super::file::LoraFile;
use crate::error::{Error, Result};

/// Where peft's configuration is in a file's metadata.
const METADATA_KEY: &str = "lora_adapter_metadata";

/// The configuration that diffusers writes beside a LoRA's tensors, flat: `unet.lora_alpha`.
#[derive(Default)]
pub(super) struct PeftConfig {
    fields: Map<String, Value>,
}

impl PeftConfig {
    /// Errors if there is one that cannot be read.
    pub(super) fn read(file: &LoraFile) -> Result<Self> {
        let Some(text) = file.metadata.get(METADATA_KEY) else {
            return Ok(Self::default());
        };
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => Ok(Self { fields }),
            _ => Err(Error::config(
                &file.name,
                format_args!("its metadata {METADATA_KEY} must hold a JSON object"),
            )),
        }
    }

    /// The alpha of any component.
    pub(super) fn first_alpha(&self) -> Option<f64> {
        self.fields
            .iter()
            .find(|(key, _)| matches!(key.rsplit('.').next(), Some("lora_alpha" | "alpha")))
            .and_then(|(_, value)| value.as_f64())
    }

    /// What the configuration multiplies the product of `layer` by: alpha by rank, or by its root for rank-stabilised
    /// LoRAs. Without configuration the product counts as it is. `rank` is what the layer's tensors say, if they do.
    pub(super) fn strength(&self, file: &LoraFile, layer: &str, rank: Option<f64>) -> Result<f64> {
        let components = ["unet.", "text_encoder.", "text_encoder_2."];
        let (prefix, module) = components
            .into_iter()
            .find_map(|prefix| Some((prefix, layer.strip_prefix(prefix)?)))
            .unwrap_or_else(|| {
                let module = layer.strip_prefix("base_model.model.").unwrap_or(layer);
                ("", module)
            });
        let field = |name: &str| self.fields.get(&format!("{prefix}{name}"));
        // LoRAs have one, Kronecker and Hadamard products the other.
        let Some(alpha) = field("lora_alpha").or_else(|| field("alpha")) else {
            return Ok(1.0);
        };
        let number = |name: &str, all: Option<&Value>, pattern: &str| -> Result<f64> {
            let own = match field(pattern) {
                Some(Value::Object(patterns)) => pattern_of(file, patterns, module)?,
                _ => None,
            };
            own.or(all)
                .and_then(Value::as_f64)
                .filter(|number| number.is_finite())
                .ok_or_else(|| {
                    Error::config(
                        &file.name,
                        format_args!("{METADATA_KEY} has no number as {name} of {layer}"),
                    )
                })
        };
        let alpha = number("alpha", Some(alpha), "alpha_pattern")?;
        let rank = match rank {
            Some(rank) => rank,
            None => number("r", field("r"), "rank_pattern")?,
        };
        let stabilised = field("use_rslora").and_then(Value::as_bool) == Some(true);
        Ok(alpha / if stabilised { rank.sqrt() } else { rank })
    }
}

/// The value whose key is the module's name or its end. peft takes the first that matches; keys may be regular
/// expressions, of which diffusers writes none but a leading `^`.
fn pattern_of<'a>(
    file: &LoraFile,
    patterns: &'a Map<String, Value>,
    module: &str,
) -> Result<Option<&'a Value>> {
    for (pattern, value) in patterns {
        if pattern.contains(['*', '+', '?', '(', '[', '{', '|', '\\', '$']) {
            return Err(Error::unsupported(
                &file.name,
                format_args!(
                    "the pattern {pattern:?} is a regular expression, which is not supported, only names of layers"
                ),
            ));
        }
        let matches = match pattern.strip_prefix('^') {
            Some(whole) => module == whole,
            None => module
                .strip_suffix(pattern.as_str())
                .is_some_and(|before| before.is_empty() || before.ends_with('.')),
        };
        if matches {
            return Ok(Some(value));
        }
    }
    Ok(None)
}
