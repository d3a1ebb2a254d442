//! What `unet/config.json` asks for.

use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::ops::Activation;

/// The sizes of a unet. Lists have one entry a block, from the outside in.
pub(crate) struct UnetConfig {
    /// The file that this was read from, to name in errors.
    pub(crate) source: Config,
    /// Native latent height and width.
    pub(crate) sample_size: (usize, usize),
    pub(crate) in_channels: usize,
    pub(crate) out_channels: usize,
    pub(crate) block_out_channels: Vec<usize>,
    pub(crate) layers_per_block: Vec<usize>,
    /// Whether the down block attends to the prompt.
    pub(crate) down_attention: Vec<bool>,
    /// The same of the up blocks, from the inside out.
    pub(crate) up_attention: Vec<bool>,
    pub(crate) down_transformer_layers: Depths,
    /// From the inside out.
    pub(crate) up_transformer_layers: Depths,
    pub(crate) mid: MidKind,
    pub(crate) heads: Vec<usize>,
    pub(crate) cross_attention_dims: Vec<usize>,
    pub(crate) use_linear_projection: bool,
    pub(crate) groups: usize,
    pub(crate) norm_eps: f64,
    pub(crate) activation: Activation,
    pub(crate) downsample_padding: usize,
    pub(crate) flip_sin_to_cos: bool,
    pub(crate) freq_shift: f64,
    pub(crate) time_embed_dim: usize,
    pub(crate) conv_in_kernel: usize,
    pub(crate) conv_out_kernel: usize,
    /// SDXL's extra conditioning.
    pub(crate) added: Option<AddedConfig>,
    /// Channels of the guidance scale's embedding, for models that were distilled with guidance as an input.
    pub(crate) guidance_dim: Option<usize>,
}

/// Blocks of each transformer of each block.
type Depths = Vec<Vec<usize>>;

/// What is between the way down and the way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MidKind {
    /// Nothing.
    None,
    /// One residual block.
    Plain,
    /// A transformer of so many blocks between two residual blocks.
    Attends(usize),
}

/// SDXL's pooled text and size conditioning.
pub(crate) struct AddedConfig {
    /// Channels of one size's embedding.
    pub(crate) time_dim: usize,
    /// Channels of all of it together with the pooled prompt.
    pub(crate) input_dim: usize,
}

impl UnetConfig {
    pub(crate) fn read(files: &ModelFiles, folder: &str) -> Result<Self> {
        let config = Config::read(files, &format!("{folder}/config.json"))?;
        refuse_unsupported(&config)?;
        let block_out_channels = config.counts("block_out_channels", &[320, 640, 1280, 1280])?;
        let blocks = block_out_channels.len();
        let down_attention = block_types(
            &config,
            "down_block_types",
            [("CrossAttnDownBlock2D", true), ("DownBlock2D", false)],
            blocks,
        )?;
        let up_attention = block_types(
            &config,
            "up_block_types",
            [("CrossAttnUpBlock2D", true), ("UpBlock2D", false)],
            blocks,
        )?;
        // The reference's attention_head_dim has always been the number of heads.
        let heads = config.counts_per_block("attention_head_dim", 8, blocks)?;
        for (heads, channels) in heads.iter().zip(&block_out_channels) {
            if !channels.is_multiple_of(*heads) {
                return Err(Error::config(
                    config.file(),
                    format_args!(
                        "attention_head_dim (the number of heads) must divide the block's channels, got {heads} and {channels}"
                    ),
                ));
            }
        }
        let first = block_out_channels.first().copied().unwrap_or_default();
        let odd_kernel = |field| -> Result<usize> {
            let kernel = config.count(field, 3)?;
            if kernel % 2 == 1 {
                Ok(kernel)
            } else {
                Err(Error::unsupported(
                    config.file(),
                    format_args!("{field} = {kernel} is not supported, only odd sizes"),
                ))
            }
        };
        let downsample_padding = config.get("downsample_padding", 1)?;
        if downsample_padding > 1 {
            return Err(Error::unsupported(
                config.file(),
                format_args!(
                    "downsample_padding = {downsample_padding} is not supported, only 0 or 1"
                ),
            ));
        }
        let layers_per_block = config.counts_per_block("layers_per_block", 2, blocks)?;
        let (down_transformer_layers, up_transformer_layers) =
            transformer_layers(&config, &layers_per_block)?;
        Ok(Self {
            sample_size: sample_size(&config)?,
            in_channels: config.count("in_channels", 4)?,
            out_channels: config.count("out_channels", 4)?,
            mid: mid_kind(&config, &down_transformer_layers)?,
            layers_per_block,
            down_attention,
            up_attention,
            down_transformer_layers,
            up_transformer_layers,
            heads,
            cross_attention_dims: config.counts_per_block("cross_attention_dim", 1280, blocks)?,
            use_linear_projection: config.get("use_linear_projection", false)?,
            groups: config.count("norm_num_groups", 32)?,
            norm_eps: config.positive("norm_eps", 1e-5)?,
            activation: Activation::read(&config, "act_fn", "silu")?,
            downsample_padding,
            flip_sin_to_cos: config.get("flip_sin_to_cos", true)?,
            freq_shift: config.get("freq_shift", 0.0)?,
            time_embed_dim: config.count("time_embedding_dim", first * 4)?,
            conv_in_kernel: odd_kernel("conv_in_kernel")?,
            conv_out_kernel: odd_kernel("conv_out_kernel")?,
            added: added(&config)?,
            guidance_dim: match config.optional::<usize>("time_cond_proj_dim")? {
                Some(_) => Some(config.count("time_cond_proj_dim", 1)?),
                None => None,
            },
            block_out_channels,
            source: {
                config.no_unknown_fields()?;
                config
            },
        })
    }

