//! Ancestral sampling of denoising diffusion models (Ho, Jain, Abbeel 2020) over a part of the training timesteps.

use candle_core::Tensor;

use crate::error::{Error, ErrorKind, Result};
use crate::schedulers::config::{PredictionType, SchedulerConfig};
use crate::schedulers::ddim::{denoise_preserving, preserving_timesteps};
use crate::schedulers::sigmas::{NoiseTable, single, whole};
use crate::schedulers::{Scheduler, Step, at, combine};

/// The reference keeps the variance from vanishing.
const VARIANCE_MIN: f64 = 1e-20;

pub(super) struct Ddpm {
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    /// Cumulative alpha at each step and, last, where the walk ends.
    alphas: Vec<f64>,
    prediction_type: PredictionType,
    /// The bound of the denoised estimate, if it has one.
    clip: Option<f64>,
    /// Whether the added noise has the variance of the whole step, not of its posterior.
    variance_is_large: bool,
}

impl Ddpm {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let table = NoiseTable::new(config, false)?;
        let timesteps = preserving_timesteps(config, steps);
        let mut alphas = timesteps
            .iter()
            .map(|timestep| table.alpha(whole(*timestep)))
            .collect::<Result<Vec<f64>>>()?;
        alphas.push(1.0);
        Ok(Self {
            timesteps,
            sigmas: alphas
                .iter()
                .map(|alpha| ((1.0 - alpha) / alpha).sqrt())
                .collect(),
            alphas,
            prediction_type: config.prediction_type,
            clip: config
                .clip_sample
                .unwrap_or(true)
                .then_some(config.clip_sample_range),
            variance_is_large: config.variance_is_large,
        })
    }
}

impl Scheduler for Ddpm {
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
        let (alpha, next_alpha) = (at(&self.alphas, index)?, at(&self.alphas, index + 1)?);
        let denoised = denoise_preserving(self.prediction_type, alpha, model_output, sample)?;
        let denoised = match self.clip {
            Some(range) => denoised.clamp(-range, range)?,
            None => denoised,
        };
        // Rounded as the reference does: where steps are short, these differences lose most of their digits.
        let (variance, next_variance) = (single(1.0 - alpha), single(1.0 - next_alpha));
        let step_alpha = single(alpha / next_alpha);
        let step_beta = single(1.0 - step_alpha);
        let mut latents = combine(
            next_alpha.sqrt() * step_beta / variance,
            &denoised,
            step_alpha.sqrt() * next_variance / variance,
            sample,
        )?;
        if at(&self.timesteps, index)? > 0.0 {
            let noise = noise.ok_or_else(|| {
                Error::new(ErrorKind::Internal, "ddpm was given no noise for its step")
            })?;
            let added = if self.variance_is_large {
                step_beta
            } else {
                (next_variance / variance * step_beta).max(VARIANCE_MIN)
            };
            latents = combine(1.0, &latents, added.sqrt(), noise)?;
        }
        Ok(Step { latents, denoised })
    }
}
