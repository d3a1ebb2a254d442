//! The engine against diffusers: prompt encodings, latents after every step, decoded and encoded images.
//!
//! `golden/make.py` made the data; the manifests beside it name the versions. Every manifest in the folder is run, so
//! making one for another model (`make.py --pocket DIR`) is enough to have it tested.
//! `SCUMBLE_GOLDEN_DIR` names another folder of manifests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use scumble_diffusion::{
    Device, DrawParams, LoadOptions, ModelFiles, Noise, Pipeline, Report, SchedulerKind, Start,
    Tensor,
};
use serde::Deserialize;

mod common;

use common::GoldenNoise;

/// Largest difference, as a share of the reference's largest magnitude after the same step.
const LATENTS_TOLERANCE: f64 = 1e-4;
const PROMPT_TOLERANCE: f64 = 2e-5;
const IMAGE_TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Manifest {
    model: PathBuf,
    prompts: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    prompt: String,
    negative_prompt: String,
    width: usize,
    height: usize,
    steps: usize,
    guidance_scale: f64,
    seed: u64,
    scheduler: String,
    latents_of: String,
}

struct Golden {
    name: String,
    manifest: Manifest,
    tensors: HashMap<String, Tensor>,
    pipeline: Pipeline,
}

fn golden_models() -> Vec<Golden> {
    let folder =
        std::env::var_os("SCUMBLE_GOLDEN_DIR").map_or_else(common::golden_folder, PathBuf::from);
    let mut models: Vec<Golden> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        // These two belong to tests of their own.
        .filter(|path| {
            let name = path.file_stem().unwrap();
            name != "schedulers" && name != "families"
        })
        .map(|path| load(&folder, &path))
        .collect();
    models.sort_by(|left, right| left.name.cmp(&right.name));
    assert!(!models.is_empty(), "no manifest in {}", folder.display());
    models
}

fn load(folder: &Path, path: &Path) -> Golden {
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let files = ModelFiles::folder(folder.join(&manifest.model)).unwrap();
    Golden {
        name: path.file_stem().unwrap().to_string_lossy().into_owned(),
        tensors: candle_core::safetensors::load(path.with_extension("safetensors"), &Device::Cpu)
            .unwrap(),
        pipeline: Pipeline::load(&files, &Device::Cpu, &LoadOptions::default()).unwrap(),
        manifest,
    }
}

/// The largest difference as a share of the largest magnitude in `wanted`.
fn relative_error(got: &Tensor, wanted: &Tensor) -> f64 {
    assert_eq!(got.dims(), wanted.dims());
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (got, wanted) = (values(got), values(wanted));
    let largest = wanted
        .iter()
        .fold(0f32, |largest, value| largest.max(value.abs()));
    let worst = got.iter().zip(&wanted).fold(0f32, |worst, (g, w)| {
        assert!(g.is_finite());
        worst.max((g - w).abs())
    });
    f64::from(worst / largest)
}

#[test]
fn prompts_are_encoded_as_the_reference_does() {
    for golden in golden_models() {
        for (index, prompt) in golden.manifest.prompts.iter().enumerate() {
            let embedding = golden.pipeline.encode_prompt(prompt, 0).unwrap();
            // The reference cuts a long prompt where the first chunk ends.
            let wanted = &golden.tensors[&format!("prompt/{index}/hidden")];
            let first_chunk = embedding.hidden.narrow(1, 0, wanted.dim(1).unwrap());
            let hidden = relative_error(&first_chunk.unwrap(), wanted);
            println!("{:8} prompt {index} hidden {hidden:.1e}", golden.name);
            assert!(
                hidden <= PROMPT_TOLERANCE,
                "{} {prompt:?}: {hidden:e}",
                golden.name
            );
            let wanted = golden.tensors.get(&format!("prompt/{index}/pooled"));
            assert_eq!(embedding.pooled.is_some(), wanted.is_some());
            if let (Some(got), Some(wanted)) = (embedding.pooled, wanted) {
                let pooled = relative_error(&got, wanted);
                println!("{:8} prompt {index} pooled {pooled:.1e}", golden.name);
                assert!(
                    pooled <= PROMPT_TOLERANCE,
                    "{} {prompt:?}: {pooled:e}",
                    golden.name
                );
            }
        }
    }
}

#[test]
fn latents_after_every_step_are_the_references() {
    for golden in golden_models() {
        let mut failures = Vec::new();
        for case in &golden.manifest.cases {
            let wanted = &golden.tensors[&format!("{}/latents", case.name)];
            let got = draw(&golden.pipeline, case);
            assert_eq!(got.len(), case.steps, "{}", case.name);
            let got = if case.latents_of == "every step" {
                got
            } else {
                got[got.len() - 1..].to_vec()
            };
            assert_eq!(got.len(), wanted.dim(0).unwrap(), "{}", case.name);
            let worst = got
                .iter()
                .enumerate()
                .map(|(step, latents)| {
                    relative_error(&latents.squeeze(0).unwrap(), &wanted.get(step).unwrap())
                })
                .fold(0.0, f64::max);
            println!("{:14} {:28} {worst:.1e}", golden.name, case.name);
            if worst > LATENTS_TOLERANCE {
                failures.push(format!("{}: {worst:e}", case.name));
            }
        }
        assert!(failures.is_empty(), "{}: {failures:#?}", golden.name);
    }
}

fn draw(pipeline: &Pipeline, case: &Case) -> Vec<Tensor> {
    let params = DrawParams {
        prompt: case.prompt.clone(),
        negative_prompt: case.negative_prompt.clone(),
        width: case.width,
        height: case.height,
        steps: case.steps,
        guidance_scale: case.guidance_scale,
        guidance_rescale: 0.0,
        clip_skip: 0,
        seed: case.seed,
        n: 1,
        scheduler: case.scheduler.parse::<SchedulerKind>().unwrap(),
        start: Start::Noise,
    };
    let mut latents = Vec::new();
    pipeline
        .draw_with_noise(
            &params,
            &mut |seed| Box::new(GoldenNoise::new(seed)) as Box<dyn Noise>,
            &mut |report| {
                if let Report::Step { preview, .. } = report {
                    latents.push(preview.latents().clone());
                }
                ControlFlow::Continue(())
            },
        )
        .unwrap();
    latents
}

#[test]
fn images_are_decoded_and_encoded_as_the_reference_does() {
    for golden in golden_models() {
        // Manifests of nothing but other schedulers hold no images.
        if !golden.tensors.contains_key("decoded") {
            assert!(golden.manifest.prompts.is_empty(), "{}", golden.name);
            continue;
        }
        let latents = &golden.tensors["negative/latents"];
        let last = latents.narrow(0, latents.dim(0).unwrap() - 1, 1).unwrap();
        let wanted = &golden.tensors["decoded"];
        let decoded = relative_error(&golden.pipeline.decode(&last).unwrap(), wanted);
        let image = wanted.clamp(-1.0, 1.0).unwrap();
        let encoded = relative_error(
            &golden.pipeline.encode(&image).unwrap(),
            &golden.tensors["encoded"],
        );
        println!(
            "{:8} decoded {decoded:.1e} encoded {encoded:.1e}",
            golden.name
        );
        assert!(decoded <= IMAGE_TOLERANCE, "{}: {decoded:e}", golden.name);
        assert!(encoded <= IMAGE_TOLERANCE, "{}: {encoded:e}", golden.name);
    }
}
