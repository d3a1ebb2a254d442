//! Single files made from the tiny models' folders by the recipes of `golden/single.py`.
#![allow(dead_code, unreachable_pub)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::common::golden_folder;

/// A tiny model's tensors under the original layout's names, made of those in its folder.
pub fn original_tensors(name: &str) -> HashMap<String, Tensor> {
    let recipe = golden_folder().join(format!("single/{name}.json"));
    let recipe: Vec<Value> = serde_json::from_slice(&std::fs::read(recipe).unwrap()).unwrap();
    let components = component_tensors(&golden_folder().join(name));
    recipe
        .iter()
        .map(|entry| made(entry, &components))
        .collect()
}

/// Writes a tiny model as a single file into `folder`, with the settings that name its configs.
pub fn write_single_file(name: &str, folder: &Path) -> PathBuf {
    let path = folder.join(format!("{name}.safetensors"));
    candle_core::safetensors::save(&original_tensors(name), &path).unwrap();
    write_settings(
        &path,
        &serde_json::json!({"configs": golden_folder().join(name)}),
    );
    path
}

pub fn write_settings(model: &Path, settings: &Value) {
    std::fs::write(model.with_extension("scumble.json"), settings.to_string()).unwrap();
}

fn made(entry: &Value, components: &HashMap<String, Tensor>) -> (String, Tensor) {
    let shape: Vec<usize> = serde_json::from_value(entry["shape"].clone()).unwrap();
    let sources: Vec<String> = serde_json::from_value(entry["of"].clone()).unwrap();
    let tensor = if sources.is_empty() {
        let dtype = if entry["dtype"] == "I64" {
            DType::I64
        } else {
            DType::F32
        };
        Tensor::zeros(shape, dtype, &Device::Cpu).unwrap()
    } else {
        let parts: Vec<&Tensor> = sources.iter().map(|source| &components[source]).collect();
        let whole = Tensor::cat(&parts, 0).unwrap();
        let turned = entry["transposed"] == true;
        let whole = if turned { whole.t().unwrap() } else { whole };
        whole.contiguous().unwrap().reshape(shape).unwrap()
    };
    (entry["name"].as_str().unwrap().to_owned(), tensor)
}

/// All tensors of a model's folder, named `component:tensor`.
fn component_tensors(folder: &Path) -> HashMap<String, Tensor> {
    let mut all = HashMap::new();
    for (component, stem) in [
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
        ("text_encoder_2", "model"),
    ] {
        let path = folder.join(component).join(format!("{stem}.safetensors"));
        if path.is_file() {
            for (name, tensor) in candle_core::safetensors::load(path, &Device::Cpu).unwrap() {
                all.insert(format!("{component}:{name}"), tensor);
            }
        }
    }
    all
}
