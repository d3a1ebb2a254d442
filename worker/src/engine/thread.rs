//! The one thread that owns the device: loads models and draws, one job at a time.

use super::{
    EngineStatus,
    loaded::{LoadError, LoadedModels},
};
use crate::{
    catalog::Catalog,
    error::panic_message,
    loras::{LoraShelf, OpenLoras},
};
use scumble_diffusion::{
    DeviceChoice, DrawParams, Error, ErrorKind, LoadOptions, Pipeline, Report as DiffusionReport,
    RgbImage, device_name,
};
use scumble_protocol::{LoraChoice, LoraName, ModelId};
use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc as std_mpsc},
    time::Instant,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// One job's drawing.
pub(super) struct Drawing {
    pub(super) model: ModelId,
    pub(super) loras: Vec<LoraChoice>,
    pub(super) params: DrawParams,
    /// Steps between two previews.
    pub(super) preview_every: Option<usize>,
    /// Somebody cancelled the job.
    pub(super) cancelled: watch::Receiver<bool>,
    /// The drawing is of no more use here: the server stops, or the store failed.
    pub(super) abandoned: CancellationToken,
    /// What happens; ends with [`Report::Ended`].
    pub(super) reports: mpsc::Sender<Report>,
}

/// What happened, and when.
pub(super) enum Report {
    /// The model is at hand and the prompts are encoded.
    Encoded { at: Instant },
    /// A step is done.
    Step {
        image: usize,
        step: usize,
        total: usize,
        at: Instant,
    },
    /// A look at the unfinished image.
    Preview {
        image: usize,
        step: usize,
        picture: RgbImage,
    },
    /// An image is finished.
    Image {
        index: usize,
        seed: u64,
        picture: RgbImage,
        at: Instant,
    },
    /// Nothing follows.
    Ended(Result<(), Failure>),
}

/// Why a drawing ended without its images.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It was cancelled or abandoned.
    #[error("stopped after step {step}")]
    Stopped { step: usize },
    /// The model could not be loaded.
    #[error("{0}")]
    Load(LoadError),
    /// A LoRA that was there when the job was accepted.
    #[error("there is no LoRA {0} any more")]
    LoraGone(LoraName),
    /// A LoRA could not be put into the model.
    #[error("{0}")]
    Lora(Error),
    /// The model could not draw.
    #[error("{0}")]
    Draw(Error),
    /// A bug in the engine.
    #[error("panic: {0}")]
    Panicked(String),
}

/// What the thread is given once.
pub(super) struct Setup {
    pub(super) catalog: Arc<Catalog>,
    pub(super) loras: Arc<LoraShelf>,
    pub(super) device: DeviceChoice,
    pub(super) load_options: LoadOptions,
    /// Bytes that the weights of models may take; from the free memory if `None`.
    pub(super) models_memory_max_bytes: Option<u64>,
    pub(super) status: watch::Sender<EngineStatus>,
    pub(super) drawings: mpsc::Receiver<Drawing>,
    /// Told the device's name, or why it cannot be opened.
    pub(super) opened: std_mpsc::SyncSender<Result<String, Error>>,
}

/// Runs until no more drawings can come, or a model that is loaded at the start cannot be.
pub(super) fn run(mut setup: Setup) {
    // Opened here and never elsewhere: a CUDA context belongs to its thread.
    let device = match setup.device.open() {
        Ok(device) => device,
        Err(error) => {
            let _ = setup.opened.send(Err(error));
            return;
        }
    };
    if setup.opened.send(Ok(device_name(&device))).is_err() {
        return;
    }
    let mut models = LoadedModels::new(
        setup.catalog,
        device,
        setup.load_options,
        setup.models_memory_max_bytes,
    );
    if let Err((model, message)) = models.load_first(&setup.status) {
        setup.status.send_replace(EngineStatus::Failed(format!(
            "model {model} cannot be used: {message}"
        )));
        return;
    }
    setup.status.send_replace(EngineStatus::Ready);
    let mut loras = LoraSets {
        shelf: setup.loras,
        open: OpenLoras::default(),
    };
    while let Some(drawing) = setup.drawings.blocking_recv() {
        let drawn = catch_unwind(AssertUnwindSafe(|| draw(&mut models, &mut loras, &drawing)));
        let ended = drawn.unwrap_or_else(|payload| {
            // A panic half-way through may have left its model in any state; the next job loads it afresh.
            models.put_out(&drawing.model);
            Err(Failure::Panicked(
                panic_message(payload.as_ref()).to_owned(),
            ))
        });
        // Nobody listens any more only when the server stops.
        let _ = drawing.reports.blocking_send(Report::Ended(ended));
    }
}

