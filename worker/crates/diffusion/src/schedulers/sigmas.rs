//! Tables that the solvers share.
//!
//! The reference keeps betas and alphas in single precision, and their rounding adds up over a thousand timesteps to
//! more than the digits promised here. So the tables are computed in double precision and rounded to single at exactly
//! the places where the reference rounds.

use crate::error::{Error, ErrorKind, Result};
use crate::schedulers::config::{BetaSchedule, FinalSigmas, SchedulerConfig, TimestepSpacing};

/// The products of all alphas up to each training timestep.
pub(super) struct NoiseTable {
    pub(super) alphas_cumprod: Vec<f64>,
}

impl NoiseTable {
    /// `keep_last_above_zero`: what the sigma-based classes do so that a rescaled schedule's first sigma is finite.
    pub(super) fn new(config: &SchedulerConfig, keep_last_above_zero: bool) -> Result<Self> {
        let mut betas = betas(config);
        if config.rescale_betas_zero_snr {
            betas = rescale_to_zero_terminal_snr(&betas);
        }
        let mut alphas_cumprod = cumulative_alphas(&betas);
        if config.rescale_betas_zero_snr
            && keep_last_above_zero
            && let Some(last) = alphas_cumprod.last_mut()
        {
            *last = 2f64.powi(-24);
        }
        if alphas_cumprod.iter().any(|alpha| !alpha.is_finite()) {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "the scheduler config's betas give a noise schedule that is not finite",
            ));
        }
        Ok(Self { alphas_cumprod })
    }

    /// The cumulative alpha at a training timestep.
    pub(super) fn alpha(&self, timestep: usize) -> Result<f64> {
        self.alphas_cumprod.get(timestep).copied().ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "the scheduler config asks for timestep {timestep}, training had {}",
                    self.alphas_cumprod.len()
                ),
            )
        })
    }

    /// The noise level at each training timestep, growing.
    pub(super) fn sigmas(&self) -> Vec<f64> {
        self.alphas_cumprod
            .iter()
            .map(|alpha| single(single(single(1.0 - alpha) / alpha).sqrt()))
            .collect()
    }
}

