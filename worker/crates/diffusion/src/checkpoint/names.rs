//! From the names of the original Stable Diffusion code to those of diffusers.

use std::collections::BTreeMap;

use safetensors::tensor::TensorInfo;

use crate::checkpoint::unsupported;
use crate::error::Result;
use crate::pipeline::Family;
use crate::weights::{Header, Place};

/// The width of the text encoder that Stable Diffusion 2 attends to.
pub(super) const OPEN_CLIP_WIDTH: usize = 1024;

/// The width of both text encoders of SDXL together.
const XL_CONTEXT: usize = 2048;

const UNET: &str = "model.diffusion_model.";
const VAES: [&str; 2] = ["first_stage_model.", "vae."];
const CLIP: &str = "cond_stage_model.transformer.";
const OPEN_CLIP: &str = "cond_stage_model.model.";
const XL_CLIP: &str = "conditioner.embedders.0.transformer.";
const XL_OPEN_CLIP: &str = "conditioner.embedders.1.model.";
const REFINER: &str = "conditioner.embedders.0.model.";

/// A whole model's tensors by diffusers' names.
pub(super) struct ModelNames {
    pub(super) family: Family,
    pub(super) components: BTreeMap<&'static str, BTreeMap<String, Place>>,
}

/// Sorts a file's tensors into components. What fits nowhere stays with the component whose prefix it has, or the unet,
/// under its own name, and will be reported as surplus when that is loaded.
///
/// Errors if the file is no model, or one of a kind that is not supported.
pub(super) fn model(file: &str, header: &Header) -> Result<ModelNames> {
    let family = family(file, header)?;
    let is_second = family == Family::Sd2;
    let mut components: BTreeMap<&'static str, BTreeMap<String, Place>> = BTreeMap::new();
    let mut take = |folder: &'static str, prefix: &str, rename: &dyn Fn(&str) -> Renamed| {
        for (name, info) in &header.tensors {
            if let Some(inner) = name.strip_prefix(prefix)
                && !is_training_state(inner)
            {
                put(
                    components.entry(folder).or_default(),
                    name,
                    info,
                    &rename(inner),
                );
            }
        }
    };
    let unet = UnetNames::new(&within(header, UNET));
    take("unet", UNET, &|name| unet.rename(name));
    for prefix in VAES {
        let vae = VaeNames::new(&within(header, prefix));
        take("vae", prefix, &|name| vae.rename(name));
    }
    take("text_encoder", CLIP, &clip);
    take("text_encoder", XL_CLIP, &clip);
    take("text_encoder_2", XL_OPEN_CLIP, &|name| {
        open_clip(name, None)
    });
    take("text_encoder_2", REFINER, &|name| open_clip(name, None));
    // Stable Diffusion 2 attends to the layer before the last: diffusers leaves the last one out.
    let last = last_layer(&within(header, OPEN_CLIP)).filter(|_| is_second);
    take("text_encoder", OPEN_CLIP, &|name| {
        open_clip(name, Some(last))
    });

    let known = [UNET, CLIP, OPEN_CLIP, XL_CLIP, XL_OPEN_CLIP, REFINER];
    for (name, info) in &header.tensors {
        let belongs = known
            .iter()
            .chain(&VAES)
            .any(|prefix| name.starts_with(prefix));
        if !belongs && !is_training_state(name) {
            put(
                components.entry("unet").or_default(),
                name,
                info,
                &Renamed::Surplus,
            );
        }
    }
    Ok(ModelNames { family, components })
}

/// An autoencoder's tensors from a file that holds nothing else, in either layout, or from a whole model's.
pub(super) fn vae(file: &str, header: &Header) -> Result<BTreeMap<String, Place>> {
    let prefix = VAES
        .into_iter()
        .find(|prefix| !within(header, prefix).is_empty())
        .unwrap_or_default();
    let inside = within(header, prefix);
    let is_vae = ["decoder.conv_in.weight", "decoder.layers.0.weight"];
    if !is_vae.iter().any(|name| inside.contains_key(name)) {
        return Err(unsupported(file, "holds no autoencoder"));
    }
    let names = VaeNames::new(&inside);
    let mut tensors = BTreeMap::new();
    for (name, info) in &header.tensors {
        match name.strip_prefix(prefix) {
            Some(inner) if !is_training_state(inner) => {
                put(&mut tensors, name, info, &names.rename(inner));
            }
            _ => {}
        }
    }
    Ok(tensors)
}

