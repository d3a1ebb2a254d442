//! Noise schedules and the solvers that walk down them, equal to the reference's for the same config.

mod config;
mod ddim;
mod ddpm;
mod dpmpp_2m;
mod dpmpp_sde;
mod euler;
mod euler_ancestral;
mod heun;
mod lcm;
mod lms;
mod sigmas;
mod unipc;

use std::fmt;
use std::str::FromStr;

use candle_core::Tensor;

pub(crate) use config::Corrections;
pub use config::{
    BetaSchedule, FinalSigmas, Interpolation, PredictionType, SchedulerConfig, TimestepSpacing,
};

use crate::error::{Error, Result};
use crate::schedulers::sigmas::SigmaSpacing;

/// Declares the solvers, one kind for each with the model's own spacing of noise levels and, for those that can, one
/// for each other spacing; and the row of every kind.
macro_rules! kinds {
    (
        $(
            $(#[$doc:meta])*
            $solver:ident: $name:literal, $label:literal, $class:literal, [$($alias:literal),*]
            $(, $karras:ident, $exponential:ident, $beta:ident)?;
        )*
    ) => {
        /// The schedulers that a request can choose from.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum SchedulerKind {
            $(
                $(#[$doc])*
                $solver,
                $(
                    #[doc = concat!($label, " on the sigmas of Karras et al.")]
                    $karras,
                    #[doc = concat!($label, " on sigmas in even steps of the logarithm.")]
                    $exponential,
                    #[doc = concat!($label, " on sigmas at the quantiles of a beta distribution.")]
                    $beta,
                )?
            )*
        }

        /// What a kind walks with, apart from the spacing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Solver {
            $($solver,)*
        }

        const ROWS: &[Row] = &[
            $(
                Row {
                    kind: SchedulerKind::$solver,
                    solver: Solver::$solver,
                    spacing: SigmaSpacing::Model,
                    class: $class,
                    name: $name,
                    label: $label,
                    aliases: &[$($alias),*],
                },
                $(
                    kinds!(@spaced $solver $karras Karras "_karras" " Karras" $name $label $class),
                    kinds!(@spaced $solver $exponential Exponential "_exponential" " Exponential" $name $label $class),
                    kinds!(@spaced $solver $beta Beta "_beta" " Beta" $name $label $class),
                )?
            )*
        ];
    };
    (
        @spaced $solver:ident $kind:ident $spacing:ident $suffix:literal $word:literal
        $name:literal $label:literal $class:literal
    ) => {
        Row {
            kind: SchedulerKind::$kind,
            solver: Solver::$solver,
            spacing: SigmaSpacing::$spacing,
            class: $class,
            name: concat!($name, $suffix),
            label: concat!($label, $word),
            aliases: &[concat!($label, $word), concat!("k_", $name, $suffix)],
        }
    };
}

/// What is to be known of a kind, one row each.
struct Row {
    kind: SchedulerKind,
    solver: Solver,
    spacing: SigmaSpacing,
    /// The reference's class that implements it.
    class: &'static str,
    name: &'static str,
    label: &'static str,
    aliases: &'static [&'static str],
}

kinds! {
    /// DDIM without added noise.
    Ddim: "ddim", "DDIM", "DDIMScheduler", ["DDIM", "DDIMScheduler"];
    /// DDPM's ancestral sampling.
    Ddpm: "ddpm", "DDPM", "DDPMScheduler", ["DDPM", "DDPMScheduler"];
    /// Euler's method.
    Euler: "euler", "Euler", "EulerDiscreteScheduler", ["Euler", "k_euler", "EulerDiscreteScheduler"],
        EulerKarras, EulerExponential, EulerBeta;
    /// Euler's method with noise added back after each step.
    EulerAncestral: "euler_ancestral", "Euler ancestral", "EulerAncestralDiscreteScheduler",
        ["Euler a", "euler_a", "k_euler_a", "k_euler_ancestral", "EulerAncestralDiscreteScheduler"];
    /// Heun's method, two evaluations a step.
    Heun: "heun", "Heun", "HeunDiscreteScheduler", ["Heun", "k_heun", "HeunDiscreteScheduler"],
        HeunKarras, HeunExponential, HeunBeta;
    /// Linear multistep of fourth order.
    Lms: "lms", "LMS", "LMSDiscreteScheduler", ["LMS", "k_lms", "LMSDiscreteScheduler"],
        LmsKarras, LmsExponential, LmsBeta;
    /// DPM-Solver++, second order, multistep.
    Dpmpp2m: "dpmpp_2m", "DPM++ 2M", "DPMSolverMultistepScheduler",
        ["DPM++ 2M", "k_dpmpp_2m", "DPMSolverMultistepScheduler"],
        Dpmpp2mKarras, Dpmpp2mExponential, Dpmpp2mBeta;
    /// The same as a stochastic differential equation.
    Dpmpp2mSde: "dpmpp_2m_sde", "DPM++ 2M SDE", "DPMSolverMultistepScheduler", ["DPM++ 2M SDE", "k_dpmpp_2m_sde"],
        Dpmpp2mSdeKarras, Dpmpp2mSdeExponential, Dpmpp2mSdeBeta;
    /// DPM-Solver++ as a stochastic differential equation with a midpoint, two evaluations a step.
    DpmppSde: "dpmpp_sde", "DPM++ SDE", "DPMSolverSDEScheduler",
        ["DPM++ SDE", "k_dpmpp_sde", "DPMSolverSDEScheduler"],
        DpmppSdeKarras, DpmppSdeExponential, DpmppSdeBeta;
    /// UniPC, second order.
    UniPc: "unipc", "UniPC", "UniPCMultistepScheduler", ["UniPC", "uni_pc", "UniPCMultistepScheduler"],
        UniPcKarras, UniPcExponential, UniPcBeta;
    /// For latent consistency models.
    Lcm: "lcm", "LCM", "LCMScheduler", ["LCM", "LCMScheduler"];
}

