//! UniPC (Zhao et al. 2023), of first and second order, on the data prediction: each model output first corrects the
//! step that led to it, then predicts the next.

use candle_core::Tensor;

use crate::error::Result;
use crate::schedulers::config::{FinalSigmas, PredictionType, SchedulerConfig};
use crate::schedulers::dpmpp_2m::{
    alpha_and_sigma, denoise_at_level, multistep_timesteps, spaced_multistep,
};
use crate::schedulers::sigmas::{NoiseTable, SigmaSpacing, final_sigma, interpolate, single};
use crate::schedulers::{Scheduler, Step, at, combine};

pub(super) struct UniPc {
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    prediction_type: PredictionType,
    order: usize,
    lower_order_final: bool,
    /// Whether B(h) is h itself and not e^h - 1.
    bh1: bool,
    before: Option<Before>,
}

/// Half the log signal-to-noise ratio, rounded where the reference rounds it.
fn single_lambda(level: f64) -> f64 {
    let alpha = single(1.0 / single(single(level * level + 1.0).sqrt()));
    let sigma = single(level * alpha);
    single(single(alpha.ln()) - single(sigma.ln()))
}

/// What is kept of the step before.
struct Before {
    /// The (corrected) latents that it began at.
    sample: Tensor,
    denoised: Tensor,
    /// The denoised estimate of the step before that.
    earlier: Option<Tensor>,
    order: usize,
}

impl UniPc {
    pub(super) fn new(
        config: &SchedulerConfig,
        steps: usize,
        spacing: SigmaSpacing,
    ) -> Result<Self> {
        let table = NoiseTable::new(config, true)?;
        let training = table.sigmas();
        let (timesteps, sigmas) = if spacing == SigmaSpacing::Model {
            let timesteps = multistep_timesteps(config, config.num_train_timesteps, steps);
            let mut sigmas: Vec<f64> = timesteps
                .iter()
                .map(|timestep| interpolate(&training, *timestep))
                .collect();
            sigmas.push(final_sigma(config, &training));
            (timesteps, sigmas)
        } else {
            let (timesteps, mut sigmas) = spaced_multistep(config, &training, steps, spacing);
            let timesteps = timesteps
                .into_iter()
                .map(|timestep| match spacing {
                    SigmaSpacing::Karras => timestep.round_ties_even(),
                    _ => timestep.trunc(),
                })
                .collect();
            sigmas.push(match config.final_sigmas_type {
                FinalSigmas::Zero => 0.0,
                FinalSigmas::SigmaMin => at(&sigmas, sigmas.len().saturating_sub(1))?,
            });
            (timesteps, sigmas)
        };
        Ok(Self {
            timesteps,
            sigmas: sigmas.into_iter().map(single).collect(),
            prediction_type: config.prediction_type,
            order: config.solver_order,
            lower_order_final: config.lower_order_final,
            bh1: config.bh1,
            before: None,
        })
    }

    /// The coefficients of the step from `index`.
    fn coefficients(&self, index: usize) -> Result<Coefficients> {
        let (level, next_level) = (at(&self.sigmas, index)?, at(&self.sigmas, index + 1)?);
        let (_, sigma) = alpha_and_sigma(level);
        let (next_alpha, next_sigma) = alpha_and_sigma(next_level);
        let h = single(single_lambda(next_level) - single_lambda(level));
        let earlier = if index == 0 {
            None
        } else {
            let earlier = single_lambda(at(&self.sigmas, index - 1)?);
            Some(single(single(earlier - single_lambda(level)) / h))
        };
        let growth = single((-h).exp_m1());
        Ok(Coefficients {
            carried: next_sigma / sigma,
            next_alpha,
            h,
            growth,
            weight: if self.bh1 { -h } else { growth },
            earlier,
        })
    }

    /// The latents at the end of the step before, now that the model has seen them.
    fn correct(&self, index: usize, before: &Before, denoised: &Tensor) -> Result<Tensor> {
        let terms = self.coefficients(index - 1)?;
        let change = (denoised - &before.denoised)?;
        let correction = match (&before.earlier, terms.earlier, before.order) {
            (Some(earlier), Some(ratio), 2) => {
                let slope = ((earlier - &before.denoised)? / ratio)?;
                let (both, mean) = terms.corrector_moments();
                let own = (both - mean) / (1.0 - ratio);
                combine(own, &slope, both - own, &change)?
            }
            _ => (change * 0.5)?,
        };
        combine(
            1.0,
            &terms.first_order(&before.sample, &before.denoised)?,
            -terms.next_alpha * terms.weight,
            &correction,
        )
    }
}

/// What the predictor and the corrector of one step share, with the names of the paper in mind: B(h) is `weight`.
struct Coefficients {
    /// What is left of the latents.
    carried: f64,
    next_alpha: f64,
    /// The step in half the log signal-to-noise ratio.
    h: f64,
    /// e^-h - 1.
    growth: f64,
    weight: f64,
    /// Where the step before began, in steps from here; negative.
    earlier: Option<f64>,
}

impl Coefficients {
    /// What the corrector's two weights must add up to, plain and each times its place in the step.
    fn corrector_moments(&self) -> (f64, f64) {
        // Rounded where the reference rounds: short steps leave few digits of these differences.
        let first = single(single(self.growth / -self.h) - 1.0);
        let second = single(single(first / -self.h) - 0.5);
        (
            single(first / self.weight),
            single(2.0 * second / self.weight),
        )
    }

    fn first_order(&self, sample: &Tensor, denoised: &Tensor) -> Result<Tensor> {
        combine(
            self.carried,
            sample,
            -self.next_alpha * self.growth,
            denoised,
        )
    }
}

impl Scheduler for UniPc {
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
        let level = at(&self.sigmas, index)?;
        let denoised = denoise_at_level(self.prediction_type, level, model_output, sample)?;
        let before = self.before.take();
        let sample = match &before {
            Some(before) => self.correct(index, before, &denoised)?,
            None => sample.clone(),
        };
        let steps_left = self.timesteps.len() - index;
        let highest = if self.lower_order_final {
            self.order.min(steps_left)
        } else {
            self.order
        };
        // The first step of a walk is of first order, wherever it starts.
        let order = highest.min(1 + usize::from(before.is_some()));
        let terms = self.coefficients(index)?;
        let mut latents = terms.first_order(&sample, &denoised)?;
        let earlier = before.map(|before| before.denoised);
        if let (2, Some(earlier), Some(ratio)) = (order, &earlier, terms.earlier) {
            let slope = ((earlier - &denoised)? / ratio)?;
            latents = combine(
                1.0,
                &latents,
                -0.5 * terms.next_alpha * terms.weight,
                &slope,
            )?;
        }
        self.before = Some(Before {
            sample,
            denoised: denoised.clone(),
            earlier,
            order,
        });
        Ok(Step { latents, denoised })
    }
}
