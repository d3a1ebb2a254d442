//! A LoRA's file: its tensors sorted into layers, by the part of their names that says what they are.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, TensorInfo};

use crate::error::{Error, Result};

/// What a tensor is to its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Alpha,
    Down,
    Up,
    UpBias,
    Mid,
    /// peft's lengths, one for every output.
    Magnitude,
    /// LyCORIS's lengths, whose shape says of what.
    DoraScale,
    HadamardUp1,
    HadamardDown1,
    HadamardCore1,
    HadamardUp2,
    HadamardDown2,
    HadamardCore2,
    KroneckerWhole1,
    KroneckerUp1,
    KroneckerDown1,
    KroneckerWhole2,
    KroneckerUp2,
    KroneckerDown2,
    KroneckerCore2,
    Difference,
    BiasDifference,
}

/// How the names of parts end. What stands before is the layer's name.
const ENDINGS: &[(&str, Part)] = &[
    (".alpha", Part::Alpha),
    (".lora_down.weight", Part::Down),
    (".lora_up.weight", Part::Up),
    (".lora_mid.weight", Part::Mid),
    (".lora_A.weight", Part::Down),
    (".lora_B.weight", Part::Up),
    (".lora_B.bias", Part::UpBias),
    (".lora_A.default.weight", Part::Down),
    (".lora_B.default.weight", Part::Up),
    (".lora_B.default.bias", Part::UpBias),
    (".lora_magnitude_vector", Part::Magnitude),
    (".lora_magnitude_vector.weight", Part::Magnitude),
    (".lora_magnitude_vector.default.weight", Part::Magnitude),
    (".lora.down.weight", Part::Down),
    (".lora.up.weight", Part::Up),
    (".lora_linear_layer.down.weight", Part::Down),
    (".lora_linear_layer.up.weight", Part::Up),
    ("_lora.down.weight", Part::Down),
    ("_lora.up.weight", Part::Up),
    (".dora_scale", Part::DoraScale),
    (".hada_w1_a", Part::HadamardUp1),
    (".hada_w1_b", Part::HadamardDown1),
    (".hada_t1", Part::HadamardCore1),
    (".hada_w2_a", Part::HadamardUp2),
    (".hada_w2_b", Part::HadamardDown2),
    (".hada_t2", Part::HadamardCore2),
    (".lokr_w1", Part::KroneckerWhole1),
    (".lokr_w1_a", Part::KroneckerUp1),
    (".lokr_w1_b", Part::KroneckerDown1),
    (".lokr_w2", Part::KroneckerWhole2),
    (".lokr_w2_a", Part::KroneckerUp2),
    (".lokr_w2_b", Part::KroneckerDown2),
    (".lokr_t2", Part::KroneckerCore2),
    (".diff", Part::Difference),
    (".diff_b", Part::BiasDifference),
    (".w_norm", Part::Difference),
    (".b_norm", Part::BiasDifference),
];

/// What tensors of these names belong to, none of which is implemented.
const FOREIGN: &[(&str, &str)] = &[
    (
        "model.diffusion_model.",
        "is a whole checkpoint, not a LoRA",
    ),
    ("first_stage_model.", "is a whole checkpoint, not a LoRA"),
    (
        "string_to_param",
        "is a textual inversion embedding, not a LoRA",
    ),
    ("emb_params", "is a textual inversion embedding, not a LoRA"),
    (
        "bundle_emb",
        "comes with textual inversion embeddings, which are not supported",
    ),
    ("control_model", "is a ControlNet, not a LoRA"),
    (
        "lora_controlnet",
        "is a control LoRA, which is not supported",
    ),
    (".oft_", "is an OFT network, which is not supported"),
    (".boft_", "is a BOFT network, which is not supported"),
    (".on_input", "is an IA3 network, which is not supported"),
    (".ia3_", "is an IA3 network, which is not supported"),
    (".a1.weight", "is a GLoRA network, which is not supported"),
    (".vera_", "is a VeRA network, which is not supported"),
    (
        ".lora_embedding_",
        "changes token embeddings, which is not supported",
    ),
    (
        ".reshape_weight",
        "changes the shape of weights, which is not supported",
    ),
    (
        ".set_weight",
        "replaces whole weights, which is not supported",
    ),
];

/// A safetensors file whose tensors are parts of layers.
pub(super) struct LoraFile {
    pub(super) name: String,
    pub(super) metadata: HashMap<String, String>,
    /// By the layer's name.
    pub(super) layers: BTreeMap<String, BTreeMap<Part, PartInfo>>,
}

/// Where a part is in the file.
pub(super) struct PartInfo {
    pub(super) tensor_name: String,
    pub(super) info: TensorInfo,
}

