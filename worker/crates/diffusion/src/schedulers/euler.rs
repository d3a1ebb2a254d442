//! Euler's method on the probability-flow ODE (Karras et al. 2022, algorithm 2 without churn).

use candle_core::Tensor;

use crate::error::Result;
use crate::schedulers::config::{Interpolation, PredictionType, SchedulerConfig, TimestepSpacing};
use crate::schedulers::sigmas::{
    NoiseTable, euler_timesteps, final_sigma, interpolate, karras, linspace, logarithms, single,
    timestep_of_sigma,
};
use crate::schedulers::{Scheduler, Step, at, combine};

pub(super) struct Euler {
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    init_noise_sigma: f64,
    prediction_type: PredictionType,
}

impl Euler {
    pub(super) fn new(config: &SchedulerConfig, steps: usize, use_karras: bool) -> Result<Self> {
        let training = NoiseTable::new(config, true)?.sigmas();
        let mut timesteps = euler_timesteps(config, steps);
        let mut sigmas: Vec<f64> = match config.interpolation_type {
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
        if use_karras {
            let sigma_min = config.sigma_min.unwrap_or(at(&sigmas, sigmas.len() - 1)?);
            let sigma_max = config.sigma_max.unwrap_or(at(&sigmas, 0)?);
            let log_sigmas = logarithms(&training);
            sigmas = karras(sigma_min, sigma_max, steps);
            timesteps = sigmas
                .iter()
                .map(|sigma| timestep_of_sigma(*sigma, &log_sigmas))
                .collect();
        }
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

    fn model_input_scale(&self, index: usize) -> f64 {
        let sigma = self.sigmas.get(index).copied().unwrap_or(0.0);
        1.0 / (sigma * sigma + 1.0).sqrt()
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
