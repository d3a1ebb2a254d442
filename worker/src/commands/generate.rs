//! `scumble generate`: draws straight through the pipeline, without a server.

use super::set_threads;
use crate::{
    catalog::{Catalog, CatalogModel},
    config::GenerateArgs,
    encode::encode_image,
    normalize::normalize,
};
use indicatif::{ProgressBar, ProgressStyle};
use scumble_diffusion::{DrawParams, LoadOptions, Pipeline, Report, RgbImage};
use scumble_protocol::{
    BatchSize, Dimension, GuidanceScale, JobRequest, ModelId, NegativePrompt, NormalizedRequest,
    OutputFormat, Prompt, SchedulerName, Seed, Steps, ValueError,
};
use std::{
    ffi::OsString,
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Instant,
};

pub(super) fn run(args: &GenerateArgs) -> Result<(), String> {
    set_threads(args.device.threads)?;
    let format = format_of(&args.output)?;
    let catalog = Catalog::open(&args.models.models).map_err(|error| error.to_string())?;
    let model = catalog.default_model();
    let stored = normalize(request(args, &model.id)?, &catalog).map_err(|error| error.message)?;
    for warning in &stored.warnings {
        eprintln!("note: {warning}");
    }
    let started = Instant::now();
    let images = draw(args, model, &stored.request)?;
    let elapsed_s = started.elapsed().as_secs_f64();
    for (index, (seed, picture)) in images.iter().enumerate() {
        let path = numbered(&args.output, index);
        let bytes = encode_image(picture, format)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        fs::write(&path, bytes)
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        println!("{}  seed {seed}", path.display());
    }
    println!("drawn in {elapsed_s:.2} s");
    Ok(())
}

/// The images with their seeds, in order.
fn draw(
    args: &GenerateArgs,
    model: &CatalogModel,
    request: &NormalizedRequest,
) -> Result<Vec<(u64, RgbImage)>, String> {
    let device = args
        .device
        .device
        .open()
        .map_err(|error| error.to_string())?;
    let pipeline = Pipeline::load(&model.files, &device, &LoadOptions::default())
        .map_err(|error| format!("model {} cannot be used: {error}", model.id))?;
    let params = params(request)?;
    let bar = progress_bar(params.steps * params.n);
    let mut images = Vec::new();
    let drawn = pipeline.draw(&params, &mut |report| {
        match report {
            Report::Encoded => {}
            Report::Step { .. } => bar.inc(1),
            Report::Image { seed, image, .. } => images.push((seed, image)),
        }
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    drawn.map_err(|error| error.to_string())?;
    Ok(images)
}

fn progress_bar(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(steps).unwrap_or(u64::MAX));
    if let Ok(style) =
        ProgressStyle::with_template("{bar:32} {pos}/{len} steps  {per_sec}  {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

/// The command line in the words of the API, with the same bounds.
fn request(args: &GenerateArgs, model: &ModelId) -> Result<JobRequest, String> {
    fn named<T>(name: &str, value: Result<T, ValueError>) -> Result<T, String> {
        value.map_err(|error| format!("{name} {error}"))
    }
    fn optional<A, T>(
        name: &str,
        value: Option<A>,
        parse: impl FnOnce(A) -> Result<T, ValueError>,
    ) -> Result<Option<T>, String> {
        value.map(|value| named(name, parse(value))).transpose()
    }
    Ok(JobRequest {
        prompt: named("the prompt", Prompt::new(args.prompt.as_str()))?,
        task: None,
        model: Some(model.clone()),
        negative_prompt: Some(named(
            "--negative-prompt",
            NegativePrompt::new(args.negative_prompt.as_str()),
        )?),
        width: optional("--width", args.width, Dimension::new)?,
        height: optional("--height", args.height, Dimension::new)?,
        steps: optional("--steps", args.steps, Steps::new)?,
        guidance_scale: optional("--guidance-scale", args.guidance_scale, GuidanceScale::new)?,
        seed: args.seed.map(Seed),
        n: Some(named("--n", BatchSize::new(args.n))?),
        scheduler: optional("--scheduler", args.scheduler, |kind| {
            SchedulerName::new(kind.name())
        })?,
        preview: None,
        output_format: None,
        response_format: None,
        cancel_on_disconnect: None,
    })
}

fn params(request: &NormalizedRequest) -> Result<DrawParams, String> {
    crate::engine::params(request).map_err(|error| error.to_string())
}

fn format_of(path: &Path) -> Result<OutputFormat, String> {
    let extension = path
        .extension()
        .map(|extension| extension.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    match extension.as_str() {
        "png" => Ok(OutputFormat::Png),
        "webp" => Ok(OutputFormat::Webp),
        "jpg" | "jpeg" => Ok(OutputFormat::Jpeg),
        _ => Err(format!(
            "--output must end in .png, .webp, .jpg or .jpeg, got {}",
            path.display()
        )),
    }
}

/// `apple.png`, then `apple-1.png`, `apple-2.png`, ….
fn numbered(path: &Path, index: usize) -> PathBuf {
    if index == 0 {
        return path.to_owned();
    }
    let mut name = OsString::from(path.file_stem().unwrap_or_default());
    name.push(format!("-{index}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_images_are_numbered_before_the_extension() {
        assert_eq!(
            numbered(Path::new("a/apple.png"), 0),
            Path::new("a/apple.png")
        );
        assert_eq!(
            numbered(Path::new("a/apple.v2.png"), 3),
            Path::new("a/apple.v2-3.png")
        );
    }
}