    /// Channels of the outermost block.
    pub(crate) fn first_channels(&self) -> usize {
        self.block_out_channels.first().copied().unwrap_or_default()
    }

    /// How often the latents are halved on the way down.
    pub(crate) fn halvings(&self) -> usize {
        self.block_out_channels.len() - 1
    }
}

fn refuse_unsupported(config: &Config) -> Result<()> {
    config.only("center_input_sample", &[json!(false)])?;
    config.only("only_cross_attention", &[json!(false)])?;
    config.only("mid_block_only_cross_attention", &[json!(false)])?;
    config.only("mid_block_scale_factor", &[json!(1)])?;
    config.only("dual_cross_attention", &[json!(false)])?;
    config.only("class_embed_type", &[])?;
    config.only("num_class_embeds", &[])?;
    config.only("class_embeddings_concat", &[json!(false)])?;
    config.only("encoder_hid_dim", &[])?;
    config.only("encoder_hid_dim_type", &[])?;
    config.only("num_attention_heads", &[])?;
    config.only("addition_embed_type", &[json!("text_time")])?;
    config.only("resnet_time_scale_shift", &[json!("default")])?;
    config.only("resnet_skip_time_act", &[json!(false)])?;
    config.only("resnet_out_scale_factor", &[json!(1)])?;
    config.only("time_embedding_type", &[json!("positional")])?;
    config.only("time_embedding_act_fn", &[])?;
    config.only("timestep_post_act", &[])?;
    config.only("attention_type", &[json!("default")])?;
    config.only("cross_attention_norm", &[])?;
    // Dropout is off when drawing; attention is computed in f32 whatever upcast_attention says; the number of heads of
    // the additional embedding belongs to a type that is refused above.
    config.irrelevant(&[
        "dropout",
        "upcast_attention",
        "addition_embed_type_num_heads",
    ]);
    Ok(())
}

/// A field that is absent means another mid block than one that is null.
fn mid_kind(config: &Config, down_transformer_layers: &[Vec<usize>]) -> Result<MidKind> {
    config.only(
        "mid_block_type",
        &[json!("UNetMidBlock2DCrossAttn"), json!("UNetMidBlock2D")],
    )?;
    let innermost = down_transformer_layers
        .last()
        .and_then(|layers| layers.first());
    Ok(match config.fields().get("mid_block_type") {
        Some(Value::Null) => MidKind::None,
        Some(Value::String(name)) if name == "UNetMidBlock2D" => MidKind::Plain,
        _ => MidKind::Attends(innermost.copied().unwrap_or(1)),
    })
}