impl LoraFile {
    /// Sorts the tensors of a header. Errors name the first tensor that is no part of a LoRA.
    pub(super) fn sort(
        name: String,
        metadata: HashMap<String, String>,
        tensors: impl IntoIterator<Item = (String, TensorInfo)>,
    ) -> Result<Self> {
        let mut layers: BTreeMap<String, BTreeMap<Part, PartInfo>> = BTreeMap::new();
        for (tensor_name, info) in tensors {
            let Some((layer, part)) = split(&tensor_name) else {
                return Err(not_a_part(&name, &tensor_name));
            };
            let parts = layers.entry(layer).or_default();
            let former = parts.insert(part, PartInfo { tensor_name, info });
            if let (Some(former), Some(now)) = (former, parts.get(&part)) {
                return Err(Error::weights(
                    &name,
                    format_args!(
                        "{} and {} are the same part of one layer",
                        former.tensor_name, now.tensor_name
                    ),
                ));
            }
        }
        if layers.is_empty() {
            return Err(Error::weights(&name, "holds no tensors"));
        }
        Ok(Self {
            name,
            metadata,
            layers,
        })
    }
}

/// The layer's name and what the tensor is to it. Layers get the names that they have in today's diffusers.
fn split(tensor_name: &str) -> Option<(String, Part)> {
    let (ending, part) = ENDINGS
        .iter()
        .find(|(ending, _)| tensor_name.ends_with(ending))?;
    let place = tensor_name
        .strip_suffix(ending)?
        .replace(".processor.", ".");
    Some((
        if ending.starts_with('_') {
            renamed(place)
        } else {
            place
        },
        *part,
    ))
}

/// Before peft, diffusers gave the projections of attentions names of its own, in text encoders too.
fn renamed(place: String) -> String {
    let Some((module, projection)) = place.rsplit_once('.') else {
        return place;
    };
    let current = match (projection, module.ends_with("self_attn")) {
        ("to_q", true) => "q_proj",
        ("to_k", true) => "k_proj",
        ("to_v", true) => "v_proj",
        ("to_out", true) => "out_proj",
        ("to_out", false) => "to_out.0",
        (same, _) => same,
    };
    format!("{module}.{current}")
}

fn not_a_part(file: &str, tensor_name: &str) -> Error {
    let what = FOREIGN
        .iter()
        .find(|(needle, _)| tensor_name.contains(needle))
        .map_or("is no part of a LoRA of a known kind", |(_, what)| what);
    Error::unsupported(file, format_args!("{what}: it holds {tensor_name}"))
}

/// Errors if the path says that the file is a pickle.
pub(super) fn refuse_pickle(path: &Path) -> Result<()> {
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase());
    match ending.as_deref() {
        Some("bin" | "ckpt" | "pt" | "pth") => Err(is_pickle(&path.display().to_string())),
        _ => Ok(()),
    }
}

pub(super) fn is_pickle(file: &str) -> Error {
    Error::unsupported(
        file,
        "is a pickle, which can run any code when opened; save the LoRA as .safetensors",
    )
}

impl PartInfo {
    /// The tensor in the file's dtype, in host memory. Errors if it is empty, no float, or not finite.
    pub(super) fn read(&self, file: &str, data: &[u8]) -> Result<Tensor> {
        let dtype = match self.info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::F64 => DType::F64,
            other => {
                return Err(self.wrong(file, format_args!("is {other:?}, should be a float")));
            }
        };
        let shape = self.info.shape.as_slice();
        if shape.is_empty() || shape.contains(&0) {
            let what = format_args!("has shape {shape:?}, should hold numbers in rows");
            return Err(self.wrong(file, what));
        }
        let bytes = self.bytes(file, data)?;
        let tensor = Tensor::from_raw_buffer(bytes, dtype, shape, &Device::Cpu)?;
        let numbers = tensor
            .flatten_all()?
            .to_dtype(DType::F32)?
            .to_vec1::<f32>()?;
        if numbers.iter().all(|number| number.is_finite()) {
            Ok(tensor)
        } else {
            Err(self.wrong(file, format_args!("holds NaN or infinity")))
        }
    }

    /// The tensor's only number, which trainers have written in every type.
    pub(super) fn scalar(&self, file: &str, data: &[u8]) -> Result<f64> {
        let number = match (DType::try_from(self.info.dtype), self.elements()) {
            (Ok(dtype), 1) => {
                let tensor =
                    Tensor::from_raw_buffer(self.bytes(file, data)?, dtype, &[1], &Device::Cpu)?;
                tensor.to_dtype(DType::F64)?.to_vec1::<f64>()?.pop()
            }
            _ => None,
        };
        number.filter(|number| number.is_finite()).ok_or_else(|| {
            let (dtype, shape) = (self.info.dtype, &self.info.shape);
            let what = format_args!("is {dtype:?} {shape:?}, should be one finite number");
            self.wrong(file, what)
        })
    }

    /// How many numbers the tensor has.
    fn elements(&self) -> usize {
        self.info.shape.iter().product()
    }

    fn wrong(&self, file: &str, what: std::fmt::Arguments<'_>) -> Error {
        Error::weights(file, format_args!("{} {what}", self.tensor_name))
    }

    fn bytes<'a>(&self, file: &str, data: &'a [u8]) -> Result<&'a [u8]> {
        let (start, end) = self.info.data_offsets;
        data.get(start..end)
            .ok_or_else(|| self.wrong(file, format_args!("ends after the file")))
    }
}
