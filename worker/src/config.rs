//! The command line and the environment.

use crate::{
    catalog::{Catalog, ModelPlaces, ModelSearch, ModelSource},
    hub::{HubCache, HubId},
    limits,
    loras::LoraShelf,
    telemetry::LogFormat,
};
use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, value_parser};
use scumble_diffusion::{DeviceChoice, LoadOptions, Precision, SchedulerKind};
use scumble_protocol::limits::{
    BATCH_IMAGES_MAX, BATCH_IMAGES_MIN, GUIDANCE_SCALE_MAX, GUIDANCE_SCALE_MIN,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

/// Draws images from words: over HTTP, in a web page, or from the shell.
#[derive(Debug, Parser)]
#[command(name = "scumble", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API and the studio.
    Serve(ServeArgs),
    /// Draw from the shell.
    Generate(Box<GenerateArgs>),
    /// Show what a picture's file says about how it was drawn.
    Inspect(InspectArgs),
    /// List models, fetch them from the hub, look into them, remove them.
    Models(ModelsArgs),
}

/// Which models, on what.
#[derive(Debug, Clone, Default, Args)]
pub struct ModelArgs {
    /// A model: a folder in the diffusers layout, a .safetensors file, the hub id of one that was pulled, or the name of
    /// one that `scumble models` lists. The first one draws when a job names none. Repeatable.
    #[arg(
        long = "model",
        env = "SCUMBLE_MODEL",
        value_name = "[ID=]MODEL",
        value_delimiter = ';'
    )]
    pub models: Vec<ModelSource>,
    /// Another autoencoder for the models named with --model: a .safetensors file, or a folder.
    #[arg(long, env = "SCUMBLE_VAE", value_name = "PATH", requires = "models")]
    pub vae: Option<PathBuf>,
    /// Where further models lie.
    #[command(flatten)]
    pub places: PlaceArgs,
}

/// Where models lie.
#[derive(Debug, Clone, Default, Args)]
pub struct PlaceArgs {
    /// A folder with models: folders in the diffusers layout, .safetensors files, and what was pulled into it. When left
    /// out: the folder `models` in the user's data folder, and the hub's cache.
    #[arg(long, env = "SCUMBLE_MODELS_DIR", value_name = "DIR")]
    pub models_dir: Option<PathBuf>,
}

impl PlaceArgs {
    /// The folders to look in.
    ///
    /// # Errors
    /// One sentence: if the folder named is not there.
    pub fn places(&self) -> Result<ModelPlaces, String> {
        if let Some(folder) = &self.models_dir
            && !folder.is_dir()
        {
            return Err(format!(
                "--models-dir {}: there is no such folder",
                folder.display()
            ));
        }
        let own = || Some(user_data_folder()?.join("models"));
        Ok(ModelPlaces {
            folder: self.models_dir.clone().or_else(own),
            cache: HubCache::from_environment(self.models_dir.as_deref()),
        })
    }
}

impl ModelArgs {
    /// What can draw.
    ///
    /// # Errors
    /// One sentence: if a model that is named cannot be used, or there is none.
    pub fn catalog(&self) -> Result<Catalog, String> {
        let places = self.places.places()?;
        let search = ModelSearch {
            sources: &self.models,
            vae: self.vae.as_deref(),
            places: &places,
        };
        Catalog::open(&search).map_err(|error| error.to_string())
    }
}

/// Which LoRAs.
#[derive(Debug, Clone, Default, Args)]
pub struct LoraArgs {
    /// A folder with LoRAs, .safetensors files that jobs name by their file names; the folder `loras` beside the models
    /// when left out.
    #[arg(long, env = "SCUMBLE_LORAS_DIR", value_name = "DIR")]
    pub loras_dir: Option<PathBuf>,
}

