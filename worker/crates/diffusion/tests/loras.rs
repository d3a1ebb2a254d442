//! LoRAs against diffusers and peft, put in, changed and taken out. `golden/loras.py` made the data.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use proptest::prelude::*;
use scumble_diffusion::{
    Device, DrawParams, ErrorKind, Family, Lora, Noise, Pipeline, Report, SchedulerKind, Start,
    Tensor,
};
use serde::Deserialize;

mod common;

use common::GoldenNoise;

/// Largest difference, as a share of the reference's largest magnitude.
const LATENTS_TOLERANCE: f64 = 1e-5;
const PROMPT_TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Manifest {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    model: String,
    loras: Vec<(String, f64)>,
    same_as: Vec<String>,
    prompt: String,
    negative_prompt: String,
    width: usize,
    height: usize,
    steps: usize,
    guidance_scale: f64,
    seed: u64,
    scheduler: String,
}

fn folder() -> PathBuf {
    common::golden_folder().join("loras")
}

fn open(name: &str) -> Arc<Lora> {
    Arc::new(Lora::open(folder().join(format!("{name}.safetensors"))).unwrap())
}

fn manifest() -> Manifest {
    serde_json::from_slice(&std::fs::read(folder().join("golden.json")).unwrap()).unwrap()
}

fn draw(pipeline: &Pipeline, case: &Case, steps: usize) -> Vec<f32> {
    let params = DrawParams {
        prompt: case.prompt.clone(),
        negative_prompt: case.negative_prompt.clone(),
        width: case.width,
        height: case.height,
        steps,
        guidance_scale: case.guidance_scale,
        guidance_rescale: 0.0,
        clip_skip: 0,
        seed: case.seed,
        n: 1,
        scheduler: case.scheduler.parse::<SchedulerKind>().unwrap(),
        start: Start::Noise,
    };
    let mut latents = None;
    pipeline
        .draw_with_noise(
            &params,
            &mut |seed| Box::new(GoldenNoise::new(seed)) as Box<dyn Noise>,
            &mut |report| {
                if let Report::Step { preview, .. } = report {
                    latents = Some(numbers(preview.latents()));
                }
                ControlFlow::Continue(())
            },
        )
        .unwrap();
    latents.unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn relative_error(got: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(got.len(), wanted.len());
    let largest = wanted.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let worst = got.iter().zip(wanted).fold(0f32, |worst, (g, w)| {
        assert!(g.is_finite());
        worst.max((g - w).abs())
    });
    f64::from(worst / largest)
}

#[test]
fn latents_and_prompts_with_loras_are_the_references() {
    let golden =
        candle_core::safetensors::load(folder().join("golden.safetensors"), &Device::Cpu).unwrap();
    let mut pipelines: HashMap<String, Pipeline> = HashMap::new();
    for case in manifest().cases {
        let pipeline = pipelines
            .entry(case.model.clone())
            .or_insert_with(|| common::tiny_pipeline(&case.model));
        let set: Vec<(Arc<Lora>, f64)> = case
            .loras
            .iter()
            .map(|(name, scale)| (open(name), *scale))
            .collect();
        pipeline.set_loras(&set).unwrap();
        let latents = draw(pipeline, &case, case.steps);
        let hidden = numbers(&pipeline.encode_prompt(&case.prompt, 0).unwrap().hidden);
        let wanted = |what: &str| numbers(&golden[&format!("{}/{what}", case.name)]);
        let latents_error = relative_error(&latents, &wanted("latents"));
        let hidden_error = relative_error(&hidden, &wanted("hidden"));
        println!(
            "{:20} latents {latents_error:.1e} prompt {hidden_error:.1e}",
            case.name
        );
        assert!(latents_error <= LATENTS_TOLERANCE, "{}", case.name);
        assert!(hidden_error <= PROMPT_TOLERANCE, "{}", case.name);
        for name in &case.same_as {
            pipeline
                .set_loras(&[(open(name), case.loras[0].1)])
                .unwrap();
            assert_eq!(
                draw(pipeline, &case, case.steps),
                latents,
                "{name} is {} in another way of writing",
                case.loras[0].0
            );
        }
    }
}

/// The tiny SD 1.x model, its LoRAs, and what it draws without any: loaded once.
struct Shared {
    pipeline: Pipeline,
    loras: Vec<Arc<Lora>>,
    bare: Vec<f32>,
}

fn shared() -> MutexGuard<'static, Shared> {
    static SHARED: OnceLock<Mutex<Shared>> = OnceLock::new();
    SHARED
        .get_or_init(|| {
            let pipeline = common::tiny_pipeline("sd1");
            let bare = short_draw(&pipeline);
            let loras = ["a-kohya", "b-old", "loha", "lokr", "dora", "differences"]
                .map(|name| open(&format!("sd1-{name}")));
            Mutex::new(Shared {
                pipeline,
                loras: loras.to_vec(),
                bare,
            })
        })
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

fn short_draw(pipeline: &Pipeline) -> Vec<f32> {
    draw(pipeline, &manifest().cases[0], 1)
}

fn sets() -> impl Strategy<Value = Vec<(usize, f64)>> {
    let scale = prop_oneof![Just(0.8), Just(-0.5), Just(0.0), -2.0..2.0];
    prop::collection::vec((0..6usize, scale), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn after_any_sequence_of_sets_the_last_one_alone_counts_and_none_is_undone_exactly(
        sequence in prop::collection::vec(sets(), 1..5),
    ) {
        let mut shared = shared();
        let choose = |shared: &Shared, set: &[(usize, f64)]| -> Vec<(Arc<Lora>, f64)> {
            set.iter().map(|(index, scale)| (shared.loras[*index].clone(), *scale)).collect()
        };
        for set in &sequence {
            let set = choose(&shared, set);
            shared.pipeline.set_loras(&set).unwrap();
        }
        let after_others = short_draw(&shared.pipeline);
        shared.pipeline.set_loras(&[]).unwrap();
        prop_assert_eq!(shared.pipeline.lora_bytes(), 0);
        prop_assert_eq!(&short_draw(&shared.pipeline), &shared.bare);
        let last = choose(&shared, sequence.last().unwrap());
        shared.pipeline.set_loras(&last).unwrap();
        prop_assert_eq!(short_draw(&shared.pipeline), after_others);
        shared.pipeline.set_loras(&[]).unwrap();
    }
}

#[test]
fn a_lora_at_scale_zero_draws_as_none_does() {
    let mut shared = shared();
    for lora in shared.loras.clone() {
        shared.pipeline.set_loras(&[(lora, 0.0)]).unwrap();
        assert_eq!(shared.pipeline.lora_bytes(), 0);
        assert_eq!(short_draw(&shared.pipeline), shared.bare);
    }
}

#[test]
fn only_changed_weights_are_kept_twice() {
    let mut shared = shared();
    let lora = shared.loras[5].clone();
    shared.pipeline.set_loras(&[(lora, 1.0)]).unwrap();
    // conv_norm_out and norm1 of 8 channels, conv_out from 8 to 4 with a kernel of 3, weights and biases in f32.
    assert_eq!(
        shared.pipeline.lora_bytes(),
        4 * (8 + 8 + 8 + 8 + 4 * 8 * 9 + 4)
    );
    shared.pipeline.set_loras(&[]).unwrap();
}

#[test]
fn a_lora_for_another_family_is_refused_and_the_former_set_stays() {
    let mut shared = shared();
    let own = shared.loras[0].clone();
    shared.pipeline.set_loras(&[(own.clone(), 0.8)]).unwrap();
    let before = short_draw(&shared.pipeline);
    let error = shared
        .pipeline
        .set_loras(&[(own, 0.8), (open("sdxl-a-kohya"), 1.0)])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoraMismatch);
    let message = error.to_string();
    for part in [
        "sdxl-a-kohya.safetensors: does not fit this model",
        "have no place in it: lora_te2_text_model_encoder_layers_0_self_attn_k_proj",
        "it seems to be for SDXL, its cross attention 40 wide",
        "and this is sd1, its cross attention 16 wide",
    ] {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
    assert_eq!(short_draw(&shared.pipeline), before);
    shared.pipeline.set_loras(&[]).unwrap();
}

#[test]
fn a_scale_that_is_no_number_is_refused() {
    let mut shared = shared();
    let lora = shared.loras[0].clone();
    for scale in [f64::NAN, f64::INFINITY] {
        let error = shared
            .pipeline
            .set_loras(&[(lora.clone(), scale)])
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidParameter);
    }
    assert_eq!(short_draw(&shared.pipeline), shared.bare);
}

/// Tensors by name.
type Shapes<'a> = &'a [(&'a str, &'a [usize])];

/// A safetensors file of f32 tensors by name and shape, every number the same.
fn write(file: &std::path::Path, value: f32, tensors: Shapes<'_>, metadata: &[(&str, &str)]) {
    let tensors: HashMap<String, Tensor> = tensors
        .iter()
        .map(|(name, shape)| {
            let tensor = Tensor::full(value, *shape, &Device::Cpu).unwrap();
            ((*name).to_owned(), tensor)
        })
        .collect();
    let metadata = metadata
        .iter()
        .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
        .collect();
    safetensors::serialize_to_file(&tensors, Some(metadata), file).unwrap();
}

/// The message of the error that opening such a file ends in.
fn refusal(value: f32, tensors: Shapes<'_>) -> (ErrorKind, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.safetensors");
    write(&file, value, tensors, &[]);
    refusal_of(&file)
}

fn refusal_of(file: &std::path::Path) -> (ErrorKind, String) {
    let error = Lora::open(file).unwrap_err();
    let message = error.to_string();
    let named = file.display().to_string();
    let rest = message.strip_prefix(&format!("{named}: "));
    let rest = rest.unwrap_or_else(|| panic!("{message:?} does not start with {named:?}"));
    assert_eq!(rest.lines().count(), 1, "{rest:?}");
    (error.kind(), rest.to_owned())
}

const QUERY: &str = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q";

#[test]
fn pickles_are_refused_by_name_and_by_content() {
    let folder = tempfile::tempdir().unwrap();
    let says = "is a pickle, which can run any code when opened; save the LoRA as .safetensors";
    for (name, bytes) in [
        ("x.pt", &b"anything"[..]),
        ("x.CKPT", b"anything"),
        (
            "x.safetensors",
            b"PK\x03\x04 a zip archive, as torch writes them",
        ),
        ("y.safetensors", b"\x80\x02}q\x00."),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        let (kind, message) = refusal_of(&file);
        assert_eq!(
            (kind, message.as_str()),
            (ErrorKind::UnsupportedModel, says)
        );
    }
}

#[test]
fn damaged_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.safetensors");
    assert_eq!(
        refusal_of(&file),
        (ErrorKind::MissingFile, "there is no such file".to_owned())
    );
    let whole = std::fs::read(self::folder().join("sd1-c-kohya.safetensors")).unwrap();
    for length in [0, 7, 8, 100, whole.len() - 1] {
        std::fs::write(&file, &whole[..length]).unwrap();
        let (kind, message) = refusal_of(&file);
        assert_eq!(kind, ErrorKind::InvalidWeights, "{length} bytes: {message}");
    }
}

