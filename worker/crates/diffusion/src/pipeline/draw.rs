//! Drawing.

use std::ops::ControlFlow;

use candle_core::{DType, Tensor};

use crate::error::{Error, ErrorKind, Result};
use crate::image::RgbImage;
use crate::pipeline::{DrawParams, Pipeline, Preview, Start};
use crate::rng::{Noise, SeededNoise};
use crate::schedulers::scheduler;
use crate::unet::{AddedConditioning, Conditioning};

/// What has happened. Images are drawn one after another.
pub enum Report<'a> {
    /// The prompts are encoded; steps follow.
    Encoded,
    /// A step is done.
    Step {
        /// Index of the image in the batch, from 0.
        image: usize,
        /// Steps of this image that are done, from 1.
        step: usize,
        /// Steps in all, for each image.
        total: usize,
        /// The image so far; costs nothing until it is rendered.
        preview: &'a Preview<'a>,
    },
    /// An image is finished.
    Image {
        /// Index in the batch, from 0.
        index: usize,
        /// The seed that draws it alone.
        seed: u64,
        /// Its pixels.
        image: RgbImage,
    },
}

/// The prompts, ready for the unet.
struct Prompts {
    /// With guidance: a batch of two, the negative prompt first.
    conditioning: Conditioning,
    guidance_scale: Option<f64>,
}