fn betas(config: &SchedulerConfig) -> Vec<f64> {
    let count = config.num_train_timesteps;
    if let Some(betas) = &config.trained_betas {
        return betas.iter().copied().map(single).collect();
    }
    match config.beta_schedule {
        BetaSchedule::Linear => linspace_single(config.beta_start, config.beta_end, count),
        BetaSchedule::ScaledLinear => {
            linspace_single(config.beta_start.sqrt(), config.beta_end.sqrt(), count)
                .into_iter()
                .map(|root| single(root * root))
                .collect()
        }
        BetaSchedule::SquaredCosCapV2 => {
            let alpha_bar = |time: f64| {
                let cosine = ((time + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos();
                cosine * cosine
            };
            (0..count)
                .map(|index| {
                    let (from, to) = (real(index) / real(count), real(index + 1) / real(count));
                    single((1.0 - alpha_bar(to) / alpha_bar(from)).min(0.999))
                })
                .collect()
        }
    }
}

/// Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1.
fn rescale_to_zero_terminal_snr(betas: &[f64]) -> Vec<f64> {
    let roots: Vec<f64> = cumulative_alphas(betas)
        .into_iter()
        .map(|alpha| single(alpha.sqrt()))
        .collect();
    let (Some(first), Some(last)) = (roots.first().copied(), roots.last().copied()) else {
        return Vec::new();
    };
    let scale = single(first / single(first - last));
    let squares: Vec<f64> = roots
        .iter()
        .map(|root| {
            let root = single(single(root - last) * scale);
            single(root * root)
        })
        .collect();
    let mut previous = 1.0;
    squares
        .into_iter()
        .map(|square| {
            let alpha = single(square / previous);
            previous = square;
            single(1.0 - alpha)
        })
        .collect()
}

fn cumulative_alphas(betas: &[f64]) -> Vec<f64> {
    let mut product = 1.0;
    betas
        .iter()
        .map(|beta| {
            product *= single(1.0 - beta);
            single(product)
        })
        .collect()
}

/// `count` values in single precision, counted from whichever end is nearer and rounded once, as torch does it with
/// fused multiply-adds.
fn linspace_single(start: f64, end: f64, count: usize) -> Vec<f64> {
    let (start, end) = (single(start), single(end));
    if count == 1 {
        return vec![start];
    }
    let step = single(single(end - start) / real(count - 1));
    (0..count)
        .map(|index| {
            if index < count / 2 {
                single(start + step * real(index))
            } else {
                single(end - step * real(count - index - 1))
            }
        })
        .collect()
}

/// `count` values from `start` to `end`, both included; only `start` if `count` is one, as numpy does it.
pub(super) fn linspace(start: f64, end: f64, count: usize) -> Vec<f64> {
    if count <= 1 {
        return vec![start; count];
    }
    let step = (end - start) / real(count - 1);
    let mut values: Vec<f64> = (0..count).map(|index| real(index) * step + start).collect();
    if let Some(last) = values.last_mut() {
        *last = end;
    }
    values
}

/// How the noise levels of a walk are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum SigmaSpacing {
    /// Where the model's own timesteps put them.
    Model,
    /// Karras et al. 2022, equation 5.
    Karras,
    /// Even steps of the logarithm.
    Exponential,
    /// Quantiles of a beta distribution, dense at both ends (Lee et al., "Beta Sampling is All You Need").
    Beta,
}

/// The fractional timesteps and the noise levels of a walk of Euler's kind, falling, without the final level.
pub(super) fn spaced_schedule(
    config: &SchedulerConfig,
    steps: usize,
    spacing: SigmaSpacing,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let training = NoiseTable::new(config, true)?.sigmas();
    let timesteps = euler_timesteps(config, steps);
    let sigmas: Vec<f64> = timesteps
        .iter()
        .map(|timestep| interpolate(&training, *timestep))
        .collect();
    Ok(respace(
        config,
        spacing,
        &training,
        steps,
        (timesteps, sigmas),
    ))
}

/// `steps` noise levels from the greatest to the least of `sigmas`, or of the config's bounds, and their fractional
/// timesteps; as they came where the spacing is the model's own.
pub(super) fn respace(
    config: &SchedulerConfig,
    spacing: SigmaSpacing,
    training: &[f64],
    steps: usize,
    (timesteps, sigmas): (Vec<f64>, Vec<f64>),
) -> (Vec<f64>, Vec<f64>) {
    let (Some(first), Some(last)) = (sigmas.first(), sigmas.last()) else {
        return (timesteps, sigmas);
    };
    let sigma_max = config.sigma_max.unwrap_or(*first);
    let sigma_min = config.sigma_min.unwrap_or(*last);
    let sigmas = match spacing {
        SigmaSpacing::Model => return (timesteps, sigmas),
        SigmaSpacing::Karras => karras(sigma_min, sigma_max, steps),
        SigmaSpacing::Exponential => linspace(sigma_max.ln(), sigma_min.ln(), steps)
            .into_iter()
            .map(f64::exp)
            .collect(),
        SigmaSpacing::Beta => linspace(0.0, 1.0, steps)
            .into_iter()
            .map(|ramp| sigma_min + beta_quantile(1.0 - ramp) * (sigma_max - sigma_min))
            .collect(),
    };
    let log_sigmas = logarithms(training);
    let timesteps = sigmas
        .iter()
        .map(|sigma| timestep_of_sigma(*sigma, &log_sigmas))
        .collect();
    (timesteps, sigmas)
}

/// The value below which lies `share` of the beta distribution with both parameters 0.6.
fn beta_quantile(share: f64) -> f64 {
    const SHAPE: f64 = 0.6;
    // The unnormalised distribution function by its power series, whose terms halve at least up to 1/2.
    let mass_below = |x: f64| {
        let mut coefficient = 1.0;
        let mut sum = 0.0;
        for term in 0..64 {
            sum += coefficient / (SHAPE + real(term));
            coefficient *= x * (real(term) + 1.0 - SHAPE) / real(term + 1);
        }
        sum * x.powf(SHAPE)
    };
    if share > 0.5 {
        return 1.0 - beta_quantile(1.0 - share);
    }
    // Symmetric, so that half of the mass lies below 1/2.
    let wanted = 2.0 * share * mass_below(0.5);
    let (mut low, mut high) = (0.0, 0.5);
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if mass_below(middle) < wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    if share > 0.0 { high } else { 0.0 }
}

/// Every entry for each of the two evaluations of a step that ends on it and begins on it: all but the first doubled.
pub(super) fn twice(values: &[f64]) -> Vec<f64> {
    values
        .iter()
        .flat_map(|value| [*value, *value])
        .skip(1)
        .collect()
}

/// What latents with added noise of level `sigmas[index]` are scaled by to be of unit variance.
pub(super) fn model_input_scale(sigmas: &[f64], index: usize) -> f64 {
    let sigma = sigmas.get(index).copied().unwrap_or(0.0);
    1.0 / (sigma * sigma + 1.0).sqrt()
}

/// The timesteps of Euler's solvers, falling; those of `linspace` are fractions.
pub(super) fn euler_timesteps(config: &SchedulerConfig, steps: usize) -> Vec<f64> {
    let train = config.num_train_timesteps;
    match config.timestep_spacing.unwrap_or(TimestepSpacing::Linspace) {
        TimestepSpacing::Linspace => {
            let mut timesteps: Vec<f64> = linspace(0.0, real(train - 1), steps)
                .into_iter()
                .map(single)
                .collect();
            timesteps.reverse();
            timesteps
        }
        TimestepSpacing::Leading => leading(train / steps, steps, config.steps_offset.unwrap_or(0)),
        TimestepSpacing::Trailing => trailing(train, real(train) / real(steps), steps),
    }
}

/// `steps` multiples of `ratio`, falling to `offset`.
pub(super) fn leading(ratio: usize, steps: usize, offset: usize) -> Vec<f64> {
    (0..steps)
        .rev()
        .map(|index| real(index * ratio + offset))
        .collect()
}

/// `steps` timesteps back from `last - 1`, `ratio` apart, rounded.
pub(super) fn trailing(last: usize, ratio: f64, steps: usize) -> Vec<f64> {
    (0..steps)
        .map(|index| (real(last) - real(index) * ratio).round_ties_even() - 1.0)
        .map(|timestep| timestep.max(0.0))
        .collect()
}

/// Linear interpolation in a table indexed by whole timesteps, clamped at its ends.
pub(super) fn interpolate(table: &[f64], timestep: f64) -> f64 {
    let low = whole(timestep).min(table.len().saturating_sub(1));
    let (Some(from), next) = (table.get(low), table.get(low + 1)) else {
        return f64::NAN;
    };
    next.map_or(*from, |to| from + (to - from) * (timestep - real(low)))
}

/// Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", equation 5, falling.
fn karras(sigma_min: f64, sigma_max: f64, steps: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let (least, greatest) = (sigma_min.powf(1.0 / RHO), sigma_max.powf(1.0 / RHO));
    linspace(0.0, 1.0, steps)
        .into_iter()
        .map(|ramp| (greatest + ramp * (least - greatest)).powf(RHO))
        .collect()
}

/// The logarithms of the training sigmas, in single precision as the reference keeps them.
pub(super) fn logarithms(sigmas: &[f64]) -> Vec<f64> {
    sigmas.iter().map(|sigma| single(sigma.ln())).collect()
}

/// The (fractional) training timestep at which the noise level is `sigma`, by linear interpolation of logarithms.
pub(super) fn timestep_of_sigma(sigma: f64, log_sigmas: &[f64]) -> f64 {
    let log_sigma = sigma.max(1e-10).ln();
    // The reference finds the last entry not above the value; the table grows.
    let below = log_sigmas.partition_point(|entry| *entry <= log_sigma);
    let low = below
        .saturating_sub(1)
        .min(log_sigmas.len().saturating_sub(2));
    let (Some(from), Some(to)) = (log_sigmas.get(low), log_sigmas.get(low + 1)) else {
        return 0.0;
    };
    let weight = ((from - log_sigma) / single(from - to)).clamp(0.0, 1.0);
    (1.0 - weight) * real(low) + weight * real(low + 1)
}

/// The noise level after the last step.
pub(super) fn final_sigma(config: &SchedulerConfig, sigmas: &[f64]) -> f64 {
    match config.final_sigmas_type {
        FinalSigmas::Zero => 0.0,
        FinalSigmas::SigmaMin => sigmas.first().copied().unwrap_or(0.0),
    }
}

/// Rounds to single precision.
pub(super) fn single(value: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounding to single precision is what is wanted"
    )]
    let rounded = value as f32;
    f64::from(rounded)
}

/// A count as a number; counts here are far below 2^53.
pub(super) fn real(value: usize) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "timestep counts are far below 2^53"
    )]
    let value = value as f64;
    value
}

/// The whole part of a timestep that is not negative.
pub(super) fn whole(value: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, and timesteps are small and not negative"
    )]
    let value = value as usize;
    value
}
