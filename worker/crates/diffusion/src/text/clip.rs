//! CLIP's text transformer, in the forms `CLIPTextModel` and `CLIPTextModelWithProjection`.

use candle_core::{DType, Device, Tensor};
use serde_json::json;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::ops::{Activation, LayerNorm, Linear, attention};
use crate::weights::{Loader, Parameter, Scope};

/// The sizes of a text encoder.
pub(crate) struct ClipConfig {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    intermediate_size: usize,
    pub(crate) layers: usize,
    heads: usize,
    pub(crate) positions: usize,
    /// Width of the pooled output, where there is a projection.
    pub(crate) projection: Option<usize>,
    activation: Activation,
    layer_norm_eps: f64,
    end_token: u32,
}

impl ClipConfig {
    /// Reads `<folder>/config.json`. `with_projection` is what `model_index.json` says of the class.
    pub(crate) fn read(files: &ModelFiles, folder: &str, with_projection: bool) -> Result<Self> {
        let config = Config::read(files, &format!("{folder}/config.json"))?;
        config.only("model_type", &[json!("clip_text_model")])?;
        let read = Self {
            vocab_size: config.count("vocab_size", 49408)?,
            hidden_size: config.count("hidden_size", 512)?,
            intermediate_size: config.count("intermediate_size", 2048)?,
            layers: config.count("num_hidden_layers", 12)?,
            heads: config.count("num_attention_heads", 8)?,
            positions: config.count("max_position_embeddings", 77)?,
            projection: if with_projection {
                Some(config.count("projection_dim", 512)?)
            } else {
                None
            },
            activation: Activation::read(&config, "hidden_act", "quick_gelu")?,
            layer_norm_eps: config.positive("layer_norm_eps", 1e-5)?,
            end_token: config.get("eos_token_id", 49407)?,
        };
        if !read.hidden_size.is_multiple_of(read.heads) {
            return Err(Error::config(
                config.file(),
                format_args!(
                    "num_attention_heads must divide hidden_size, got {} and {}",
                    read.heads, read.hidden_size
                ),
            ));
        }
        Ok(read)
    }

    /// Whether this is an OpenCLIP encoder, which Stable Diffusion 2 came with.
    pub(crate) fn is_open_clip(&self) -> bool {
        self.activation == Activation::Gelu
    }
}

/// Which layer's states are read, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Readout {
    /// Layers left out at the end, at most all of them.
    pub(crate) layers_skipped: usize,
    /// Whether the states go through the final norm.
    pub(crate) is_normed: bool,
}

/// What the encoder says of a chunk, in f32.
pub(crate) struct TextOutput {
    /// The states that were asked for, `[1, tokens, hidden]`.
    pub(crate) hidden: Tensor,
    /// The end mark's state after the final norm, projected where the model does so, `[1, projection or hidden]`.
    pub(crate) pooled: Tensor,
}

/// A loaded text encoder.
pub(crate) struct ClipTextEncoder {
    config: ClipConfig,
    tokens: Parameter,
    positions: Parameter,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
    projection: Option<Linear>,
    device: Device,
}

struct Layer {
    norm1: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
    heads: usize,
}

impl ClipTextEncoder {
    pub(crate) fn load(loader: &Loader<'_>, folder: &str, config: ClipConfig) -> Result<Self> {
        let weights = loader.open(folder, "model")?;
        let root = weights.root();
        // Newer writers leave the prefix out.
        let prefixed = weights.contains("text_model.embeddings.token_embedding.weight");
        let model = root.at_if_in_file("text_model", prefixed);
        let embeddings = model.at("embeddings");
        let encoder = Self {
            tokens: embeddings
                .at("token_embedding")
                .get("weight", (config.vocab_size, config.hidden_size))?,
            positions: embeddings
                .at("position_embedding")
                .get("weight", (config.positions, config.hidden_size))?,
            layers: (0..config.layers)
                .map(|index| Layer::load(&model.at("encoder.layers").at(index), &config))
                .collect::<Result<Vec<Layer>>>()?,
            final_norm: LayerNorm::load(
                &model.at("final_layer_norm"),
                config.hidden_size,
                config.layer_norm_eps,
            )?,
            projection: match config.projection {
                Some(width) => Some(Linear::load_without_bias(
                    &root.at("text_projection"),
                    config.hidden_size,
                    width,
                )?),
                None => None,
            },
            device: loader.device.clone(),
            config,
        };
        // Position ids are 0, 1, 2 … by definition. Files cut out of a whole CLIP may keep its head.
        weights.finish(|name| {
            name.ends_with("position_ids")
                || name == "text_projection.weight"
                || name == "logit_scale"
        });
        Ok(encoder)
    }

