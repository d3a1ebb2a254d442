//! How strongly each token counts.

use candle_core::Tensor;

use crate::error::Result;
use crate::text::prompt::WEIGHT_MAX;

/// Multiplies every token's state, `[1, tokens, hidden]` in f32, by its weight, and all of them by what restores their mean,
/// as A1111 does: `w * z`, then `w * z * mean(z) / mean(w * z)`, both means over every number of the chunk. The
/// restoring factor is kept within the bound of weights, and is 1 where both means are 0. Weights that are all 1
/// change no bit.
pub(crate) fn weigh(states: Tensor, weights: &[f32]) -> Result<Tensor> {
    if weights.iter().all(|weight| *weight == 1.0) {
        return Ok(states);
    }
    let weights = Tensor::new(weights, states.device())?.reshape((1, (), 1))?;
    let weighted = states.broadcast_mul(&weights)?;
    let factor = mean(&states)? / mean(&weighted)?;
    if factor.is_nan() {
        return Ok(weighted);
    }
    Ok((weighted * factor.clamp(-WEIGHT_MAX, WEIGHT_MAX))?)
}

/// Summed in f64: a mean is small beside the numbers it is made of, and what f32 lost in it would scale them all.
fn mean(tensor: &Tensor) -> Result<f64> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    let sum: f64 = values.iter().copied().map(f64::from).sum();
    #[expect(
        clippy::cast_precision_loss,
        reason = "a chunk has some hundred thousand numbers"
    )]
    let count = values.len() as f64;
    Ok(sum / count)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn weighed(states: &[f32], weights: &[f32]) -> Vec<f32> {
        let shape = (1, weights.len(), states.len() / weights.len());
        let states = Tensor::from_vec(states.to_vec(), shape, &Device::Cpu).unwrap();
        let weighed = weigh(states, weights).unwrap();
        weighed.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn the_mean_stays_what_it_was() {
        // Means 2.5 and 5.
        assert_eq!(
            weighed(&[1.0, 2.0, 3.0, 4.0], &[1.0, 17.0 / 7.0]),
            [0.5, 1.0, 1.5 * 17.0 / 7.0, 2.0 * 17.0 / 7.0]
        );
    }

    #[test]
    fn weights_of_one_change_no_bit() {
        let states = [0.1, -0.2, 1e-30, 3e30];
        assert_eq!(weighed(&states, &[1.0, 1.0]), states);
    }

    #[test]
    fn no_weights_make_a_number_that_is_none() {
        assert_eq!(weighed(&[1.0, 2.0], &[0.0, 0.0]), [0.0, 0.0]);
        assert_eq!(weighed(&[0.0, 0.0], &[2.0, 1.0]), [0.0, 0.0]);
        // The weighted mean is 0: the factor would be infinite.
        assert_eq!(weighed(&[1.0, 1.0], &[1.0, -1.0]), [100.0, -100.0]);
    }
}
