//! Latent consistency models (Luo et al. 2023): each step jumps to the end and adds fresh noise for the next.

use candle_core::Tensor;

use crate::error::{Error, ErrorKind, Result};
use crate::schedulers::config::{PredictionType, SchedulerConfig};
use crate::schedulers::ddim::denoise_preserving;
use crate::schedulers::sigmas::{NoiseTable, real, whole};
use crate::schedulers::{Scheduler, Step, at, combine};

/// The spread of the data in the boundary condition of Song et al. 2023.
const SIGMA_DATA: f64 = 0.5;

pub(super) struct Lcm {
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    /// Cumulative alpha at each step.
    alphas: Vec<f64>,
    prediction_type: PredictionType,
    /// The bound of the denoised estimate, if it has one.
    clip: Option<f64>,
    timestep_scaling: f64,
}

/// Steps of the distillation in its last `strength`.
pub(super) fn distilled_steps(config: &SchedulerConfig, strength: f64) -> usize {
    whole(
        real(
            config
                .original_inference_steps
                .min(config.num_train_timesteps),
        ) * strength,
    )
}

impl Lcm {
    pub(super) fn new(config: &SchedulerConfig, steps: usize, strength: f64) -> Result<Self> {
        let table = NoiseTable::new(config, false)?;
        // The timesteps of the distillation, from the last, and an even choice of them.
        let distilled = distilled_steps(config, strength);
        let stride = config.num_train_timesteps / config.original_inference_steps.max(1);
        let timesteps: Vec<f64> = (0..steps)
            .map(|index| whole(real(index) * (real(distilled) / real(steps))))
            .map(|place| real((distilled - place) * stride) - 1.0)
            .collect();
        let alphas = timesteps
            .iter()
            .map(|timestep| table.alpha(whole(*timestep)))
            .collect::<Result<Vec<f64>>>()?;
        Ok(Self {
            sigmas: alphas
                .iter()
                .map(|alpha| ((1.0 - alpha) / alpha).sqrt())
                .chain(std::iter::once(0.0))
                .collect(),
            timesteps,
            alphas,
            prediction_type: config.prediction_type,
            clip: config
                .clip_sample
                .unwrap_or(false)
                .then_some(config.clip_sample_range),
            timestep_scaling: config.timestep_scaling,
        })
    }
}

impl Scheduler for Lcm {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    fn model_input_scale(&self, _index: usize) -> f64 {
        1.0
    }

    fn adds_noise(&self) -> bool {
        true
    }

    fn step(
        &mut self,
        index: usize,
        model_output: &Tensor,
        sample: &Tensor,
        noise: Option<&Tensor>,
    ) -> Result<Step> {
        let alpha = at(&self.alphas, index)?;
        let estimate = denoise_preserving(self.prediction_type, alpha, model_output, sample)?;
        let estimate = match self.clip {
            Some(range) => estimate.clamp(-range, range)?,
            None => estimate,
        };
        let time = at(&self.timesteps, index)? * self.timestep_scaling;
        let norm = time * time + SIGMA_DATA * SIGMA_DATA;
        let denoised = combine(
            time / norm.sqrt(),
            &estimate,
            SIGMA_DATA * SIGMA_DATA / norm,
            sample,
        )?;
        let latents = if index + 1 == self.timesteps.len() {
            denoised.clone()
        } else {
            let noise = noise.ok_or_else(|| {
                Error::new(ErrorKind::Internal, "lcm was given no noise for its step")
            })?;
            let next_alpha = at(&self.alphas, index + 1)?;
            combine(
                next_alpha.sqrt(),
                &denoised,
                (1.0 - next_alpha).sqrt(),
                noise,
            )?
        };
        Ok(Step { latents, denoised })
    }
}
