//! Long, weighted and broken prompts against the stated formulae, layers left out against diffusers, and what is
//! remembered. `golden/prompts.py` made the data.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::ops::ControlFlow;

use scumble_diffusion::{
    Device, DrawParams, ErrorKind, ModelFiles, Noise, Pipeline, PromptTokenizer, Report,
    SchedulerKind, Tensor,
};
use serde::Deserialize;

mod common;

use common::{GoldenNoise, golden_folder, tiny_params, tiny_pipeline};

/// Largest difference, as a share of the reference's largest magnitude.
const PROMPT_TOLERANCE: f64 = 1e-5;
const LATENTS_TOLERANCE: f64 = 1e-4;
const MODELS: [&str; 3] = ["sd1", "sd2", "sdxl"];

#[derive(Deserialize)]
struct Manifest {
    cases: Vec<Case>,
    skips: Vec<Skip>,
    drawn: Vec<Drawn>,
}

#[derive(Deserialize)]
struct Case {
    model: String,
    key: String,
    prompt: String,
    clip_skip: usize,
    chunks: Vec<usize>,
}

#[derive(Deserialize)]
struct Skip {
    model: String,
    key: String,
    prompt: String,
    negative_prompt: String,
    clip_skip: usize,
}

#[derive(Deserialize)]
struct Drawn {
    model: String,
    key: String,
    prompt: String,
    negative_prompt: String,
    clip_skip: usize,
    side: usize,
    steps: usize,
    guidance_scale: f64,
    seed: u64,
}

struct Golden {
    manifest: Manifest,
    tensors: HashMap<String, Tensor>,
    pipelines: HashMap<&'static str, Pipeline>,
}

impl Golden {
    fn load() -> Self {
        let folder = golden_folder().join("prompts");
        let manifest = std::fs::read(folder.join("encoded.json")).unwrap();
        let tensors = folder.join("encoded.safetensors");
        Self {
            manifest: serde_json::from_slice(&manifest).unwrap(),
            tensors: candle_core::safetensors::load(tensors, &Device::Cpu).unwrap(),
            pipelines: MODELS.map(|name| (name, tiny_pipeline(name))).into(),
        }
    }

