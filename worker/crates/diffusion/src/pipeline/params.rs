//! What a request asks for.

use std::fmt;

use crate::error::{Error, Result};
use crate::image::{GrayImage, RgbImage};
use crate::pipeline::ModelDescription;
use crate::schedulers::SchedulerKind;

/// What a drawing is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// From words alone.
    TextToImage,
    /// From an image.
    ImageToImage,
    /// From an image of which a part is drawn anew.
    Inpaint,
}

impl Task {
    /// The name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TextToImage => "text_to_image",
            Self::ImageToImage => "image_to_image",
            Self::Inpaint => "inpaint",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct DrawParams {
    /// What the picture shows.
    pub prompt: String,
    /// What it should not show; empty for nothing in particular.
    pub negative_prompt: String,
    /// Pixels of the result; a multiple of the model's `dimension_multiple` within its bounds.
    pub width: usize,
    /// The same.
    pub height: usize,
    /// Denoising steps of a whole walk from noise, at least 1. [`ModelDescription::steps_run`] says how many of them are
    /// taken.
    pub steps: usize,
    /// How strongly the prompt counts; at most 1 turns guidance off and halves the work. A model that was distilled with
    /// guidance as an input is told it instead, and needs no negative prompt.
    pub guidance_scale: f64,
    /// How much of the prediction's spread is taken back to what it was without guidance (Lin et al. 2023, section
    /// 3.4), in 0..=1; 0 for none.
    pub guidance_rescale: f64,
    /// Last layers of the text encoder that are left out.
    pub clip_skip: usize,
    /// Seed of the first image; image `n` has `seed + n`, wrapping around.
    pub seed: u64,
    /// Images to draw, at least 1.
    pub n: usize,
    /// Scheduler.
    pub scheduler: SchedulerKind,
    /// What to draw from.
    pub start: Start,
}

/// What a drawing starts from.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Start {
    /// Nothing but noise.
    #[default]
    Noise,
    /// An image of any size.
    Image {
        /// The image, stretched to the size of the result.
        image: RgbImage,
        /// How much of it is given up to noise, in (0, 1].
        strength: f64,
    },
    /// An image of which a part is drawn anew.
    Inpaint(Inpaint),
}

/// An image and which part of it to draw anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Inpaint {
    /// The image, stretched to the size of the result.
    pub image: RgbImage,
    /// 255 where it is drawn anew, 0 where it is kept bit for bit, between them a mixture of both in the result; what is
    /// half or more is drawn anew in the latents. Stretched to the size of the result as the image is.
    pub mask: GrayImage,
    /// How much of the part drawn anew is given up to noise, in (0, 1]; 1 draws it as if nothing had been there.
    pub strength: f64,
    /// The standard deviation of the blur that the mask gets, in pixels of the result; 0 for none.
    pub mask_blur: f64,
    /// Whether black is drawn anew instead of white.
    pub mask_invert: bool,
    /// Draw nothing but the masked part, with this many pixels of the result around it, as large as the result, and lay
    /// it back in its place.
    pub only_masked: Option<usize>,
    /// What is under the mask before drawing begins.
    pub fill: InpaintFill,
}

/// What is under the mask before drawing begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InpaintFill {
    /// The image.
    #[default]
    Original,
    /// Noise.
    Noise,
    /// The colours around the mask, blurred into it.
    Blur,
    /// The mean colour of what is around the mask.
    Fill,
}

impl DrawParams {
    /// Errors if a parameter is outside what the model can do.
    pub(super) fn check(&self, model: &ModelDescription) -> Result<()> {
        let (min, max, multiple) = (
            model.dimension_min,
            model.dimension_max,
            model.dimension_multiple,
        );
        for (name, value) in [("width", self.width), ("height", self.height)] {
            if !(min..=max).contains(&value) || !value.is_multiple_of(multiple) {
                return Err(Error::parameter(format!(
                    "{name} must be a multiple of {multiple} in {min}..={max}, got {value}"
                )));
            }
        }
        if self.n == 0 {
            return Err(Error::parameter("n must be at least 1, got 0"));
        }
        if !self.guidance_scale.is_finite() || self.guidance_scale < 0.0 {
            return Err(Error::parameter(format!(
                "guidance_scale must be 0 or more, got {}",
                self.guidance_scale
            )));
        }
        if !(0.0..=1.0).contains(&self.guidance_rescale) {
            return Err(Error::parameter(format!(
                "guidance_rescale must be 0..=1, got {}",
                self.guidance_rescale
            )));
        }
        let task = self.start.task();
        if !model.tasks.contains(&task) {
            let tasks: Vec<&str> = model.tasks.iter().map(|task| task.as_str()).collect();
            return Err(Error::parameter(format!(
                "this model's tasks are {}, got {task}",
                tasks.join(", ")
            )));
        }
        match self.start.strength() {
            Some(strength) => self.check_strength(strength, model),
            None => Ok(()),
        }
    }

    fn check_strength(&self, strength: f64, model: &ModelDescription) -> Result<()> {
        if !(strength > 0.0 && strength <= 1.0) {
            return Err(Error::parameter(format!(
                "strength must be above 0 and at most 1, got {strength}"
            )));
        }
        if self.steps > 0 && model.steps_run(self) == 0 {
            return Err(Error::parameter(format!(
                "strength must be at least {} for a single one of {} steps to be taken, got {strength}",
                least_strength(self.steps),
                self.steps
            )));
        }
        Ok(())
    }
}

impl Start {
    /// What a drawing from this is called.
    #[must_use]
    pub fn task(&self) -> Task {
        match self {
            Self::Noise => Task::TextToImage,
            Self::Image { .. } => Task::ImageToImage,
            Self::Inpaint(_) => Task::Inpaint,
        }
    }

    /// How much of an image is given up to noise, where there is one.
    #[must_use]
    pub fn strength(&self) -> Option<f64> {
        match self {
            Self::Noise => None,
            Self::Image { strength, .. } => Some(*strength),
            Self::Inpaint(inpaint) => Some(inpaint.strength),
        }
    }
}

/// The least strength that takes a step, rounded up to four places.
fn least_strength(steps: usize) -> f64 {
    const PLACES: f64 = 10_000.0;
    #[expect(clippy::cast_precision_loss, reason = "step counts are small")]
    let share = 1.0 / steps as f64;
    (share * PLACES).ceil() / PLACES
}

/// How many of `steps` are taken when a drawing starts from an image: `strength` of them, rounded down, as in the
/// reference. 0 where the strength is too small for a single step, which is an error to draw with.
#[must_use]
pub fn steps_run(steps: usize, strength: f64) -> usize {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "step counts are small; the cast saturates, and rounding down is what is wanted"
    )]
    let taken = (steps as f64 * strength) as usize;
    taken.min(steps)
}

#[cfg(test)]
mod tests {
    use super::{least_strength, steps_run};

    #[test]
    fn the_least_strength_takes_one_step() {
        for steps in 1..=150 {
            assert_eq!(steps_run(steps, least_strength(steps)), 1, "{steps}");
        }
    }

    #[test]
    fn strength_takes_its_share_of_the_steps_rounded_down() {
        // As `int(steps * strength)` in Python, whose 50 * 0.58 is 28.999999999999996.
        for (steps, strength, taken) in [
            (50, 0.8, 40),
            (50, 0.58, 28),
            (7, 0.5, 3),
            (10, 1.0, 10),
            (10, 0.09, 0),
            (1, 0.999, 0),
            (10, 3.0, 10),
            (10, f64::NAN, 0),
        ] {
            assert_eq!(steps_run(steps, strength), taken, "{steps} {strength}");
        }
    }
}
