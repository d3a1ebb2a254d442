//! The one door to the kernels: convolution, normalisation, attention and activations.
//!
//! Models call nothing else for these, so a faster path has one place to go. What is here now is plain candle.

mod activation;
mod attention;
mod bands;
mod conv;
mod linear;
mod norm;

pub(crate) use activation::Activation;
pub(crate) use attention::attention;
pub(crate) use bands::{BAND_ELEMENTS_MAX, Bands};
pub(crate) use conv::{Conv2d, upsample_nearest};
pub(crate) use linear::Linear;
pub(crate) use norm::{GroupNorm, LayerNorm};
