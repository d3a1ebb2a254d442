//! Decodes a large image with a random autoencoder of Stable Diffusion's size, and prints time and peak memory.
//!
//! ```text
//! cargo run --release -p scumble-diffusion --example decode_memory -- 1024 1024
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use scumble_diffusion::{
    Device, LoadOptions, ModelFiles, Noise as _, Pipeline, SeededNoise, Tensor,
};

const CHANNELS: [usize; 4] = [128, 256, 512, 512];
const LATENTS: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let mut sides = std::env::args().skip(1);
    let mut side = || {
        sides
            .next()
            .unwrap_or_else(|| "1024".to_owned())
            .parse::<usize>()
    };
    let (width, height) = (side()?, side()?);
    let folder = tempfile::tempdir()?;
    write_model(folder.path())?;
    let files = ModelFiles::open(folder.path())?;
    let pipeline = Pipeline::load(&files, &Device::Cpu, &LoadOptions::default())?;
    println!("loaded: {}", peak());
    let shape = (1, LATENTS, height / 8, width / 8);
    let values = SeededNoise::new(1).draw(LATENTS * shape.2 * shape.3);
    let latents = Tensor::from_vec(values, shape, &Device::Cpu)?;
    let start = Instant::now();
    let image = pipeline.decode(&latents)?;
    println!(
        "{:?} decoded in {:.1?}: {}",
        image.dims(),
        start.elapsed(),
        peak()
    );
    let start = Instant::now();
    let latents = pipeline.encode(&image.clamp(-1.0, 1.0)?)?;
    println!(
        "{:?} encoded in {:.1?}: {}",
        latents.dims(),
        start.elapsed(),
        peak()
    );
    Ok(())
}

/// The most memory that this process has had, where the system tells.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(
        || "peak memory unknown".to_owned(),
        |peak| format!("peak {}", peak.trim()),
    )
}

/// A tiny model of the tests with a full-size autoencoder.
fn write_model(folder: &Path) -> Result<(), Box<dyn Error>> {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sd1");
    for part in std::fs::read_dir(&tiny)? {
        let part = part?;
        if part.file_type()?.is_file() {
            std::fs::copy(part.path(), folder.join(part.file_name()))?;
            continue;
        }
        std::fs::create_dir(folder.join(part.file_name()))?;
        for file in std::fs::read_dir(part.path())? {
            let file = file?;
            std::fs::copy(
                file.path(),
                folder.join(part.file_name()).join(file.file_name()),
            )?;
        }
    }
    let path = folder.join("vae/config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    if let Some(fields) = config.as_object_mut() {
        fields.insert("block_out_channels".to_owned(), CHANNELS.to_vec().into());
        fields.insert("norm_num_groups".to_owned(), 32.into());
        fields.insert("layers_per_block".to_owned(), 2.into());
        fields.insert(
            "down_block_types".to_owned(),
            vec!["DownEncoderBlock2D"; 4].into(),
        );
        fields.insert(
            "up_block_types".to_owned(),
            vec!["UpDecoderBlock2D"; 4].into(),
        );
    }
    std::fs::write(&path, serde_json::to_vec(&config)?)?;
    let weights = Autoencoder::default().finish()?;
    candle_core::safetensors::save(
        &weights,
        folder.join("vae/diffusion_pytorch_model.safetensors"),
    )?;
    Ok(())
}

/// The tensors of an `AutoencoderKL`, random, of a size that keeps activations near one.
#[derive(Default)]
struct Autoencoder {
    tensors: HashMap<String, Tensor>,
}

