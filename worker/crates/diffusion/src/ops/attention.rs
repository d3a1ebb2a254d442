//! Scaled dot-product attention.

use candle_core::{D, DType, Tensor};

use crate::error::Result;

/// The most scores that are held at once, in f32 elements (64 MiB): longer sequences are done in chunks of queries.
const SCORES_MAX: usize = 16 * 1024 * 1024;

/// Attention of `heads` heads.
///
/// `q` is `[batch, queries, heads * size]`, `k` and `v` are `[batch, keys, heads * size]`; the result has `q`'s shape.
/// `mask`, `[queries, keys]`, f32, is added to the scores. The softmax is in f32 whatever the dtype of the rest: in
/// 16 bits a sum over thousands of keys stops growing.
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
        let scores = part.matmul(&k)?.to_dtype(DType::F32)?;
        let scores = match mask {
            Some(mask) => scores.broadcast_add(&mask.narrow(0, start, length)?)?,
            None => scores,
        };
        let weights = candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(v.dtype())?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use candle_core::Device;

    use crate::rng::{Noise as _, SeededNoise};

    use super::*;

    #[test]
    fn sixteen_bits_cost_their_rounding_and_no_more() {
        // As many keys as f16 cannot count one by one.
        let (keys, size) = (5000, 8);
        let random = |rows: usize, seed| {
            let values = SeededNoise::new(seed).draw(rows * size);
            Tensor::from_vec(values, (1, rows, size), &Device::Cpu).unwrap()
        };
        let (q, k, v) = (
            random(4, 1),
            random(keys, 2),
            (random(keys, 3) + 1.0).unwrap(),
        );
        for (dtype, tolerance) in [(DType::F16, 4e-3), (DType::BF16, 3e-2)] {
            let [q, k, v] = [&q, &k, &v].map(|x| x.to_dtype(dtype).unwrap());
            let near = attention(&q, &k, &v, 1, None).unwrap();
            assert_eq!(near.dtype(), dtype);
            let [q, k, v, near] = [q, k, v, near].map(|x| x.to_dtype(DType::F32).unwrap());
            let exact = attention(&q, &k, &v, 1, None).unwrap();
            let worst = (exact - near)
                .unwrap()
                .abs()
                .unwrap()
                .flatten_all()
                .unwrap();
            let worst = worst.max(0).unwrap().to_scalar::<f32>().unwrap();
            println!("{dtype:?}: {worst:.1e}");
            assert!(worst <= tolerance, "{dtype:?}: {worst:e}");
        }
    }
}
