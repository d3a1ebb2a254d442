//! Damaged, incomplete and foreign model folders: one sentence that names the file, never a panic.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use scumble_diffusion::{Device, Error, ErrorKind, LoadOptions, ModelFiles, Pipeline, Tensor};
use serde_json::{Value, json};
use tempfile::TempDir;

mod common;
#[path = "common/single.rs"]
mod single;

/// A copy of a tiny model to break.
struct Model {
    folder: TempDir,
}

impl Model {
    fn copy(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&common::golden_folder().join(name), folder.path());
        Self { folder }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn edit_json(&self, file: &str, edit: impl FnOnce(&mut Value)) -> &Self {
        let mut value = serde_json::from_slice(&fs::read(self.path(file)).unwrap()).unwrap();
        edit(&mut value);
        fs::write(self.path(file), value.to_string()).unwrap();
        self
    }

    fn error(&self) -> Error {
        let loaded = ModelFiles::folder(self.folder.path())
            .and_then(|files| Pipeline::load(&files, &Device::Cpu, &LoadOptions::default()));
        loaded.err().expect("a broken model must not load")
    }

    /// The error has this kind, names this file and says this, in one line.
    fn expect(&self, kind: ErrorKind, file: &str, says: &str) {
        let error = self.error();
        let message = error.to_string();
        assert_eq!(error.kind(), kind, "{message}");
        let named = self.path(file).display().to_string();
        assert!(
            message.starts_with(&named),
            "{message:?} does not start with {named:?}"
        );
        assert!(message.contains(says), "{message:?} does not say {says:?}");
        assert_eq!(message.lines().count(), 1, "{message:?}");
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

const UNET_WEIGHTS: &str = "unet/diffusion_pytorch_model.safetensors";

#[test]
fn a_folder_that_is_not_there_or_no_model_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let error = ModelFiles::folder(folder.path().join("nowhere")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MissingFile);
    let error = ModelFiles::folder(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MissingFile);
    assert!(error.to_string().contains("model_index.json"), "{error}");
    fs::write(folder.path().join("model.ckpt"), b"x").unwrap();
    let error = ModelFiles::folder(folder.path().join("model.ckpt")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedModel);
    let error = ModelFiles::open(folder.path().join("nowhere")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MissingFile);
}

#[test]
fn every_missing_file_is_named() {
    for file in [
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer_config.json",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        UNET_WEIGHTS,
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ] {
        let model = Model::copy("sd1");
        fs::remove_file(model.path(file)).unwrap();
        model.expect(ErrorKind::MissingFile, file, "is missing");
    }
}

#[test]
fn weights_cut_anywhere_are_said_to_be_truncated() {
    for keep in [0, 4, 8, 1000, 200_000] {
        let model = Model::copy("sd1");
        let bytes = fs::read(model.path(UNET_WEIGHTS)).unwrap();
        fs::write(model.path(UNET_WEIGHTS), &bytes[..keep]).unwrap();
        model.expect(ErrorKind::InvalidWeights, UNET_WEIGHTS, "is truncated");
    }
    let model = Model::copy("sd1");
    let mut bytes = fs::read(model.path(UNET_WEIGHTS)).unwrap();
    bytes.extend([0; 7]);
    fs::write(model.path(UNET_WEIGHTS), bytes).unwrap();
    model.expect(ErrorKind::InvalidWeights, UNET_WEIGHTS, "trailing bytes");
}

#[test]
fn weights_that_are_something_else_are_refused_in_words() {
    for (bytes, says) in [
        (
            &b"<html>404 not found, but longer than eight bytes</html>"[..],
            "is a web page",
        ),
        (
            b"<!DOCTYPE html><html><body>nothing here</body></html>",
            "is a web page",
        ),
        (b"{\"error\": \"the repository is gated\"}", "is JSON"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "git lfs pull",
        ),
        (b"PK\x03\x04\0\0\0\0\0\0archive/data.pkl", "zip archive"),
        (b"\x80\x02}q\0X\x05\0\0\0modelq\x01", "is a pickle"),
        (b"GGUF\x03\0\0\0\0\0\0\0", "is a GGUF file"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is a PNG picture"),
        (
            b"\xff\xff\xff\xff\xff\xff\xff\xff{}",
            "not a sound safetensors file",
        ),
    ] {
        let model = Model::copy("sd1");
        fs::write(model.path(UNET_WEIGHTS), bytes).unwrap();
        model.expect(ErrorKind::InvalidWeights, UNET_WEIGHTS, says);
    }
    let model = Model::copy("sd1");
    fs::rename(
        model.path(UNET_WEIGHTS),
        model.path("unet/diffusion_pytorch_model.bin"),
    )
    .unwrap();
    model.expect(
        ErrorKind::UnsupportedModel,
        "unet/diffusion_pytorch_model.bin",
        "pickle",
    );
}

#[test]
fn numbers_that_are_not_finite_are_found_when_the_model_is_loaded() {
    let model = Model::copy("sd1");
    let path = model.path(UNET_WEIGHTS);
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let mut values = [0.5f32; 8];
    values[3] = f32::NAN;
    values[4] = f32::NEG_INFINITY;
    let bias = Tensor::new(&values, &Device::Cpu).unwrap();
    tensors.insert("conv_in.bias".to_owned(), bias);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    model.expect(
        ErrorKind::InvalidWeights,
        UNET_WEIGHTS,
        "not finite: conv_in.bias (2 of 8 numbers as F32)",
    );
}

#[test]
fn whole_numbers_are_no_weights() {
    let model = Model::copy("sd1");
    let path = model.path(UNET_WEIGHTS);
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let bias = Tensor::new(&[1i64; 8], &Device::Cpu).unwrap();
    tensors.insert("conv_in.bias".to_owned(), bias);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    model.expect(
        ErrorKind::InvalidWeights,
        UNET_WEIGHTS,
        "conv_in.bias is I64 [8], should be a float of [8]",
    );
}

#[test]
fn a_tensor_named_twice_is_named_in_the_error() {
    let model = Model::copy("sd1");
    let mut bytes = fs::read(model.path(UNET_WEIGHTS)).unwrap();
    // Two names of one length, so that the header's own length stays right.
    replace(
        &mut bytes,
        b"\"down_blocks.0.resnets.0.norm2.bias\"",
        b"\"down_blocks.0.resnets.0.norm1.bias\"",
    );
    fs::write(model.path(UNET_WEIGHTS), bytes).unwrap();
    model.expect(
        ErrorKind::InvalidWeights,
        UNET_WEIGHTS,
        "names tensors twice: down_blocks.0.resnets.0.norm1.bias",
    );
}

#[test]
fn what_is_wrong_with_several_components_is_reported_together() {
    let model = Model::copy("sd1");
    for (file, from, to) in [
        (UNET_WEIGHTS, "conv_in.bias", "conv_xx.bias"),
        (
            "vae/diffusion_pytorch_model.safetensors",
            "quant_conv.bias",
            "quant_xxxx.bias",
        ),
    ] {
        let mut bytes = fs::read(model.path(file)).unwrap();
        replace(
            &mut bytes,
            format!("\"{from}\"").as_bytes(),
            format!("\"{to}\"").as_bytes(),
        );
        fs::write(model.path(file), bytes).unwrap();
    }
    let message = model.error().to_string();
    for part in [
        UNET_WEIGHTS,
        "missing: conv_in.bias",
        "vae/diffusion",
        "missing: quant_conv.bias",
    ] {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

fn single_file_error(path: &Path) -> Error {
    let loaded = ModelFiles::open(path)
        .and_then(|files| Pipeline::load(&files, &Device::Cpu, &LoadOptions::default()));
    loaded.err().expect("a broken file must not load")
}

#[test]
fn a_single_file_that_is_no_model_is_said_to_be_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let zeros = Tensor::new(&[0f32; 4], &Device::Cpu).unwrap();
    for (tensor, says) in [
        (
            "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
            "is a LoRA",
        ),
        (
            "unet.down_blocks.0.attentions.0.to_q.lora_A.weight",
            "is a LoRA",
        ),
        ("control_model.input_blocks.0.0.weight", "is a ControlNet"),
        (
            "model.diffusion_model.joint_blocks.0.x",
            "Stable Diffusion 3",
        ),
        ("conv_in.weight", "holds a unet and nothing else"),
        (
            "first_stage_model.decoder.conv_in.weight",
            "holds an autoencoder and nothing else",
        ),
        (
            "text_model.embeddings.token_embedding.weight",
            "holds a text encoder",
        ),
        ("emb_params", "is an embedding"),
        ("something", "is no Stable Diffusion model"),
    ] {
        let path = folder.path().join("some.safetensors");
        let tensors = HashMap::from([(tensor.to_owned(), zeros.clone())]);
        candle_core::safetensors::save(&tensors, &path).unwrap();
        let error = single_file_error(&path);
        assert_eq!(error.kind(), ErrorKind::UnsupportedModel, "{error}");
        assert!(
            error.to_string().contains(says),
            "{error} does not say {says:?}"
        );
        assert!(error.to_string().contains("some.safetensors"), "{error}");
    }
    for name in ["model.ckpt", "model.pt", "model.bin", "MODEL.CKPT"] {
        let path = folder.path().join(name);
        fs::write(&path, b"x").unwrap();
        let error = single_file_error(&path);
        assert_eq!(error.kind(), ErrorKind::UnsupportedModel);
        assert!(error.to_string().contains("is a pickle"), "{error}");
    }
}

#[test]
fn a_single_file_is_checked_as_a_folder_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = single::write_single_file("sd2", folder.path());
    let sound = single::original_tensors("sd2");
    let unet = "model.diffusion_model.";
    let mut tensors = sound.clone();
    tensors.remove(&format!("{unet}out.2.bias"));
    let zeros = Tensor::new(&[0f32; 4], &Device::Cpu).unwrap();
    tensors.insert(format!("{unet}time_embed.7.weight"), zeros.clone());
    tensors.insert("some.thing.else".to_owned(), zeros.clone());
    tensors.insert(format!("{unet}input_blocks.0.0.bias"), zeros.clone());
    tensors.insert("first_stage_model.decoder.norm_out.odd".to_owned(), zeros);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let error = single_file_error(&path);
    assert_eq!(error.kind(), ErrorKind::InvalidWeights);
    let message = error.to_string();
    for part in [
        "sd2.safetensors (unet): tensors do not match the config",
        "missing: conv_out.bias",
        "model.diffusion_model.input_blocks.0.0.bias is F32 [4], should be a float of [8]",
        "model.diffusion_model.time_embed.7.weight",
        "some.thing.else",
        "sd2.safetensors (vae): tensors do not match the config; surplus: first_stage_model.decoder.norm_out.odd",
    ] {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
    candle_core::safetensors::save(&sound, &path).unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    assert!(
        single_file_error(&path)
            .to_string()
            .contains("is truncated")
    );
    // Tiny models do not tell their numbers of heads and words; without the settings that is said.
    candle_core::safetensors::save(&sound, &path).unwrap();
    fs::remove_file(path.with_extension("scumble.json")).unwrap();
    let message = single_file_error(&path).to_string();
    assert!(message.contains(".scumble.json"), "{message}");
}

#[test]
fn missing_surplus_and_misshapen_tensors_are_reported_together() {
    let model = Model::copy("sd1");
    let mut bytes = fs::read(model.path(UNET_WEIGHTS)).unwrap();
    // Same length, so that the header's own length stays right.
    replace(&mut bytes, b"\"conv_in.bias\"", b"\"conv_xx.bias\"");
    replace(&mut bytes, b"[8,4,3,3]", b"[4,8,3,3]");
    fs::write(model.path(UNET_WEIGHTS), bytes).unwrap();
    let message = model.error().to_string();
    for part in [
        "missing: conv_in.bias",
        "surplus: conv_xx.bias",
        "conv_in.weight is F32 [4, 8, 3, 3]",
        "[8, 4, 3, 3]",
    ] {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
    model.expect(
        ErrorKind::InvalidWeights,
        UNET_WEIGHTS,
        "do not match the config",
    );
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
}

#[test]
fn a_config_that_wants_other_sizes_than_the_weights_have_is_an_error() {
    let model = Model::copy("sd1");
    model.edit_json("text_encoder/config.json", |config| {
        config["intermediate_size"] = json!(64)
    });
    model.expect(
        ErrorKind::InvalidWeights,
        "text_encoder/model.safetensors",
        "mlp.fc1.weight",
    );
    let model = Model::copy("sd2");
    model.edit_json("vae/config.json", |config| {
        config["layers_per_block"] = json!(2)
    });
    model.expect(
        ErrorKind::InvalidWeights,
        "vae/diffusion_pytorch_model.safetensors",
        "missing",
    );
}

#[test]
fn configs_that_are_not_json_name_the_file() {
    for file in [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "unet/config.json",
        "vae/config.json",
    ] {
        let model = Model::copy("sd1");
        fs::write(model.path(file), "{\"a\": ").unwrap();
        model.expect(ErrorKind::InvalidConfig, file, "is not");
    }
    let model = Model::copy("sdxl");
    fs::write(model.path("tokenizer_2/tokenizer.json"), "{}").unwrap();
    model.expect(
        ErrorKind::InvalidConfig,
        "tokenizer_2/tokenizer.json",
        "is not a tokenizer",
    );
}

#[test]
fn options_that_are_not_implemented_name_file_and_field() {
    for (file, field, value) in [
        ("model_index.json", "_class_name", json!("FluxPipeline")),
        (
            "model_index.json",
            "unet",
            json!(["diffusers", "UNet3DConditionModel"]),
        ),
        ("unet/config.json", "class_embed_type", json!("timestep")),
        (
            "unet/config.json",
            "resnet_time_scale_shift",
            json!("scale_shift"),
        ),
        (
            "unet/config.json",
            "mid_block_type",
            json!("UNetMidBlock2DSimpleCrossAttn"),
        ),
        (
            "unet/config.json",
            "down_block_types",
            json!(["CrossAttnDownBlock2D", "AttnDownBlock2D", "DownBlock2D"]),
        ),
        ("unet/config.json", "in_channels", json!(8)),
        ("unet/config.json", "act_fn", json!("tanh")),
        ("unet/config.json", "a_field_of_the_future", json!("on")),
        ("vae/config.json", "_class_name", json!("AutoencoderDC")),
        ("vae/config.json", "latents_mean", json!([0.0])),
        ("text_encoder/config.json", "hidden_act", json!("gelu_new")),
        (
            "scheduler/scheduler_config.json",
            "prediction_type",
            json!("flow_prediction"),
        ),
        (
            "scheduler/scheduler_config.json",
            "thresholding",
            json!(true),
        ),
        (
            "scheduler/scheduler_config.json",
            "beta_schedule",
            json!("sigmoid"),
        ),
    ] {
        let model = Model::copy("sd1");
        model.edit_json(file, |config| config[field] = value);
        model.expect(ErrorKind::UnsupportedModel, file, field);
    }
}

#[test]
fn values_that_make_no_sense_name_file_and_field() {
    for (file, field, value) in [
        ("unet/config.json", "block_out_channels", json!([8, 16])),
        ("unet/config.json", "block_out_channels", json!([])),
        ("unet/config.json", "norm_num_groups", json!(0)),
        ("unet/config.json", "norm_num_groups", json!(5)),
        ("unet/config.json", "attention_head_dim", json!(3)),
        ("unet/config.json", "cross_attention_dim", json!(17)),
        ("unet/config.json", "layers_per_block", json!("two")),
        ("unet/config.json", "sample_size", json!(-1)),
        ("unet/config.json", "time_cond_proj_dim", json!(0)),
        (
            "unet/config.json",
            "transformer_layers_per_block",
            json!([1, 1]),
        ),
        (
            "unet/config.json",
            "transformer_layers_per_block",
            json!([1, "two", 1]),
        ),
        (
            "unet/config.json",
            "reverse_transformer_layers_per_block",
            json!([1, [1], 1]),
        ),
        ("vae/config.json", "scaling_factor", json!(0)),
        (
            "vae/config.json",
            "block_out_channels",
            json!([8, 8, 8, 8, 8, 8, 8, 8, 8, 8]),
        ),
        ("text_encoder/config.json", "num_attention_heads", json!(3)),
        ("text_encoder/config.json", "vocab_size", json!(10)),
        (
            "scheduler/scheduler_config.json",
            "num_train_timesteps",
            json!(0),
        ),
        ("scheduler/scheduler_config.json", "beta_end", json!(1.5)),
        (
            "scheduler/scheduler_config.json",
            "trained_betas",
            json!([0.1, 0.2]),
        ),
        (
            "tokenizer/tokenizer_config.json",
            "model_max_length",
            json!(2),
        ),
    ] {
        let model = Model::copy("sd1");
        model.edit_json(file, |config| config[field] = value);
        model.expect(ErrorKind::InvalidConfig, file, field);
    }
}

#[test]
fn the_fp16_variant_and_the_former_layer_names_load() {
    let model = Model::copy("sd1");
    fs::rename(
        model.path(UNET_WEIGHTS),
        model.path("unet/diffusion_pytorch_model.fp16.safetensors"),
    )
    .unwrap();
    let vae = model.path("vae/diffusion_pytorch_model.safetensors");
    let mut tensors = candle_core::safetensors::load(&vae, &Device::Cpu).unwrap();
    for (name, former) in [
        ("to_q", "query"),
        ("to_k", "key"),
        ("to_v", "value"),
        ("to_out.0", "proj_attn"),
    ] {
        for part in ["encoder", "decoder"] {
            for kind in ["weight", "bias"] {
                let place = format!("{part}.mid_block.attentions.0");
                let tensor = tensors.remove(&format!("{place}.{name}.{kind}")).unwrap();
                tensors.insert(format!("{place}.{former}.{kind}"), tensor);
            }
        }
    }
    candle_core::safetensors::save(&tensors, &vae).unwrap();
    let files = ModelFiles::folder(model.folder.path()).unwrap();
    Pipeline::load(&files, &Device::Cpu, &LoadOptions::default()).unwrap();
}

#[test]
fn scumble_json_sets_defaults_examples_and_vocabulary() {
    let model = Model::copy("sd1");
    fs::write(
        model.path("scumble.json"),
        r#"{"defaults": {"steps": 12, "guidance_scale": 2.5, "scheduler": "euler_ancestral"},
            "examples": ["a fox"], "vocabulary": "vocabulary.json"}"#,
    )
    .unwrap();
    fs::write(model.path("vocabulary.json"), r#"{"objects": ["fox"]}"#).unwrap();
    let describe = || Pipeline::describe(&ModelFiles::folder(model.folder.path()).unwrap());
    let description = describe().unwrap();
    assert_eq!((description.steps, description.guidance_scale), (12, 2.5));
    assert_eq!(description.scheduler.name(), "euler_ancestral");
    assert_eq!(description.examples, ["a fox"]);
    assert_eq!(description.vocabulary, Some(json!({"objects": ["fox"]})));
    fs::remove_file(model.path("vocabulary.json")).unwrap();
    let error = describe().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MissingFile);
    model.edit_json("scumble.json", |settings| {
        settings["defaults"]["scheduler"] = json!("plms")
    });
    assert!(describe().unwrap_err().to_string().contains("plms"));
}
