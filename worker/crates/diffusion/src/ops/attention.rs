//! Scaled dot-product attention.

use candle_core::{D, Tensor};

use crate::error::Result;

/// The most scores that are held at once, in f32 elements (64 MiB): longer sequences are done in chunks of queries.
const SCORES_MAX: usize = 16 * 1024 * 1024;

/// Attention of `heads` heads.
///
/// `q` is `[batch, queries, heads * size]`, `k` and `v` are `[batch, keys, heads * size]`; the result has `q`'s shape.
/// `mask`, `[queries, keys]`, is added to the scores.
pub(crate) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let (batch, queries, channels) = q.dims3()?;
    let keys = k.dim(1)?;
    let size = channels / heads;
    let split = |x: &Tensor, length: usize| -> Result<Tensor> {
        Ok(x.reshape((batch, length, heads, size))?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((batch * heads, length, size))?)
    };
    #[expect(clippy::cast_precision_loss, reason = "head sizes are small")]
    let scale = 1.0 / (size as f64).sqrt();
    let q = (split(q, queries)? * scale)?;
    let k = split(k, keys)?.transpose(1, 2)?;
    let v = split(v, keys)?;

    let chunk = (SCORES_MAX / (batch * heads * keys).max(1)).clamp(1, queries.max(1));
    let mut chunks = Vec::with_capacity(queries.div_ceil(chunk));
    let mut start = 0;
    while start < queries {
        let length = chunk.min(queries - start);
        let part = if length == queries {
            q.clone()
        } else {
            q.narrow(1, start, length)?.contiguous()?
        };
        let scores = part.matmul(&k)?;
        let scores = match mask {
            Some(mask) => scores.broadcast_add(&mask.narrow(0, start, length)?)?,
            None => scores,
        };
        let weights = candle_nn::ops::softmax_last_dim(&scores)?;
        chunks.push(weights.matmul(&v)?);
        start += length;
    }
    let attended = match chunks.as_slice() {
        [only] => only.clone(),
        several => Tensor::cat(several, D::Minus2)?,
    };
    Ok(attended
        .reshape((batch, heads, queries, size))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((batch, queries, channels))?)
}