impl SchedulerKind {
    /// Every kind, in the order in which a menu shows them.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        ROWS.iter().map(|row| row.kind)
    }

    fn row(self) -> &'static Row {
        ROWS.iter()
            .find(|row| row.kind == self)
            .expect("every kind has its row: anything else is a bug")
    }

    /// The name in requests and configs: `dpmpp_2m_karras`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The name for people: `DPM++ 2M Karras`.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.row().label
    }

    /// Other names that are understood, as other programs write them.
    #[must_use]
    pub fn aliases(self) -> &'static [&'static str] {
        self.row().aliases
    }

    /// The scheduler that stands for the class named in a model's own scheduler config. Classes that are not
    /// implemented fall back to the solver that does best in few steps.
    fn for_class(class: &str, spacing: SigmaSpacing, stochastic: bool) -> Self {
        let solver = ROWS
            .iter()
            .find(|row| row.class == class)
            .map_or(Solver::Dpmpp2m, |row| match row.solver {
                Solver::Dpmpp2m if stochastic => Solver::Dpmpp2mSde,
                solver => solver,
            });
        let rows = || ROWS.iter().filter(|row| row.solver == solver);
        rows()
            .find(|row| row.spacing == spacing)
            .or_else(|| rows().next())
            .map(|row| row.kind)
            .expect("every solver has its row: anything else is a bug")
    }

    /// The reference's class that implements this kind.
    pub(crate) fn class(self) -> &'static str {
        self.row().class
    }

    /// Whether the reference's class falls back to Stable Diffusion's betas and not to those of DDPM's paper.
    fn defaults_to_stable_betas(self) -> bool {
        matches!(
            self.row().solver,
            Solver::Heun | Solver::DpmppSde | Solver::Lcm
        )
    }

    /// The most steps that the kind can take with a config.
    fn steps_max(self, config: &SchedulerConfig) -> usize {
        match self.row().solver {
            Solver::Lcm => config
                .original_inference_steps
                .min(config.num_train_timesteps),
            _ => config.num_train_timesteps,
        }
    }
}

impl FromStr for SchedulerKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        ROWS.iter()
            .find(|row| {
                row.name == text
                    || row
                        .aliases
                        .iter()
                        .any(|alias| alias.eq_ignore_ascii_case(text))
            })
            .map(|row| row.kind)
            .ok_or_else(|| {
                let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
                Error::parameter(format!(
                    "scheduler must be one of {}, got {text:?}",
                    names.join(", ")
                ))
            })
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one step gives. Both tensors have the shape of the latents, [1, channels, height/s, width/s].
pub struct Step {
    /// The latents after the step.
    pub latents: Tensor,
    /// The noise-free latents that the model expects the walk to end at.
    pub denoised: Tensor,
}

/// A solver set up for one image: feed it every model output once, in order.
///
/// What is called an index counts evaluations of the model: those solvers that look at it twice a step have up to two
/// for each step.
pub trait Scheduler: Send {
    /// The model's timestep for each evaluation, falling.
    fn timesteps(&self) -> &[f64];

    /// The noise level before each evaluation and, last, after the final one.
    fn sigmas(&self) -> &[f64];

    /// What standard normal noise is multiplied by to start.
    fn init_noise_sigma(&self) -> f64;

    /// What the latents are multiplied by before the model sees them in evaluation `index`.
    fn model_input_scale(&self, index: usize) -> f64;

