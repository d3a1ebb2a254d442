//! Where a LoRA's layers belong in a model.
//!
//! A LoRA names its layers in one of several ways, and one of them, with `_` for both `.` and `_`, cannot be read back.
//! So nothing is: every layer of the model is written in all those ways, and what the LoRA says is looked up.

use std::collections::{BTreeSet, HashMap};

use crate::weights::Parameters;

/// The layers of a model by every name that a LoRA may have for them.
pub(super) struct Places {
    /// To the layer's name as its parameters have it: `unet.conv_in`.
    by_name: HashMap<String, String>,
}

impl Places {
    /// All layers with a weight, but for the autoencoder's, which no LoRA changes.
    pub(super) fn of(parameters: &Parameters) -> Self {
        let blocks = Blocks::of(parameters);
        let mut by_name = HashMap::new();
        for parameter in parameters.keys() {
            let Some(layer) = parameter.strip_suffix(".weight") else {
                continue;
            };
            let names = match layer.split_once('.') {
                Some(("unet", module)) => unet_names(module, &blocks),
                Some(("text_encoder", module)) => {
                    text_names(module, "text_encoder", &["lora_te_", "lora_te1_"])
                }
                Some(("text_encoder_2", module)) => {
                    text_names(module, "text_encoder_2", &["lora_te2_"])
                }
                _ => continue,
            };
            by_name.extend(names.into_iter().map(|name| (name, layer.to_owned())));
        }
        Self { by_name }
    }

    /// The layer that a LoRA means by `name`.
    pub(super) fn find(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(String::as_str)
    }
}

fn unet_names(module: &str, blocks: &Blocks) -> Vec<String> {
    let mut names = vec![
        // diffusers and peft.
        format!("unet.{module}"),
        module.to_owned(),
        format!("base_model.model.{module}"),
        format!("base_model.model.unet.{module}"),
        // kohya's trainers, and LyCORIS without them.
        format!("lora_unet_{}", flat(module)),
        format!("lycoris_{}", flat(module)),
    ];
    if let Some(original) = blocks.original(module) {
        names.push(format!("lora_unet_{}", flat(&original)));
        names.push(format!("diffusion_model.{original}"));
    }
    names
}

/// Writers of different times have the module `text_model` in their names or not.
fn text_names(module: &str, component: &str, flat_prefixes: &[&str]) -> Vec<String> {
    let short = module.strip_prefix("text_model.").unwrap_or(module);
    let long = format!("text_model.{short}");
    let forms = [short, long.as_str()];
    let dotted = forms.iter().map(|module| format!("{component}.{module}"));
    let flattened = flat_prefixes
        .iter()
        .flat_map(|prefix| forms.map(|module| format!("{prefix}{}", flat(module))));
    dotted.chain(flattened).collect()
}

fn flat(module: &str) -> String {
    module.replace('.', "_")
}

/// How many layers a unet's blocks have, from which the names of the original implementation follow: there the blocks
/// on either side are one numbered list, in which every residual block with its attention and every downsampling is an
/// entry.
#[derive(Default)]
struct Blocks {
    down: Vec<Block>,
    up: Vec<Block>,
}

#[derive(Default)]
struct Block {
    resnets: usize,
    attends: bool,
    downsamples: bool,
}

impl Blocks {
    fn of(parameters: &Parameters) -> Self {
        let mut blocks = Self::default();
        let modules: BTreeSet<(&str, usize, &str, usize)> = parameters
            .keys()
            .filter_map(|name| {
                let mut words = name.strip_prefix("unet.")?.split('.');
                let side = words.next()?;
                let block = words.next()?.parse().ok()?;
                Some((side, block, words.next()?, words.next()?.parse().ok()?))
            })
            .collect();
        // Sorted, so that the blocks of a side come in order.
        for (side, block, kind, _) in modules {
            let side = match side {
                "down_blocks" => &mut blocks.down,
                "up_blocks" => &mut blocks.up,
                _ => continue,
            };
            if side.len() <= block {
                side.resize_with(block + 1, Block::default);
            }
            if let Some(block) = side.get_mut(block) {
                match kind {
                    "resnets" => block.resnets += 1,
                    "attentions" => block.attends = true,
                    "downsamplers" => block.downsamples = true,
                    _ => {}
                }
            }
        }
        blocks
    }

    /// The name of a module of the unet in the original implementation.
    fn original(&self, module: &str) -> Option<String> {
        let whole = match module {
            "conv_in" => "input_blocks.0.0",
            "conv_out" => "out.2",
            "time_embedding.linear_1" => "time_embed.0",
            "time_embedding.linear_2" => "time_embed.2",
            "add_embedding.linear_1" => "label_emb.0.0",
            "add_embedding.linear_2" => "label_emb.0.2",
            "conv_norm_out" => "out.0",
            _ => return self.original_in_block(module),
        };
        Some(whole.to_owned())
    }

    fn original_in_block(&self, module: &str) -> Option<String> {
        let (side, rest) = module.split_once('.')?;
        if side == "mid_block" {
            let (kind, index, inner) = kind_index_inner(rest)?;
            return match kind {
                "resnets" => Some(format!("middle_block.{}.{}", index * 2, resnet(inner)?)),
                "attentions" => Some(format!("middle_block.{}.{inner}", index * 2 + 1)),
                _ => None,
            };
        }
        let (block, rest) = rest.split_once('.')?;
        let block: usize = block.parse().ok()?;
        let (kind, index, inner) = kind_index_inner(rest)?;
        let (list, before) = match side {
            "down_blocks" => {
                let outer = self.down.get(..block)?.iter();
                // The first entry is conv_in.
                let entries = outer.map(|block| block.resnets + usize::from(block.downsamples));
                ("input_blocks", 1 + entries.sum::<usize>())
            }
            "up_blocks" => {
                let inner = self.up.get(..block)?.iter();
                ("output_blocks", inner.map(|block| block.resnets).sum())
            }
            _ => return None,
        };
        match kind {
            "resnets" => Some(format!("{list}.{}.0.{}", before + index, resnet(inner)?)),
            "attentions" => Some(format!("{list}.{}.1.{inner}", before + index)),
            "downsamplers" => {
                let entry = before + self.down.get(block)?.resnets;
                Some(format!("{list}.{entry}.0.op"))
            }
            "upsamplers" => {
                // The last entry of its block, after the residual block and the attention.
                let block = self.up.get(block)?;
                let entry = (before + block.resnets).checked_sub(1)?;
                let place = 1 + usize::from(block.attends);
                Some(format!("{list}.{entry}.{place}.{inner}"))
            }
            _ => None,
        }
    }
}

/// `resnets.1.conv1` taken apart.
fn kind_index_inner(rest: &str) -> Option<(&str, usize, &str)> {
    let (kind, rest) = rest.split_once('.')?;
    let (index, inner) = rest.split_once('.')?;
    Some((kind, index.parse().ok()?, inner))
}

fn resnet(inner: &str) -> Option<&'static str> {
    Some(match inner {
        "norm1" => "in_layers.0",
        "conv1" => "in_layers.2",
        "time_emb_proj" => "emb_layers.1",
        "norm2" => "out_layers.0",
        "conv2" => "out_layers.3",
        "conv_shortcut" => "skip_connection",
        _ => return None,
    })
}