impl LoraArgs {
    /// What can be added to models. `models_dir` is where models lie.
    ///
    /// # Errors
    /// One sentence: if the folder named cannot be read.
    pub fn shelf(&self, models_dir: Option<&Path>) -> Result<LoraShelf, String> {
        let beside = models_dir.map(|folder| folder.join("loras"));
        let folder = match (&self.loras_dir, beside) {
            (Some(named), _) => named.clone(),
            (None, Some(beside)) if beside.is_dir() => beside,
            (None, _) => return Ok(LoraShelf::default()),
        };
        LoraShelf::open(&folder)
            .map_err(|error| format!("--loras-dir {} cannot be read: {error}", folder.display()))
    }
}

/// What to draw on.
#[derive(Debug, Clone, Default, Args)]
pub struct DeviceArgs {
    /// auto, cpu, cuda, cuda:N or metal.
    #[arg(long, env = "SCUMBLE_DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// Threads that compute; all cores when left out.
    #[arg(long, env = "SCUMBLE_THREADS", value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// What weights are kept in: auto, f32, f16 or bf16. On the CPU the 16-bit ones save memory, not time.
    #[arg(long, env = "SCUMBLE_PRECISION", default_value = "auto")]
    pub precision: Precision,
}

impl DeviceArgs {
    /// How models are loaded.
    #[must_use]
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            precision: self.precision,
        }
    }
}

/// `scumble serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// The address to listen on.
    #[arg(long, env = "SCUMBLE_HOST", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,
    /// The port to listen on; 0 takes any free one.
    #[arg(long, env = "SCUMBLE_PORT", default_value_t = 8600)]
    pub port: u16,
    /// Where jobs and images are kept; the user's data folder when left out.
    #[arg(long, env = "SCUMBLE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Which models.
    #[command(flatten)]
    pub models: ModelArgs,
    /// Which LoRAs.
    #[command(flatten)]
    pub loras: LoraArgs,
    /// What to draw on.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// How much memory the weights of models may take, such as 12GiB: the one not used for longest makes room for the
    /// one that a job needs, which is loaded in any case. Three quarters of what is free when left out.
    #[arg(long, env = "SCUMBLE_MODELS_MEMORY_MAX", value_name = "SIZE")]
    pub models_memory_max: Option<ByteSize>,
    /// Jobs that may wait; further ones are refused.
    #[arg(long, env = "SCUMBLE_QUEUE_JOBS_MAX", value_name = "N", default_value_t = limits::QUEUE_JOBS_MAX)]
    pub queue_jobs_max: u32,
    /// Bytes of uploaded images that are kept; further ones are refused.
    #[arg(long, env = "SCUMBLE_UPLOAD_BYTES_MAX", value_name = "BYTES", default_value_t = limits::UPLOAD_BYTES_MAX)]
    pub upload_bytes_max: u64,
    /// A key that clients send as `Authorization: Bearer KEY`. Repeatable; `;` separates them in the environment.
    #[arg(
        long = "api-key",
        env = "SCUMBLE_API_KEY",
        value_name = "KEY",
        hide_env_values = true,
        value_delimiter = ';'
    )]
    pub api_keys: Vec<ApiKey>,
    /// Listen on an address that others reach, without any key.
    #[arg(long, env = "SCUMBLE_INSECURE")]
    pub insecure: bool,
    /// A page's origin that may use this server, such as `https://example.com`. Repeatable.
    #[arg(
        long = "allow-origin",
        env = "SCUMBLE_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ';'
    )]
    pub allow_origins: Vec<String>,
    /// A name that this server is reached under, beside its address. Repeatable.
    #[arg(
        long = "allow-host",
        env = "SCUMBLE_ALLOW_HOST",
        value_name = "NAME",
        value_delimiter = ';'
    )]
    pub allow_hosts: Vec<String>,
    /// How long a stopping server waits for the running job before it goes back in the queue.
    #[arg(long, env = "SCUMBLE_SHUTDOWN_TIMEOUT_MS", value_name = "MS", default_value_t = limits::SHUTDOWN_TIMEOUT_MS)]
    pub shutdown_timeout_ms: u64,
    /// Which log lines are written, such as info, or scumble_worker=debug.
    #[arg(
        long,
        env = "SCUMBLE_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log: String,
    /// How log lines are written.
    #[arg(long, env = "SCUMBLE_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// A key, kept out of every log.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// The key itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl std::str::FromStr for ApiKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_sendable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_sendable {
            Ok(Self(text.to_owned()))
        } else {
            Err("a key must be of visible ASCII characters, at least one".to_owned())
        }
    }
}