/// A text encoder's tensors from a file that holds nothing else, named as transformers or OpenCLIP do.
pub(super) fn text_encoder(file: &str, header: &Header) -> Result<BTreeMap<String, Place>> {
    let rename: &dyn Fn(&str) -> Renamed = if header.tensors.contains_key("token_embedding.weight")
    {
        &|name| open_clip(name, None)
    } else {
        &clip
    };
    let mut tensors = BTreeMap::new();
    for (name, info) in &header.tensors {
        if !is_training_state(name) {
            put(&mut tensors, name, info, &rename(name));
        }
    }
    if tensors.contains_key("text_model.embeddings.token_embedding.weight") {
        Ok(tensors)
    } else {
        Err(unsupported(file, "holds no CLIP text encoder"))
    }
}

/// What becomes of a tensor.
enum Renamed {
    To(String),
    /// Rows and columns change places.
    Transposed(String),
    /// Equal parts, one below the other.
    Split([String; 3]),
    /// Not used, and known not to be.
    Dropped,
    /// Not known: kept under its own name, for the report.
    Surplus,
}

fn put(tensors: &mut BTreeMap<String, Place>, name: &str, info: &TensorInfo, renamed: &Renamed) {
    let (start, end) = info.data_offsets;
    let mut place = Place {
        file: 0,
        name_in_file: name.to_owned(),
        dtype: info.dtype,
        shape: info.shape.clone(),
        start,
        end,
        transposed: false,
    };
    match renamed {
        Renamed::To(new) => drop(tensors.insert(new.clone(), place)),
        Renamed::Transposed(new) => {
            place.shape.reverse();
            place.transposed = true;
            tensors.insert(new.clone(), place);
        }
        Renamed::Split(parts) => {
            let rows = info.shape.first().copied().unwrap_or_default();
            if !rows.is_multiple_of(parts.len()) {
                tensors.insert(name.to_owned(), place);
                return;
            }
            let bytes = (end - start) / parts.len();
            for (index, part) in parts.iter().enumerate() {
                let mut place = place.clone();
                if let Some(first) = place.shape.first_mut() {
                    *first = rows / parts.len();
                }
                place.start = start + index * bytes;
                place.end = place.start + bytes;
                tensors.insert(part.clone(), place);
            }
        }
        Renamed::Dropped => {}
        Renamed::Surplus => drop(tensors.insert(name.to_owned(), place)),
    }
}

/// The tensors below a prefix, by the rest of their names.
type Within<'a> = BTreeMap<&'a str, &'a TensorInfo>;

fn within<'a>(header: &'a Header, prefix: &str) -> Within<'a> {
    header
        .tensors
        .iter()
        .filter_map(|(name, info)| Some((name.strip_prefix(prefix)?, info)))
        .collect()
}

fn has_below(tensors: &Within<'_>, place: &str) -> bool {
    let start = format!("{place}.");
    tensors
        .range(start.as_str()..)
        .next()
        .is_some_and(|(name, _)| name.starts_with(&start))
}

/// What training leaves in a file and drawing has no use for: averages, the schedule, losses, constants.
fn is_training_state(name: &str) -> bool {
    const PLACES: [&str; 4] = ["model_ema.", "loss.", "embedding_manager.", "visual."];
    const ENDINGS: [&str; 3] = ["position_ids", "logit_scale", "attn_mask"];
    const NAMES: [&str; 20] = [
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "betas",
        "denoiser.sigmas",
        "global_step",
        "log_one_minus_alphas_cumprod",
        "logvar",
        "lvlb_weights",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
        "posterior_variance",
        "scale_factor",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "text_model.embeddings.position_ids",
        V_PREDICTION,
        ZERO_TERMINAL_SNR,
    ];
    PLACES.iter().any(|place| name.starts_with(place))
        || ENDINGS.iter().any(|ending| name.ends_with(ending))
        || NAMES.contains(&name)
}

/// An empty tensor of this name says that the model predicts v.
pub(super) const V_PREDICTION: &str = "v_pred";
/// An empty tensor of this name says that the schedule was rescaled to zero terminal SNR.
pub(super) const ZERO_TERMINAL_SNR: &str = "ztsnr";

