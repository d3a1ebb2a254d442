//! Draws one prompt with a model folder and says how long it took.
//!
//! `cargo run --release -p scumble-diffusion --example draw -- MODEL_DIR "a prompt" out.png [steps] [scheduler] [seed]`

use std::ops::ControlFlow;
use std::time::Instant;

use scumble_diffusion::{
    DeviceChoice, DrawParams, LoadOptions, ModelFiles, Pipeline, Report, RgbImage, Start,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, prompt, output, rest @ ..] = arguments.as_slice() else {
        return Err("usage: draw MODEL_DIR PROMPT OUTPUT.png [STEPS] [SCHEDULER] [SEED]".into());
    };
    let started = Instant::now();
    let pipeline = Pipeline::load(
        &ModelFiles::open(folder)?,
        &DeviceChoice::Auto.open()?,
        &LoadOptions::default(),
    )?;
    let description = pipeline.description().clone();
    println!("{description:#?}");
    println!("loaded in {:.2} s", started.elapsed().as_secs_f64());
    let params = DrawParams {
        prompt: prompt.clone(),
        negative_prompt: String::new(),
        width: description.width,
        height: description.height,
        steps: rest
            .first()
            .map_or(Ok(description.steps), |text| text.parse())?,
        guidance_scale: description.guidance_scale,
        guidance_rescale: 0.0,
        clip_skip: 0,
        seed: rest.get(2).map_or(Ok(7), |text| text.parse())?,
        n: 1,
        scheduler: rest
            .get(1)
            .map_or(Ok(description.scheduler), |text| text.parse())?,
        start: Start::Noise,
    };
    let started = Instant::now();
    let mut last = started;
    let mut drawn: Option<RgbImage> = None;
    pipeline.draw(&params, &mut |report| {
        match report {
            Report::Step { step, total, .. } => {
                println!("step {step}/{total}: {:.3} s", last.elapsed().as_secs_f64());
                last = Instant::now();
            }
            Report::Image { image, .. } => drawn = Some(image),
            Report::Encoded => last = Instant::now(),
        }
        ControlFlow::Continue(())
    })?;
    println!("drawn in {:.2} s", started.elapsed().as_secs_f64());
    let image = drawn.ok_or("no image came")?;
    let (width, height) = (
        u32::try_from(image.width())?,
        u32::try_from(image.height())?,
    );
    image::save_buffer(
        output,
        image.pixels(),
        width,
        height,
        image::ColorType::Rgb8,
    )?;
    Ok(())
}
