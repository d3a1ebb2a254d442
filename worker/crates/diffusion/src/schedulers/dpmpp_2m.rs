//! DPM-Solver++ (Lu et al. 2022), multistep, of first and second order, on the data prediction.

use candle_core::Tensor;

use crate::error::Result;
use crate::schedulers::config::{
    BetaSchedule, FinalSigmas, PredictionType, SchedulerConfig, TimestepSpacing,
};
use crate::schedulers::sigmas::{
    NoiseTable, final_sigma, interpolate, karras, leading, linspace, logarithms, real, single,
    timestep_of_sigma, trailing,
};
use crate::schedulers::{Scheduler, Step, at, combine};

/// Walks shorter than this end on a first-order step if the config asks for it.
const SHORT_WALK_STEPS: usize = 15;

pub(super) struct Dpmpp2m {
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    prediction_type: PredictionType,
    first_order_only: bool,
    first_order_last: bool,
    heun: bool,
    /// The denoised estimate of the step before.
    previous: Option<Tensor>,
}

impl Dpmpp2m {
    pub(super) fn new(config: &SchedulerConfig, steps: usize, use_karras: bool) -> Result<Self> {
        let table = NoiseTable::new(config, true)?;
        let training = table.sigmas();
        let (timesteps, mut sigmas) = if use_karras {
            karras_schedule(config, &training, steps)?
        } else {
            let timesteps = plain_timesteps(config, &table, steps);
            let sigmas = timesteps
                .iter()
                .map(|timestep| interpolate(&training, *timestep))
                .collect();
            (timesteps, sigmas)
        };
        sigmas.push(final_sigma(config, &training));
        Ok(Self {
            timesteps,
            sigmas: sigmas.into_iter().map(single).collect(),
            prediction_type: config.prediction_type,
            first_order_only: config.solver_order == 1,
            first_order_last: config.euler_at_final
                || (config.lower_order_final && steps < SHORT_WALK_STEPS)
                || config.final_sigmas_type == FinalSigmas::Zero,
            heun: config.heun,
            previous: None,
        })
    }
}

fn karras_schedule(
    config: &SchedulerConfig,
    training: &[f64],
    steps: usize,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let log_sigmas = logarithms(training);
    // Not fields of the reference's class, but it keeps those of the config that it is made from.
    let sigma_min = config.sigma_min.unwrap_or(at(training, 0)?);
    let sigma_max = config
        .sigma_max
        .unwrap_or(at(training, training.len() - 1)?);
    let sigmas = karras(sigma_min, sigma_max, steps);
    let timesteps = sigmas
        .iter()
        .map(|sigma| timestep_of_sigma(*sigma, &log_sigmas))
        .map(|timestep| match config.beta_schedule {
            // The reference leaves these unrounded and then cuts them to whole numbers.
            BetaSchedule::SquaredCosCapV2 => timestep.trunc(),
            BetaSchedule::Linear | BetaSchedule::ScaledLinear => timestep.round_ties_even(),
        })
        .collect();
    Ok((timesteps, sigmas))
}

fn plain_timesteps(config: &SchedulerConfig, table: &NoiseTable, steps: usize) -> Vec<f64> {
    let train = config.num_train_timesteps;
    // Timesteps with too little signal are left out; without a bound, none is.
    let clipped = table
        .alphas_cumprod
        .iter()
        .rev()
        .take_while(|alpha| {
            (alpha.sqrt().ln() - (1.0 - **alpha).sqrt().ln()) < config.lambda_min_clipped
        })
        .count();
    let last = train - clipped.min(train - 1);
    match config.timestep_spacing.unwrap_or(TimestepSpacing::Linspace) {
        TimestepSpacing::Linspace => {
            let mut timesteps = linspace(0.0, real(last - 1), steps + 1);
            timesteps.reverse();
            timesteps.truncate(steps);
            timesteps.into_iter().map(f64::round_ties_even).collect()
        }
        TimestepSpacing::Leading => {
            let ratio = last / (steps + 1);
            let mut timesteps = leading(ratio, steps + 1, config.steps_offset.unwrap_or(0));
            timesteps.truncate(steps);
            timesteps
        }
        TimestepSpacing::Trailing => trailing(last, real(train) / real(steps), steps),
    }
}

/// Signal and noise parts of a variance-preserving latent whose noise level is `sigma`.
fn alpha_and_sigma(sigma: f64) -> (f64, f64) {
    let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
    (alpha, sigma * alpha)
}

/// Half the log signal-to-noise ratio.
fn lambda(sigma: f64) -> f64 {
    -sigma.ln()
}

impl Scheduler for Dpmpp2m {
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
        let (level, next_level) = (at(&self.sigmas, index)?, at(&self.sigmas, index + 1)?);
        let (alpha, sigma) = alpha_and_sigma(level);
        let (next_alpha, next_sigma) = alpha_and_sigma(next_level);
        let denoised = match self.prediction_type {
            PredictionType::Epsilon => combine(1.0 / alpha, sample, -sigma / alpha, model_output)?,
            PredictionType::VPrediction => combine(alpha, sample, -sigma, model_output)?,
            PredictionType::Sample => model_output.clone(),
        };

        // h, the distance in lambda, is infinite on the step to a noise level of zero: e^-h is then 0.
        let h = lambda(next_level) - lambda(level);
        let decay = (-h).exp() - 1.0;
        let first_order = combine(next_sigma / sigma, sample, -next_alpha * decay, &denoised)?;

        let is_last = index + 1 == self.timesteps.len();
        let latents = match &self.previous {
            Some(previous) if !(self.first_order_only || is_last && self.first_order_last) => {
                let h_before = lambda(level) - lambda(at(&self.sigmas, index.saturating_sub(1))?);
                let slope = ((&denoised - previous)? * (h / h_before))?;
                let weight = if self.heun {
                    next_alpha * (decay / h + 1.0)
                } else {
                    -0.5 * next_alpha * decay
                };
                combine(1.0, &first_order, weight, &slope)?
            }
            _ => first_order,
        };
        self.previous = Some(denoised.clone());
        Ok(Step { latents, denoised })
    }
}