/// Errors if the file is no whole model, or of a kind that is not supported.
fn family(file: &str, header: &Header) -> Result<Family> {
    let unet = within(header, UNET);
    if !unet.contains_key("input_blocks.0.0.weight") {
        return Err(unsupported(file, not_a_model(header)));
    }
    if has_below(&within(header, ""), "control_model") {
        return Err(unsupported(
            file,
            "is a ControlNet, not a model that draws by itself",
        ));
    }
    if header.tensors.contains_key("edm_mean") {
        return Err(unsupported(
            file,
            "is trained on EDM's schedule (Playground 2.5), which is not supported",
        ));
    }
    let context = unet
        .iter()
        .find(|(name, _)| name.ends_with("attn2.to_k.weight"))
        .and_then(|(_, info)| info.shape.get(1).copied());
    let labelled = has_below(&unet, "label_emb");
    let names = within(header, "");
    let has = |prefix: &str| {
        names
            .range(prefix..)
            .next()
            .is_some_and(|(name, _)| name.starts_with(prefix))
    };
    if has(XL_OPEN_CLIP) || has(REFINER) || (labelled && context == Some(XL_CONTEXT)) {
        return Ok(Family::Sdxl);
    }
    if labelled {
        return Err(unsupported(
            file,
            "conditions its unet on a label (as unCLIP and upscalers do), which is not supported",
        ));
    }
    if has(OPEN_CLIP) || context == Some(OPEN_CLIP_WIDTH) {
        Ok(Family::Sd2)
    } else {
        Ok(Family::Sd1)
    }
}

/// What a file is that is no whole model, in words.
fn not_a_model(header: &Header) -> &'static str {
    let any = |test: &dyn Fn(&str) -> bool| header.tensors.keys().any(|name| test(name));
    if any(&|name| name.contains("lora_") || name.contains(".lora")) {
        "is a LoRA, not a model; it is used together with one"
    } else if any(&|name| name.contains("joint_blocks.") || name.contains("double_blocks.")) {
        "is a Stable Diffusion 3 or FLUX model, which is not supported"
    } else if any(&|name| name.starts_with("control_model.") || name.starts_with("controlnet_")) {
        "is a ControlNet, not a model that draws by itself"
    } else if any(&|name| name == "emb_params" || name.starts_with("string_to_param")) {
        "is an embedding (a textual inversion), not a model"
    } else if any(&|name| name == "conv_in.weight" || name == "input_blocks.0.0.weight") {
        "holds a unet and nothing else; a model needs text encoders and an autoencoder too"
    } else if any(&|name| {
        name == "decoder.conv_in.weight" || name.starts_with("first_stage_model.")
    }) {
        "holds an autoencoder and nothing else; it can stand in for a model's own as its vae"
    } else if any(&|name| name.starts_with("text_model.") || name == "token_embedding.weight") {
        "holds a text encoder and nothing else"
    } else {
        "is no Stable Diffusion model: it has no model.diffusion_model.input_blocks.0.0.weight"
    }
}

/// The parts that a name begins with, dot by dot: the first `count`, and the rest.
fn split_after(name: &str, count: usize) -> Option<(&str, &str)> {
    let (at, _) = name.match_indices('.').nth(count - 1)?;
    Some((name.get(..at)?, name.get(at + 1..)?))
}

/// Where a module of the unet went, and whether its layers have other names.
struct Module {
    place: String,
    is_resnet: bool,
}

struct UnetNames {
    modules: BTreeMap<String, Module>,
}

impl UnetNames {
    /// Numbers the blocks as diffusers does: a new one after every change of size.
    fn new(tensors: &Within<'_>) -> Self {
        let mut modules = BTreeMap::new();
        for (from, to) in [
            ("time_embed.0", "time_embedding.linear_1"),
            ("time_embed.2", "time_embedding.linear_2"),
            ("time_embed.cond_proj", "time_embedding.cond_proj"),
            ("label_emb.0.0", "add_embedding.linear_1"),
            ("label_emb.0.2", "add_embedding.linear_2"),
            ("input_blocks.0.0", "conv_in"),
            ("out.0", "conv_norm_out"),
            ("out.2", "conv_out"),
        ] {
            plain(&mut modules, from.to_owned(), to.to_owned());
        }
        Self::down(tensors, &mut modules);
        Self::mid(tensors, &mut modules);
        Self::up(tensors, &mut modules);
        Self { modules }
    }

