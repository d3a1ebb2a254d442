//! What a request asks for.

use crate::image::{GrayImage, RgbImage};
use crate::schedulers::SchedulerKind;

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
    /// Denoising steps of a whole walk from noise, at least 1. [`steps_run`] says how many are taken of them.
    pub steps: usize,
    /// How strongly the prompt counts; at most 1 turns guidance off and halves the work.
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
        /// The image.
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
    /// The image, of any size.
    pub image: RgbImage,
    /// 255 where it is drawn anew, 0 where it is kept bit for bit, between them a mixture.
    pub mask: GrayImage,
    /// How much of the part drawn anew is given up to noise, in (0, 1].
    pub strength: f64,
    /// The standard deviation of the blur that the mask gets, in pixels; 0 for none.
    pub mask_blur: f64,
    /// Whether black is drawn anew instead of white.
    pub mask_invert: bool,
    /// Draw nothing but the masked part, with this many pixels around it, at the whole size of the result.
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
    /// The image, blurred.
    Blur,
    /// The colours around the mask, spread into it.
    Fill,
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
    use super::steps_run;

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
