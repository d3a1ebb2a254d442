//! Euler's method that steps too far down and adds noise back (Crowson's ancestral sampling in k-diffusion).

use candle_core::Tensor;

use crate::error::{Error, ErrorKind, Result};
use crate::schedulers::config::{PredictionType, SchedulerConfig};
use crate::schedulers::euler::{denoise, init_noise_sigma};
use crate::schedulers::sigmas::{
    NoiseTable, euler_timesteps, interpolate, model_input_scale, single,
};
use crate::schedulers::{Scheduler, Step, at, combine, growing_noise_weights};

pub(super) struct EulerAncestral {
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    init_noise_sigma: f64,
    prediction_type: PredictionType,
}

impl EulerAncestral {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        if config.prediction_type == PredictionType::Sample {
            return Err(Error::new(
                ErrorKind::UnsupportedModel,
                "scheduler euler_ancestral cannot draw with a model whose prediction_type is sample",
            ));
        }
        let training = NoiseTable::new(config, true)?.sigmas();
        let timesteps = euler_timesteps(config, steps);
        let sigmas: Vec<f64> = timesteps
            .iter()
            .map(|timestep| single(interpolate(&training, *timestep)))
            .chain(std::iter::once(0.0))
            .collect();
        Ok(Self {
            timesteps,
            init_noise_sigma: init_noise_sigma(config, &sigmas),
            sigmas,
            prediction_type: config.prediction_type,
        })
    }
}

impl Scheduler for EulerAncestral {
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
        let (sigma, next) = (at(&self.sigmas, index)?, at(&self.sigmas, index + 1)?);
        let denoised = denoise(self.prediction_type, sigma, model_output, sample)?;
        let up = (next * next * (sigma * sigma - next * next) / (sigma * sigma))
            .max(0.0)
            .sqrt();
        let down = (next * next - up * up).max(0.0).sqrt();
        let derivative = ((sample - &denoised)? / sigma)?;
        let mut latents = combine(1.0, sample, down - sigma, &derivative)?;
        if up > 0.0 {
            let noise = noise.ok_or_else(|| {
                Error::new(
                    ErrorKind::Internal,
                    "euler_ancestral was given no noise for its step",
                )
            })?;
            latents = combine(1.0, &latents, up, noise)?;
        }
        Ok(Step { latents, denoised })
    }
}