    fn down(tensors: &Within<'_>, modules: &mut BTreeMap<String, Module>) {
        let (mut block, mut layer) = (0, 0);
        for index in 1.. {
            let place = format!("input_blocks.{index}");
            if !has_below(tensors, &place) {
                break;
            }
            if has_below(tensors, &format!("{place}.0.op")) {
                let to = format!("down_blocks.{block}.downsamplers.0.conv");
                plain(modules, format!("{place}.0.op"), to);
                (block, layer) = (block + 1, 0);
                continue;
            }
            resnet(
                modules,
                format!("{place}.0"),
                format!("down_blocks.{block}.resnets.{layer}"),
            );
            plain(
                modules,
                format!("{place}.1"),
                format!("down_blocks.{block}.attentions.{layer}"),
            );
            layer += 1;
        }
    }

    fn mid(tensors: &Within<'_>, modules: &mut BTreeMap<String, Module>) {
        let (mut resnets, mut attentions) = (0, 0);
        for index in 0.. {
            let place = format!("middle_block.{index}");
            if !has_below(tensors, &place) {
                break;
            }
            if has_below(tensors, &format!("{place}.in_layers")) {
                resnet(modules, place, format!("mid_block.resnets.{resnets}"));
                resnets += 1;
            } else {
                plain(modules, place, format!("mid_block.attentions.{attentions}"));
                attentions += 1;
            }
        }
    }

    fn up(tensors: &Within<'_>, modules: &mut BTreeMap<String, Module>) {
        let (mut block, mut layer) = (0, 0);
        for index in 0.. {
            let place = format!("output_blocks.{index}");
            if !has_below(tensors, &place) {
                break;
            }
            resnet(
                modules,
                format!("{place}.0"),
                format!("up_blocks.{block}.resnets.{layer}"),
            );
            let mut upsampled = false;
            for inner in 1..=2 {
                let conv = format!("{place}.{inner}.conv");
                if has_below(tensors, &conv) {
                    plain(
                        modules,
                        conv,
                        format!("up_blocks.{block}.upsamplers.0.conv"),
                    );
                    upsampled = true;
                } else {
                    let to = format!("up_blocks.{block}.attentions.{layer}");
                    plain(modules, format!("{place}.{inner}"), to);
                }
            }
            layer += 1;
            if upsampled {
                (block, layer) = (block + 1, 0);
            }
        }
    }

    fn rename(&self, name: &str) -> Renamed {
        for parts in (2..=4).rev() {
            let Some((module, rest)) = split_after(name, parts) else {
                continue;
            };
            if let Some(Module { place, is_resnet }) = self.modules.get(module) {
                if !is_resnet {
                    return Renamed::To(format!("{place}.{rest}"));
                }
                if let Some(rest) = resnet_layer(rest) {
                    return Renamed::To(format!("{place}.{rest}"));
                }
            }
        }
        Renamed::Surplus
    }
}

fn plain(modules: &mut BTreeMap<String, Module>, from: String, place: String) {
    let is_resnet = false;
    modules.insert(from, Module { place, is_resnet });
}

fn resnet(modules: &mut BTreeMap<String, Module>, from: String, place: String) {
    let is_resnet = true;
    modules.insert(from, Module { place, is_resnet });
}

/// A residual block's layer and its `weight` or `bias`.
fn resnet_layer(name: &str) -> Option<String> {
    let (layer, kind) = name.rsplit_once('.')?;
    let layer = match layer {
        "in_layers.0" => "norm1",
        "in_layers.2" => "conv1",
        "emb_layers.1" => "time_emb_proj",
        "out_layers.0" => "norm2",
        "out_layers.3" => "conv2",
        "skip_connection" => "conv_shortcut",
        _ => return None,
    };
    Some(format!("{layer}.{kind}"))
}

struct VaeNames {
    /// Levels on the way up, which the original counts from the outside.
    levels: usize,
    /// Whether the names are diffusers' already.
    is_diffusers: bool,
}

impl VaeNames {
    fn new(tensors: &Within<'_>) -> Self {
        let levels = (0..)
            .take_while(|level| has_below(tensors, &format!("decoder.up.{level}")))
            .count();
        Self {
            levels,
            is_diffusers: levels == 0,
        }
    }

    fn rename(&self, name: &str) -> Renamed {
        if self.is_diffusers {
            return Renamed::To(name.to_owned());
        }
        self.original(name).map_or(Renamed::Surplus, Renamed::To)
    }