    /// Encodes one chunk's token ids.
    pub(crate) fn encode(&self, ids: &[u32], readout: Readout) -> Result<TextOutput> {
        let length = ids.len();
        let index = Tensor::new(ids, &self.device)?;
        let tokens = self.tokens.stored().index_select(&index, 0)?;
        let positions = self.positions.stored().narrow(0, 0, length)?;
        let arithmetic = self.tokens.arithmetic();
        let embedded = (tokens.to_dtype(arithmetic)? + positions.to_dtype(arithmetic)?)?;
        let mut state = embedded.unsqueeze(0)?;
        let mut read = state.clone();
        let mask = self.causal_mask(length)?;
        for (index, layer) in self.layers.iter().enumerate() {
            state = layer.forward(&state, &mask)?;
            if index + 1 + readout.layers_skipped <= self.layers.len() {
                read = state.clone();
            }
        }
        let last = self.final_norm.forward(&state)?;
        let pooled = last.narrow(1, self.pooled_position(ids), 1)?.squeeze(1)?;
        let pooled = match &self.projection {
            Some(projection) => projection.forward(&pooled.contiguous()?)?,
            None => pooled,
        };
        let hidden = match (readout.is_normed, readout.layers_skipped) {
            (false, _) => read,
            (true, 0) => last,
            (true, _) => self.final_norm.forward(&read)?,
        };
        Ok(TextOutput {
            hidden: hidden.to_dtype(DType::F32)?,
            pooled: pooled.to_dtype(DType::F32)?,
        })
    }

    /// Where the first end mark is. Old configs say 2, which was never the end mark: there the greatest id is meant.
    fn pooled_position(&self, ids: &[u32]) -> usize {
        const WRONG_END_TOKEN: u32 = 2;
        let wanted = if self.config.end_token == WRONG_END_TOKEN {
            ids.iter().copied().max().unwrap_or_default()
        } else {
            self.config.end_token
        };
        ids.iter().position(|id| *id == wanted).unwrap_or(0)
    }

    /// `[length, length]`: nothing where a token may look, minus infinity after it.
    fn causal_mask(&self, length: usize) -> Result<Tensor> {
        let values: Vec<f32> = (0..length)
            .flat_map(|row| {
                (0..length).map(move |column| if column > row { f32::NEG_INFINITY } else { 0.0 })
            })
            .collect();
        Ok(Tensor::from_vec(values, (length, length), &self.device)?
            .to_dtype(self.tokens.arithmetic())?)
    }
}

impl Layer {
    fn load(scope: &Scope<'_>, config: &ClipConfig) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let attention = scope.at("self_attn");
        let mlp = scope.at("mlp");
        Ok(Self {
            norm1: LayerNorm::load(&scope.at("layer_norm1"), hidden, config.layer_norm_eps)?,
            q: Linear::load(&attention.at("q_proj"), hidden, hidden)?,
            k: Linear::load(&attention.at("k_proj"), hidden, hidden)?,
            v: Linear::load(&attention.at("v_proj"), hidden, hidden)?,
            out: Linear::load(&attention.at("out_proj"), hidden, hidden)?,
            norm2: LayerNorm::load(&scope.at("layer_norm2"), hidden, config.layer_norm_eps)?,
            fc1: Linear::load(&mlp.at("fc1"), hidden, inner)?,
            fc2: Linear::load(&mlp.at("fc2"), inner, hidden)?,
            activation: config.activation,
            heads: config.heads,
        })
    }

    fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let attended = attention(
            &self.q.forward(&normed)?,
            &self.k.forward(&normed)?,
            &self.v.forward(&normed)?,
            self.heads,
            Some(mask),
        )?;
        let x = (x + self.out.forward(&attended)?)?;
        let inner = self
            .activation
            .apply(&self.fc1.forward(&self.norm2.forward(&x)?)?)?;
        Ok((&x + self.fc2.forward(&inner)?)?)
    }
}
