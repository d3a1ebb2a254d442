//! What a model's `scheduler_config.json` says, whatever class wrote it.

use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::schedulers::SchedulerKind;
use crate::schedulers::sigmas::SigmaSpacing;

/// How the variance of the training noise grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BetaSchedule {
    /// Beta grows linearly.
    Linear,
    /// The square root of beta grows linearly: Stable Diffusion's own.
    ScaledLinear,
    /// The cosine schedule of Nichol and Dhariwal, with beta capped at 0.999.
    SquaredCosCapV2,
}

/// What the model's output means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PredictionType {
    /// The noise.
    Epsilon,
    /// The velocity of Salimans and Ho.
    VPrediction,
    /// The noise-free sample.
    Sample,
}

/// Which of the training timesteps are visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestepSpacing {
    /// Whole multiples from 0.
    Leading,
    /// Whole multiples back from the last.
    Trailing,
    /// Evenly between first and last.
    Linspace,
}

/// Where the noise level ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalSigmas {
    /// At zero.
    Zero,
    /// At the smallest level of training.
    SigmaMin,
}

/// How Euler's sigmas lie between those of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// Linear in the timestep.
    Linear,
    /// Even steps of the logarithm.
    LogLinear,
}

/// A scheduler config. What the file leaves out is `None` where the reference's classes differ in their default.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    /// The class that wrote the file.
    pub class_name: String,
    /// Timesteps in training.
    pub num_train_timesteps: usize,
    /// First beta.
    pub beta_start: f64,
    /// Last beta.
    pub beta_end: f64,
    /// What lies between them.
    pub beta_schedule: BetaSchedule,
    /// Betas given outright.
    pub trained_betas: Option<Vec<f64>>,
    /// What the model's output means.
    pub prediction_type: PredictionType,
    /// Which timesteps are visited.
    pub timestep_spacing: Option<TimestepSpacing>,
    /// Added to leading timesteps.
    pub steps_offset: Option<usize>,
    /// Whether DDIM's last step goes to a cumulative alpha of one.
    pub set_alpha_to_one: bool,
    /// Whether DDIM clips the denoised estimate.
    pub clip_sample: Option<bool>,
    /// To plus and minus what.
    pub clip_sample_range: f64,
    /// Whether betas are rescaled so that nothing of the image is left at the last timestep.
    pub rescale_betas_zero_snr: bool,
    /// Where the noise level ends.
    pub final_sigmas_type: FinalSigmas,
    /// How Euler's sigmas are interpolated.
    pub interpolation_type: Interpolation,
    /// Least of the Karras sigmas, for the classes that read it.
    pub sigma_min: Option<f64>,
    /// Greatest of the Karras sigmas, for the classes that read it.
    pub sigma_max: Option<f64>,
    /// Order of the DPM solver, 1 or 2.
    pub solver_order: usize,
    /// Whether the DPM solver's second-order term is Heun's.
    pub heun: bool,
    /// Whether the DPM solver falls back to first order at the end of a short walk.
    pub lower_order_final: bool,
    /// Whether it always ends on a first-order step.
    pub euler_at_final: bool,
    /// The least log signal-to-noise ratio that the DPM solver starts from.
    pub lambda_min_clipped: f64,
    /// Whether UniPC's B(h) is h itself.
    pub bh1: bool,
    /// Whether the noise that DDPM adds has the variance of the whole step, not of its posterior.
    pub variance_is_large: bool,
    /// Steps of the solver that a consistency model was distilled from: the most that LCM can take.
    pub original_inference_steps: usize,
    /// How steeply LCM's boundary condition gives way to the model.
    pub timestep_scaling: f64,
    /// How the noise levels lie in the model's own choice.
    sigma_spacing: SigmaSpacing,
    /// Whether the model's own choice of DPM solver is the stochastic one.
    stochastic: bool,
    /// Whether the file gives `beta_start`, `beta_end` and `beta_schedule`; the defaults of the classes differ.
    betas_given: [bool; 3],
    /// The pipeline corrects its scheduler's config in place, so the file's own class sees the corrected value even
    /// where the file says nothing; another class made from that config falls back to its own default.
    corrected_for_own_class: Corrections,
}

/// What the reference's Stable Diffusion (not XL) pipelines correct in old files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Corrections {
    /// An explicit `steps_offset` becomes 1.
    pub(crate) steps_offset: bool,
    /// An explicit `clip_sample` becomes false.
    pub(crate) clip_sample: bool,
}

impl SchedulerConfig {
    /// From the JSON of a `scheduler_config.json` apart from any pipeline.
    ///
    /// Errors if it is no object or asks for something that is not implemented.
    pub fn from_json(json: &Value) -> Result<Self> {
        const NAME: &str = "scheduler config";
        let fields = json
            .as_object()
            .ok_or_else(|| Error::config(NAME, "must be a JSON object"))?;
        Self::read(
            &Config::from_fields(NAME, fields.clone()),
            Corrections::default(),
        )
    }

