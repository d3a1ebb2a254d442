//! What of a request is about an image: its task, and the sizes and defaults that follow from the image.

use crate::{
    catalog::CatalogModel,
    inputs::{ImageFacts, Inputs},
};
use scumble_diffusion::{SchedulerKind, Task as DrawingTask};
use scumble_protocol::{
    Dimension, DimensionRange, ErrorCode, ErrorObject, InpaintFill, JobRequest, MaskBlur,
    OnlyMaskedPadding, Outpaint, Steps, Strength, Task,
};

/// The strength of an edit that says none.
const STRENGTH: f64 = 0.75;
/// The blur of a mask whose edit says none, in pixels.
const MASK_BLUR_PIXELS: f64 = 4.0;
/// What is drawn around the masked part where an edit says nothing of it, in pixels.
const ONLY_MASKED_PADDING_PIXELS: u32 = 32;

/// The part of a normalised request that is about an image.
#[derive(Debug, Default)]
pub(super) struct Edit {
    pub(super) task: Task,
    pub(super) width: Option<Dimension>,
    pub(super) height: Option<Dimension>,
    pub(super) strength: Option<Strength>,
    pub(super) mask_blur: Option<MaskBlur>,
    pub(super) mask_invert: Option<bool>,
    pub(super) only_masked: Option<bool>,
    pub(super) only_masked_padding: Option<OnlyMaskedPadding>,
    pub(super) inpaint_fill: Option<InpaintFill>,
    pub(super) warnings: Vec<String>,
}

impl Edit {
    /// Errors name the field that is missing, too many, or in contradiction to the task.
    pub(super) fn of(
        request: &JobRequest,
        inputs: &Inputs,
        walk: (Steps, SchedulerKind),
        model: &CatalogModel,
    ) -> Result<Self, ErrorObject> {
        let image = inputs.init_image.as_ref().map(|input| &input.facts);
        let task = task(request, image, inputs.mask.is_some())?;
        check_model(task, model)?;
        let Some(image) = image else {
            return Ok(Self {
                task,
                width: request.width,
                height: request.height,
                ..Self::default()
            });
        };
        let mut edit = Self {
            task,
            strength: Some(strength(request.strength, task, walk, model)?),
            ..Self::default()
        };
        edit.choose_size(request, image, model.dimensions());
        if image.is_animated {
            edit.warnings
                .push("init_image is an animation: only its first frame is used".to_owned());
        }
        if task == Task::Inpaint {
            edit.choose_mask(request, image, inputs.mask.as_ref().map(|mask| &mask.facts));
        }
        Ok(edit)
    }

    fn choose_size(&mut self, request: &JobRequest, image: &ImageFacts, range: DimensionRange) {
        let canvas = canvas(image, request.outpaint);
        let wanted = (
            request.width.map(Dimension::get),
            request.height.map(Dimension::get),
        );
        let (width, height) = size(canvas, wanted, range);
        self.width = Dimension::new(width).ok();
        self.height = Dimension::new(height).ok();
        if (width, height) != canvas {
            let (from_width, from_height) = canvas;
            self.warnings.push(format!(
                "the picture of {from_width}x{from_height} pixels is resized to {width}x{height}"
            ));
        }
    }

    fn choose_mask(&mut self, request: &JobRequest, image: &ImageFacts, mask: Option<&ImageFacts>) {
        let default_blur = || MaskBlur::new(MASK_BLUR_PIXELS);
        let default_padding = || OnlyMaskedPadding::new(ONLY_MASKED_PADDING_PIXELS);
        let only_masked = request.only_masked.unwrap_or(false);
        self.mask_blur = request.mask_blur.or_else(|| default_blur().ok());
        self.mask_invert = Some(request.mask_invert.unwrap_or(false));
        self.only_masked = Some(only_masked);
        self.inpaint_fill = Some(request.inpaint_fill.unwrap_or_default());
        if only_masked {
            self.only_masked_padding = request
                .only_masked_padding
                .or_else(|| default_padding().ok());
        } else if request.only_masked_padding.is_some() {
            self.warnings
                .push("only_masked_padding counts for nothing without only_masked".to_owned());
        }
        let Some(mask) = mask else { return };
        if mask.is_animated {
            self.warnings
                .push("mask is an animation: only its first frame is used".to_owned());
        }
        if (mask.width, mask.height) != (image.width, image.height) {
            self.warnings.push(format!(
                "the mask of {}x{} pixels is stretched to the picture's {}x{}",
                mask.width, mask.height, image.width, image.height
            ));
        }
    }
}

