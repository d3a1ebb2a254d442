//! DPM-Solver++ as a stochastic differential equation with a midpoint (Crowson's `sample_dpmpp_sde` in k-diffusion):
//! every step but the last asks the model twice.

use candle_core::Tensor;

use crate::error::{Error, ErrorKind, Result};
use crate::schedulers::config::{PredictionType, SchedulerConfig};
use crate::schedulers::euler::{denoise, init_noise_sigma};
use crate::schedulers::sigmas::{
    NoiseTable, SigmaSpacing, logarithms, single, spaced_schedule, timestep_of_sigma, twice,
};
use crate::schedulers::{Scheduler, Step, at, combine, growing_noise_weights};

pub(super) struct DpmppSde {
    /// One for each evaluation: those at odd places belong to the midpoints.
    timesteps: Vec<f64>,
    /// As the reference lists them, that is without the midpoints: each next level stands there in their place.
    sigmas: Vec<f64>,
    init_noise_sigma: f64,
    prediction_type: PredictionType,
    /// Where the step began and the noise of its first half, while its second evaluation is awaited.
    begun: Option<(Tensor, Tensor)>,
}

impl DpmppSde {
    pub(super) fn new(
        config: &SchedulerConfig,
        steps: usize,
        spacing: SigmaSpacing,
    ) -> Result<Self> {
        if config.prediction_type == PredictionType::Sample {
            return Err(Error::new(
                ErrorKind::UnsupportedModel,
                "scheduler dpmpp_sde cannot draw with a model whose prediction_type is sample",
            ));
        }
        let bounds_are_read = spacing != SigmaSpacing::Karras;
        let config = config.without_rescaling(bounds_are_read);
        let (timesteps, levels) = spaced_schedule(&config, steps, spacing)?;
        let log_sigmas = logarithms(&NoiseTable::new(&config, true)?.sigmas());
        let mut timesteps = twice(&timesteps);
        let midpoints = levels
            .iter()
            .zip(levels.iter().skip(1))
            .map(|(from, to)| timestep_of_sigma((from * to).sqrt(), &log_sigmas));
        for (place, midpoint) in timesteps.iter_mut().skip(1).step_by(2).zip(midpoints) {
            *place = midpoint;
        }
        let mut sigmas: Vec<f64> = twice(&levels).into_iter().map(single).collect();
        sigmas.push(0.0);
        Ok(Self {
            timesteps,
            init_noise_sigma: init_noise_sigma(&config, &sigmas),
            sigmas,
            prediction_type: config.prediction_type,
            begun: None,
        })
    }

    /// The noise level that evaluation `index` sees.
    fn level(&self, index: usize) -> Result<f64> {
        let sigma = at(&self.sigmas, index)?;
        if index.is_multiple_of(2) {
            Ok(sigma)
        } else {
            Ok((at(&self.sigmas, index - 1)? * sigma).sqrt())
        }
    }
}

/// From `sample` at noise level `from` to `to`: less noise than that by the ODE, and the rest of it anew.
fn ancestral(
    sample: &Tensor,
    denoised: &Tensor,
    noise: &Tensor,
    from: f64,
    to: f64,
) -> Result<Tensor> {
    let up = to.min((to * to * (from * from - to * to) / (from * from)).sqrt());
    let ratio = (to * to - up * up).sqrt() / from;
    let mean = combine(ratio, sample, 1.0 - ratio, denoised)?;
    combine(1.0, &mean, up, noise)
}

impl Scheduler for DpmppSde {
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
        let sigma = self.level(index).unwrap_or(0.0);
        1.0 / (sigma * sigma + 1.0).sqrt()
    }

    fn evaluations_per_step(&self) -> usize {
        2
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
        let level = self.level(index)?;
        let denoised = denoise(self.prediction_type, level, model_output, sample)?;
        if index + 1 == self.timesteps.len() {
            return Ok(Step {
                latents: denoised.clone(),
                denoised,
            });
        }
        let noise = noise.ok_or_else(|| missing("noise for its step"))?;
        let latents = if index.is_multiple_of(2) {
            let middle = self.level(index + 1)?;
            self.begun = Some((sample.clone(), noise.clone()));
            ancestral(sample, &denoised, noise, level, middle)?
        } else {
            let (start, first_noise) = self
                .begun
                .take()
                .ok_or_else(|| missing("first evaluation of its step"))?;
            let (from, to) = (at(&self.sigmas, index - 1)?, at(&self.sigmas, index)?);
            // One Brownian path through both halves of the step: the whole's increment is the sum of theirs.
            let first_share = ((from - level) / (from - to)).sqrt();
            let second_share = ((level - to) / (from - to)).sqrt();
            let noise = combine(first_share, &first_noise, second_share, noise)?;
            ancestral(&start, &denoised, &noise, from, to)?
        };
        Ok(Step { latents, denoised })
    }
}

fn missing(what: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("dpmpp_sde was given no {what}"),
    )
}