    /// Reads what `scheduler_config.json` holds, corrected as the model's pipeline does it.
    pub(crate) fn read(config: &Config, corrections: Corrections) -> Result<Self> {
        config.only("thresholding", &[json!(false)])?;
        config.only("timestep_type", &[json!("discrete")])?;
        config.only("use_lu_lambdas", &[json!(false)])?;
        config.only("use_flow_sigmas", &[json!(false)])?;
        config.only("use_dynamic_shifting", &[json!(false)])?;
        config.only(
            "variance_type",
            &[json!("fixed_small"), json!("fixed_large")],
        )?;
        config.only(
            "algorithm_type",
            &[
                json!("dpmsolver++"),
                json!("sde-dpmsolver++"),
                json!("deis"),
            ],
        )?;
        config.only("predict_x0", &[json!(true)])?;
        config.only("disable_corrector", &[json!([])])?;
        config.only("solver_p", &[])?;

        let file = config.file();
        let class_name: String = config.get("_class_name", String::new())?;
        let num_train_timesteps = config.count("num_train_timesteps", 1000)?;
        let prediction_type = match config
            .get("prediction_type", "epsilon".to_owned())?
            .as_str()
        {
            "epsilon" => PredictionType::Epsilon,
            "v_prediction" => PredictionType::VPrediction,
            "sample" => PredictionType::Sample,
            other => {
                return Err(unsupported(
                    file,
                    "prediction_type",
                    other,
                    "epsilon, v_prediction or sample",
                ));
            }
        };
        let beta_schedule = match config.get("beta_schedule", "linear".to_owned())?.as_str() {
            "linear" => BetaSchedule::Linear,
            "scaled_linear" => BetaSchedule::ScaledLinear,
            "squaredcos_cap_v2" => BetaSchedule::SquaredCosCapV2,
            other => {
                return Err(unsupported(
                    file,
                    "beta_schedule",
                    other,
                    "linear, scaled_linear or squaredcos_cap_v2",
                ));
            }
        };
        let timestep_spacing = match config.optional::<String>("timestep_spacing")?.as_deref() {
            None => None,
            Some("leading") => Some(TimestepSpacing::Leading),
            Some("trailing") => Some(TimestepSpacing::Trailing),
            Some("linspace") => Some(TimestepSpacing::Linspace),
            Some(other) => {
                return Err(unsupported(
                    file,
                    "timestep_spacing",
                    other,
                    "leading, trailing or linspace",
                ));
            }
        };
        let final_sigmas_type = match config.get("final_sigmas_type", "zero".to_owned())?.as_str() {
            "zero" => FinalSigmas::Zero,
            "sigma_min" => FinalSigmas::SigmaMin,
            other => {
                return Err(unsupported(
                    file,
                    "final_sigmas_type",
                    other,
                    "zero or sigma_min",
                ));
            }
        };
        let interpolation_type = match config
            .get("interpolation_type", "linear".to_owned())?
            .as_str()
        {
            "linear" => Interpolation::Linear,
            "log_linear" => Interpolation::LogLinear,
            other => {
                return Err(unsupported(
                    file,
                    "interpolation_type",
                    other,
                    "linear or log_linear",
                ));
            }
        };
        // Names of solvers of other classes mean the midpoint rule to the DPM solver.
        let (heun, bh1) = match config.get("solver_type", "midpoint".to_owned())?.as_str() {
            "midpoint" | "logrho" | "bh2" => (false, false),
            "bh1" => (false, true),
            "heun" => (true, false),
            other => return Err(unsupported(file, "solver_type", other, "midpoint or heun")),
        };
        let solver_order = config.count("solver_order", 2)?;
        if solver_order > 2 {
            return Err(Error::unsupported(
                file,
                format_args!("solver_order = {solver_order} is not supported, only 1 or 2"),
            ));
        }
        let trained_betas: Option<Vec<f64>> = config.optional("trained_betas")?;
        if let Some(betas) = &trained_betas
            && (betas.len() != num_train_timesteps
                || betas.iter().any(|beta| !(0.0..=1.0).contains(beta)))
        {
            return Err(Error::config(
                file,
                format_args!(
                    "trained_betas must be {num_train_timesteps} numbers in 0..=1, one a training timestep"
                ),
            ));
        }
        let beta = |field, default| -> Result<f64> {
            let beta = config.positive(field, default)?;
            if beta < 1.0 {
                Ok(beta)
            } else {
                Err(Error::config(
                    file,
                    format_args!("{field} must be below 1, got {beta}"),
                ))
            }
        };

        let mut steps_offset: Option<usize> = config.optional("steps_offset")?;
        let mut clip_sample: Option<bool> = config.optional("clip_sample")?;
        if corrections.steps_offset {
            steps_offset = steps_offset.map(|_| 1);
        }
        if corrections.clip_sample {
            clip_sample = clip_sample.map(|_| false);
        }

        let original_inference_steps = config.count("original_inference_steps", 50)?;
        let sigma_spacing = sigma_spacing(config)?;
        let betas_given = [
            config.optional::<f64>("beta_start")?.is_some(),
            config.optional::<f64>("beta_end")?.is_some(),
            config.optional::<String>("beta_schedule")?.is_some(),
        ];

        Ok(Self {
            num_train_timesteps,
            beta_start: beta("beta_start", 0.0001)?,
            beta_end: beta("beta_end", 0.02)?,
            beta_schedule,
            trained_betas,
            prediction_type,
            timestep_spacing,
            steps_offset,
            set_alpha_to_one: config.get("set_alpha_to_one", true)?,
            clip_sample,
            clip_sample_range: config.positive("clip_sample_range", 1.0)?,
            rescale_betas_zero_snr: config.get("rescale_betas_zero_snr", false)?,
            final_sigmas_type,
            interpolation_type,
            sigma_min: config.optional("sigma_min")?,
            sigma_max: config.optional("sigma_max")?,
            solver_order,
            heun,
            bh1,
            variance_is_large: config.get("variance_type", String::new())? == "fixed_large",
            original_inference_steps,
            timestep_scaling: config.positive("timestep_scaling", 10.0)?,
            sigma_spacing,
            betas_given,
            stochastic: config.get("algorithm_type", String::new())? == "sde-dpmsolver++",
            lower_order_final: config.get("lower_order_final", true)?,
            euler_at_final: config.get("euler_at_final", false)?,
            lambda_min_clipped: config.get("lambda_min_clipped", f64::NEG_INFINITY)?,
            class_name,
            corrected_for_own_class: corrections,
        })
    }