#[test]
fn tensors_that_are_no_sound_lora_are_refused_by_name() {
    let down = format!("{QUERY}.lora_A.weight");
    let up = format!("{QUERY}.lora_B.weight");
    let cases: &[(f32, Shapes<'_>, &str)] = &[
        (
            f32::NAN,
            &[(&down, &[2, 16]), (&up, &[16, 2])],
            "lora_A.weight holds NaN or infinity",
        ),
        (1.0, &[(&down, &[2, 16])], "has one of two factors"),
        (
            1.0,
            &[(&down, &[2, 16]), (&up, &[16, 3])],
            "has factors whose ranks differ",
        ),
        (
            1.0,
            &[(&down, &[2, 0]), (&up, &[16, 2])],
            "has shape [2, 0]",
        ),
        (
            1.0,
            &[
                (&down, &[2, 16]),
                (&up, &[16, 2]),
                ("unet.conv_in.alpha", &[2]),
            ],
            "alpha is F32 [2], should be one finite number",
        ),
        (
            1.0,
            &[
                ("lora_unet_conv_in.lora_down.weight", &[2, 16]),
                ("lora_unet_conv_in.hada_w1_a", &[2, 2]),
            ],
            "has one of two factors",
        ),
        (
            1.0,
            &[("unet.conv_in.weight", &[2, 16])],
            "is no part of a LoRA of a known kind: it holds unet.conv_in.weight",
        ),
        (
            1.0,
            &[("model.diffusion_model.out.2.weight", &[2])],
            "is a whole checkpoint, not a LoRA",
        ),
        (
            1.0,
            &[("lora_unet_conv_in.oft_blocks", &[2])],
            "is an OFT network, which is not supported",
        ),
        (
            1.0,
            &[("emb_params", &[2, 768])],
            "is a textual inversion embedding, not a LoRA",
        ),
    ];
    for (value, tensors, says) in cases {
        let (_, message) = refusal(*value, tensors);
        assert!(message.contains(says), "{message:?} does not say {says:?}");
    }
}

#[test]
fn tensors_of_whole_numbers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.safetensors");
    let tensor = Tensor::zeros((2, 16), candle_core::DType::I64, &Device::Cpu).unwrap();
    let tensors = HashMap::from([(format!("{QUERY}.lora_A.weight"), tensor)]);
    candle_core::safetensors::save(&tensors, &file).unwrap();
    let (kind, message) = refusal_of(&file);
    assert_eq!(kind, ErrorKind::InvalidWeights);
    assert!(
        message.ends_with("lora_A.weight is I64, should be a float"),
        "{message}"
    );
}