    /// The shares of clean latents and of standard normal noise in latents of the noise level before evaluation
    /// `index`, or, past the last, after all.
    ///
    /// Together of unit variance, but for the solvers whose latents grow with their noise.
    fn noise_weights(&self, index: usize) -> Result<(f64, f64)> {
        let sigma = at(self.sigmas(), index)?;
        if sigma.is_infinite() {
            return Ok((0.0, 1.0));
        }
        let signal = 1.0 / (sigma * sigma + 1.0).sqrt();
        Ok((signal, sigma * signal))
    }

    /// Whether `step` wants noise.
    fn adds_noise(&self) -> bool {
        false
    }

    /// How often the model is asked in each step but the last, which asks once: 1 or 2.
    fn evaluations_per_step(&self) -> usize {
        1
    }

    /// Steps, as asked for.
    fn steps(&self) -> usize {
        self.timesteps().len().div_ceil(self.evaluations_per_step())
    }

    /// How many steps are done once evaluation `index` is, if a step ends with it.
    fn steps_done(&self, index: usize) -> Option<usize> {
        let is_last = index + 1 == self.timesteps().len();
        let ends = is_last || (index + 1).is_multiple_of(self.evaluations_per_step());
        ends.then(|| (index + 1).div_ceil(self.evaluations_per_step()))
    }

    /// One evaluation's share of the walk, in most solvers a step: from `sample` with what the model said of it. `noise` is standard normal, of the same shape, and
    /// needed only where `adds_noise`.
    fn step(
        &mut self,
        index: usize,
        model_output: &Tensor,
        sample: &Tensor,
        noise: Option<&Tensor>,
    ) -> Result<Step>;
}

/// Sets up the solver of `kind` on the schedule that the model was trained with.
///
/// Errors if `steps` is 0 or more than the model's training timesteps (for LCM: than those of its distillation), or if the kind cannot do what the config asks.
pub fn scheduler(
    kind: SchedulerKind,
    config: &SchedulerConfig,
    steps: usize,
) -> Result<Box<dyn Scheduler>> {
    let steps_max = kind.steps_max(config);
    if !(1..=steps_max).contains(&steps) {
        return Err(Error::parameter(format!(
            "steps must be 1..={steps_max}, got {steps}"
        )));
    }
    let config = config.for_kind(kind);
    let Row {
        solver, spacing, ..
    } = *kind.row();
    Ok(match solver {
        Solver::Ddim => Box::new(ddim::Ddim::new(&config, steps)?),
        Solver::Ddpm => Box::new(ddpm::Ddpm::new(&config, steps)?),
        Solver::Euler => Box::new(euler::Euler::new(&config, steps, spacing)?),
        Solver::EulerAncestral => Box::new(euler_ancestral::EulerAncestral::new(&config, steps)?),
        Solver::Heun => Box::new(heun::Heun::new(&config, steps, spacing)?),
        Solver::Lms => Box::new(lms::Lms::new(&config, steps, spacing)?),
        Solver::Dpmpp2m => Box::new(dpmpp_2m::Dpmpp2m::new(&config, steps, spacing, false)?),
        Solver::Dpmpp2mSde => Box::new(dpmpp_2m::Dpmpp2m::new(&config, steps, spacing, true)?),
        Solver::DpmppSde => Box::new(dpmpp_sde::DpmppSde::new(&config, steps, spacing)?),
        Solver::UniPc => Box::new(unipc::UniPc::new(&config, steps, spacing)?),
        Solver::Lcm => Box::new(lcm::Lcm::new(&config, steps, 1.0)?),
    })
}

/// LCM's own way to start from an image: all `steps`, spread over the last `strength` of the distillation's timesteps.
///
/// Errors if there are more of them than that.
pub(crate) fn lcm_from_image(
    config: &SchedulerConfig,
    steps: usize,
    strength: f64,
) -> Result<Box<dyn Scheduler>> {
    let config = config.for_kind(SchedulerKind::Lcm);
    let steps_max = lcm::distilled_steps(&config, strength);
    if !(1..=steps_max).contains(&steps) {
        return Err(Error::parameter(format!(
            "steps must be 1..={steps_max} at strength {strength} with scheduler lcm, got {steps}"
        )));
    }
    Ok(Box::new(lcm::Lcm::new(&config, steps, strength)?))
}

/// The entry of a table that `step` was called for.
fn at(table: &[f64], index: usize) -> Result<f64> {
    table.get(index).copied().ok_or_else(|| {
        Error::parameter(format!(
            "step index must be below {}, got {index}",
            table.len()
        ))
    })
}

/// [`Scheduler::noise_weights`] of the solvers whose latents grow with their noise.
fn growing_noise_weights(sigmas: &[f64], index: usize) -> Result<(f64, f64)> {
    Ok((1.0, at(sigmas, index)?))
}

/// `a * x + b * y`.
pub(crate) fn combine(a: f64, x: &Tensor, b: f64, y: &Tensor) -> Result<Tensor> {
    Ok(((x * a)? + (y * b)?)?)
}