    /// The config as the class of `kind` sees it.
    pub(crate) fn for_kind(&self, kind: SchedulerKind) -> Self {
        let mut config = self.clone();
        let [start_given, end_given, schedule_given] = self.betas_given;
        if kind.defaults_to_stable_betas() {
            config.beta_start = if start_given {
                self.beta_start
            } else {
                0.00085
            };
            config.beta_end = if end_given { self.beta_end } else { 0.012 };
        }
        if !schedule_given && kind == SchedulerKind::Lcm {
            config.beta_schedule = BetaSchedule::ScaledLinear;
        }
        if kind.class() == self.class_name {
            let corrected = self.corrected_for_own_class;
            if corrected.steps_offset {
                config.steps_offset = config.steps_offset.or(Some(1));
            }
            if corrected.clip_sample {
                config.clip_sample = config.clip_sample.or(Some(false));
            }
        }
        config
    }

    /// The scheduler that the file itself names.
    pub(crate) fn own_kind(&self) -> SchedulerKind {
        SchedulerKind::for_class(&self.class_name, self.sigma_spacing, self.stochastic)
    }

    /// The config as the classes see it that know no rescaling to zero signal, and of which some do not read the bounds
    /// of the noise levels.
    pub(super) fn without_rescaling(&self, reads_sigma_bounds: bool) -> Self {
        let mut config = self.clone();
        config.rescale_betas_zero_snr = false;
        if !reads_sigma_bounds {
            config.sigma_min = None;
            config.sigma_max = None;
        }
        config
    }
}

/// Errors if more than one spacing is asked for.
fn sigma_spacing(config: &Config) -> Result<SigmaSpacing> {
    let mut chosen = SigmaSpacing::Model;
    for (field, spacing) in [
        ("use_karras_sigmas", SigmaSpacing::Karras),
        ("use_exponential_sigmas", SigmaSpacing::Exponential),
        ("use_beta_sigmas", SigmaSpacing::Beta),
    ] {
        if config.get(field, false)? {
            if chosen != SigmaSpacing::Model {
                return Err(Error::config(
                    config.file(),
                    format_args!("{field} contradicts the other spacing of sigmas that is set"),
                ));
            }
            chosen = spacing;
        }
    }
    Ok(chosen)
}

fn unsupported(file: &str, field: &str, value: &str, supported: &str) -> Error {
    Error::unsupported(
        file,
        format_args!("{field} = {value:?} is not supported, only {supported}"),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::SchedulerConfig;

    fn own_name(json: &Value) -> &'static str {
        SchedulerConfig::from_json(json).unwrap().own_kind().name()
    }

    #[test]
    fn a_file_names_its_own_solver_and_spacing() {
        let class = |name: &str| json!({"_class_name": name});
        assert_eq!(own_name(&class("HeunDiscreteScheduler")), "heun");
        assert_eq!(own_name(&class("LCMScheduler")), "lcm");
        // Not implemented: the solver that does best in few steps.
        assert_eq!(own_name(&class("PNDMScheduler")), "dpmpp_2m");
        let karras = json!({"_class_name": "UniPCMultistepScheduler", "use_karras_sigmas": true});
        assert_eq!(own_name(&karras), "unipc_karras");
        let stochastic = json!({
            "_class_name": "DPMSolverMultistepScheduler", "use_beta_sigmas": true,
            "algorithm_type": "sde-dpmsolver++",
        });
        assert_eq!(own_name(&stochastic), "dpmpp_2m_sde_beta");
    }

    #[test]
    fn two_spacings_at_once_are_refused() {
        let both = json!({"use_karras_sigmas": true, "use_beta_sigmas": true});
        let error = SchedulerConfig::from_json(&both).unwrap_err();
        assert!(error.to_string().contains("use_beta_sigmas"), "{error}");
    }
}