    fn original(&self, name: &str) -> Option<String> {
        if name.starts_with("quant_conv.") || name.starts_with("post_quant_conv.") {
            return Some(name.to_owned());
        }
        let (side, rest) = name.split_once('.')?;
        if side != "encoder" && side != "decoder" {
            return None;
        }
        let parts: Vec<&str> = rest.split('.').collect();
        let inner = match parts.as_slice() {
            [layer @ ("conv_in" | "conv_out"), kind] => format!("{layer}.{kind}"),
            ["norm_out", kind] => format!("conv_norm_out.{kind}"),
            ["mid", "attn_1", layer, kind] => {
                let layer = match *layer {
                    "norm" => "group_norm",
                    "q" => "to_q",
                    "k" => "to_k",
                    "v" => "to_v",
                    "proj_out" => "to_out.0",
                    _ => return None,
                };
                format!("mid_block.attentions.0.{layer}.{kind}")
            }
            ["mid", "block_1", layer, kind] => {
                format!("mid_block.resnets.0.{}.{kind}", shortcut(layer))
            }
            ["mid", "block_2", layer, kind] => {
                format!("mid_block.resnets.1.{}.{kind}", shortcut(layer))
            }
            [way @ ("down" | "up"), level, "block", index, layer, kind] => {
                let block = self.block(way, level)?;
                format!(
                    "{way}_blocks.{block}.resnets.{index}.{}.{kind}",
                    shortcut(layer)
                )
            }
            ["down", level, "downsample", "conv", kind] => {
                format!("down_blocks.{level}.downsamplers.0.conv.{kind}")
            }
            ["up", level, "upsample", "conv", kind] => {
                format!(
                    "up_blocks.{}.upsamplers.0.conv.{kind}",
                    self.block("up", level)?
                )
            }
            _ => return None,
        };
        Some(format!("{side}.{inner}"))
    }

    fn block(&self, way: &str, level: &str) -> Option<usize> {
        let level: usize = level.parse().ok()?;
        if way == "down" {
            Some(level)
        } else {
            (self.levels - 1).checked_sub(level)
        }
    }
}

fn shortcut(layer: &str) -> &str {
    if layer == "nin_shortcut" {
        "conv_shortcut"
    } else {
        layer
    }
}

/// Transformers' names, which some files write without the first part.
fn clip(name: &str) -> Renamed {
    if name.starts_with("text_model.") || name.starts_with("text_projection.") {
        Renamed::To(name.to_owned())
    } else if ["embeddings.", "encoder.", "final_layer_norm."]
        .iter()
        .any(|place| name.starts_with(place))
    {
        Renamed::To(format!("text_model.{name}"))
    } else {
        Renamed::Surplus
    }
}

fn last_layer(tensors: &Within<'_>) -> Option<usize> {
    (0..)
        .take_while(|layer| has_below(tensors, &format!("transformer.resblocks.{layer}")))
        .last()
}

/// OpenCLIP's names. `without` is given for Stable Diffusion 2, which has no use for the projection and the last layer.
fn open_clip(name: &str, without: Option<Option<usize>>) -> Renamed {
    let to = |name: &str| Renamed::To(format!("text_model.{name}"));
    match name {
        "positional_embedding" => return to("embeddings.position_embedding.weight"),
        "token_embedding.weight" => return to("embeddings.token_embedding.weight"),
        "ln_final.weight" => return to("final_layer_norm.weight"),
        "ln_final.bias" => return to("final_layer_norm.bias"),
        "text_projection" if without.is_some() => return Renamed::Dropped,
        "text_projection" => return Renamed::Transposed("text_projection.weight".to_owned()),
        _ => {}
    }
    let layer = name
        .strip_prefix("transformer.resblocks.")
        .and_then(|rest| rest.split_once('.'));
    let Some((index, rest)) = layer else {
        return Renamed::Surplus;
    };
    let last = without.flatten();
    if last.is_some() && index.parse().ok() == last {
        return Renamed::Dropped;
    }
    let place = format!("text_model.encoder.layers.{index}");
    let packed = |kind: &str| {
        Renamed::Split(["q", "k", "v"].map(|part| format!("{place}.self_attn.{part}_proj.{kind}")))
    };
    match rest {
        "attn.in_proj_weight" => return packed("weight"),
        "attn.in_proj_bias" => return packed("bias"),
        _ => {}
    }
    let Some((layer, kind)) = rest.rsplit_once('.') else {
        return Renamed::Surplus;
    };
    let layer = match layer {
        "ln_1" => "layer_norm1",
        "ln_2" => "layer_norm2",
        "attn.out_proj" => "self_attn.out_proj",
        "mlp.c_fc" => "mlp.fc1",
        "mlp.c_proj" => "mlp.fc2",
        _ => return Renamed::Surplus,
    };
    Renamed::To(format!("{place}.{layer}.{kind}"))
}
