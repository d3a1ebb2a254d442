//! DDIM (Song, Meng, Ermon 2020), eta 0: no noise is added.

use candle_core::Tensor;

use crate::error::Result;
use crate::schedulers::config::{PredictionType, SchedulerConfig, TimestepSpacing};
use crate::schedulers::sigmas::{NoiseTable, leading, linspace, real, trailing, whole};
use crate::schedulers::{Scheduler, Step, at, combine};

pub(super) struct Ddim {
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    /// Cumulative alpha at each step and at the timestep that it goes to.
    alphas: Vec<f64>,
    previous_alphas: Vec<f64>,
    prediction_type: PredictionType,
    /// The bound of the denoised estimate, if it has one.
    clip: Option<f64>,
}

impl Ddim {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let table = NoiseTable::new(config, false)?;
        let train = config.num_train_timesteps;
        let timesteps = preserving_timesteps(config, steps);
        let final_alpha = if config.set_alpha_to_one {
            1.0
        } else {
            table.alpha(0)?
        };
        let stride = train / steps;
        let alphas = timesteps
            .iter()
            .map(|timestep| table.alpha(whole(*timestep)))
            .collect::<Result<Vec<f64>>>()?;
        let previous_alphas = timesteps
            .iter()
            .map(|timestep| match whole(*timestep).checked_sub(stride) {
                Some(previous) => table.alpha(previous),
                None => Ok(final_alpha),
            })
            .collect::<Result<Vec<f64>>>()?;
        let sigmas = alphas
            .iter()
            .chain(previous_alphas.last())
            .map(|alpha| ((1.0 - alpha) / alpha).sqrt())
            .collect();
        Ok(Self {
            timesteps,
            sigmas,
            alphas,
            previous_alphas,
            prediction_type: config.prediction_type,
            clip: config
                .clip_sample
                .unwrap_or(true)
                .then_some(config.clip_sample_range),
        })
    }
}

/// The whole timesteps of the solvers that keep the variance.
pub(super) fn preserving_timesteps(config: &SchedulerConfig, steps: usize) -> Vec<f64> {
    let train = config.num_train_timesteps;
    match config.timestep_spacing.unwrap_or(TimestepSpacing::Leading) {
        TimestepSpacing::Leading => leading(train / steps, steps, config.steps_offset.unwrap_or(0)),
        TimestepSpacing::Trailing => trailing(train, real(train) / real(steps), steps),
        TimestepSpacing::Linspace => linspace(0.0, real(train - 1), steps)
            .into_iter()
            .rev()
            .map(f64::round_ties_even)
            .collect(),
    }
}

/// The denoised estimate from latents whose signal has the variance `alpha` and whose noise the rest of one.
pub(super) fn denoise_preserving(
    prediction_type: PredictionType,
    alpha: f64,
    model_output: &Tensor,
    sample: &Tensor,
) -> Result<Tensor> {
    let (signal, noise) = (alpha.sqrt(), (1.0 - alpha).sqrt());
    match prediction_type {
        PredictionType::Epsilon => combine(1.0 / signal, sample, -noise / signal, model_output),
        PredictionType::Sample => Ok(model_output.clone()),
        PredictionType::VPrediction => combine(signal, sample, -noise, model_output),
    }
}

impl Scheduler for Ddim {
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

    fn step(
        &mut self,
        index: usize,
        model_output: &Tensor,
        sample: &Tensor,
        _noise: Option<&Tensor>,
    ) -> Result<Step> {
        let (alpha, previous_alpha) = (at(&self.alphas, index)?, at(&self.previous_alphas, index)?);
        let (signal, noise) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let denoised = denoise_preserving(self.prediction_type, alpha, model_output, sample)?;
        let epsilon = match self.prediction_type {
            PredictionType::Epsilon => model_output.clone(),
            PredictionType::Sample => combine(1.0 / noise, sample, -signal / noise, model_output)?,
            PredictionType::VPrediction => combine(signal, model_output, noise, sample)?,
        };
        let denoised = match self.clip {
            Some(range) => denoised.clamp(-range, range)?,
            None => denoised,
        };
        let latents = combine(
            previous_alpha.sqrt(),
            &denoised,
            (1.0 - previous_alpha).sqrt(),
            &epsilon,
        )?;
        Ok(Step { latents, denoised })
    }
}
