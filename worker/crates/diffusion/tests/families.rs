//! Every family and task against diffusers: latents after every step and finished images.
//!
//! `golden/families.py` made the data; the manifest names the versions. `SCUMBLE_FAMILIES_DIR` names another folder of
//! such data, tiny models included.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use scumble_diffusion::{
    Device, DrawParams, ErrorKind, GrayImage, Inpaint, InpaintFill, LoadOptions, ModelFiles, Noise,
    Pipeline, Report, RgbImage, Start, Task, Tensor, steps_run,
};
use serde::Deserialize;
use tempfile::TempDir;

mod common;

use common::GoldenNoise;

/// Largest difference, as a share of the reference's largest magnitude after the same step.
const LATENTS_TOLERANCE: f64 = 1e-4;
/// Levels of 255: the reference lays images over each other with premultiplied bytes.
const PIXEL_TOLERANCE: u8 = 1;

#[derive(Deserialize)]
struct Manifest {
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    name: String,
    base: String,
    without: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    task: String,
    prompt: String,
    negative_prompt: String,
    guidance_scale: f64,
    guidance_rescale: f64,
    steps: usize,
    strength: f64,
    image: String,
    mask: String,
    only_masked: Option<usize>,
    scheduler: String,
    seed: u64,
    steps_run: usize,
    latents_of: String,
}

struct Golden {
    folder: PathBuf,
    manifest: Manifest,
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    fn read() -> Self {
        let folder = std::env::var_os("SCUMBLE_FAMILIES_DIR")
            .map_or_else(common::golden_folder, PathBuf::from);
        Self {
            manifest: serde_json::from_slice(&std::fs::read(folder.join("families.json")).unwrap())
                .unwrap(),
            tensors: candle_core::safetensors::load(
                folder.join("families.safetensors"),
                &Device::Cpu,
            )
            .unwrap(),
            folder,
        }
    }

