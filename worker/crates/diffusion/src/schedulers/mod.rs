//! Noise schedules and the solvers that walk down them, equal to the reference's for the same config.

mod config;
mod ddim;
mod dpmpp_2m;
mod euler;
mod euler_ancestral;
mod sigmas;

use std::fmt;
use std::str::FromStr;

use candle_core::Tensor;

pub use config::{
    BetaSchedule, FinalSigmas, Interpolation, PredictionType, SchedulerConfig, TimestepSpacing,
};

use crate::error::{Error, Result};

/// The schedulers that a request can choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SchedulerKind {
    /// DDIM without added noise.
    Ddim,
    /// Euler's method.
    Euler,
    /// Euler's method on the sigmas of Karras et al.
    EulerKarras,
    /// Euler's method with noise added back after each step.
    EulerAncestral,
    /// DPM-Solver++, second order, multistep.
    Dpmpp2m,
    /// The same on the sigmas of Karras et al.
    Dpmpp2mKarras,
}

/// What is to be known of a kind, one row each.
struct Row {
    kind: SchedulerKind,
    name: &'static str,
    label: &'static str,
    aliases: &'static [&'static str],
}

const ROWS: &[Row] = &[
    Row {
        kind: SchedulerKind::Ddim,
        name: "ddim",
        label: "DDIM",
        aliases: &["DDIM", "DDIMScheduler"],
    },
    Row {
        kind: SchedulerKind::Euler,
        name: "euler",
        label: "Euler",
        aliases: &["Euler", "k_euler", "EulerDiscreteScheduler"],
    },
    Row {
        kind: SchedulerKind::EulerKarras,
        name: "euler_karras",
        label: "Euler Karras",
        aliases: &["Euler Karras", "k_euler_karras"],
    },
    Row {
        kind: SchedulerKind::EulerAncestral,
        name: "euler_ancestral",
        label: "Euler ancestral",
        aliases: &[
            "Euler a",
            "euler_a",
            "k_euler_a",
            "k_euler_ancestral",
            "EulerAncestralDiscreteScheduler",
        ],
    },
    Row {
        kind: SchedulerKind::Dpmpp2m,
        name: "dpmpp_2m",
        label: "DPM++ 2M",
        aliases: &["DPM++ 2M", "k_dpmpp_2m", "DPMSolverMultistepScheduler"],
    },
    Row {
        kind: SchedulerKind::Dpmpp2mKarras,
        name: "dpmpp_2m_karras",
        label: "DPM++ 2M Karras",
        aliases: &["DPM++ 2M Karras", "k_dpmpp_2m_karras"],
    },
];

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
    pub(crate) fn for_class(class: &str, karras: bool) -> Self {
        match (class, karras) {
            ("DDIMScheduler", _) => Self::Ddim,
            ("EulerDiscreteScheduler", false) => Self::Euler,
            ("EulerDiscreteScheduler", true) => Self::EulerKarras,
            ("EulerAncestralDiscreteScheduler", _) => Self::EulerAncestral,
            (_, false) => Self::Dpmpp2m,
            (_, true) => Self::Dpmpp2mKarras,
        }
    }

    /// The reference's class that implements this kind.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Ddim => "DDIMScheduler",
            Self::Euler | Self::EulerKarras => "EulerDiscreteScheduler",
            Self::EulerAncestral => "EulerAncestralDiscreteScheduler",
            Self::Dpmpp2m | Self::Dpmpp2mKarras => "DPMSolverMultistepScheduler",
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
pub trait Scheduler: Send {
    /// The model's timestep for each step, falling.
    fn timesteps(&self) -> &[f64];

    /// The noise level before each step and, last, after the final one.
    fn sigmas(&self) -> &[f64];

    /// What standard normal noise is multiplied by to start.
    fn init_noise_sigma(&self) -> f64;

    /// What the latents are multiplied by before the model sees them in step `index`.
    fn model_input_scale(&self, index: usize) -> f64;

    /// Whether `step` wants noise.
    fn adds_noise(&self) -> bool {
        false
    }

    /// One step from `sample` with what the model said of it. `noise` is standard normal, of the same shape, and
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
/// Errors if `steps` is 0 or more than the model's training timesteps, or if the kind cannot do what the config asks.
pub fn scheduler(
    kind: SchedulerKind,
    config: &SchedulerConfig,
    steps: usize,
) -> Result<Box<dyn Scheduler>> {
    let steps_max = config.num_train_timesteps;
    if !(1..=steps_max).contains(&steps) {
        return Err(Error::parameter(format!(
            "steps must be 1..={steps_max}, got {steps}"
        )));
    }
    let config = config.for_kind(kind);
    Ok(match kind {
        SchedulerKind::Ddim => Box::new(ddim::Ddim::new(&config, steps)?),
        SchedulerKind::Euler => Box::new(euler::Euler::new(&config, steps, false)?),
        SchedulerKind::EulerKarras => Box::new(euler::Euler::new(&config, steps, true)?),
        SchedulerKind::EulerAncestral => {
            Box::new(euler_ancestral::EulerAncestral::new(&config, steps)?)
        }
        SchedulerKind::Dpmpp2m => Box::new(dpmpp_2m::Dpmpp2m::new(&config, steps, false)?),
        SchedulerKind::Dpmpp2mKarras => Box::new(dpmpp_2m::Dpmpp2m::new(&config, steps, true)?),
    })
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

/// `a * x + b * y`.
fn combine(a: f64, x: &Tensor, b: f64, y: &Tensor) -> Result<Tensor> {
    Ok(((x * a)? + (y * b)?)?)
}
