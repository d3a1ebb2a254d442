//! Where a drawing starts: noise, an image, or an image under a mask; and how what is kept of it stays.

use candle_core::{Device, Tensor};

use crate::error::Result;
use crate::image::{Fit, GrayImage, Region, RgbImage, fill_with_mean, masked_region, paste, smear};
use crate::pipeline::params::{DrawParams, Inpaint, InpaintFill, Start};
use crate::pipeline::{Pipeline, Walk};
use crate::schedulers::{Scheduler, combine};

/// What a request starts from, prepared once for all images of a batch. Tensors are at the size that is drawn.
pub(super) enum Canvas {
    /// Nothing.
    Blank,
    /// An image, `[1, 3, height, width]` in [-1, 1].
    Image(Tensor),
    /// An image of which a part is drawn anew.
    Masked(Box<Masked>),
}

/// An image of which a part is drawn anew.
pub(super) struct Masked {
    /// The image at the size of the result.
    original: RgbImage,
    /// What of it is drawn.
    region: Region,
    /// How much of the drawing each pixel of the result takes.
    weights: GrayImage,
    /// What is drawn over, with the mask's part filled as the request says, `[1, 3, height, width]`.
    pixels: Tensor,
    /// What of the image can be seen, grey under the mask, of the same shape.
    visible: Tensor,
    /// 1 for latents that are drawn anew, 0 for those that are kept, `[1, 1, h, w]`.
    mask: Tensor,
    /// Whether the mask's part is noise before noise is added.
    noise_filled: bool,
    /// Whether nothing of the image shows through the noise to begin with.
    is_strength_max: bool,
}

impl Canvas {
    pub(super) fn new(pipeline: &Pipeline, params: &DrawParams) -> Result<Self> {
        let (width, height) = (params.width, params.height);
        Ok(match &params.start {
            Start::Noise => Self::Blank,
            Start::Image { image, .. } => {
                Self::Image(image.resize(width, height)?.to_tensor(&pipeline.device)?)
            }
            Start::Inpaint(inpaint) => Self::Masked(Box::new(Masked::new(
                inpaint,
                (width, height),
                pipeline.vae_scale,
                &pipeline.device,
            )?)),
        })
    }

    /// The latents that a walk begins with and what stays with it. `draw_noise` gives noise of the latents' shape.
    ///
    /// Noise is drawn in the reference's order: for the sample of the image's latents, for the walk, for the sample of
    /// the visible part's latents; then, for what the reference does not have, to fill the mask.
    pub(super) fn begin(
        &self,
        pipeline: &Pipeline,
        walk: &Walk,
        draw_noise: &mut dyn FnMut() -> Result<Tensor>,
    ) -> Result<Beginning> {
        let scheduler = &*walk.scheduler;
        match self {
            Self::Blank => Ok(Beginning {
                latents: (draw_noise()? * scheduler.init_noise_sigma())?,
                kept: None,
                seen: None,
            }),
            Self::Image(pixels) => {
                let clean = pipeline.vae.encode_sample(pixels, draw_noise)?;
                Ok(Beginning {
                    latents: add_noise(scheduler, walk.begin, &clean, &draw_noise()?)?,
                    kept: None,
                    seen: None,
                })
            }
            Self::Masked(masked) => masked.begin(pipeline, walk, draw_noise),
        }
    }

    /// The result from what was drawn.
    pub(super) fn finish(&self, drawn: RgbImage) -> Result<RgbImage> {
        match self {
            Self::Blank | Self::Image(_) => Ok(drawn),
            Self::Masked(masked) => paste(&masked.original, &drawn, masked.region, &masked.weights),
        }
    }
}

impl Masked {
    fn new(
        inpaint: &Inpaint,
        (width, height): (usize, usize),
        scale: usize,
        device: &Device,
    ) -> Result<Self> {
        let original = inpaint.image.resize(width, height)?;
        let mask = inpaint.mask.resize(width, height)?;
        let mask = if inpaint.mask_invert {
            mask.inverted()
        } else {
            mask
        };
        let weights = mask.blurred(inpaint.mask_blur)?;
        let whole = Region {
            x: 0,
            y: 0,
            width,
            height,
        };
        // Without anything to draw anew, everything is as good a part as any.
        let region = inpaint
            .only_masked
            .and_then(|padding| masked_region(&weights, padding, width, height))
            .unwrap_or(whole);
        let filled = match inpaint.fill {
            InpaintFill::Original | InpaintFill::Noise => original.clone(),
            InpaintFill::Blur => smear(&original, &weights)?,
            InpaintFill::Fill => fill_with_mean(&original, &weights)?,
        };
        let drawn_over = |image: &RgbImage| {
            image
                .crop(region)?
                .fit(width, height, Fit::Fill)?
                .to_tensor(device)
        };
        let drawn_mask = weights.crop(region)?.fit(width, height, Fit::Fill)?;
        let hidden = drawn_mask.to_tensor(device)?;
        Ok(Self {
            pixels: drawn_over(&filled)?,
            visible: drawn_over(&original)?.broadcast_mul(&hidden.affine(-1.0, 1.0)?)?,
            mask: drawn_mask.to_latent_tensor(scale, device)?,
            noise_filled: inpaint.fill == InpaintFill::Noise,
            is_strength_max: inpaint.strength >= 1.0,
            original,
            region,
            weights,
        })
    }

