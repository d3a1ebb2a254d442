//! The transformer between convolutions: self-attention, attention to the prompt, gated feed-forward.

use candle_core::{D, Tensor};

use crate::error::Result;
use crate::ops::{Activation, Conv2d, GroupNorm, LayerNorm, Linear, attention};
use crate::unet::config::UnetConfig;
use crate::weights::Scope;

/// The transformers' norm has its own epsilon, whatever `norm_eps` says.
const GROUP_NORM_EPS: f64 = 1e-6;
const LAYER_NORM_EPS: f64 = 1e-5;

/// Sizes of a transformer.
#[derive(Clone, Copy)]
pub(crate) struct TransformerSizes {
    pub(crate) channels: usize,
    pub(crate) heads: usize,
    /// Width of the prompt's hidden states.
    pub(crate) context: usize,
}

/// `Transformer2DModel`.
pub(crate) struct Transformer {
    norm: GroupNorm,
    proj_in: Projection,
    blocks: Vec<Block>,
    proj_out: Projection,
}

/// The same map, stored as a matrix or as a 1×1 convolution.
enum Projection {
    Linear(Linear),
    Conv(Conv2d),
}

impl Projection {
    fn load(scope: &Scope<'_>, channels: usize, linear: bool) -> Result<Self> {
        Ok(if linear {
            Self::Linear(Linear::load(scope, channels, channels)?)
        } else {
            Self::Conv(Conv2d::load(scope, channels, channels, 1)?)
        })
    }
}

impl Transformer {
    pub(crate) fn load(
        scope: &Scope<'_>,
        config: &UnetConfig,
        sizes: TransformerSizes,
        layers: usize,
    ) -> Result<Self> {
        Ok(Self {
            norm: GroupNorm::load(
                &scope.at("norm"),
                &config.source,
                config.groups,
                sizes.channels,
                GROUP_NORM_EPS,
            )?,
            proj_in: Projection::load(
                &scope.at("proj_in"),
                sizes.channels,
                config.use_linear_projection,
            )?,
            blocks: (0..layers)
                .map(|index| Block::load(&scope.at("transformer_blocks").at(index), sizes))
                .collect::<Result<Vec<Block>>>()?,
            proj_out: Projection::load(
                &scope.at("proj_out"),
                sizes.channels,
                config.use_linear_projection,
            )?,
        })
    }

    /// `x` is `[batch, channels, h, w]`, `context` `[batch, tokens, context]`.
    pub(crate) fn forward(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        let to_tokens = |x: &Tensor| -> Result<Tensor> {
            Ok(x.reshape((batch, channels, height * width))?
                .transpose(1, 2)?
                .contiguous()?)
        };
        let from_tokens = |x: &Tensor| -> Result<Tensor> {
            Ok(x.transpose(1, 2)?
                .contiguous()?
                .reshape((batch, channels, height, width))?)
        };
        let normed = self.norm.forward(x)?;
        let mut tokens = match &self.proj_in {
            Projection::Linear(linear) => linear.forward(&to_tokens(&normed)?)?,
            Projection::Conv(conv) => to_tokens(&conv.forward(&normed)?)?,
        };
        for block in &self.blocks {
            tokens = block.forward(&tokens, context)?;
        }
        let y = match &self.proj_out {
            Projection::Linear(linear) => from_tokens(&linear.forward(&tokens)?)?,
            Projection::Conv(conv) => conv.forward(&from_tokens(&tokens)?)?,
        };
        Ok((y + x)?)
    }
}

struct Block {
    norm1: LayerNorm,
    to_itself: Attention,
    norm2: LayerNorm,
    to_prompt: Attention,
    norm3: LayerNorm,
    feed_forward: FeedForward,
}

impl Block {
    fn load(scope: &Scope<'_>, sizes: TransformerSizes) -> Result<Self> {
        let channels = sizes.channels;
        Ok(Self {
            norm1: LayerNorm::load(&scope.at("norm1"), channels, LAYER_NORM_EPS)?,
            to_itself: Attention::load(&scope.at("attn1"), channels, channels, sizes.heads)?,
            norm2: LayerNorm::load(&scope.at("norm2"), channels, LAYER_NORM_EPS)?,
            to_prompt: Attention::load(&scope.at("attn2"), channels, sizes.context, sizes.heads)?,
            norm3: LayerNorm::load(&scope.at("norm3"), channels, LAYER_NORM_EPS)?,
            feed_forward: FeedForward::load(&scope.at("ff.net"), channels)?,
        })
    }

    fn forward(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let x = (x + self.to_itself.forward(&normed, &normed)?)?;
        let x = (&x + self.to_prompt.forward(&self.norm2.forward(&x)?, context)?)?;
        Ok((&x + self.feed_forward.forward(&self.norm3.forward(&x)?)?)?)
    }
}

struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: usize,
}

impl Attention {
    fn load(scope: &Scope<'_>, channels: usize, context: usize, heads: usize) -> Result<Self> {
        Ok(Self {
            q: Linear::load_without_bias(&scope.at("to_q"), channels, channels)?,
            k: Linear::load_without_bias(&scope.at("to_k"), context, channels)?,
            v: Linear::load_without_bias(&scope.at("to_v"), context, channels)?,
            out: Linear::load(&scope.at("to_out.0"), channels, channels)?,
            heads,
        })
    }

    fn forward(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let attended = attention(
            &self.q.forward(x)?,
            &self.k.forward(context)?,
            &self.v.forward(context)?,
            self.heads,
            None,
        )?;
        self.out.forward(&attended)
    }
}

/// A gated linear unit with the exact GELU (Shazeer 2020).
struct FeedForward {
    expand: Linear,
    contract: Linear,
}

impl FeedForward {
    fn load(scope: &Scope<'_>, channels: usize) -> Result<Self> {
        let inner = channels * 4;
        Ok(Self {
            expand: Linear::load(&scope.at("0.proj"), channels, inner * 2)?,
            contract: Linear::load(&scope.at("2"), inner, channels)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let expanded = self.expand.forward(x)?;
        let inner = expanded.dim(D::Minus1)? / 2;
        let value = expanded.narrow(D::Minus1, 0, inner)?;
        let gate = expanded.narrow(D::Minus1, inner, inner)?.contiguous()?;
        self.contract
            .forward(&(value * Activation::Gelu.apply(&gate)?)?)
    }
}
