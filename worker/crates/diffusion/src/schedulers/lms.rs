//! Linear multistep (Adams-Bashforth) of order 4 on the probability-flow ODE, with unequal steps (Katherine Crowson's
//! `sample_lms` in k-diffusion).

use std::collections::VecDeque;

use candle_core::Tensor;

use crate::error::Result;
use crate::schedulers::config::{PredictionType, SchedulerConfig};
use crate::schedulers::euler::{denoise, init_noise_sigma};
use crate::schedulers::sigmas::{SigmaSpacing, model_input_scale, single, spaced_schedule};
use crate::schedulers::{Scheduler, Step, at, combine, growing_noise_weights};

const ORDER: usize = 4;

pub(super) struct Lms {
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    init_noise_sigma: f64,
    prediction_type: PredictionType,
    /// Slopes of the last steps, the newest first.
    slopes: VecDeque<Tensor>,
}

impl Lms {
    pub(super) fn new(
        config: &SchedulerConfig,
        steps: usize,
        spacing: SigmaSpacing,
    ) -> Result<Self> {
        let bounds_are_read = spacing != SigmaSpacing::Karras;
        let config = config.without_rescaling(bounds_are_read);
        let (timesteps, mut sigmas) = spaced_schedule(&config, steps, spacing)?;
        sigmas.push(0.0);
        let sigmas: Vec<f64> = sigmas.into_iter().map(single).collect();
        Ok(Self {
            timesteps: timesteps.into_iter().map(single).collect(),
            init_noise_sigma: init_noise_sigma(&config, &sigmas),
            sigmas,
            prediction_type: config.prediction_type,
            slopes: VecDeque::new(),
        })
    }

    /// The integral, over the step from `index`, of the Lagrange polynomial that is 1 at the sigma `which` steps back
    /// and 0 at the others of the last `order`.
    fn coefficient(&self, index: usize, order: usize, which: usize) -> Result<f64> {
        let (from, to) = (at(&self.sigmas, index)?, at(&self.sigmas, index + 1)?);
        let own = at(&self.sigmas, index - which)?;
        let (middle, half) = (0.5 * (from + to), 0.5 * (to - from));
        // Two Gauss points are exact to the third degree.
        let offset = half / 3f64.sqrt();
        let mut integral = 0.0;
        for point in [middle - offset, middle + offset] {
            let mut product = half;
            for other in (0..order).filter(|other| *other != which) {
                let root = at(&self.sigmas, index - other)?;
                product *= (point - root) / (own - root);
            }
            integral += product;
        }
        Ok(integral)
    }
}

impl Scheduler for Lms {
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
        let sigma = at(&self.sigmas, index)?;
        let denoised = denoise(self.prediction_type, sigma, model_output, sample)?;
        self.slopes.push_front(((sample - &denoised)? / sigma)?);
        self.slopes.truncate(ORDER);
        // As in the reference, a walk that starts in the middle weighs its few slopes as if there were four.
        let order = ORDER.min(index + 1);
        let mut latents = sample.clone();
        for (which, slope) in self.slopes.iter().enumerate().take(order) {
            latents = combine(1.0, &latents, self.coefficient(index, order, which)?, slope)?;
        }
        Ok(Step { latents, denoised })
    }
}