    /// The family's own files laid over the model under it.
    fn assemble(&self, model: &Model) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        copy(&self.folder.join(&model.base), folder.path());
        let own = self.folder.join("families").join(&model.name);
        if own.is_dir() {
            copy(&own, folder.path());
        }
        for component in &model.without {
            std::fs::remove_dir_all(folder.path().join(component)).unwrap();
        }
        folder
    }

    fn model(&self, name: &str) -> &Model {
        let mut models = self.manifest.models.iter();
        models.find(|model| model.name == name).unwrap()
    }

    fn rgb(&self, key: &str) -> RgbImage {
        let (width, height, pixels) = self.bytes(key);
        RgbImage::new(width, height, pixels).unwrap()
    }

    fn gray(&self, key: &str) -> GrayImage {
        let (width, height, pixels) = self.bytes(key);
        GrayImage::new(width, height, pixels).unwrap()
    }

    fn bytes(&self, key: &str) -> (usize, usize, Vec<u8>) {
        let tensor = &self.tensors[key];
        let pixels = tensor.flatten_all().unwrap().to_vec1::<u8>().unwrap();
        (tensor.dim(1).unwrap(), tensor.dim(0).unwrap(), pixels)
    }

    fn params(&self, case: &Case) -> DrawParams {
        let image = || self.rgb(&format!("picture/{}", case.image));
        DrawParams {
            prompt: case.prompt.clone(),
            negative_prompt: case.negative_prompt.clone(),
            width: 32,
            height: 32,
            steps: case.steps,
            guidance_scale: case.guidance_scale,
            guidance_rescale: case.guidance_rescale,
            clip_skip: 0,
            seed: case.seed,
            n: 1,
            scheduler: case.scheduler.parse().unwrap(),
            start: match case.task.as_str() {
                "text_to_image" => Start::Noise,
                "image_to_image" => Start::Image {
                    image: image(),
                    strength: case.strength,
                },
                _ => Start::Inpaint(Inpaint {
                    image: image(),
                    mask: self.gray(&format!("picture/{}", case.mask)),
                    strength: case.strength,
                    mask_blur: 0.0,
                    mask_invert: false,
                    only_masked: case.only_masked,
                    fill: InpaintFill::Original,
                }),
            },
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn load(folder: &Path) -> Pipeline {
    let files = ModelFiles::folder(folder).unwrap();
    Pipeline::load(&files, &Device::Cpu, &LoadOptions::default()).unwrap()
}

/// What was drawn.
struct Drawn {
    /// After every step.
    latents: Vec<Tensor>,
    /// After the last.
    preview: RgbImage,
    image: RgbImage,
}

fn draw(pipeline: &Pipeline, params: &DrawParams) -> Drawn {
    let (mut latents, mut last, mut drawn) = (Vec::new(), None, None);
    pipeline
        .draw_with_noise(
            params,
            &mut |seed| Box::new(GoldenNoise::new(seed)) as Box<dyn Noise>,
            &mut |report| {
                match report {
                    Report::Step {
                        preview,
                        step,
                        total,
                        ..
                    } => {
                        latents.push(preview.latents().clone());
                        assert_eq!(step, latents.len());
                        assert_eq!(total, pipeline.description().steps_run(params));
                        if step == total {
                            last = Some(preview.render().unwrap());
                        }
                    }
                    Report::Image { image, .. } => drawn = Some(image),
                    Report::Encoded => {}
                }
                ControlFlow::Continue(())
            },
        )
        .unwrap();
    Drawn {
        latents,
        preview: last.unwrap(),
        image: drawn.unwrap(),
    }
}

/// The largest difference as a share of the largest magnitude in `wanted`.
fn relative_error(got: &Tensor, wanted: &Tensor) -> f64 {
    let got = got.squeeze(0).unwrap();
    assert_eq!(got.dims(), wanted.dims());
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (got, wanted) = (values(&got), values(wanted));
    let largest = wanted
        .iter()
        .fold(0f32, |most, value| most.max(value.abs()));
    let worst = got.iter().zip(&wanted).fold(0f32, |worst, (g, w)| {
        assert!(g.is_finite());
        worst.max((g - w).abs())
    });
    f64::from(worst / largest)
}

fn largest_difference(got: &RgbImage, wanted: &RgbImage) -> u8 {
    assert_eq!(
        (got.width(), got.height()),
        (wanted.width(), wanted.height())
    );
    let pairs = got.pixels().iter().zip(wanted.pixels());
    pairs.map(|(g, w)| g.abs_diff(*w)).max().unwrap()
}

#[test]
fn every_family_draws_every_task_as_the_reference_does() {
    let golden = Golden::read();
    let mut failures = Vec::new();
    let mut worst: BTreeMap<(&str, &str), (usize, f64, u8)> = BTreeMap::new();
    for model in &golden.manifest.models {
        let folder = golden.assemble(model);
        let pipeline = load(folder.path());
        for (index, case) in model.cases.iter().enumerate() {
            let key = format!("{}/{index}", model.name);
            let name = format!("{key} {} {} {}", case.task, case.scheduler, case.seed);
            let Drawn {
                latents,
                preview,
                image,
            } = draw(&pipeline, &golden.params(case));
            if latents.len() != case.steps_run {
                failures.push(format!(
                    "{name}: {} steps, not {}",
                    latents.len(),
                    case.steps_run
                ));
                continue;
            }
            let wanted = &golden.tensors[&format!("{key}/latents")];
            let first = latents.len() - wanted.dim(0).unwrap();
            assert!(first == 0 || case.latents_of == "last step");
            let errors: Vec<f64> = latents[first..]
                .iter()
                .enumerate()
                .map(|(step, latents)| relative_error(latents, &wanted.get(step).unwrap()))
                .collect();
            let error = errors.iter().copied().fold(0.0, f64::max);
            let levels = [("image", &image), ("preview", &preview)]
                .into_iter()
                .map(|(kind, got)| (format!("{key}/{kind}"), got))
                .filter(|(key, _)| golden.tensors.contains_key(key))
                .map(|(key, got)| largest_difference(got, &golden.rgb(&key)))
                .max()
                .unwrap_or_default();
            let row = worst.entry((&model.name, &case.task)).or_default();
            *row = (row.0 + 1, row.1.max(error), row.2.max(levels));
            if error > LATENTS_TOLERANCE || levels > PIXEL_TOLERANCE {
                let errors: Vec<String> = errors.iter().map(|e| format!("{e:.1e}")).collect();
                failures.push(format!("{name}: {errors:?}, {levels} levels"));
            }
        }
    }
    for ((model, task), (cases, error, levels)) in worst {
        println!("{model:13} {task:15} {cases:3} cases {error:.1e} {levels} levels");
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn families_are_recognised_by_their_files_with_defaults_that_suit_them() {
    use Task::{ImageToImage, Inpaint, TextToImage};
    let all = [TextToImage, ImageToImage, Inpaint];
    let golden = Golden::read();
    for (name, family, tasks, steps, guidance_scale, scheduler) in [
        ("sd1", "sd1", &all[..], 30, 7.5, "dpmpp_2m"),
        ("sd2", "sd2", &all, 30, 7.5, "ddim"),
        ("sdxl", "sdxl", &all, 30, 5.0, "euler"),
        ("sd1-inpaint", "sd1", &[Inpaint], 30, 7.5, "dpmpp_2m"),
        ("sdxl-inpaint", "sdxl", &[Inpaint], 30, 5.0, "euler"),
        ("lcm", "sd1", &all, 4, 8.5, "lcm"),
        ("ssd1b", "sdxl", &all, 30, 5.0, "euler"),
        ("tiny-sd", "sd1", &all, 30, 7.5, "dpmpp_2m"),
        ("sd-turbo", "sd2", &all, 4, 0.0, "euler"),
        ("sdxl-turbo", "sdxl", &all, 4, 0.0, "euler_ancestral"),
        (
            "refiner",
            "sdxl",
            &[ImageToImage, Inpaint],
            30,
            5.0,
            "euler",
        ),
    ] {
        let folder = golden.assemble(golden.model(name));
        let files = ModelFiles::folder(folder.path()).unwrap();
        let description = Pipeline::describe(&files).unwrap();
        assert_eq!(description.family.as_str(), family, "{name}");
        assert_eq!(description.tasks, tasks, "{name}");
        assert_eq!(
            (
                description.steps,
                description.guidance_scale,
                description.scheduler.name(),
                description.is_guidance_embedded
            ),
            (steps, guidance_scale, scheduler, name == "lcm"),
            "{name}"
        );
        assert_eq!((description.width, description.height), (32, 32), "{name}");
    }
}

#[test]
fn the_steps_that_a_strength_takes_are_the_references() {
    let golden = Golden::read();
    for model in &golden.manifest.models {
        for case in &model.cases {
            // A latent consistency pipeline takes all its steps from what an image leaves.
            if case.task != "text_to_image" && model.name != "lcm" {
                assert_eq!(steps_run(case.steps, case.strength), case.steps_run);
            }
        }
    }
}

#[test]
fn a_task_that_a_model_does_not_do_is_refused() {
    let golden = Golden::read();
    let folder = golden.assemble(golden.model("sd1-inpaint"));
    let pipeline = load(folder.path());
    let case = &golden.model("sd1").cases[0];
    assert_eq!(case.task, "image_to_image");
    let error = pipeline
        .draw(&golden.params(case), &mut |_| {
            panic!("nothing was to be drawn")
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParameter);
    assert_eq!(
        error.to_string(),
        "this model's tasks are inpaint, got image_to_image"
    );
}