    fn begin(
        &self,
        pipeline: &Pipeline,
        walk: &Walk,
        draw_noise: &mut dyn FnMut() -> Result<Tensor>,
    ) -> Result<Beginning> {
        let scheduler = &*walk.scheduler;
        // An inpainting model sees what is kept; for any other it is put back after every step.
        let sees = pipeline.sees_mask;
        let clean = if self.is_strength_max && sees {
            None
        } else {
            Some(pipeline.vae.encode_sample(&self.pixels, draw_noise)?)
        };
        let noise = draw_noise()?;
        let seen = if sees {
            let visible = pipeline.vae.encode_sample(&self.visible, draw_noise)?;
            Some(Tensor::cat(&[&self.mask, &visible], 1)?)
        } else {
            // The reference samples the visible part's latents even where nothing sees them, and what a solver adds to
            // its steps comes after.
            if pipeline.vae.samples() {
                draw_noise()?;
            }
            None
        };
        let latents = match &clean {
            Some(clean) if !self.is_strength_max => {
                let start = if self.noise_filled {
                    mix(&self.mask, &draw_noise()?, clean)?
                } else {
                    clean.clone()
                };
                add_noise(scheduler, walk.begin, &start, &noise)?
            }
            _ => (&noise * scheduler.init_noise_sigma())?,
        };
        let kept = match clean {
            Some(clean) if !sees => Some(Kept {
                mask: self.mask.clone(),
                clean,
                noise,
            }),
            _ => None,
        };
        Ok(Beginning {
            latents,
            kept,
            seen,
        })
    }
}

/// The start of one image's walk.
pub(super) struct Beginning {
    /// `[1, channels, h, w]`.
    pub(super) latents: Tensor,
    kept: Option<Kept>,
    /// What an inpainting model sees besides the latents, `[1, 1 + channels, h, w]`: the mask and what is visible.
    seen: Option<Tensor>,
}

/// What is put back under the black of the mask after every step.
struct Kept {
    mask: Tensor,
    clean: Tensor,
    noise: Tensor,
}

impl Beginning {
    /// The unet's input from scaled latents.
    pub(super) fn with_seen(&self, latents: Tensor) -> Result<Tensor> {
        match &self.seen {
            Some(seen) => Ok(Tensor::cat(&[&latents, seen], 1)?),
            None => Ok(latents),
        }
    }

    /// Latents of the noise level before evaluation `index`, with what is kept put back.
    pub(super) fn with_kept(
        &self,
        latents: Tensor,
        scheduler: &dyn Scheduler,
        index: usize,
    ) -> Result<Tensor> {
        match &self.kept {
            Some(kept) if index < scheduler.timesteps().len() => {
                let noisy = add_noise(scheduler, index, &kept.clean, &kept.noise)?;
                mix(&kept.mask, &latents, &noisy)
            }
            _ => self.with_kept_clean(latents),
        }
    }

    /// Latents without noise, with what is kept put back.
    pub(super) fn with_kept_clean(&self, latents: Tensor) -> Result<Tensor> {
        match &self.kept {
            Some(kept) => mix(&kept.mask, &latents, &kept.clean),
            None => Ok(latents),
        }
    }
}

fn add_noise(
    scheduler: &dyn Scheduler,
    index: usize,
    clean: &Tensor,
    noise: &Tensor,
) -> Result<Tensor> {
    let (signal, share) = scheduler.noise_weights(index)?;
    combine(signal, clean, share, noise)
}

/// `new` where the mask is 1, `old` where it is 0.
fn mix(mask: &Tensor, new: &Tensor, old: &Tensor) -> Result<Tensor> {
    let kept = old.broadcast_mul(&mask.affine(-1.0, 1.0)?)?;
    Ok((new.broadcast_mul(mask)? + kept)?)
}