impl Pipeline {
    /// Draws `params.n` images, telling `on_report` of every step and image. When it breaks, drawing ends at once with
    /// an error of kind [`ErrorKind::Stopped`].
    ///
    /// Image `n` of a batch is bit for bit the single image of `seed + n`. Errors also if a parameter is out of bounds
    /// or the model's numbers stop being finite.
    pub fn draw(
        &self,
        params: &DrawParams,
        on_report: &mut dyn FnMut(Report<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.draw_with_noise(
            params,
            &mut |seed| Box::new(SeededNoise::new(seed)),
            on_report,
        )
    }

    /// The same with noise from elsewhere: `noise_of` is asked once for every image, with its seed.
    pub fn draw_with_noise(
        &self,
        params: &DrawParams,
        noise_of: &mut dyn FnMut(u64) -> Box<dyn Noise>,
        on_report: &mut dyn FnMut(Report<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.check(params)?;
        let prompts = self.encode_prompts(params)?;
        proceed(on_report(Report::Encoded), 0)?;
        let mut seed = params.seed;
        for index in 0..params.n {
            let latents =
                self.denoise(params, index, &prompts, noise_of(seed).as_mut(), on_report)?;
            let image = RgbImage::from_tensor(&self.vae.decode(&latents)?)?;
            proceed(
                on_report(Report::Image { index, seed, image }),
                params.steps,
            )?;
            seed = seed.wrapping_add(1);
        }
        Ok(())
    }

    fn check(&self, params: &DrawParams) -> Result<()> {
        let bounds = &self.description;
        for (name, value) in [("width", params.width), ("height", params.height)] {
            let (min, max, multiple) = (
                bounds.dimension_min,
                bounds.dimension_max,
                bounds.dimension_multiple,
            );
            if !(min..=max).contains(&value) || !value.is_multiple_of(multiple) {
                return Err(Error::parameter(format!(
                    "{name} must be a multiple of {multiple} in {min}..={max}, got {value}"
                )));
            }
        }
        if params.n == 0 {
            return Err(Error::parameter("n must be at least 1, got 0"));
        }
        if !params.guidance_scale.is_finite() || params.guidance_scale < 0.0 {
            return Err(Error::parameter(format!(
                "guidance_scale must be 0 or more, got {}",
                params.guidance_scale
            )));
        }
        if params.start != Start::Noise {
            return Err(unsupported_yet("start", "an image"));
        }
        if params.guidance_rescale != 0.0 {
            return Err(unsupported_yet("guidance_rescale", params.guidance_rescale));
        }
        self.check_clip_skip(params.clip_skip)?;
        // Steps are checked where the schedule is made; do it before any work.
        scheduler(params.scheduler, &self.scheduler_config, params.steps).map(drop)
    }

    fn encode_prompts(&self, params: &DrawParams) -> Result<Prompts> {
        let guidance_scale = (params.guidance_scale > 1.0).then_some(params.guidance_scale);
        let embedding = if guidance_scale.is_some() {
            self.encode_guided(&params.prompt, &params.negative_prompt, params.clip_skip)?
        } else {
            self.encode_prompt(&params.prompt, params.clip_skip)?
        };
        let added = match embedding.pooled {
            Some(pooled) => Some(AddedConditioning {
                time_ids: self.time_ids(params, pooled.dim(0)?)?,
                pooled,
            }),
            None => None,
        };
        Ok(Prompts {
            conditioning: Conditioning {
                hidden: embedding.hidden,
                added,
            },
            guidance_scale,
        })
    }

    /// Original size, crop corner and target size, as SDXL is told them: `[batch, 6]`.
    fn time_ids(&self, params: &DrawParams, batch: usize) -> Result<Tensor> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "dimensions are at most a few thousand"
        )]
        let (height, width) = (params.height as f32, params.width as f32);
        Ok(
            Tensor::new(&[[height, width, 0.0, 0.0, height, width]], &self.device)?
                .broadcast_as((batch, 6))?
                .contiguous()?,
        )
    }

    /// Walks one image's latents, `[1, channels, h/s, w/s]`, from noise to picture.
    fn denoise(
        &self,
        params: &DrawParams,
        image: usize,
        prompts: &Prompts,
        noise: &mut dyn Noise,
        on_report: &mut dyn FnMut(Report<'_>) -> ControlFlow<()>,
    ) -> Result<Tensor> {
        let mut scheduler = scheduler(params.scheduler, &self.scheduler_config, params.steps)?;
        let shape = (
            1,
            self.latent_channels,
            params.height / self.vae_scale,
            params.width / self.vae_scale,
        );
        let mut draw_noise = || -> Result<Tensor> {
            let values = noise.draw(shape.1 * shape.2 * shape.3);
            Ok(Tensor::from_vec(values, shape, &self.device)?)
        };
        let mut latents = (draw_noise()? * scheduler.init_noise_sigma())?;
        let timesteps = scheduler.timesteps().to_vec();
        let (total, mut done) = (scheduler.steps(), 0);
        for (index, timestep) in timesteps.into_iter().enumerate() {
            let input = (&latents * scheduler.model_input_scale(index))?;
            let output = self.predict(&input, timestep, prompts)?;
            let step_noise = if scheduler.adds_noise() {
                Some(draw_noise()?)
            } else {
                None
            };
            let step = scheduler.step(index, &output, &latents, step_noise.as_ref())?;
            latents = step.latents;
            check_finite(&latents, done + 1)?;
            // A step of some solvers asks the model twice.
            let Some(steps_done) = scheduler.steps_done(index) else {
                continue;
            };
            done = steps_done;
            let preview = Preview {
                pipeline: self,
                latents: &latents,
                denoised: &step.denoised,
            };
            let report = Report::Step {
                image,
                step: done,
                total,
                preview: &preview,
            };
            proceed(on_report(report), done)?;
        }
        Ok(latents)
    }

    /// The unet's output, with classifier-free guidance (Ho and Salimans 2022) where it is on.
    fn predict(&self, input: &Tensor, timestep: f64, prompts: &Prompts) -> Result<Tensor> {
        match prompts.guidance_scale {
            None => self.unet.forward(input, timestep, &prompts.conditioning),
            Some(scale) => {
                let both = Tensor::cat(&[input, input], 0)?;
                let output = self.unet.forward(&both, timestep, &prompts.conditioning)?;
                let without = output.narrow(0, 0, 1)?;
                let with = output.narrow(0, 1, 1)?;
                Ok((&without + ((with - &without)? * scale)?)?)
            }
        }
    }
}

fn unsupported_yet(field: &str, value: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::UnsupportedModel,
        format!("{field} = {value} is not supported"),
    )
}

fn proceed(flow: ControlFlow<()>, step: usize) -> Result<()> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::new(
            ErrorKind::Stopped { step },
            format!("stopped after step {step}"),
        )),
    }
}

fn check_finite(latents: &Tensor, step: usize) -> Result<()> {
    // One number to fetch: a NaN or an infinity anywhere makes the sum of magnitudes one.
    let sum = latents
        .abs()?
        .to_dtype(DType::F32)?
        .sum_all()?
        .to_scalar::<f32>()?;
    if sum.is_finite() {
        Ok(())
    } else {
        Err(Error::new(
            ErrorKind::NotFinite,
            format!("the model's latents are not finite after step {step}"),
        ))
    }
}
