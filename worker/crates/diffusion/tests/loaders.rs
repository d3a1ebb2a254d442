//! One model from every kind of file: a folder, variants, shards, a single file in the original layout, parts from
//! elsewhere. What is drawn must not tell which it was.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::DType;
use scumble_diffusion::{
    Device, Family, LoadOptions, ModelFiles, Pipeline, Precision, Report, SchedulerKind, Tensor,
};
use serde_json::{Value, json};
use tempfile::TempDir;

mod common;
#[path = "common/single.rs"]
mod single;

use common::{golden_folder, tiny_params};
use single::{original_tensors, write_settings, write_single_file};

const MODELS: [&str; 3] = ["sd1", "sd2", "sdxl"];
const UNET: &str = "unet/diffusion_pytorch_model";

fn load(files: &ModelFiles, precision: Precision) -> Pipeline {
    Pipeline::load(files, &Device::Cpu, &LoadOptions { precision }).unwrap()
}

fn folder(name: &str) -> ModelFiles {
    ModelFiles::open(golden_folder().join(name)).unwrap()
}

/// The pixels and the last latents of one small picture.
fn draw(pipeline: &Pipeline) -> (Vec<u8>, Tensor) {
    let mut params = tiny_params(SchedulerKind::Ddim);
    params.width = pipeline.description().width;
    params.height = pipeline.description().height;
    params.steps = 3;
    let (mut pixels, mut last) = (Vec::new(), None);
    pipeline
        .draw(&params, &mut |report| {
            match report {
                Report::Step { preview, .. } => last = Some(preview.latents().clone()),
                Report::Image { image, .. } => pixels = image.into_pixels(),
                _ => {}
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    (pixels, last.unwrap())
}

fn pixels(files: &ModelFiles) -> Vec<u8> {
    draw(&load(files, Precision::F32)).0
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn copied(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden_folder().join(name), folder.path());
    folder
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn save(tensors: &HashMap<String, Tensor>, path: &Path) {
    candle_core::safetensors::save(tensors, path).unwrap();
}

#[test]
fn a_single_file_draws_the_same_bytes_as_the_folder() {
    for name in MODELS {
        let temporary = tempfile::tempdir().unwrap();
        let path = write_single_file(name, temporary.path());
        let single = ModelFiles::open(&path).unwrap();
        assert_eq!(
            Pipeline::describe(&single).unwrap(),
            Pipeline::describe(&folder(name)).unwrap()
        );
        assert!(pixels(&single) == pixels(&folder(name)), "{name}");
    }
}

#[test]
fn weights_in_several_files_draw_the_same_bytes_as_in_one() {
    let model = copied("sd1");
    let whole = model.path().join(format!("{UNET}.safetensors"));
    let mut shards = [HashMap::new(), HashMap::new(), HashMap::new()];
    let mut map = serde_json::Map::new();
    let all = tensors(&whole);
    let mut names: Vec<&String> = all.keys().collect();
    names.sort();
    for (index, name) in names.into_iter().enumerate() {
        map.insert(name.clone(), json!(shard_name(index % 3)));
        shards[index % 3].insert(name.clone(), all[name].clone());
    }
    for (index, shard) in shards.iter().enumerate() {
        save(shard, &model.path().join("unet").join(shard_name(index)));
    }
    fs::remove_file(whole).unwrap();
    let index = model.path().join(format!("{UNET}.safetensors.index.json"));
    let write = |map: &serde_json::Map<String, Value>| {
        fs::write(
            &index,
            json!({"metadata": {}, "weight_map": map}).to_string(),
        )
        .unwrap();
    };
    let files = ModelFiles::open(model.path()).unwrap();
    let error = || {
        let loaded = Pipeline::load(&files, &Device::Cpu, &LoadOptions::default());
        loaded.err().expect("must not load").to_string()
    };
    write(&map);
    assert!(pixels(&files) == pixels(&folder("sd1")));

    map.insert("conv_in.bias".to_owned(), json!(shard_name(1)));
    write(&map);
    let message = error();
    assert!(
        message.contains("index.json: tensors are not where they should be"),
        "{message}"
    );
    assert!(message.contains("conv_in.bias (in "), "{message}");

    map.insert(
        "conv_in.bias".to_owned(),
        json!("../../elsewhere.safetensors"),
    );
    write(&map);
    assert!(
        error().contains("no .safetensors file beside it"),
        "{}",
        error()
    );

    fs::remove_file(model.path().join("unet").join(shard_name(2))).unwrap();
    map.insert("conv_in.bias".to_owned(), json!(shard_name(0)));
    write(&map);
    let message = error();
    assert!(
        message.contains("names files that are missing"),
        "{message}"
    );
    assert!(message.contains(&shard_name(2)), "{message}");
}

fn shard_name(index: usize) -> String {
    format!(
        "diffusion_pytorch_model-{:05}-of-00003.safetensors",
        index + 1
    )
}

#[test]
fn of_two_variants_the_one_of_the_precision_asked_for_is_read() {
    let model = copied("sd1");
    let whole = model.path().join(format!("{UNET}.safetensors"));
    let half = model.path().join(format!("{UNET}.fp16.safetensors"));
    let halves = tensors(&whole)
        .into_iter()
        .map(|(name, tensor)| (name, tensor.to_dtype(DType::F16).unwrap()))
        .collect();
    save(&halves, &half);
    // A file that cannot be read tells which one was.
    let broken = |path: &Path| {
        let sound = fs::read(path).unwrap();
        fs::write(path, b"").unwrap();
        let files = ModelFiles::open(model.path()).unwrap();
        let loads = [Precision::F32, Precision::F16].map(|precision| {
            Pipeline::load(&files, &Device::Cpu, &LoadOptions { precision }).is_ok()
        });
        fs::write(path, sound).unwrap();
        loads
    };
    assert_eq!(broken(&whole), [false, true]);
    assert_eq!(broken(&half), [true, false]);
}

#[test]
fn weights_stored_in_16_bits_draw_what_those_weights_widened_to_32_draw() {
    for (precision, dtype) in [(Precision::F16, DType::F16), (Precision::Bf16, DType::BF16)] {
        let model = copied("sd1");
        for file in [
            format!("{UNET}.safetensors"),
            "vae/diffusion_pytorch_model.safetensors".to_owned(),
            "text_encoder/model.safetensors".to_owned(),
        ] {
            let path = model.path().join(file);
            let rounded = tensors(&path)
                .into_iter()
                .map(|(name, tensor)| (name, tensor.to_dtype(dtype).unwrap()))
                .collect();
            save(&rounded, &path);
        }
        let rounded = pixels(&ModelFiles::open(model.path()).unwrap());
        assert!(
            draw(&load(&folder("sd1"), precision)).0 == rounded,
            "{precision}"
        );
        assert!(
            rounded != pixels(&folder("sd1")),
            "{precision} rounded nothing"
        );
    }
}

#[test]
fn another_vae_may_be_a_folder_or_a_file_in_either_layout() {
    let temporary = tempfile::tempdir().unwrap();
    let other = golden_folder().join("sd2");
    let mut own_scale = copied("sd1");
    // Another autoencoder, with the same scale: what a file in place of a folder cannot say is the model's own.
    let vae = own_scale.path().join("vae");
    fs::remove_dir_all(&vae).unwrap();
    copy(&other.join("vae"), &vae);
    own_scale.disable_cleanup(false);
    let wanted = pixels(&ModelFiles::open(own_scale.path()).unwrap());
    assert!(wanted != pixels(&folder("sd1")));

    let original: HashMap<String, Tensor> = original_tensors("sd2")
        .into_iter()
        .filter_map(|(name, tensor)| {
            Some((name.strip_prefix("first_stage_model.")?.to_owned(), tensor))
        })
        .collect();
    let lone = temporary.path().join("original-vae.safetensors");
    save(&original, &lone);
    let whole = write_single_file("sd2", temporary.path());
    let diffusers = other.join("vae/diffusion_pytorch_model.safetensors");
    for path in [other.join("vae"), other.clone(), lone, whole, diffusers] {
        let files = folder("sd1").with_vae(&path).unwrap();
        assert!(pixels(&files) == wanted, "{}", path.display());
    }
    let error = folder("sd1").with_vae(other.join("unet/diffusion_pytorch_model.safetensors"));
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("holds no autoencoder")
    );
}

#[test]
fn a_file_without_vae_or_text_encoder_takes_them_from_elsewhere() {
    let temporary = tempfile::tempdir().unwrap();
    let path = write_single_file("sd1", temporary.path());
    let unet_only: HashMap<String, Tensor> = tensors(&path)
        .into_iter()
        .filter(|(name, _)| name.starts_with("model.diffusion_model."))
        .collect();
    save(&unet_only, &path);
    let error = ModelFiles::open(&path)
        .and_then(|files| Pipeline::load(&files, &Device::Cpu, &LoadOptions::default()));
    let message = error.err().unwrap().to_string();
    assert!(message.contains("holds no"), "{message}");
    let files = ModelFiles::open(&path)
        .unwrap()
        .with_vae(golden_folder().join("sd1"))
        .unwrap()
        .with_text_encoder(golden_folder().join("sd1"))
        .unwrap();
    assert!(pixels(&files) == pixels(&folder("sd1")));
    write_settings(
        &path,
        &json!({
            "configs": golden_folder().join("sd1"),
            "vae": golden_folder().join("sd1/vae"),
            "text_encoder": golden_folder().join("sd1/text_encoder"),
        }),
    );
    assert!(pixels(&ModelFiles::open(&path).unwrap()) == pixels(&folder("sd1")));
}

/// A file of the real models' names and shapes. The numbers are a hole, which takes no space and is not read.
fn real(name: &str, tensors: &Value, folder: &Path) -> PathBuf {
    let path = folder.join(format!("{name}.safetensors"));
    let mut header = serde_json::Map::new();
    let mut end = 0;
    lay_out(tensors, "", &mut header, &mut end);
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    fs::write(&path, &bytes).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(bytes.len() as u64 + end).unwrap();
    path
}

fn lay_out(node: &Value, place: &str, header: &mut serde_json::Map<String, Value>, end: &mut u64) {
    match node {
        Value::Object(fields) => {
            for (name, below) in fields {
                let place = if place.is_empty() {
                    name.clone()
                } else {
                    format!("{place}.{name}")
                };
                lay_out(below, &place, header, end);
            }
        }
        shape => {
            let sizes: Vec<u64> = serde_json::from_value(shape.clone()).unwrap();
            let start = *end;
            *end += sizes.iter().product::<u64>() * 2;
            let entry = json!({"dtype": "F16", "shape": sizes, "data_offsets": [start, *end]});
            header.insert(place.to_owned(), entry);
        }
    }
}

#[test]
fn the_real_models_are_recognised_and_configured_from_their_shapes() {
    let shapes = fs::read(golden_folder().join("single/shapes.json")).unwrap();
    let shapes: Value = serde_json::from_slice(&shapes).unwrap();
    for (name, side, family) in [
        ("sd1", 512, Family::Sd1),
        ("sd1-inpainting", 512, Family::Sd1),
        ("sd2", 768, Family::Sd2),
        ("sdxl", 1024, Family::Sdxl),
    ] {
        let temporary = tempfile::tempdir().unwrap();
        let mut tensors = shapes[name]["tensors"].clone();
        if tensors.is_null() {
            tensors = shapes["sd1"]["tensors"].clone();
            tensors["model"]["diffusion_model"]["input_blocks"]["0"]["0"]["weight"] =
                json!([320, 9, 3, 3]);
        }
        let files = ModelFiles::open(real(name, &tensors, temporary.path())).unwrap();
        let config = |component: &str| -> Value {
            let bytes = files
                .read(&format!("{component}/config.json"))
                .unwrap()
                .unwrap();
            serde_json::from_slice(&bytes).unwrap()
        };
        for (component, wanted) in shapes[name]["configs"].as_object().unwrap() {
            let got = config(component);
            for (field, wanted) in wanted.as_object().unwrap() {
                assert!(
                    same_counts(&got[field], wanted),
                    "{name} {component} {field}: {} is not {wanted}",
                    got[field]
                );
            }
        }
        let description = Pipeline::describe(&files).unwrap();
        assert_eq!(description.family, family);
        assert_eq!((description.width, description.height), (side, side));
        assert_eq!(description.prompt_tokens, 77);
    }
}

/// A list of one number for each block is that number.
fn same_counts(got: &Value, wanted: &Value) -> bool {
    match got {
        Value::Array(list) if !wanted.is_array() => list.iter().all(|value| value == wanted),
        got => got == wanted,
    }
}

#[test]
fn the_prediction_type_is_told_by_a_marker_or_the_settings_else_by_the_family() {
    let shapes = fs::read(golden_folder().join("single/shapes.json")).unwrap();
    let shapes: Value = serde_json::from_slice(&shapes).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let prediction = |path: &Path| -> (Value, Value) {
        let files = ModelFiles::open(path).unwrap();
        let bytes = files
            .read("scheduler/scheduler_config.json")
            .unwrap()
            .unwrap();
        let config: Value = serde_json::from_slice(&bytes).unwrap();
        (
            config["prediction_type"].clone(),
            config["rescale_betas_zero_snr"].clone(),
        )
    };
    let mut tensors = shapes["sdxl"]["tensors"].clone();
    let plain = real("plain", &tensors, temporary.path());
    assert_eq!(prediction(&plain), (json!("epsilon"), Value::Null));
    tensors["v_pred"] = json!([0]);
    tensors["ztsnr"] = json!([0]);
    let marked = real("marked", &tensors, temporary.path());
    assert_eq!(prediction(&marked), (json!("v_prediction"), json!(true)));
    let base = real("base", &shapes["sd2"]["tensors"], temporary.path());
    assert_eq!(prediction(&base).0, json!("v_prediction"));
    write_settings(
        &base,
        &json!({"prediction_type": "epsilon", "defaults": {"steps": 4}}),
    );
    assert_eq!(prediction(&base).0, json!("epsilon"));
    let description = Pipeline::describe(&ModelFiles::open(&base).unwrap()).unwrap();
    assert_eq!((description.width, description.steps), (512, 4));
    write_settings(&base, &json!({"predicton_type": "epsilon"}));
    let error = ModelFiles::open(&base).unwrap_err().to_string();
    assert!(
        error.contains("base.scumble.json") && error.contains("predicton_type"),
        "{error}"
    );
}
