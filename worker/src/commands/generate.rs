//! `scumble generate`: draws straight through the pipeline, without a server.

use super::set_threads;
use crate::{
    catalog::CatalogModel,
    config::GenerateArgs,
    edit::{self, Sources},
    encode::encode_image,
    inputs::{Input, Inputs},
    loras::{LoraShelf, OpenLoras},
    metadata::PictureMetadata,
    normalize::normalize,
};
use indicatif::{ProgressBar, ProgressStyle};
use scumble_diffusion::{Lora, Pipeline, Report, RgbImage};
use scumble_protocol::{
    BatchSize, ClipSkip, Dimension, GuidanceRescale, GuidanceScale, InpaintFill, JobRequest,
    LoraChoice, LoraName, LoraScale, MaskBlur, ModelId, NegativePrompt, NormalizedRequest,
    OnlyMaskedPadding, Outpaint, OutpaintPixels, OutputFormat, Prompt, SchedulerName, Seed, Steps,
    Strength, ValueError, limits::IMAGE_BYTES_MAX,
};
use std::{
    ffi::OsString,
    fs,
    io::Read as _,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

pub(super) fn run(args: &GenerateArgs) -> Result<(), String> {
    set_threads(args.device.threads)?;
    let format = format_of(&args.output)?;
    let catalog = args.models.catalog()?;
    let model = catalog.default_model();
    let shelf = args
        .loras
        .shelf(args.models.places.places()?.folder.as_deref())?;
    let inputs = inputs(args)?;
    let stored = normalize(request(args, &model.id)?, &inputs, &catalog, &shelf)
        .map_err(|error| error.message)?;
    for warning in &stored.warnings {
        eprintln!("note: {warning}");
    }
    let started = Instant::now();
    let images = draw(args, model, &shelf, &stored.request, &inputs)?;
    let elapsed_s = started.elapsed().as_secs_f64();
    for (index, (seed, picture)) in images.iter().enumerate() {
        let path = numbered(&args.output, index);
        let metadata = PictureMetadata::of(&stored.request, Seed(*seed));
        let bytes = encode_image(picture, format, metadata.as_ref())
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
    shelf: &LoraShelf,
    request: &NormalizedRequest,
    inputs: &Inputs,
) -> Result<Vec<(u64, RgbImage)>, String> {
    let device = args
        .device
        .device
        .open()
        .map_err(|error| error.to_string())?;
    let mut pipeline = Pipeline::load(&model.files, &device, &args.device.load_options())
        .map_err(|error| format!("model {} cannot be used: {error}", model.id))?;
    pipeline
        .set_loras(&loras(request, shelf)?)
        .map_err(|error| error.to_string())?;
    let file = |input: &Option<Input>| input.as_ref().map(|input| input.blob.bytes().to_vec());
    let sources = Sources {
        init_image: file(&inputs.init_image),
        mask: file(&inputs.mask),
    };
    let params = edit::params(request, sources).map_err(|error| error.to_string())?;
    let bar = progress_bar(model.description.steps_run(&params) * params.n);
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

/// The files of the LoRAs that were chosen.
fn loras(request: &NormalizedRequest, shelf: &LoraShelf) -> Result<Vec<(Arc<Lora>, f64)>, String> {
    let mut open = OpenLoras::default();
    let chosen = request.loras.iter();
    let found = chosen.filter_map(|choice| Some((shelf.get(&choice.name)?, choice.scale.get())));
    found
        .map(|(shelved, scale)| {
            let lora = open.get(shelved).map_err(|error| error.to_string())?;
            Ok((lora, scale))
        })
        .collect()
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
        init_image: None,
        strength: optional("--strength", args.strength, Strength::new)?,
        mask: None,
        mask_blur: optional("--mask-blur", args.mask_blur, MaskBlur::new)?,
        mask_invert: args.mask_invert.then_some(true),
        only_masked: args.only_masked.map(|_| true),
        only_masked_padding: optional(
            "--only-masked",
            args.only_masked.flatten(),
            OnlyMaskedPadding::new,
        )?,
        inpaint_fill: args.inpaint_fill.as_deref().map(inpaint_fill).transpose()?,
        outpaint: args.outpaint.as_deref().map(outpaint).transpose()?,
        clip_skip: optional("--clip-skip", args.clip_skip, ClipSkip::new)?,
        guidance_rescale: optional(
            "--guidance-rescale",
            args.guidance_rescale,
            GuidanceRescale::new,
        )?,
        loras: Some(
            args.chosen_loras
                .iter()
                .map(|text| lora_choice(text))
                .collect::<Result<_, _>>()?,
        ),
        preview: None,
        output_format: Some(format_of(&args.output)?),
        response_format: None,
        metadata: args.no_metadata.then_some(false),
        cancel_on_disconnect: None,
    })
}

/// The images that are named, looked at.
fn inputs(args: &GenerateArgs) -> Result<Inputs, String> {
    let read = |option: &str, path: &Option<PathBuf>| -> Result<Option<Input>, String> {
        let Some(path) = path else { return Ok(None) };
        let name = path.display();
        // One byte more than may be tells that there is more, without reading the rest.
        let bytes_max = u64::try_from(IMAGE_BYTES_MAX).unwrap_or(u64::MAX);
        let mut bytes = Vec::new();
        fs::File::open(path)
            .and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes))
            .map_err(|error| format!("{option} {name} cannot be read: {error}"))?;
        Input::look_at(&format!("{option} {name}"), bytes)
            .map(Some)
            .map_err(|error| error.message)
    };
    Ok(Inputs {
        init_image: read("--init-image", &args.init_image)?,
        mask: read("--mask", &args.mask)?,
    })
}

/// `LEFT,TOP,RIGHT,BOTTOM` in pixels.
fn outpaint(text: &str) -> Result<Outpaint, String> {
    let numbers: Vec<&str> = text.split(',').map(str::trim).collect();
    let [left, top, right, bottom] = numbers.as_slice() else {
        return Err(format!(
            "--outpaint must be four numbers, LEFT,TOP,RIGHT,BOTTOM, got {text}"
        ));
    };
    let pixels = |edge: &str, number: &str| {
        let number: u32 = number
            .parse()
            .map_err(|_| format!("--outpaint {edge} must be a number of pixels, got {number}"))?;
        OutpaintPixels::new(number).map_err(|error| format!("--outpaint {edge} {error}"))
    };
    Ok(Outpaint {
        left: pixels("left", left)?,
        top: pixels("top", top)?,
        right: pixels("right", right)?,
        bottom: pixels("bottom", bottom)?,
    })
}

/// `NAME` or `NAME:SCALE`.
fn lora_choice(text: &str) -> Result<LoraChoice, String> {
    let (name, scale) = match text.rsplit_once(':') {
        Some((name, scale)) => (name, Some(scale)),
        None => (text, None),
    };
    let scale = match scale {
        None => LoraScale::default(),
        Some(scale) => scale
            .parse()
            .map_err(|_| format!("--lora {text}: the scale must be a number, got {scale}"))
            .and_then(|scale| {
                LoraScale::new(scale).map_err(|error| format!("--lora {text}: the scale {error}"))
            })?,
    };
    let name = LoraName::new(name).map_err(|error| format!("--lora {text}: the name {error}"))?;
    Ok(LoraChoice { name, scale })
}

fn inpaint_fill(text: &str) -> Result<InpaintFill, String> {
    serde_json::from_value(text.into())
        .map_err(|_| format!("--inpaint-fill must be original, noise, blur or fill, got {text}"))
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
