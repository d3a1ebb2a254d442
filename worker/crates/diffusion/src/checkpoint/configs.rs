//! The configs that a diffusers folder would hold, from the shapes of a single file's tensors.
//!
//! Widths, depths and what is there are read off. What shapes cannot tell (numbers of heads and groups, the schedule, the
//! autoencoder's scale) is as in each family's first model, which every model published in this layout follows.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::checkpoint::names::{ModelNames, V_PREDICTION, ZERO_TERMINAL_SNR};
use crate::checkpoint::settings::Settings;
use crate::checkpoint::{Derived, unsupported};
use crate::error::{Error, Result};
use crate::pipeline::Family;
use crate::weights::{Header, Place};

/// Channels of a head wherever their number is not fixed.
const HEAD_CHANNELS: usize = 64;
/// Heads of every layer of Stable Diffusion 1.
const SD1_HEADS: usize = 8;
/// Words that OpenAI's CLIP knows, and every model that came after it.
const CLIP_WORDS: usize = 49408;

/// Tensors of one component by diffusers' names, looked at for their shapes.
pub(super) struct Shapes<'a>(pub(super) &'a BTreeMap<String, Place>);

impl Shapes<'_> {
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.0.get(name).map(|place| place.shape.as_slice())
    }

    fn dim(&self, name: &str, axis: usize) -> Option<usize> {
        self.shape(name)?.get(axis).copied()
    }

    /// How many places numbered from 0 there are, `{}` in `pattern` being the number.
    fn count(&self, pattern: &str) -> usize {
        (0..)
            .take_while(|index| self.has(&pattern.replace("{}", &format!("{index}"))))
            .count()
    }

    fn need(&self, file: &str, name: &str, axis: usize) -> Result<usize> {
        self.dim(name, axis).ok_or_else(|| {
            Error::weights(
                file,
                format_args!("{name} (as diffusers calls it) is missing, or of too few dimensions"),
            )
        })
    }
}

/// All that a folder would hold beside the weights.
pub(super) fn model(
    file: &str,
    model: &ModelNames,
    settings: &Settings,
    header: &Header,
) -> Derived {
    let nothing = BTreeMap::new();
    let component = |folder: &str| Shapes(model.components.get(folder).unwrap_or(&nothing));
    let unet = component("unet");
    let family = model.family;
    let refines = family == Family::Sdxl && is_refiner(model);
    let prediction = prediction(family, &unet, settings, header);
    let mut derived = Derived::new();
    derived.insert("scumble.json", Ok(settings.own()));
    derived.insert("model_index.json", Ok(index(family, &unet, refines)));
    derived.insert(
        "scheduler/scheduler_config.json",
        Ok(scheduler(family, &prediction, header)),
    );
    let pooled = component("text_encoder_2").dim("text_projection.weight", 0);
    let pooled = pooled.map(|pooled| (pooled, if refines { 5 } else { 6 }));
    derived.insert(
        "unet/config.json",
        unet_config(file, family, &unet, pooled, prediction == "v_prediction"),
    );
    derived.insert(
        "vae/config.json",
        match model.components.get("vae") {
            Some(tensors) => vae(file, &Shapes(tensors), family == Family::Sdxl, None),
            None => Err(lacks(file, "autoencoder", "vae")),
        },
    );
    for (encoder, config, tokenizer, gelu) in [
        (
            "text_encoder",
            "text_encoder/config.json",
            "tokenizer/tokenizer_config.json",
            family == Family::Sd2,
        ),
        (
            "text_encoder_2",
            "text_encoder_2/config.json",
            "tokenizer_2/tokenizer_config.json",
            true,
        ),
    ] {
        let is_second = encoder == "text_encoder_2";
        if (is_second && family != Family::Sdxl) || (!is_second && refines) {
            continue;
        }
        let shapes = model.components.get(encoder).map(Shapes);
        derived.insert(tokenizer, tokenizer_config(file, shapes.as_ref(), gelu));
        derived.insert(
            config,
            match shapes {
                Some(shapes) => text_encoder(file, &shapes, gelu),
                None => Err(lacks(file, "text encoder", encoder)),
            },
        );
    }
    derived
}

