//! DPM-Solver++ (Lu et al. 2022), multistep, of first and second order, on the data prediction; as an ordinary or a
//! stochastic differential equation.

use candle_core::Tensor;

use crate::error::{Error, ErrorKind, Result};
use crate::schedulers::config::{
    BetaSchedule, FinalSigmas, PredictionType, SchedulerConfig, TimestepSpacing,
};
use crate::schedulers::sigmas::{
    NoiseTable, SigmaSpacing, final_sigma, interpolate, leading, linspace, real, respace, single,
    trailing,
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
    /// Whether noise is taken out twice as fast and half of it added anew.
    stochastic: bool,
    /// The denoised estimate of the step before.
    previous: Option<Tensor>,
}

impl Dpmpp2m {
    pub(super) fn new(
        config: &SchedulerConfig,
        steps: usize,
        spacing: SigmaSpacing,
        stochastic: bool,
    ) -> Result<Self> {
        let table = NoiseTable::new(config, true)?;
        let training = table.sigmas();
        let (timesteps, mut sigmas) = if spacing != SigmaSpacing::Model {
            let (timesteps, sigmas) = spaced_multistep(config, &training, steps, spacing);
            let rounds = spacing == SigmaSpacing::Karras
                && config.beta_schedule != BetaSchedule::SquaredCosCapV2;
            // The reference leaves the others unrounded and then cuts them to whole numbers.
            let whole = if rounds {
                f64::round_ties_even
            } else {
                f64::trunc
            };
            (timesteps.into_iter().map(whole).collect(), sigmas)
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
            stochastic,
            previous: None,
        })
    }
}

/// Fractional timesteps and noise levels from the greatest to the least of training, or of the config's bounds.
pub(super) fn spaced_multistep(
    config: &SchedulerConfig,
    training: &[f64],
    steps: usize,
    spacing: SigmaSpacing,
) -> (Vec<f64>, Vec<f64>) {
    let falling: Vec<f64> = training.iter().rev().copied().collect();
    respace(config, spacing, training, steps, (Vec::new(), falling))
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
    multistep_timesteps(config, last, steps)
}

/// The timesteps of the multistep solvers below `last`: one level more is laid out than there are steps.
pub(super) fn multistep_timesteps(config: &SchedulerConfig, last: usize, steps: usize) -> Vec<f64> {
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
        TimestepSpacing::Trailing => {
            trailing(last, real(config.num_train_timesteps) / real(steps), steps)
        }
    }
}

/// Signal and noise parts of a variance-preserving latent whose noise level is `sigma`.
pub(super) fn alpha_and_sigma(sigma: f64) -> (f64, f64) {
    let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
    (alpha, sigma * alpha)
}

/// Half the log signal-to-noise ratio.
fn lambda(sigma: f64) -> f64 {
    -sigma.ln()
}

/// The denoised estimate from variance-preserving latents of noise level `level`.
pub(super) fn denoise_at_level(
    prediction_type: PredictionType,
    level: f64,
    model_output: &Tensor,
    sample: &Tensor,
) -> Result<Tensor> {
    let (alpha, sigma) = alpha_and_sigma(level);
    match prediction_type {
        PredictionType::Epsilon => combine(1.0 / alpha, sample, -sigma / alpha, model_output),
        PredictionType::VPrediction => combine(alpha, sample, -sigma, model_output),
        PredictionType::Sample => Ok(model_output.clone()),
    }
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

    fn adds_noise(&self) -> bool {
        self.stochastic
    }

    fn step(
        &mut self,
        index: usize,
        model_output: &Tensor,
        sample: &Tensor,
        noise: Option<&Tensor>,
    ) -> Result<Step> {
        let (level, next_level) = (at(&self.sigmas, index)?, at(&self.sigmas, index + 1)?);
        let (_, sigma) = alpha_and_sigma(level);
        let (next_alpha, next_sigma) = alpha_and_sigma(next_level);
        let denoised = denoise_at_level(self.prediction_type, level, model_output, sample)?;

        // h, the distance in lambda, is infinite on the step to a noise level of zero: e^-h is then 0.
        let h = lambda(next_level) - lambda(level);
        // The stochastic equation takes the noise out twice as far.
        let (reach, carried) = if self.stochastic {
            (2.0 * h, next_sigma / sigma * (-h).exp())
        } else {
            (h, next_sigma / sigma)
        };
        let decay = (-reach).exp() - 1.0;
        let first_order = combine(carried, sample, -next_alpha * decay, &denoised)?;

        let is_last = index + 1 == self.timesteps.len();
        let mut latents = match &self.previous {
            Some(previous) if !(self.first_order_only || is_last && self.first_order_last) => {
                let h_before = lambda(level) - lambda(at(&self.sigmas, index.saturating_sub(1))?);
                let slope = ((&denoised - previous)? * (h / h_before))?;
                let weight = if self.heun {
                    next_alpha * (decay / reach + 1.0)
                } else {
                    -0.5 * next_alpha * decay
                };
                combine(1.0, &first_order, weight, &slope)?
            }
            _ => first_order,
        };
        if self.stochastic && next_sigma > 0.0 {
            let noise = noise.ok_or_else(|| {
                Error::new(
                    ErrorKind::Internal,
                    "dpmpp_2m_sde was given no noise for its step",
                )
            })?;
            latents = combine(1.0, &latents, next_sigma * (-decay).max(0.0).sqrt(), noise)?;
        }
        self.previous = Some(denoised.clone());
        Ok(Step { latents, denoised })
    }
}
