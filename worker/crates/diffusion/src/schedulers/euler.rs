//! Euler's method on the probability-flow ODE (Karras et al. 2022, algorithm 2 without churn).

use candle_core::Tensor;

use crate::error::Result;
use crate::schedulers::config::{Interpolation, PredictionType, SchedulerConfig, TimestepSpacing};
use crate::schedulers::sigmas::{
    NoiseTable, SigmaSpacing, euler_timesteps, final_sigma, interpolate, linspace,
    model_input_scale, respace, single,
};
use crate::schedulers::{Scheduler, Step, at, combine, growing_noise_weights};

pub(super) struct Euler {
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    init_noise_sigma: f64,
    prediction_type: PredictionType,
}

impl Euler {
    pub(super) fn new(
        config: &SchedulerConfig,
        steps: usize,
        spacing: SigmaSpacing,
    ) -> Result<Self> {
        let training = NoiseTable::new(config, true)?.sigmas();
        let timesteps = euler_timesteps(config, steps);
        let sigmas: Vec<f64> = match config.interpolation_type {
            Interpolation::Linear => timesteps
                .iter()
                .map(|timestep| interpolate(&training, *timestep))
                .collect(),
            Interpolation::LogLinear => {
                let (first, last) = (at(&training, 0)?, at(&training, training.len() - 1)?);
                let mut sigmas: Vec<f64> = linspace(last.ln(), first.ln(), steps + 1)
                    .into_iter()
                    .map(f64::exp)
                    .collect();
                // The reference keeps the extra level and then appends the final one, which no step reaches.
                sigmas.truncate(steps + 1);
                sigmas
            }
        };
        let (timesteps, mut sigmas) =
            respace(config, spacing, &training, steps, (timesteps, sigmas));
        sigmas.push(final_sigma(config, &training));
        let sigmas: Vec<f64> = sigmas.into_iter().map(single).collect();
        Ok(Self {
            timesteps: timesteps.into_iter().map(single).collect(),
            init_noise_sigma: init_noise_sigma(config, &sigmas),
            sigmas,
            prediction_type: config.prediction_type,
        })
    }
}

/// How far the noise that a walk starts from is spread.
pub(super) fn init_noise_sigma(config: &SchedulerConfig, sigmas: &[f64]) -> f64 {
    let greatest = sigmas.iter().copied().fold(0.0, f64::max);
    match config.timestep_spacing {
        None | Some(TimestepSpacing::Linspace | TimestepSpacing::Trailing) => greatest,
        Some(TimestepSpacing::Leading) => greatest.hypot(1.0),
    }
}

/// The denoised estimate of a model whose input was scaled by `1 / sqrt(sigma^2 + 1)`.
pub(super) fn denoise(
    prediction_type: PredictionType,
    sigma: f64,
    model_output: &Tensor,
    sample: &Tensor,
) -> Result<Tensor> {
    match prediction_type {
        PredictionType::Epsilon => combine(1.0, sample, -sigma, model_output),
        PredictionType::Sample => Ok(model_output.clone()),
        PredictionType::VPrediction => {
            let variance = sigma * sigma + 1.0;
            combine(
                1.0 / variance,
                sample,
                -sigma / variance.sqrt(),
                model_output,
            )
        }
    }
}

impl Scheduler for Euler {
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

    fn step(
        &mut self,
        index: usize,
        model_output: &Tensor,
        sample: &Tensor,
        _noise: Option<&Tensor>,
    ) -> Result<Step> {
        let (sigma, next) = (at(&self.sigmas, index)?, at(&self.sigmas, index + 1)?);
        let denoised = denoise(self.prediction_type, sigma, model_output, sample)?;
        let derivative = ((sample - &denoised)? / sigma)?;
        let latents = combine(1.0, sample, next - sigma, &derivative)?;
        Ok(Step { latents, denoised })
    }
}