fn set(config: &mut Value, field: &str, value: Value) {
    if let Value::Object(fields) = config {
        fields.insert(field.to_owned(), value);
    }
}

fn lacks(file: &str, what: &str, setting: &str) -> Error {
    Error::missing(
        file,
        format_args!(
            "holds no {what}; give it one, or name it as {setting:?} in its .scumble.json"
        ),
    )
}

fn is_refiner(model: &ModelNames) -> bool {
    model.components.contains_key("text_encoder_2")
        && !model.components.contains_key("text_encoder")
}

fn index(family: Family, unet: &Shapes<'_>, refines: bool) -> Value {
    // Nine channels: latents, mask, visible latents.
    let inpaints = unet.dim("conv_in.weight", 1) == Some(9);
    let class = match (family, inpaints, refines) {
        (Family::Sdxl, false, true) => "StableDiffusionXLImg2ImgPipeline",
        (Family::Sdxl, false, false) => "StableDiffusionXLPipeline",
        (Family::Sdxl, true, _) => "StableDiffusionXLInpaintPipeline",
        (_, false, _) => "StableDiffusionPipeline",
        (_, true, _) => "StableDiffusionInpaintPipeline",
    };
    let mut index = json!({
        "_class_name": class,
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
    });
    if family == Family::Sdxl {
        set(
            &mut index,
            "text_encoder_2",
            json!(["transformers", "CLIPTextModelWithProjection"]),
        );
        set(
            &mut index,
            "tokenizer_2",
            json!(["transformers", "CLIPTokenizer"]),
        );
        set(&mut index, "force_zeros_for_empty_prompt", json!(!refines));
        set(&mut index, "requires_aesthetics_score", json!(refines));
    }
    if refines {
        set(&mut index, "text_encoder", json!([null, null]));
        set(&mut index, "tokenizer", json!([null, null]));
    }
    index
}

/// What is said, else what a marker in the file says, else what diffusers takes the family for.
fn prediction(family: Family, unet: &Shapes<'_>, settings: &Settings, header: &Header) -> String {
    if let Some(said) = &settings.prediction_type {
        return said.clone();
    }
    let is_v = header.tensors.contains_key(V_PREDICTION)
        || (family == Family::Sd2 && unet.dim("conv_in.weight", 1) != Some(9));
    if is_v { "v_prediction" } else { "epsilon" }.to_owned()
}

fn scheduler(family: Family, prediction: &str, header: &Header) -> Value {
    let mut config = json!({
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "prediction_type": prediction,
        "clip_sample": false,
        "set_alpha_to_one": false,
        "skip_prk_steps": true,
        "steps_offset": 1,
        "_class_name": match family {
            Family::Sd1 => "PNDMScheduler",
            Family::Sd2 => "DDIMScheduler",
            Family::Sdxl => "EulerDiscreteScheduler",
        },
    });
    if family == Family::Sdxl {
        set(&mut config, "timestep_spacing", json!("leading"));
        set(&mut config, "interpolation_type", json!("linear"));
    }
    if header.tensors.contains_key(ZERO_TERMINAL_SNR) {
        set(&mut config, "rescale_betas_zero_snr", json!(true));
        set(&mut config, "timestep_spacing", json!("trailing"));
    }
    config
}

/// What the tensors of one block of the unet show.
struct Block {
    channels: usize,
    layers: usize,
    /// Depth of every layer's transformer; empty where it has none.
    depths: Vec<usize>,
}

impl Block {
    fn attends(&self) -> bool {
        !self.depths.is_empty()
    }
}

fn blocks(file: &str, unet: &Shapes<'_>, way: &str) -> Result<Vec<Block>> {
    let count = unet.count(&format!("{way}_blocks.{{}}.resnets.0.conv1.weight"));
    (0..count)
        .map(|index| {
            let place = format!("{way}_blocks.{index}");
            let layers = unet.count(&format!("{place}.resnets.{{}}.conv1.weight"));
            let depths: Vec<usize> = (0..layers)
                .map(|layer| depth(unet, &format!("{place}.attentions.{layer}")))
                .take_while(|depth| *depth > 0)
                .collect();
            if !depths.is_empty() && depths.len() != layers {
                return Err(unsupported(
                    file,
                    format_args!(
                        "attends after some layers of {place} only, which is not supported"
                    ),
                ));
            }
            Ok(Block {
                channels: unet.need(file, &format!("{place}.resnets.0.conv1.weight"), 0)?,
                layers,
                depths,
            })
        })
        .collect()
}