    /// Compares one tensor, says how far off it is, and fails beyond the tolerance.
    fn check(&self, key: &str, got: &Tensor, tolerance: f64) {
        let error = relative_error(got, &self.tensors[key]);
        println!("{key:40} {error:.1e}");
        assert!(error <= tolerance, "{key}: {error:e}");
    }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn relative_error(got: &Tensor, wanted: &Tensor) -> f64 {
    assert_eq!(got.dims(), wanted.dims());
    let (got, wanted) = (values(got), values(wanted));
    let largest = wanted
        .iter()
        .fold(0f32, |most, value| most.max(value.abs()));
    let worst = got
        .iter()
        .zip(&wanted)
        .fold(0f32, |worst, (g, w)| worst.max((g - w).abs()));
    assert!(got.iter().all(|value| value.is_finite()));
    f64::from(worst / largest)
}

#[test]
fn long_weighted_and_broken_prompts_are_encoded_by_the_stated_formulae() {
    let golden = Golden::load();
    for case in &golden.manifest.cases {
        let pipeline = &golden.pipelines[case.model.as_str()];
        let count = pipeline.tokenize(&case.prompt).unwrap();
        assert_eq!(count.chunks, case.chunks, "{}", case.key);
        assert_eq!(count.tokens, case.chunks.iter().sum::<usize>());
        assert_eq!(count.chunk_tokens, 14);
        let embedding = pipeline
            .encode_prompt(&case.prompt, case.clip_skip)
            .unwrap();
        let hidden = format!("{}/hidden", case.key);
        golden.check(&hidden, &embedding.hidden, PROMPT_TOLERANCE);
        let pooled = format!("{}/pooled", case.key);
        assert_eq!(
            embedding.pooled.is_some(),
            golden.tensors.contains_key(&pooled)
        );
        if let Some(got) = &embedding.pooled {
            golden.check(&pooled, got, PROMPT_TOLERANCE);
        }
    }
}

#[test]
fn layers_are_left_out_as_diffusers_leaves_them_out() {
    let golden = Golden::load();
    for case in &golden.manifest.skips {
        let pipeline = &golden.pipelines[case.model.as_str()];
        // The reference leaves layers out of the prompt only.
        for (part, pooled_part, prompt, clip_skip) in [
            ("hidden", "pooled", &case.prompt, case.clip_skip),
            ("negative", "negative_pooled", &case.negative_prompt, 0),
        ] {
            let got = pipeline.encode_prompt(prompt, clip_skip).unwrap();
            let key = format!("{}/{part}", case.key);
            golden.check(&key, &got.hidden, PROMPT_TOLERANCE);
            if let Some(pooled) = &got.pooled {
                let key = format!("{}/{pooled_part}", case.key);
                golden.check(&key, pooled, PROMPT_TOLERANCE);
            }
        }
    }
}

#[test]
fn prompts_of_different_lengths_draw_what_diffusers_draws_of_their_padded_encodings() {
    let golden = Golden::load();
    for case in &golden.manifest.drawn {
        let params = DrawParams {
            prompt: case.prompt.clone(),
            negative_prompt: case.negative_prompt.clone(),
            width: case.side,
            height: case.side,
            steps: case.steps,
            guidance_scale: case.guidance_scale,
            clip_skip: case.clip_skip,
            seed: case.seed,
            ..tiny_params(SchedulerKind::Ddim)
        };
        let mut latents = None;
        golden.pipelines[case.model.as_str()]
            .draw_with_noise(
                &params,
                &mut |seed| Box::new(GoldenNoise::new(seed)) as Box<dyn Noise>,
                &mut |report| {
                    if let Report::Step { preview, .. } = report {
                        latents = Some(preview.latents().clone());
                    }
                    ControlFlow::Continue(())
                },
            )
            .unwrap();
        let key = format!("{}/latents", case.key);
        golden.check(&key, &latents.unwrap(), LATENTS_TOLERANCE);
    }
}

#[test]
fn more_layers_than_there_are_cannot_be_left_out() {
    for (name, max) in [("sd1", 2), ("sd2", 3), ("sdxl", 1)] {
        let pipeline = tiny_pipeline(name);
        assert_eq!(pipeline.description().clip_skip_max, max);
        assert!(pipeline.encode_prompt("cat", max).is_ok());
        let error = pipeline.encode_prompt("cat", max + 1).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidParameter);
        assert_eq!(
            error.to_string(),
            format!(
                "clip_skip must be 0..={max} for this model, got {}",
                max + 1
            )
        );
        let params = DrawParams {
            clip_skip: max + 1,
            ..tiny_params(SchedulerKind::Ddim)
        };
        let error = pipeline
            .draw(&params, &mut |_| panic!("nothing was to be drawn"))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidParameter);
    }
}

#[test]
fn a_remembered_prompt_has_the_very_same_numbers() {
    let pipeline = tiny_pipeline("sdxl");
    for (prompt, clip_skip) in [("the (red:1.3) fox", 0), ("the (red:1.3) fox", 1), ("", 0)] {
        let first = pipeline.encode_prompt(prompt, clip_skip).unwrap();
        let again = pipeline.encode_prompt(prompt, clip_skip).unwrap();
        // The same tensor, not one computed anew.
        assert_eq!(first.hidden.id(), again.hidden.id());
        pipeline.clear_prompt_cache();
        let anew = pipeline.encode_prompt(prompt, clip_skip).unwrap();
        assert_ne!(first.hidden.id(), anew.hidden.id());
        assert_eq!(values(&first.hidden), values(&anew.hidden));
        assert_eq!(
            values(&first.pooled.unwrap()),
            values(&anew.pooled.unwrap())
        );
    }
}

#[test]
fn a_prompt_of_too_many_chunks_is_refused_and_one_of_4000_characters_is_not() {
    for name in MODELS {
        let pipeline = tiny_pipeline(name);
        let files = ModelFiles::folder(golden_folder().join(name)).unwrap();
        let tokenizer = PromptTokenizer::load(&files).unwrap();
        let longest = "~,".repeat(2_000);
        let count = tokenizer.tokenize(&longest).unwrap();
        assert_eq!(count.tokens, 4_000);
        assert_eq!(count, pipeline.tokenize(&longest).unwrap());
        let endless = "BREAK ".repeat(666);
        let error = tokenizer.tokenize(&endless).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidPrompt);
        assert_eq!(
            error.to_string(),
            "the prompt must take at most 512 chunks of 14 tokens, got 666"
        );
        assert_eq!(
            pipeline.encode_prompt(&endless, 0).err().unwrap().kind(),
            ErrorKind::InvalidPrompt
        );
    }
}
