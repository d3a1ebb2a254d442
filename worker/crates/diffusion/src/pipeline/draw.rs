//! Drawing.

use std::ops::ControlFlow;

use candle_core::{DType, Tensor};

use crate::error::{Error, ErrorKind, Result};
use crate::image::RgbImage;
use crate::pipeline::conditioning::Prompts;
use crate::pipeline::start::Canvas;
use crate::pipeline::{DrawParams, Pipeline, Preview, Task};
use crate::rng::{Noise, SeededNoise};
use crate::schedulers::{Scheduler, SchedulerKind, lcm_from_image, scheduler};

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
        /// Steps in all, for each image: those that are taken, fewer than asked for where the start is an image.
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

/// A solver and where on its way a drawing begins.
pub(super) struct Walk {
    pub(super) scheduler: Box<dyn Scheduler>,
    /// The first evaluation.
    pub(super) begin: usize,
    /// Steps before it.
    skipped: usize,
}

/// The state that drawing one image needs besides its noise.
struct Drawing<'a> {
    params: &'a DrawParams,
    prompts: Prompts,
    canvas: Canvas,
}

impl Pipeline {
    /// Draws `params.n` images, telling `on_report` of every step and image. When it breaks, drawing ends at once with
    /// an error of kind [`ErrorKind::Stopped`].
    ///
    /// Image `n` of a batch is bit for bit the single image of `seed + n`. Under a mask, pixels where it is zero after
    /// its blur are bit for bit those of the image that was given, stretched to the size asked for where it has
    /// another. Errors also if a parameter is out of bounds or the model's numbers stop being finite.
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
        params.check(&self.description)?;
        self.check_clip_skip(params.clip_skip)?;
        // Steps are checked where the schedule is made; do it before any work.
        let steps = self.walk(params)?.steps();
        let drawing = Drawing {
            params,
            canvas: Canvas::new(self, params)?,
            prompts: self.encode_prompts(params)?,
        };
        proceed(on_report(Report::Encoded), 0)?;
        let mut seed = params.seed;
        for index in 0..params.n {
            let latents = self.denoise(&drawing, index, noise_of(seed).as_mut(), on_report)?;
            let drawn = RgbImage::from_tensor(&self.vae.decode(&latents)?)?;
            let image = drawing.canvas.finish(drawn)?;
            proceed(on_report(Report::Image { index, seed, image }), steps)?;
            seed = seed.wrapping_add(1);
        }
        Ok(())
    }

    fn walk(&self, params: &DrawParams) -> Result<Walk> {
        let taken = self.description.steps_run(params);
        let is_distilled = self.description.is_consistency_model
            && params.scheduler == SchedulerKind::Lcm
            && params.start.task() == Task::ImageToImage;
        if let (true, Some(strength)) = (is_distilled, params.start.strength()) {
            return Ok(Walk {
                scheduler: lcm_from_image(&self.scheduler_config, params.steps, strength)?,
                begin: 0,
                skipped: 0,
            });
        }
        let scheduler = scheduler(params.scheduler, &self.scheduler_config, params.steps)?;
        let skipped = params.steps.saturating_sub(taken);
        Ok(Walk {
            begin: skipped * scheduler.evaluations_per_step(),
            scheduler,
            skipped,
        })
    }

    /// Walks one image's latents, `[1, channels, h/s, w/s]`, from noise to picture.
    fn denoise(
        &self,
        drawing: &Drawing<'_>,
        image: usize,
        noise: &mut dyn Noise,
        on_report: &mut dyn FnMut(Report<'_>) -> ControlFlow<()>,
    ) -> Result<Tensor> {
        let params = drawing.params;
        let mut walk = self.walk(params)?;
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
        let beginning = drawing.canvas.begin(self, &walk, &mut draw_noise)?;
        let mut latents = beginning.latents.clone();
        let timesteps = walk.scheduler.timesteps().to_vec();
        let (total, mut done) = (walk.steps(), 0);
        for (index, timestep) in timesteps.into_iter().enumerate().skip(walk.begin) {
            let input = (&latents * walk.scheduler.model_input_scale(index))?;
            let input = beginning.with_seen(input)?;
            let output = self.predict(&input, timestep, &drawing.prompts)?;
            let step_noise = if walk.scheduler.adds_noise() {
                Some(draw_noise()?)
            } else {
                None
            };
            let step = walk
                .scheduler
                .step(index, &output, &latents, step_noise.as_ref())?;
            latents = beginning.with_kept(step.latents, &*walk.scheduler, index + 1)?;
            check_finite(&latents, done + 1)?;
            // A step of some solvers asks the model twice.
            let Some(steps_done) = walk.scheduler.steps_done(index) else {
                continue;
            };
            done = steps_done - walk.skipped;
            let preview = Preview {
                pipeline: self,
                canvas: &drawing.canvas,
                latents: &latents,
                denoised: &beginning.with_kept_clean(step.denoised)?,
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
}

impl Walk {
    /// Steps that are taken.
    fn steps(&self) -> usize {
        self.scheduler.steps() - self.skipped
    }
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
