//! Between latents and pixels.

mod kl;
mod tiny;

use candle_core::{DType, Tensor};
use serde_json::json;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::ops::BAND_ELEMENTS_MAX;
use crate::weights::Loader;

use kl::AutoencoderKl;
use tiny::AutoencoderTiny;

/// What both kinds of autoencoder have in common, from `vae/config.json`.
pub(crate) struct VaeConfig {
    source: Config,
    kind: VaeKind,
    pub(crate) latent_channels: usize,
    /// Pixels of an image's side per latent.
    pub(crate) scale: usize,
    /// Latents are multiplied by this after encoding, divided by it before decoding.
    scaling_factor: f64,
    /// Subtracted before that, added after.
    shift_factor: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum VaeKind {
    Kl,
    Tiny,
}

impl VaeConfig {
    pub(crate) fn read(files: &ModelFiles, folder: &str) -> Result<Self> {
        let source = Config::read(files, &format!("{folder}/config.json"))?;
        let class: String = source.require("_class_name")?;
        let (kind, scale, default_scaling) = match class.as_str() {
            "AutoencoderKL" => (VaeKind::Kl, kl::scale(&source)?, 0.18215),
            "AutoencoderTiny" => (VaeKind::Tiny, tiny::scale(&source)?, 1.0),
            other => {
                return Err(Error::unsupported(
                    source.file(),
                    format_args!(
                        "_class_name = {other:?} is not supported, only AutoencoderKL or AutoencoderTiny"
                    ),
                ));
            }
        };
        for field in ["in_channels", "out_channels"] {
            source.only(field, &[json!(3)])?;
        }
        let config = Self {
            kind,
            latent_channels: source.count("latent_channels", 4)?,
            scale,
            scaling_factor: source.positive("scaling_factor", default_scaling)?,
            shift_factor: source.get("shift_factor", 0.0)?,
            source,
        };
        match kind {
            VaeKind::Kl => kl::check(&config.source)?,
            VaeKind::Tiny => tiny::check(&config.source)?,
        }
        // All arithmetic is in f32; the sample size only matters to tiling.
        config.source.irrelevant(&["force_upcast", "sample_size"]);
        config.source.no_unknown_fields()?;
        Ok(config)
    }
}

/// The most pixels of a batch that go through together; more go one image after another.
const BATCH_PIXELS_MAX: usize = 256 * 256;

/// A loaded autoencoder. Its arithmetic is in f32 whatever the latents come in.
///
/// Memory: a batch beyond [`BATCH_PIXELS_MAX`] is done image by image, and an image in bands ([`crate::ops::Bands`]) as
/// soon as an activation has more than [`BAND_ELEMENTS_MAX`] elements. What remains is the two or three largest
/// activations themselves. For Stable Diffusion's decoder, whose largest has 256 channels at the image's size, that is
/// about `1.5 * 256 * width * height * 4` bytes and some 400 MiB for a band: 1.5 GiB and that at 1024 by 1024. The
/// attention in the middle holds at most 64 MiB of scores.
pub(crate) struct Vae {
    model: Model,
    /// Pixels of an image's side per latent.
    scale: usize,
    scaling_factor: f64,
    shift_factor: f64,
}

enum Model {
    Kl(Box<AutoencoderKl>),
    Tiny(Box<AutoencoderTiny>),
}

impl Vae {
    pub(crate) fn load(loader: &Loader<'_>, folder: &str, config: &VaeConfig) -> Result<Self> {
        let model = match config.kind {
            VaeKind::Kl => Model::Kl(Box::new(AutoencoderKl::load(loader, folder, config)?)),
            VaeKind::Tiny => Model::Tiny(Box::new(AutoencoderTiny::load(loader, folder, config)?)),
        };
        Ok(Self {
            model,
            scale: config.scale,
            scaling_factor: config.scaling_factor,
            shift_factor: config.shift_factor,
        })
    }

    /// Latents as the unet knows them, `[batch, latent_channels, h, w]`, to images in about [-1, 1],
    /// `[batch, 3, h * scale, w * scale]`, f32.
    pub(crate) fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let scale = self.scale;
        one_by_one(latents, scale * scale, |latents| {
            self.decode_in_bands(latents, BAND_ELEMENTS_MAX)
        })
    }

    fn decode_in_bands(&self, latents: &Tensor, band_elements_max: usize) -> Result<Tensor> {
        let latents = latents.to_dtype(DType::F32)?;
        let latents = ((latents / self.scaling_factor)? + self.shift_factor)?;
        match &self.model {
            Model::Kl(model) => model.decode(&latents, band_elements_max),
            Model::Tiny(model) => model.decode(&latents, band_elements_max),
        }
    }

    /// The way back, without noise: the mode of the distribution where the autoencoder gives one.
    pub(crate) fn encode(&self, images: &Tensor) -> Result<Tensor> {
        one_by_one(images, 1, |images| {
            self.scaled(&self.encode_in_bands(images, BAND_ELEMENTS_MAX)?.0)
        })
    }

    /// The way back with noise: a sample of the distribution. Asks `draw_noise` once, unless the autoencoder gives
    /// latents outright.
    pub(crate) fn encode_sample(
        &self,
        images: &Tensor,
        draw_noise: &mut dyn FnMut() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let latents = match self.encode_in_bands(images, BAND_ELEMENTS_MAX)? {
            (mean, Some(deviation)) => (mean + (deviation * draw_noise()?)?)?,
            (latents, None) => latents,
        };
        self.scaled(&latents)
    }

