//! Loads a model and says how long it took and how much memory was needed at most.
//!
//! `cargo run --release -p scumble-diffusion --example load -- MODEL [auto|f32|f16|bf16]`

use std::time::Instant;

use scumble_diffusion::{DeviceChoice, LoadOptions, ModelFiles, Pipeline};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, rest @ ..] = arguments.as_slice() else {
        return Err("usage: load MODEL [auto|f32|f16|bf16]".into());
    };
    let precision = rest.first().map_or("auto", String::as_str).parse()?;
    let started = Instant::now();
    let files = ModelFiles::open(model)?;
    let pipeline = Pipeline::load(
        &files,
        &DeviceChoice::Auto.open()?,
        &LoadOptions { precision },
    )?;
    let description = pipeline.description();
    println!(
        "{} of {}x{} loaded in {:.2} s",
        description.family,
        description.width,
        description.height,
        started.elapsed().as_secs_f64()
    );
    // Linux keeps the peak; elsewhere nothing is said.
    if let Ok(status) = std::fs::read_to_string("/proc/self/status")
        && let Some(peak) = status.lines().find(|line| line.starts_with("VmHWM"))
    {
        println!("{peak}");
    }
    Ok(())
}