#[test]
fn layers_without_a_place_and_of_another_shape_are_all_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.safetensors");
    let mut tensors: Vec<(String, Vec<usize>)> = Vec::new();
    for (place, inputs) in [
        (QUERY, 24),
        ("unet.nowhere", 24),
        (
            "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k",
            768,
        ),
    ] {
        tensors.push((format!("{place}.lora_A.weight"), vec![2, inputs]));
        tensors.push((format!("{place}.lora_B.weight"), vec![24, 2]));
    }
    let tensors: Vec<(&str, &[usize])> = tensors
        .iter()
        .map(|(name, shape)| (name.as_str(), shape.as_slice()))
        .collect();
    write(&file, 0.5, &tensors, &[]);
    let mut shared = shared();
    let lora = Arc::new(Lora::open(&file).unwrap());
    let error = shared.pipeline.set_loras(&[(lora, 1.0)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoraMismatch);
    assert_eq!(
        error.to_string(),
        format!(
            "{}: does not fit this model; 1 of 3 layers have no place in it: unet.nowhere; 1 of 3 layers do not fit: \
             unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k is 24x768, the model's is 24x16; \
             it seems to be for SD 1.x, its cross attention 768 wide, and this is sd1, its cross attention 16 wide",
            file.display()
        )
    );
    assert_eq!(short_draw(&shared.pipeline), shared.bare);
}