/// The depth of every transformer of the down blocks and of the up blocks: in the config one number for all blocks, one
/// for each, or a list for each of one for every layer.
fn transformer_layers(config: &Config, layers_per_block: &[usize]) -> Result<(Depths, Depths)> {
    const DOWN: &str = "transformer_layers_per_block";
    const UP: &str = "reverse_transformer_layers_per_block";
    let given: Value = config.get(DOWN, json!(1))?;
    let reversed: Option<Vec<Value>> = config.optional(UP)?;
    let down = match given {
        Value::Array(blocks) => blocks,
        number => vec![number; layers_per_block.len()],
    };
    let up = match reversed {
        Some(blocks) => blocks,
        None if down.iter().any(Value::is_array) => {
            return Err(Error::config(
                config.file(),
                format_args!("{UP} is missing, though {DOWN} has a list for a block"),
            ));
        }
        None => down.iter().rev().cloned().collect(),
    };
    let up_layers = layers_per_block.iter().rev().map(|layers| layers + 1);
    Ok((
        depths(config, DOWN, &down, layers_per_block.iter().copied())?,
        depths(config, UP, &up, up_layers)?,
    ))
}

/// One depth for each of every block's `layers`.
fn depths(
    config: &Config,
    field: &str,
    blocks: &[Value],
    layers: impl ExactSizeIterator<Item = usize>,
) -> Result<Depths> {
    const DEPTH_MAX: usize = 64;
    let wrong = |wanted: &str| {
        Error::config(
            config.file(),
            format_args!("{field} must {wanted}, got {}", Value::from(blocks)),
        )
    };
    if blocks.len() != layers.len() {
        let count = layers.len();
        return Err(wrong(&format!(
            "have {count} entries, as many as block_out_channels"
        )));
    }
    let depth = |value: &Value| {
        value
            .as_u64()
            .and_then(|depth| usize::try_from(depth).ok())
            .filter(|depth| *depth <= DEPTH_MAX)
            .ok_or_else(|| wrong(&format!("hold numbers in 0..={DEPTH_MAX}")))
    };
    blocks
        .iter()
        .zip(layers)
        .map(|(block, layers)| match block {
            Value::Array(list) if list.len() >= layers => {
                list.iter().take(layers).map(depth).collect()
            }
            Value::Array(_) => Err(wrong(&format!("have {layers} numbers for this block"))),
            number => Ok(vec![depth(number)?; layers]),
        })
        .collect()
}

fn sample_size(config: &Config) -> Result<(usize, usize)> {
    match config.fields().get("sample_size") {
        Some(Value::Array(_)) => match config.counts("sample_size", &[])?.as_slice() {
            [height, width] => Ok((*height, *width)),
            other => Err(Error::config(
                config.file(),
                format_args!("sample_size must be one number or two, got {}", other.len()),
            )),
        },
        // What the reference's pipelines fall back to.
        _ => config.count("sample_size", 64).map(|size| (size, size)),
    }
}

fn block_types(
    config: &Config,
    field: &'static str,
    supported: [(&str, bool); 2],
    blocks: usize,
) -> Result<Vec<bool>> {
    let types: Vec<String> = config.require(field)?;
    if types.len() != blocks {
        return Err(Error::config(
            config.file(),
            format_args!(
                "{field} must have {blocks} entries, as many as block_out_channels, got {}",
                types.len()
            ),
        ));
    }
    types
        .iter()
        .map(|name| {
            supported
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, attends)| *attends)
                .ok_or_else(|| {
                    let [(first, _), (second, _)] = supported;
                    Error::unsupported(
                        config.file(),
                        format_args!("{field} names {name:?}, which is not supported, only {first} or {second}"),
                    )
                })
        })
        .collect()
}

fn added(config: &Config) -> Result<Option<AddedConfig>> {
    let kind: Option<String> = config.optional("addition_embed_type")?;
    let time_dim: Option<usize> = config.optional("addition_time_embed_dim")?;
    let input_dim: Option<usize> = config.optional("projection_class_embeddings_input_dim")?;
    match (kind, time_dim, input_dim) {
        (None, _, _) => Ok(None),
        (Some(_), Some(time_dim), Some(input_dim)) if input_dim > time_dim => {
            Ok(Some(AddedConfig {
                time_dim,
                input_dim,
            }))
        }
        (Some(_), time_dim, input_dim) => Err(Error::config(
            config.file(),
            format_args!(
                "addition_embed_type text_time needs addition_time_embed_dim and a projection_class_embeddings_input_dim \
                 above it, got {time_dim:?} and {input_dim:?}"
            ),
        )),
    }
}