fn draw(models: &mut LoadedModels, loras: &mut LoraSets, drawing: &Drawing) -> Result<(), Failure> {
    let pipeline = models.get(&drawing.model).map_err(Failure::Load)?;
    loras.put_into(pipeline, &drawing.loras)?;
    let mut on_report = |report: DiffusionReport<'_>| {
        if *drawing.cancelled.borrow() || drawing.abandoned.is_cancelled() {
            return ControlFlow::Break(());
        }
        match pass_on(drawing, report) {
            Ok(()) => ControlFlow::Continue(()),
            Err(Gone) => ControlFlow::Break(()),
        }
    };
    pipeline
        .draw(&drawing.params, &mut on_report)
        .map_err(|error| match error.kind() {
            ErrorKind::Stopped { step } => Failure::Stopped { step },
            _ => Failure::Draw(error),
        })
}

/// What LoRAs there are, and the ones used last.
struct LoraSets {
    shelf: Arc<LoraShelf>,
    open: OpenLoras,
}

impl LoraSets {
    /// Makes these the model's LoRAs; those of the job before go. The same set again costs nothing.
    fn put_into(&mut self, pipeline: &mut Pipeline, chosen: &[LoraChoice]) -> Result<(), Failure> {
        let mut set = Vec::with_capacity(chosen.len());
        for choice in chosen {
            // Accepted before a restart, a job may name what is no longer there.
            let shelved = self
                .shelf
                .get(&choice.name)
                .ok_or_else(|| Failure::LoraGone(choice.name.clone()))?;
            let lora = self.open.get(shelved).map_err(Failure::Lora)?;
            set.push((lora, choice.scale.get()));
        }
        let started = Instant::now();
        pipeline.set_loras(&set).map_err(Failure::Lora)?;
        let elapsed_ms = started.elapsed().as_millis();
        tracing::debug!(loras = set.len(), elapsed_ms, "LoRAs set");
        Ok(())
    }
}

/// Nobody listens to this drawing any more.
struct Gone;

fn pass_on(drawing: &Drawing, report: DiffusionReport<'_>) -> Result<(), Gone> {
    let at = Instant::now();
    let report = match report {
        DiffusionReport::Encoded => Report::Encoded { at },
        DiffusionReport::Step {
            image,
            step,
            total,
            preview,
        } => {
            let is_due = drawing
                .preview_every
                .is_some_and(|every| step.is_multiple_of(every) && step < total);
            send(
                drawing,
                Report::Step {
                    image,
                    step,
                    total,
                    at,
                },
            )?;
            if is_due && let Ok(picture) = preview.render() {
                // The only report that may be lost: the engine does not wait for anybody to look.
                let _ = drawing.reports.try_send(Report::Preview {
                    image,
                    step,
                    picture,
                });
            }
            return Ok(());
        }
        DiffusionReport::Image { index, seed, image } => Report::Image {
            index,
            seed,
            picture: image,
            at,
        },
    };
    send(drawing, report)
}

fn send(drawing: &Drawing, report: Report) -> Result<(), Gone> {
    drawing.reports.blocking_send(report).map_err(|_| Gone)
}
