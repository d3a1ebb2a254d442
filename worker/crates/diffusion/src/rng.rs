//! Gaussian noise that depends on nothing but the seed.
//!
//! ChaCha8 keyed with the seed, one stream for every draw of an image (stream 0 is the initial noise, stream k the
//! noise that an ancestral scheduler adds after step k), and Box–Muller on pairs of 53-bit uniforms with `libm`'s
//! logarithm, sine and cosine. No platform function, thread count, device or batch takes part, so a seed means the same
//! picture everywhere.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Where an image's noise comes from: its seed, or, in tests against the reference, a recording.
pub trait Noise {
    /// The next `count` standard normal values. The first call gives the initial latents, each later one what an
    /// ancestral scheduler adds after a step.
    fn draw(&mut self, count: usize) -> Vec<f32>;
}

/// The noise of one image.
pub struct SeededNoise {
    seed: u64,
    next_stream: u64,
}

impl SeededNoise {
    /// Noise for the image with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            next_stream: 0,
        }
    }
}

impl Noise for SeededNoise {
    fn draw(&mut self, count: usize) -> Vec<f32> {
        let values = normal(self.seed, self.next_stream, count);
        self.next_stream = self.next_stream.wrapping_add(1);
        values
    }
}

/// `count` standard normal values of one stream of one seed.
fn normal(seed: u64, stream: u64, count: usize) -> Vec<f32> {
    let mut key = [0u8; 32];
    for (slot, byte) in key.iter_mut().zip(seed.to_le_bytes()) {
        *slot = byte;
    }
    let mut generator = ChaCha8Rng::from_seed(key);
    generator.set_stream(stream);
    let mut values = Vec::with_capacity(count.next_multiple_of(2));
    while values.len() < count {
        // In (0, 1], so that the logarithm is finite.
        let radius_uniform = (uniform_53(&mut generator) + 1.0) * UNIFORM_STEP;
        let angle_uniform = uniform_53(&mut generator) * UNIFORM_STEP;
        let radius = (-2.0 * libm::log(radius_uniform)).sqrt();
        let (sine, cosine) = libm::sincos(std::f64::consts::TAU * angle_uniform);
        values.push(to_f32(radius * cosine));
        values.push(to_f32(radius * sine));
    }
    values.truncate(count);
    values
}

const UNIFORM_STEP: f64 = 1.0 / 9_007_199_254_740_992.0;

/// A whole number in 0..2^53.
fn uniform_53(generator: &mut ChaCha8Rng) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "53 bits fit a double's mantissa exactly"
    )]
    let value = (generator.next_u64() >> 11) as f64;
    value
}

fn to_f32(value: f64) -> f32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounding to single precision is what is wanted"
    )]
    let value = value as f32;
    value
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_these_very_bits_on_every_platform() {
        let bits: Vec<u32> = normal(7, 0, 5).iter().map(|v| v.to_bits()).collect();
        let again: Vec<u32> = normal(7, 0, 8)
            .iter()
            .map(|v| v.to_bits())
            .take(5)
            .collect();
        assert_eq!(bits, again, "a longer draw starts with the shorter one");
        assert_eq!(bits, RECORDED);
    }

    const RECORDED: [u32; 5] = [
        3_208_085_724,
        1_042_254_206,
        3_213_006_350,
        1_078_145_997,
        3_208_049_089,
    ];

    #[test]
    fn streams_and_seeds_differ_and_are_standard_normal() {
        let (a, b, c) = (
            normal(1, 0, 100_000),
            normal(1, 1, 100_000),
            normal(2, 0, 100_000),
        );
        for values in [&a, &b, &c] {
            let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / 1e5;
            let variance =
                values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 1e5 - mean * mean;
            let fourth = values.iter().map(|v| f64::from(*v).powi(4)).sum::<f64>() / 1e5;
            assert!(mean.abs() < 0.015, "mean {mean}");
            assert!((variance - 1.0).abs() < 0.02, "variance {variance}");
            assert!((fourth - 3.0).abs() < 0.15, "fourth moment {fourth}");
        }
        let correlation = |x: &[f32], y: &[f32]| {
            x.iter().zip(y).map(|(p, q)| f64::from(p * q)).sum::<f64>() / 1e5
        };
        assert!(correlation(&a, &b).abs() < 0.015);
        assert!(correlation(&a, &c).abs() < 0.015);
    }
}
