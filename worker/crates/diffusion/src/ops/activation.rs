//! Activation functions, by the names that configs use.

use candle_core::Tensor;

use crate::config::Config;
use crate::error::{Error, Result};

/// An elementwise non-linearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    Silu,
    Relu,
    /// The exact one, by the error function.
    Gelu,
    /// `x * sigmoid(1.702 x)`, which OpenAI's CLIP was trained with.
    QuickGelu,
    Mish,
}

impl Activation {
    /// Reads a config's field.
    pub(crate) fn read(config: &Config, field: &'static str, default: &str) -> Result<Self> {
        match config.get(field, default.to_owned())?.as_str() {
            "silu" | "swish" => Ok(Self::Silu),
            "relu" => Ok(Self::Relu),
            "gelu" => Ok(Self::Gelu),
            "quick_gelu" => Ok(Self::QuickGelu),
            "mish" => Ok(Self::Mish),
            other => Err(Error::unsupported(
                config.file(),
                format_args!(
                    "{field} = {other:?} is not supported, only silu, relu, gelu, quick_gelu or mish"
                ),
            )),
        }
    }

    pub(crate) fn apply(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Silu => candle_nn::ops::silu(x)?,
            Self::Relu => x.relu()?,
            Self::Gelu => x.gelu_erf()?,
            Self::QuickGelu => (x * candle_nn::ops::sigmoid(&(x * 1.702)?)?)?,
            Self::Mish => {
                // ln(1 + e^x) without overflow: max(x, 0) + ln(1 + e^-|x|).
                let softplus = (x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
                (x * softplus.tanh()?)?
            }
        })
    }
}