impl ServeArgs {
    /// The address to listen on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    /// Refuses what would let anybody on the network draw.
    ///
    /// # Errors
    /// If others reach the address and no key is asked for.
    pub fn check(&self) -> Result<(), String> {
        if self.host.is_loopback() || !self.api_keys.is_empty() || self.insecure {
            return Ok(());
        }
        Err(format!(
            "{} can be reached from other machines: ask for a key with --api-key KEY, or say --insecure if everybody may draw",
            self.host
        ))
    }

    /// Where jobs and images are kept.
    ///
    /// # Errors
    /// If none was named and the system has no place for a user's data.
    pub fn data_dir(&self) -> Result<PathBuf, String> {
        if let Some(folder) = &self.data_dir {
            return Ok(folder.clone());
        }
        user_data_folder().ok_or_else(|| {
            "this system has no folder for a user's data; name one with --data-dir DIR".to_owned()
        })
    }
}

/// `scumble generate`.
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    /// What to draw.
    pub prompt: String,
    /// The file to write: .png, .webp or .jpg; further images of a batch get -1, -2, … before the extension.
    #[arg(short, long, value_name = "FILE", default_value = "scumble.png")]
    pub output: PathBuf,
    /// What to steer away from.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub negative_prompt: String,
    /// Pixels across; the model's own size when left out.
    #[arg(long)]
    pub width: Option<u32>,
    /// Pixels down; the model's own size when left out.
    #[arg(long)]
    pub height: Option<u32>,
    /// Denoising steps.
    #[arg(long)]
    pub steps: Option<u32>,
    /// How strongly the prompt steers.
    #[arg(long, value_parser = parse_guidance_scale)]
    pub guidance_scale: Option<f64>,
    /// The first image's seed; drawn at random when left out.
    #[arg(long)]
    pub seed: Option<u64>,
    /// How many images.
    #[arg(long, default_value_t = BATCH_IMAGES_MIN, value_parser = value_parser!(u32).range(i64::from(BATCH_IMAGES_MIN)..=i64::from(BATCH_IMAGES_MAX)))]
    pub n: u32,
    /// Which scheduler; the model's own when left out.
    #[arg(long)]
    pub scheduler: Option<SchedulerKind>,
    /// An image to start from (PNG, JPEG or WebP); the result has its size if none is given.
    #[arg(long, value_name = "FILE")]
    pub init_image: Option<PathBuf>,
    /// How much of the image is given up to noise, above 0 and at most 1; 0.75 when left out.
    #[arg(long)]
    pub strength: Option<f64>,
    /// Which part of the image is drawn anew: white is.
    #[arg(long, value_name = "FILE")]
    pub mask: Option<PathBuf>,
    /// The standard deviation of the blur that the mask gets, in pixels; 4 when left out.
    #[arg(long, value_name = "PIXELS")]
    pub mask_blur: Option<f64>,
    /// Draw black anew instead of white.
    #[arg(long)]
    pub mask_invert: bool,
    /// Draw nothing but the masked part, with this many pixels around it, at the whole size of the result.
    #[arg(long, value_name = "PADDING", num_args = 0..=1, require_equals = true)]
    pub only_masked: Option<Option<u32>>,
    /// What is under the mask before drawing begins: original, noise, blur or fill.
    #[arg(long, value_name = "FILL")]
    pub inpaint_fill: Option<String>,
    /// Pixels to add to the image's edges, to be drawn.
    #[arg(long, value_name = "LEFT,TOP,RIGHT,BOTTOM")]
    pub outpaint: Option<String>,
    /// A LoRA of the folder by its name, and how strongly it counts, from -4 to 4; 1 when left out. Repeatable.
    #[arg(long = "lora", value_name = "NAME[:SCALE]")]
    pub chosen_loras: Vec<String>,
    /// Last layers of the text encoder that are left out.
    #[arg(long, value_name = "LAYERS")]
    pub clip_skip: Option<u32>,
    /// How much of the prediction's spread is taken back to what it was without guidance, 0 to 1.
    #[arg(long)]
    pub guidance_rescale: Option<f64>,
    /// Do not write into the file how it was drawn.
    #[arg(long)]
    pub no_metadata: bool,
    /// Which models.
    #[command(flatten)]
    pub models: ModelArgs,
    /// Which LoRAs.
    #[command(flatten)]
    pub loras: LoraArgs,
    /// What to draw on.
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `scumble inspect`.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// A PNG, JPEG or WebP file.
    pub image: PathBuf,
    /// JSON, as POST /v1/png-info answers.
    #[arg(long)]
    pub json: bool,
}

