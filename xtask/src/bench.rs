//! Measurements that take too long for the tests: `cargo xtask bench`.

use crate::{build, python, workspace::Workspace};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How often a child's memory is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);

/// One model at its real size and what is drawn with it.
struct FullSize {
    name: &'static str,
    side: &'static str,
    guidance_scale: &'static str,
    precision: &'static str,
    /// Steps of the shorter and of the longer walk: their difference is what steps cost.
    steps: (u32, u32),
}

const FULL_SIZE: [FullSize; 4] = [
    FullSize {
        name: "sd15",
        side: "512",
        guidance_scale: "7.5",
        precision: "f32",
        steps: (1, 4),
    },
    FullSize {
        name: "sd15",
        side: "512",
        guidance_scale: "7.5",
        precision: "f16",
        steps: (1, 4),
    },
    FullSize {
        name: "sdxl",
        side: "1024",
        guidance_scale: "1",
        precision: "f32",
        steps: (1, 2),
    },
    FullSize {
        name: "sdxl",
        side: "1024",
        guidance_scale: "1",
        precision: "f16",
        steps: (1, 2),
    },
];

/// What one run of a program cost.
struct Cost {
    wall: Duration,
    /// Bytes in memory at most; unknown where the system does not say.
    peak: Option<u64>,
}

/// Draws with Stable Diffusion 1.5 and SDXL of random weights at their real sizes, to show that these load, fit and
/// run. `wanted` names the models; all of them when it is empty.
pub(crate) fn full_size(workspace: &Workspace, wanted: &[String]) -> Result<()> {
    if let Some(unknown) = wanted
        .iter()
        .find(|name| FULL_SIZE.iter().all(|model| model.name != **name))
    {
        bail!("bench full-size knows sd15 and sdxl, got {unknown}");
    }
    let models = workspace.tools().join("bench");
    python::full_size_models(workspace, &models, wanted)?;
    let binary = build::worker(workspace)?;
    println!(
        "{:6} {:9} {:>8} {:>9} {:>10} {:>12} {:>9}",
        "model", "precision", "size", "guidance", "s a step", "s otherwise", "peak GiB"
    );
    for model in &FULL_SIZE {
        if wanted.is_empty() || wanted.iter().any(|name| name == model.name) {
            println!("{}", row(&binary, &models, model)?);
        }
    }
    Ok(())
}

fn row(binary: &Path, models: &Path, model: &FullSize) -> Result<String> {
    let (few, many) = model.steps;
    let short = draw(binary, models, model, few)?;
    let long = draw(binary, models, model, many)?;
    let step = long.wall.saturating_sub(short.wall).as_secs_f64() / f64::from(many - few);
    let rest = (short.wall.as_secs_f64() - step * f64::from(few)).max(0.0);
    let peak = short.peak.max(long.peak).map_or_else(
        || "?".to_owned(),
        |bytes| format!("{:.1}", bytes_to_gib(bytes)),
    );
    Ok(format!(
        "{:6} {:9} {:>8} {:>9} {step:>10.2} {rest:>12.1} {peak:>9}",
        model.name, model.precision, model.side, model.guidance_scale,
    ))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown with one digit after the point"
)]
fn bytes_to_gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// One drawing by the command line, loading included.
fn draw(binary: &Path, models: &Path, model: &FullSize, steps: u32) -> Result<Cost> {
    let picture = models.join(format!("{}-{}.png", model.name, model.precision));
    let started = Instant::now();
    let mut child = std::process::Command::new(binary)
        .args(["generate", "a red apple on a blue background"])
        .args(["--width", model.side, "--height", model.side])
        .args(["--guidance-scale", model.guidance_scale, "--seed", "7"])
        .args(["--precision", model.precision])
        .args(["--steps", &steps.to_string()])
        .arg("--model")
        .arg(models.join(model.name))
        .arg("--output")
        .arg(&picture)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("{} could not be started", binary.display()))?;
    let mut peak = None;
    let status = loop {
        peak = peak.max(peak_memory(&child));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(WATCH_INTERVAL);
    };
    if !status.success() {
        bail!("{} with {steps} steps failed ({status})", model.name);
    }
    Ok(Cost {
        wall: started.elapsed(),
        peak,
    })
}

/// The most memory that the process has had so far, where Linux's `/proc` tells.
fn peak_memory(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}