fn depth(unet: &Shapes<'_>, transformer: &str) -> usize {
    unet.count(&format!(
        "{transformer}.transformer_blocks.{{}}.norm1.weight"
    ))
}

/// `pooled` is the second text encoder's width and how many sizes the unet is told, where there is one.
fn unet_config(
    file: &str,
    family: Family,
    unet: &Shapes<'_>,
    pooled: Option<(usize, usize)>,
    predicts_v: bool,
) -> Result<Value> {
    let down = blocks(file, unet, "down")?;
    let up = blocks(file, unet, "up")?;
    let types = |blocks: &[Block], attends: &str, plain: &str| -> Vec<String> {
        let name = |block: &Block| if block.attends() { attends } else { plain };
        blocks.iter().map(|block| name(block).to_owned()).collect()
    };
    let linear = unet
        .0
        .iter()
        .find(|(name, _)| name.ends_with(".proj_in.weight"))
        .is_some_and(|(_, place)| place.shape.len() == 2);
    let context = unet
        .0
        .iter()
        .find(|(name, _)| name.ends_with(".attn2.to_k.weight"))
        .and_then(|(_, place)| place.shape.get(1).copied());
    let native = match family {
        Family::Sd1 => 64,
        // As diffusers has it: Stable Diffusion 2.1, unless said otherwise, which means the smaller one.
        Family::Sd2 => {
            if predicts_v {
                96
            } else {
                64
            }
        }
        Family::Sdxl => 128,
    };
    let mut config = json!({
        "_class_name": "UNet2DConditionModel",
        "sample_size": native,
        "in_channels": unet.need(file, "conv_in.weight", 1)?,
        "out_channels": unet.need(file, "conv_out.weight", 0)?,
        "block_out_channels": down.iter().map(|block| block.channels).collect::<Vec<_>>(),
        "layers_per_block": down.iter().map(|block| block.layers).collect::<Vec<_>>(),
        "down_block_types": types(&down, "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": types(&up, "CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": context,
        "attention_head_dim": heads(file, &down, linear)?,
        "use_linear_projection": linear,
        "norm_num_groups": 32,
    });
    transformers(file, unet, &down, &up, &mut config)?;
    if let Some(width) = unet.dim("add_embedding.linear_1.weight", 1) {
        let (pooled, sizes) = pooled.unwrap_or((1280, 6));
        set(&mut config, "addition_embed_type", json!("text_time"));
        set(
            &mut config,
            "projection_class_embeddings_input_dim",
            json!(width),
        );
        set(
            &mut config,
            "addition_time_embed_dim",
            json!(width.saturating_sub(pooled) / sizes),
        );
    }
    if let Some(width) = unet.dim("time_embedding.cond_proj.weight", 1) {
        set(&mut config, "time_cond_proj_dim", json!(width));
    }
    Ok(config)
}

/// Stable Diffusion 1 has eight heads everywhere, those with linear projections 64 channels a head.
fn heads(file: &str, down: &[Block], linear: bool) -> Result<Value> {
    if !linear {
        return Ok(json!(SD1_HEADS));
    }
    let heads: Vec<usize> = down
        .iter()
        .map(|block| block.channels / HEAD_CHANNELS)
        .collect();
    let divides =
        |block: &Block| block.channels > 0 && block.channels.is_multiple_of(HEAD_CHANNELS);
    if down.iter().all(divides) {
        Ok(json!(heads))
    } else {
        Err(untold(file, "the unet's number of heads"))
    }
}

fn untold(file: &str, what: &str) -> Error {
    unsupported(
        file,
        format_args!(
            "has widths that do not tell {what}; name a folder with its configs as \"configs\" in its .scumble.json"
        ),
    )
}

/// The depths of the transformers, in the shortest of the forms that diffusers has for it, and the kind of mid block.
fn transformers(
    file: &str,
    unet: &Shapes<'_>,
    down: &[Block],
    up: &[Block],
    config: &mut Value,
) -> Result<()> {
    let mid = match (
        unet.has("mid_block.resnets.0.conv1.weight"),
        depth(unet, "mid_block.attentions.0"),
    ) {
        (false, _) => {
            set(config, "mid_block_type", Value::Null);
            None
        }
        (true, 0) => {
            set(config, "mid_block_type", json!("UNetMidBlock2D"));
            None
        }
        (true, depth) => {
            set(config, "mid_block_type", json!("UNetMidBlock2DCrossAttn"));
            Some(depth)
        }
    };
    // Where a block has no transformers, its entry counts for nothing, but the last one's for the mid block.
    let filled = |blocks: &[Block], innermost: usize| -> Vec<Vec<usize>> {
        let fill = |(index, block): (usize, &Block)| match block.depths.as_slice() {
            [] if index == innermost => vec![mid.unwrap_or(1); block.layers],
            [] => vec![1; block.layers],
            depths => depths.to_vec(),
        };
        blocks.iter().enumerate().map(fill).collect()
    };
    let down = filled(down, down.len().saturating_sub(1));
    let up = filled(up, 0);
    let first = |block: &Vec<usize>| block.first().copied().unwrap_or(1);
    if mid.is_some_and(|mid| down.last().map(first) != Some(mid)) {
        return Err(unsupported(
            file,
            "has a mid block of another depth than the block before it, which is not supported",
        ));
    }
    let even = |block: &Vec<usize>| block.iter().all(|depth| *depth == first(block));
    let alike =
        |(down, up): (&Vec<usize>, &Vec<usize>)| even(down) && even(up) && first(down) == first(up);
    if down.len() == up.len() && down.iter().zip(up.iter().rev()).all(alike) {
        set(
            config,
            "transformer_layers_per_block",
            json!(down.iter().map(first).collect::<Vec<_>>()),
        );
    } else {
        set(config, "transformer_layers_per_block", json!(down));
        set(config, "reverse_transformer_layers_per_block", json!(up));
    }
    Ok(())
}

/// An autoencoder's config. `own` is the one of the model that it is for: latents are scaled as that was trained with.
pub(super) fn vae(file: &str, vae: &Shapes<'_>, is_xl: bool, own: Option<&Value>) -> Result<Value> {
    if vae.has("decoder.layers.0.weight") {
        return tiny_vae(file, vae);
    }
    let levels = vae.count("encoder.down_blocks.{}.resnets.0.conv2.weight");
    let channels = (0..levels)
        .map(|level| {
            vae.need(
                file,
                &format!("encoder.down_blocks.{level}.resnets.0.conv2.weight"),
                0,
            )
        })
        .collect::<Result<Vec<usize>>>()?;
    let mut config = json!({
        "_class_name": "AutoencoderKL",
        "in_channels": vae.need(file, "encoder.conv_in.weight", 1)?,
        "out_channels": vae.need(file, "decoder.conv_out.weight", 0)?,
        "latent_channels": vae.need(file, "decoder.conv_in.weight", 1)?,
        "block_out_channels": channels,
        "layers_per_block": vae.count("encoder.down_blocks.0.resnets.{}.conv2.weight"),
        "down_block_types": vec!["DownEncoderBlock2D"; levels],
        "up_block_types": vec!["UpDecoderBlock2D"; levels],
        "norm_num_groups": 32,
        "scaling_factor": if is_xl { 0.13025 } else { 0.18215 },
        "use_quant_conv": vae.has("quant_conv.weight"),
        "use_post_quant_conv": vae.has("post_quant_conv.weight"),
        "mid_block_add_attention": vae.has("decoder.mid_block.attentions.0.group_norm.weight"),
    });
    if let Some(own) = own.filter(|own| own.get("_class_name") == config.get("_class_name")) {
        for field in ["scaling_factor", "shift_factor", "norm_num_groups"] {
            if let Some(value) = own.get(field) {
                set(&mut config, field, value.clone());
            }
        }
    }
    Ok(config)
}

/// TAESD's kind: every convolution without residuals begins a level, but for the last.
fn tiny_vae(file: &str, vae: &Shapes<'_>) -> Result<Value> {
    let levels = |side: &str| -> Vec<usize> {
        let last = (0..)
            .map(|index| format!("{side}.layers.{index}"))
            // Activations and resizing take a number and have no tensors: at most one between two layers.
            .scan(0, |empty, place| {
                let conv = vae.has(&format!("{place}.weight"));
                let block = vae.has(&format!("{place}.conv.0.weight"));
                *empty = if conv || block { 0 } else { *empty + 1 };
                (*empty < 3).then_some((conv, block))
            });
        let mut levels: Vec<usize> = Vec::new();
        for (conv, block) in last {
            if conv {
                levels.push(0);
            } else if block && let Some(count) = levels.last_mut() {
                *count += 1;
            }
        }
        levels.pop();
        levels
    };
    let (encoder, decoder) = (levels("encoder"), levels("decoder"));
    let width = vae.need(file, "decoder.layers.0.weight", 0)?;
    Ok(json!({
        "_class_name": "AutoencoderTiny",
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": vae.need(file, "decoder.layers.0.weight", 1)?,
        "encoder_block_out_channels": vec![width; encoder.len()],
        "decoder_block_out_channels": vec![width; decoder.len()],
        "num_encoder_blocks": encoder,
        "num_decoder_blocks": decoder,
        "scaling_factor": 1.0,
    }))
}

/// `gelu` tells OpenCLIP's from OpenAI's, which the shapes do not.
pub(super) fn text_encoder(file: &str, text: &Shapes<'_>, gelu: bool) -> Result<Value> {
    let tokens = "text_model.embeddings.token_embedding.weight";
    let hidden = text.need(file, tokens, 1)?;
    if !hidden.is_multiple_of(HEAD_CHANNELS) || hidden == 0 {
        return Err(untold(file, "the text encoder's number of heads"));
    }
    let mut config = json!({
        "model_type": "clip_text_model",
        "vocab_size": text.need(file, tokens, 0)?,
        "hidden_size": hidden,
        "max_position_embeddings":
            text.need(file, "text_model.embeddings.position_embedding.weight", 0)?,
        "num_hidden_layers": text.count("text_model.encoder.layers.{}.layer_norm1.weight"),
        "intermediate_size": text.need(file, "text_model.encoder.layers.0.mlp.fc1.weight", 0)?,
        "num_attention_heads": hidden / HEAD_CHANNELS,
        "hidden_act": if gelu { "gelu" } else { "quick_gelu" },
        "eos_token_id": text.need(file, tokens, 0)?.saturating_sub(1),
    });
    if let Some(width) = text.dim("text_projection.weight", 0) {
        set(&mut config, "projection_dim", json!(width));
    }
    Ok(config)
}

/// CLIP's own tokenizer, for every text encoder that knows as many words as it has.
fn tokenizer_config(file: &str, text: Option<&Shapes<'_>>, pads_with_zero: bool) -> Result<Value> {
    let (mut words, mut length) = (CLIP_WORDS, 77);
    if let Some(text) = text {
        words = text.need(file, "text_model.embeddings.token_embedding.weight", 0)?;
        length = text.need(file, "text_model.embeddings.position_embedding.weight", 0)?;
    }
    if words != CLIP_WORDS {
        return Err(Error::missing(
            file,
            format_args!(
                "has a text encoder of {words} tokens, and CLIP's vocabulary has {CLIP_WORDS}; name the folder of its \
                 tokenizer as \"tokenizer\" in its .scumble.json"
            ),
        ));
    }
    let mut config = Map::new();
    config.insert("vocabulary".to_owned(), json!("clip"));
    config.insert("model_max_length".to_owned(), json!(length));
    // OpenCLIP pads with token 0, which reads "!".
    let pad = if pads_with_zero { "!" } else { "<|endoftext|>" };
    config.insert("pad_token".to_owned(), json!(pad));
    Ok(Value::Object(config))
}