#[test]
fn one_layer_named_in_two_ways_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.safetensors");
    let flat = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";
    let names = [
        format!("{QUERY}.lora_A.weight"),
        format!("{QUERY}.lora_B.weight"),
        format!("{flat}.lora_down.weight"),
        format!("{flat}.lora_up.weight"),
    ];
    let shapes: [&[usize]; 4] = [&[2, 24], &[24, 2], &[2, 24], &[24, 2]];
    let tensors: Vec<(&str, &[usize])> = names.iter().map(String::as_str).zip(shapes).collect();
    write(&file, 0.5, &tensors, &[]);
    let lora = Arc::new(Lora::open(&file).unwrap());
    let error = shared().pipeline.set_loras(&[(lora, 1.0)]).unwrap_err();
    let says = format!("are named twice: {flat} and {QUERY}");
    assert!(error.to_string().contains(&says), "{error}");
}

#[test]
fn a_file_is_described_from_its_header() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.safetensors");
    let metadata = [
        ("ss_network_alpha", "4.0"),
        ("ss_output_name", "watercolour"),
        ("modelspec.title", "Watercolour"),
        ("modelspec.trigger_phrase", "wtrclr style"),
        (
            "ss_tag_frequency",
            r#"{"10_a": {"wtrclr": 12, " tree": 3}, "2_b": {"tree": 4, "sky": 1}}"#,
        ),
    ];
    let tensors: Shapes<'_> = &[
        (
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight",
            &[8, 2048],
        ),
        (
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_up.weight",
            &[640, 8],
        ),
        (
            "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
            &[4, 1280],
        ),
        (
            "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight",
            &[5120, 4],
        ),
    ];
    write(&file, 0.5, tensors, &metadata);
    let description = Lora::describe(&file).unwrap();
    assert_eq!(&description, Lora::open(&file).unwrap().description());
    assert_eq!(description.family, Some(Family::Sdxl));
    assert_eq!(description.base.as_deref(), Some("SDXL"));
    assert_eq!(description.cross_attention_width, Some(2048));
    assert_eq!(description.layers, 2);
    assert_eq!(description.rank, Some(4..=8));
    assert_eq!(description.alpha, Some(4.0));
    assert_eq!(description.kinds, ["lora"]);
    assert_eq!(description.title.as_deref(), Some("Watercolour"));
    assert_eq!(description.trigger_phrase.as_deref(), Some("wtrclr style"));
    let targets: Vec<(&str, usize)> = description
        .targets
        .iter()
        .map(|(name, count)| (name.as_str(), *count))
        .collect();
    assert_eq!(targets, [("text_encoder_2", 1), ("unet", 1)]);
    let tags: Vec<(&str, u64)> = description
        .tags
        .iter()
        .map(|(tag, count)| (tag.as_str(), *count))
        .collect();
    assert_eq!(tags, [("wtrclr", 12), ("tree", 7), ("sky", 1)]);
}