impl Autoencoder {
    fn finish(mut self) -> Result<HashMap<String, Tensor>, Box<dyn Error>> {
        let [outermost, .., innermost] = CHANNELS;
        self.conv("encoder.conv_in", 3, outermost, 3)?;
        let mut inputs = outermost;
        for (level, outputs) in CHANNELS.into_iter().enumerate() {
            let block = format!("encoder.down_blocks.{level}");
            for layer in 0..2 {
                self.resnet(&format!("{block}.resnets.{layer}"), inputs, outputs)?;
                inputs = outputs;
            }
            if level + 1 < CHANNELS.len() {
                self.conv(&format!("{block}.downsamplers.0.conv"), outputs, outputs, 3)?;
            }
        }
        self.end("encoder", innermost, 2 * LATENTS)?;
        self.conv("quant_conv", 2 * LATENTS, 2 * LATENTS, 1)?;
        self.conv("post_quant_conv", LATENTS, LATENTS, 1)?;
        self.conv("decoder.conv_in", LATENTS, innermost, 3)?;
        for (level, outputs) in CHANNELS.into_iter().rev().enumerate() {
            let block = format!("decoder.up_blocks.{level}");
            for layer in 0..3 {
                self.resnet(&format!("{block}.resnets.{layer}"), inputs, outputs)?;
                inputs = outputs;
            }
            if level + 1 < CHANNELS.len() {
                self.conv(&format!("{block}.upsamplers.0.conv"), outputs, outputs, 3)?;
            }
        }
        self.end("decoder", outermost, 3)?;
        Ok(self.tensors)
    }

    /// The middle and what follows the levels.
    fn end(&mut self, half: &str, channels: usize, outputs: usize) -> Result<(), Box<dyn Error>> {
        let [.., innermost] = CHANNELS;
        for index in 0..2 {
            self.resnet(
                &format!("{half}.mid_block.resnets.{index}"),
                innermost,
                innermost,
            )?;
        }
        let attention = format!("{half}.mid_block.attentions.0");
        self.norm(&format!("{attention}.group_norm"), innermost)?;
        for layer in ["to_q", "to_k", "to_v", "to_out.0"] {
            self.random(
                &format!("{attention}.{layer}.weight"),
                &[innermost, innermost],
            )?;
            self.random(&format!("{attention}.{layer}.bias"), &[innermost])?;
        }
        self.norm(&format!("{half}.conv_norm_out"), channels)?;
        self.conv(&format!("{half}.conv_out"), channels, outputs, 3)
    }

    fn resnet(&mut self, name: &str, inputs: usize, outputs: usize) -> Result<(), Box<dyn Error>> {
        self.norm(&format!("{name}.norm1"), inputs)?;
        self.conv(&format!("{name}.conv1"), inputs, outputs, 3)?;
        self.norm(&format!("{name}.norm2"), outputs)?;
        self.conv(&format!("{name}.conv2"), outputs, outputs, 3)?;
        if inputs != outputs {
            self.conv(&format!("{name}.conv_shortcut"), inputs, outputs, 1)?;
        }
        Ok(())
    }

    fn conv(
        &mut self,
        name: &str,
        inputs: usize,
        outputs: usize,
        kernel: usize,
    ) -> Result<(), Box<dyn Error>> {
        self.random(
            &format!("{name}.weight"),
            &[outputs, inputs, kernel, kernel],
        )?;
        self.random(&format!("{name}.bias"), &[outputs])
    }

    fn norm(&mut self, name: &str, channels: usize) -> Result<(), Box<dyn Error>> {
        let ones = Tensor::from_vec(vec![1f32; channels], channels, &Device::Cpu)?;
        self.tensors.insert(format!("{name}.weight"), ones);
        self.random(&format!("{name}.bias"), &[channels])
    }

    fn random(&mut self, name: &str, shape: &[usize]) -> Result<(), Box<dyn Error>> {
        let count: usize = shape.iter().product();
        let inputs = shape.iter().skip(1).product::<usize>().max(100);
        let scale = 1.0 / f64::from(u32::try_from(inputs)?).sqrt();
        let seed = u64::try_from(self.tensors.len())?;
        let values = Tensor::from_vec(SeededNoise::new(seed).draw(count), shape, &Device::Cpu)?;
        self.tensors.insert(name.to_owned(), (values * scale)?);
        Ok(())
    }
}
