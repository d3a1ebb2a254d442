//! What the test files share.
#![allow(dead_code, unreachable_pub)]

use std::path::PathBuf;

use scumble_diffusion::{
    Device, DrawParams, LoadOptions, ModelFiles, Noise, Pipeline, SchedulerKind, Start,
};

/// Where `make.py` writes.
pub fn golden_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// One of the tiny random models.
pub fn tiny_pipeline(name: &str) -> Pipeline {
    let files = ModelFiles::folder(golden_folder().join(name)).unwrap();
    Pipeline::load(&files, &Device::Cpu, &LoadOptions::default()).unwrap()
}

/// Something to draw with a tiny model.
pub fn tiny_params(scheduler: SchedulerKind) -> DrawParams {
    DrawParams {
        prompt: "the red fox".to_owned(),
        negative_prompt: String::new(),
        width: 32,
        height: 32,
        steps: 6,
        guidance_scale: 4.0,
        guidance_rescale: 0.0,
        clip_skip: 0,
        seed: 40,
        n: 1,
        scheduler,
        start: Start::Noise,
    }
}

/// The noise of `make.py`: twelve 16-bit uniforms of splitmix64, added, less six.
pub struct GoldenNoise {
    seed: u64,
    stream: u64,
}

impl GoldenNoise {
    pub fn new(seed: u64) -> Self {
        Self { seed, stream: 0 }
    }

    pub fn from_stream(seed: u64, stream: u64) -> Self {
        Self { seed, stream }
    }
}

impl Noise for GoldenNoise {
    fn draw(&mut self, count: usize) -> Vec<f32> {
        let values = (0..count as u64)
            .map(|index| {
                let mut total = 0.0;
                for word in 0..3 {
                    let mut x = (index * 3 + word)
                        .wrapping_add(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
                        .wrapping_add(self.stream.wrapping_mul(0xD1B5_4A32_D192_ED03))
                        .wrapping_add(0x9E37_79B9_7F4A_7C15);
                    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                    x ^= x >> 31;
                    for part in 0..4 {
                        total += (((x >> (16 * part)) & 0xFFFF) as f64 + 0.5) / 65536.0;
                    }
                }
                (total - 6.0) as f32
            })
            .collect();
        self.stream += 1;
        values
    }
}