    /// Unscaled latents; as mean and standard deviation where the autoencoder gives a distribution.
    fn encode_in_bands(
        &self,
        images: &Tensor,
        band_elements_max: usize,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let images = images.to_dtype(DType::F32)?;
        Ok(match &self.model {
            Model::Kl(model) => {
                let (mean, deviation) = model.encode(&images, band_elements_max)?;
                (mean, Some(deviation))
            }
            Model::Tiny(model) => (model.encode(&images, band_elements_max)?, None),
        })
    }

    /// Whether encoding draws noise.
    pub(crate) fn samples(&self) -> bool {
        matches!(self.model, Model::Kl(_))
    }

    fn scaled(&self, latents: &Tensor) -> Result<Tensor> {
        Ok(((latents - self.shift_factor)? * self.scaling_factor)?)
    }

    /// Whether decoding is so cheap that a preview can do it.
    pub(crate) fn is_tiny(&self) -> bool {
        matches!(self.model, Model::Tiny(_))
    }
}

/// Puts a batch through as a whole, or each image for itself where it would be too much; `pixels` for each element of
/// `[batch, _, h, w]`'s last two dimensions.
fn one_by_one(
    batch: &Tensor,
    pixels: usize,
    function: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (images, _, height, width) = batch.dims4()?;
    if images == 1 || images * height * width * pixels <= BATCH_PIXELS_MAX {
        return function(batch);
    }
    let done = (0..images)
        .map(|index| function(&batch.narrow(0, index, 1)?))
        .collect::<Result<Vec<Tensor>>>()?;
    Ok(Tensor::cat(&done, 0)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use candle_core::Device;
    use proptest::prelude::*;

    use crate::device::{LoadOptions, Precision};
    use crate::rng::{Noise as _, SeededNoise};

    use super::*;

    /// The difference that the rounding of a norm's sums may make, of images in [-1, 1].
    const TOLERANCE: f32 = 2e-5;

    fn load(folder: &Path, precision: Precision) -> (Vae, usize) {
        let files = ModelFiles::open(folder).unwrap();
        let options = LoadOptions { precision };
        let loader = Loader::new(&files, &Device::Cpu, &options);
        let config = VaeConfig::read(&files, "vae").unwrap();
        let vae = Vae::load(&loader, "vae", &config).unwrap();
        (vae, config.latent_channels)
    }

    /// A random `AutoencoderKL` and the embedded model's `AutoencoderTiny`, and how many channels their latents have.
    fn autoencoders() -> [(Vae, usize); 2] {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        [
            load(&home.join("tests/golden/sd1"), Precision::F32),
            load(&home.join("../../models/pocket"), Precision::F32),
        ]
    }

    fn random(shape: (usize, usize, usize, usize), seed: u64) -> Tensor {
        let (batch, channels, height, width) = shape;
        let values = SeededNoise::new(seed).draw(batch * channels * height * width);
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn difference(left: &Tensor, right: &Tensor) -> f32 {
        assert_eq!(left.dims(), right.dims());
        let difference = (left - right).unwrap().abs().unwrap();
        let difference = difference.flatten_all().unwrap().max(0).unwrap();
        difference.to_scalar::<f32>().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn an_image_in_bands_is_the_undivided_one(
            height in 1usize..20, width in 1usize..12, batch in 1usize..3, elements_max in 1usize..40_000, seed: u64,
        ) {
            for (vae, channels) in autoencoders() {
                let latents = random((batch, channels, height, width), seed);
                let whole = vae.decode_in_bands(&latents, usize::MAX).unwrap();
                let banded = vae.decode_in_bands(&latents, elements_max).unwrap();
                let worst = difference(&whole, &banded);
                prop_assert!(worst <= TOLERANCE, "decoded: {worst:e}");
                let (whole_latents, _) = vae.encode_in_bands(&whole, usize::MAX).unwrap();
                let (banded_latents, _) = vae.encode_in_bands(&whole, elements_max).unwrap();
                let worst = difference(&whole_latents, &banded_latents);
                prop_assert!(worst <= TOLERANCE, "encoded: {worst:e}");
            }
        }
    }

    #[test]
    fn a_batch_image_by_image_is_the_whole_batch() {
        for (vae, channels) in autoencoders() {
            let side = 160 / vae.scale;
            let latents = random((3, channels, side, side), 7);
            const { assert!(3 * 160 * 160 > BATCH_PIXELS_MAX) };
            let together = vae.decode_in_bands(&latents, usize::MAX).unwrap();
            let apart = vae.decode(&latents).unwrap();
            assert!(difference(&together, &apart) <= TOLERANCE);
            let (encoded, _) = vae.encode_in_bands(&together, usize::MAX).unwrap();
            let encoded = vae.scaled(&encoded).unwrap();
            assert!(difference(&encoded, &vae.encode(&together).unwrap()) <= TOLERANCE);
        }
    }

    #[test]
    fn weights_in_16_bits_and_latents_in_f16_give_nearly_the_same_image() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sd1");
        let latents = random((1, 4, 8, 8), 3);
        let (vae, _) = load(&folder, Precision::F32);
        let exact = vae.decode(&latents).unwrap();
        let largest = difference(&exact, &exact.zeros_like().unwrap());
        for (precision, dtype, tolerance) in [
            (Precision::F16, DType::F16, 2e-3),
            (Precision::Bf16, DType::BF16, 2e-2),
        ] {
            let (vae, _) = load(&folder, precision);
            let near = vae.decode(&latents.to_dtype(dtype).unwrap()).unwrap();
            assert_eq!(near.dtype(), DType::F32);
            let worst = difference(&exact, &near) / largest;
            println!("{dtype:?}: {worst:.1e} of the largest value");
            assert!(worst > 0.0 && worst <= tolerance, "{dtype:?}: {worst:e}");
        }
    }
}