/// What a job is that has these fields; refuses those that do not go together.
fn task(
    request: &JobRequest,
    image: Option<&ImageFacts>,
    has_mask: bool,
) -> Result<Task, ErrorObject> {
    let outpaint = request.outpaint;
    if outpaint.is_some_and(Outpaint::is_empty) {
        return Err(invalid(
            "outpaint",
            "outpaint must add at least one pixel to an edge",
        ));
    }
    let given = |wanted: &[(&'static str, bool)]| {
        wanted
            .iter()
            .find_map(|(field, is_there)| is_there.then_some(*field))
    };
    let for_images = [
        ("mask", has_mask),
        ("outpaint", outpaint.is_some()),
        ("strength", request.strength.is_some()),
    ];
    // What says no more than the default says is let pass.
    let for_masks = [
        ("mask_blur", request.mask_blur.is_some()),
        ("mask_invert", request.mask_invert == Some(true)),
        ("only_masked", request.only_masked == Some(true)),
        ("only_masked_padding", request.only_masked_padding.is_some()),
        ("inpaint_fill", request.inpaint_fill.is_some()),
    ];
    let repaints = has_mask || outpaint.is_some();
    let task = match request.task {
        Some(task) => task,
        None if repaints => Task::Inpaint,
        None if image.is_some() => Task::ImageToImage,
        None => Task::TextToImage,
    };
    match (task, image) {
        (Task::TextToImage, Some(_)) => {
            return Err(contradiction(task, "init_image"));
        }
        (Task::TextToImage, None) if request.task.is_some() => {
            if let Some(field) = given(&for_images) {
                return Err(contradiction(task, field));
            }
        }
        (Task::ImageToImage | Task::Inpaint, None) if request.task.is_some() => {
            let message = format!("init_image is required for task {}", task.as_str());
            return Err(ErrorObject::new(ErrorCode::MissingField, message).with_param("init_image"));
        }
        (_, None) => {
            if let Some(field) = given(&for_images) {
                let message =
                    format!("{field} needs an init_image to be used on, and there is none");
                return Err(invalid(field, message));
            }
        }
        (Task::ImageToImage, Some(_)) if repaints => {
            let field = if has_mask { "mask" } else { "outpaint" };
            return Err(contradiction(task, field));
        }
        (Task::Inpaint, Some(image)) if !repaints && !image.has_transparency => {
            let message = "mask is required for task inpaint, unless there is an outpaint or init_image has transparent pixels, which are then what is drawn anew";
            return Err(ErrorObject::new(ErrorCode::MissingField, message).with_param("mask"));
        }
        _ => {}
    }
    match given(&for_masks) {
        Some(field) if task != Task::Inpaint => {
            let message = format!(
                "{field} is only for task inpaint: send a mask, or leave it out; the task is {}",
                task.as_str()
            );
            Err(invalid(field, message))
        }
        _ => Ok(task),
    }
}

/// Some models only repaint, some need an image.
fn check_model(task: Task, model: &CatalogModel) -> Result<(), ErrorObject> {
    let tasks = &model.description.tasks;
    if tasks.contains(&drawing_task(task)) {
        return Ok(());
    }
    let names: Vec<&str> = [Task::TextToImage, Task::ImageToImage, Task::Inpaint]
        .into_iter()
        .filter(|task| tasks.contains(&drawing_task(*task)))
        .map(Task::as_str)
        .collect();
    let message = format!(
        "task must be {} for model {}, got {}",
        names.join(" or "),
        model.id,
        task.as_str()
    );
    Err(invalid("task", message))
}

const fn drawing_task(task: Task) -> DrawingTask {
    match task {
        Task::ImageToImage => DrawingTask::ImageToImage,
        Task::Inpaint => DrawingTask::Inpaint,
        _ => DrawingTask::TextToImage,
    }
}

fn contradiction(task: Task, field: &str) -> ErrorObject {
    let message = format!("task {} takes no {field}", task.as_str());
    invalid("task", message)
}

fn invalid(field: &str, message: impl Into<String>) -> ErrorObject {
    ErrorObject::new(ErrorCode::InvalidValue, message).with_param(field)
}

/// A strength that leaves at least one step to take.
fn strength(
    wanted: Option<Strength>,
    task: Task,
    (steps, scheduler): (Steps, SchedulerKind),
    model: &CatalogModel,
) -> Result<Strength, ErrorObject> {
    let default = || Strength::new(STRENGTH).expect("the constant is a strength: this is a bug");
    let strength = wanted.unwrap_or_else(default);
    let count = usize::try_from(steps.get()).unwrap_or(usize::MAX);
    let run =
        model
            .description
            .steps_run_of(drawing_task(task), scheduler, count, Some(strength.get()));
    if run > 0 {
        return Ok(strength);
    }
    // One step of few is more than the default strength of them.
    if wanted.is_none() {
        return Strength::new(1.0)
            .map_err(|error| invalid("strength", format!("strength {error}")));
    }
    let message = format!(
        "strength must be at least one of the {steps} steps, {:.4}..=1, got {strength}",
        1.0 / f64::from(steps.get())
    );
    Err(invalid("strength", message))
}

/// The picture's size with what is added to it, in pixels.
fn canvas(image: &ImageFacts, outpaint: Option<Outpaint>) -> (u32, u32) {
    let Outpaint {
        left,
        top,
        right,
        bottom,
    } = outpaint.unwrap_or_default();
    (
        image.width + left.get() + right.get(),
        image.height + top.get() + bottom.get(),
    )
}

/// The size of an edit's result. A side that is not asked for follows from the one that is and the canvas's shape; if
/// neither is, both are the canvas's own, the whole scaled by one factor where a side would leave the model's bounds.
/// Each is then rounded to the closest multiple within the bounds.
fn size(
    canvas: (u32, u32),
    wanted: (Option<u32>, Option<u32>),
    range: DimensionRange,
) -> (u32, u32) {
    let (canvas_width, canvas_height) = (f64::from(canvas.0), f64::from(canvas.1));
    let scale = match wanted {
        (Some(width), Some(height)) => return (width, height),
        (Some(width), None) => f64::from(width) / canvas_width,
        (None, Some(height)) => f64::from(height) / canvas_height,
        (None, None) => {
            let (short, long) = (
                canvas_width.min(canvas_height),
                canvas_width.max(canvas_height),
            );
            let up = (f64::from(range.minimum) / short).max(1.0);
            up.min(f64::from(range.maximum) / long)
        }
    };
    (
        wanted
            .0
            .unwrap_or_else(|| rounded(canvas_width * scale, range)),
        wanted
            .1
            .unwrap_or_else(|| rounded(canvas_height * scale, range)),
    )
}

/// The closest multiple within the range.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float casts saturate, and the result is clamped to the range"
)]
fn rounded(pixels: f64, range: DimensionRange) -> u32 {
    let multiple = range.multiple.max(1);
    let lowest = range.minimum.div_ceil(multiple);
    let highest = (range.maximum / multiple).max(lowest);
    let count = (pixels / f64::from(multiple)).round() as u32;
    count.clamp(lowest, highest) * multiple
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: DimensionRange = DimensionRange {
        minimum: 64,
        maximum: 1_024,
        multiple: 8,
    };

    #[test]
    fn an_edit_has_its_pictures_size_in_multiples_within_the_bounds() {
        for (canvas, wanted, expected) in [
            ((512, 768), (None, None), (512, 768)),
            ((500, 375), (None, None), (504, 376)),
            ((2_048, 1_024), (None, None), (1_024, 512)),
            ((4_096, 1), (None, None), (1_024, 64)),
            ((10, 20), (None, None), (64, 128)),
            ((1, 1), (None, None), (64, 64)),
            ((100, 200), (Some(256), None), (256, 512)),
            ((100, 200), (None, Some(256)), (128, 256)),
            ((100, 200), (Some(1_024), None), (1_024, 1_024)),
            ((100, 200), (Some(64), Some(64)), (64, 64)),
        ] {
            assert_eq!(
                size(canvas, wanted, RANGE),
                expected,
                "{canvas:?} {wanted:?}"
            );
        }
    }
}
