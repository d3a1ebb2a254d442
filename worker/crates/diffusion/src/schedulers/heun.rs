//! Heun's method (Karras et al. 2022, algorithm 1 without churn): every step but the last asks the model twice.

use candle_core::Tensor;

use crate::error::{Error, ErrorKind, Result};
use crate::schedulers::config::{PredictionType, SchedulerConfig};
use crate::schedulers::euler::{denoise, init_noise_sigma};
use crate::schedulers::sigmas::{SigmaSpacing, model_input_scale, single, spaced_schedule, twice};
use crate::schedulers::{Scheduler, Step, at, combine, growing_noise_weights};

pub(super) struct Heun {
    /// One for each evaluation, as are the sigmas, with the final zero behind them.
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    init_noise_sigma: f64,
    prediction_type: PredictionType,
    /// The bound of the denoised estimate, if it has one.
    clip: Option<f64>,
    /// Where the step began, and the slope there, while its second evaluation is awaited.
    begun: Option<(Tensor, Tensor)>,
}

impl Heun {
    pub(super) fn new(
        config: &SchedulerConfig,
        steps: usize,
        spacing: SigmaSpacing,
    ) -> Result<Self> {
        let config = config.without_rescaling(true);
        let (timesteps, sigmas) = spaced_schedule(&config, steps, spacing)?;
        let mut sigmas: Vec<f64> = twice(&sigmas).into_iter().map(single).collect();
        sigmas.push(0.0);
        Ok(Self {
            timesteps: twice(&timesteps).into_iter().map(single).collect(),
            init_noise_sigma: init_noise_sigma(&config, &sigmas),
            sigmas,
            prediction_type: config.prediction_type,
            clip: config
                .clip_sample
                .unwrap_or(false)
                .then_some(config.clip_sample_range),
            begun: None,
        })
    }
}

impl Scheduler for Heun {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    fn init_noise_sigma(&self) -> f64 {
        self.init_noise_sigma
    }

    fn noise_weights(&self, index: usize) -> Result<(f64, f64)> {
        growing_noise_weights(&self.sigmas, index)
    }

    fn model_input_scale(&self, index: usize) -> f64 {
        model_input_scale(&self.sigmas, index)
    }

    fn evaluations_per_step(&self) -> usize {
        2
    }

    fn step(
        &mut self,
        index: usize,
        model_output: &Tensor,
        sample: &Tensor,
        _noise: Option<&Tensor>,
    ) -> Result<Step> {
        let sigma = at(&self.sigmas, index)?;
        let denoised = denoise(self.prediction_type, sigma, model_output, sample)?;
        let denoised = match self.clip {
            Some(range) => denoised.clamp(-range, range)?,
            None => denoised,
        };
        let slope = ((sample - &denoised)? / sigma)?;
        let latents = if index.is_multiple_of(2) {
            let next = at(&self.sigmas, index + 1)?;
            let latents = combine(1.0, sample, next - sigma, &slope)?;
            self.begun = Some((sample.clone(), slope));
            latents
        } else {
            let (start, first_slope) = self.begun.take().ok_or_else(|| {
                Error::new(
                    ErrorKind::Internal,
                    "heun was given a step's second evaluation before its first",
                )
            })?;
            let from = at(&self.sigmas, index - 1)?;
            combine(1.0, &start, 0.5 * (sigma - from), &(first_slope + slope)?)?
        };
        Ok(Step { latents, denoised })
    }
}