/// `scumble models`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ModelsArgs {
    /// What to do with them; lists them when left out.
    #[command(subcommand)]
    pub command: Option<ModelsCommand>,
    /// For the list.
    #[command(flatten)]
    pub list: ModelsListArgs,
}

/// What to do with models.
#[derive(Debug, Clone, Subcommand)]
pub enum ModelsCommand {
    /// List the models there are, and those that cannot be used with the reason.
    List(ModelsListArgs),
    /// Fetch a model from the Hugging Face hub into its cache, or into --models-dir.
    Pull(ModelsPullArgs),
    /// Show what a model is made of; reads headers only.
    Inspect(ModelsInspectArgs),
    /// Remove a model from the disk.
    Rm(ModelsRmArgs),
}

/// `scumble models list`.
#[derive(Debug, Clone, Args)]
pub struct ModelsListArgs {
    /// Which models.
    #[command(flatten)]
    pub models: ModelArgs,
    /// JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// `scumble models pull`.
#[derive(Debug, Clone, Args)]
pub struct ModelsPullArgs {
    /// `org/name`, or `org/name@revision`. HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_CACHE are heeded.
    #[arg(value_name = "HUB_ID")]
    pub id: HubId,
    /// Take weights of this variant, such as fp16, where there are such.
    #[arg(long)]
    pub variant: Option<String>,
    /// Fetch only this .safetensors file.
    #[arg(long, conflicts_with = "variant")]
    pub file: Option<String>,
    /// Where to.
    #[command(flatten)]
    pub places: PlaceArgs,
}

/// `scumble models inspect`.
#[derive(Debug, Clone, Args)]
pub struct ModelsInspectArgs {
    /// A model's name in the list, a folder, a file, or the hub id of one that was pulled.
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// JSON instead of lines.
    #[arg(long)]
    pub json: bool,
    /// Where models lie.
    #[command(flatten)]
    pub places: PlaceArgs,
}

/// `scumble models rm`.
#[derive(Debug, Clone, Args)]
pub struct ModelsRmArgs {
    /// A model's name in the list, or the hub id of one that was pulled.
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Where models lie.
    #[command(flatten)]
    pub places: PlaceArgs,
}

fn user_data_folder() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "scumble")
        .map(|folders| folders.data_local_dir().to_owned())
}

fn parse_guidance_scale(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|value| (GUIDANCE_SCALE_MIN..=GUIDANCE_SCALE_MAX).contains(value))
        .ok_or_else(|| format!("must be {GUIDANCE_SCALE_MIN}..={GUIDANCE_SCALE_MAX}"))
}
