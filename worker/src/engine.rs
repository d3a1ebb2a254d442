//! The engine: takes leased jobs one by one, has them drawn, and logs what happens. The only place that meets both
//! the job store and the diffusion crate.
//!
//! Two halves joined by bounded channels: a thread that owns the device (`engine/thread.rs`), and the task here that leases,
//! writes events, encodes and stores images. The thread never waits for a reader, only for the log.

mod loaded;
mod progress;
mod thread;

use crate::{
    catalog::Catalog,
    edit::{self, Sources},
    encode::{encode_image, encode_preview},
    estimate::Estimator,
    limits::{ENGINE_REPORTS_BATCH_MAX, ENGINE_REPORTS_MAX, ENGINE_STOP_GRACE},
    loras::LoraShelf,
    metadata::PictureMetadata,
    positions::Positions,
    record::{Outcome, StoredJob, from_bytes, image_url, to_bytes},
    shutdown::Shutdown,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use loaded::LoadError;
use progress::{Progress, to_u32};
use scumble_diffusion::{
    DeviceChoice, DrawParams, Error as DiffusionError, ErrorKind, LoadOptions, RgbImage,
};
use scumble_jobs::{Durability, Ending, Error, JobStore, Lease, NewEvent};
use scumble_protocol::{
    ErrorCode, ErrorObject, EventData, ImageInput, ImageResult, ModelId, NormalizedRequest, Seed,
};
use std::{
    sync::{Arc, mpsc as std_mpsc},
    time::{Duration, Instant},
};
use thread::{Drawing, Failure, Report};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, spawn_blocking},
};
use tokio_util::sync::CancellationToken;

/// How long the engine rests when the store fails before it asks for work again.
const STORE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Whether the engine draws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineStatus {
    /// Weights are being read.
    Loading {
        /// Which model's.
        model: ModelId,
        /// Models already in memory.
        loaded: usize,
        /// Models that will be.
        total: usize,
    },
    /// It draws, or waits for work.
    Ready,
    /// A model that it starts with cannot be loaded.
    Failed(String),
}

/// What an engine needs.
#[derive(Debug)]
pub struct EngineOptions {
    /// What can draw.
    pub catalog: Arc<Catalog>,
    /// What jobs may add to a model.
    pub loras: Arc<LoraShelf>,
    /// Where jobs come from and events go.
    pub store: Arc<dyn JobStore>,
    /// Told how long jobs take.
    pub estimator: Arc<Estimator>,
    /// Told when a job leaves the queue.
    pub positions: Arc<Positions>,
    /// What to draw on.
    pub device: DeviceChoice,
    /// How models are loaded.
    pub load_options: LoadOptions,
    /// Bytes that the weights of models may take; from the free memory if `None`.
    pub models_memory_max_bytes: Option<u64>,
    /// Whether the server is stopping.
    pub shutdown: Shutdown,
    /// A running job may finish within this time of a stop; else it goes back in the queue.
    pub shutdown_timeout: Duration,
}

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    status: watch::Receiver<EngineStatus>,
    device: String,
    task: JoinHandle<()>,
}

impl Engine {
    /// Opens the device and begins to load models; returns before they are loaded.
    ///
    /// # Errors
    /// If the device cannot be opened or the system gives no thread.
    pub fn start(options: EngineOptions) -> Result<Self, String> {
        let (status_sender, status) = watch::channel(EngineStatus::Loading {
            model: options.catalog.default_model().id.clone(),
            loaded: 0,
            total: 1,
        });
        let (drawings_sender, drawings) = mpsc::channel(1);
        let (opened_sender, opened) = std_mpsc::sync_channel(1);
        let setup = thread::Setup {
            catalog: Arc::clone(&options.catalog),
            loras: Arc::clone(&options.loras),
            device: options.device,
            load_options: options.load_options,
            models_memory_max_bytes: options.models_memory_max_bytes,
            status: status_sender,
            drawings,
            opened: opened_sender,
        };
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || thread::run(setup))
            .map_err(|error| format!("the engine's thread cannot be started: {error}"))?;
        let device = opened
            .recv()
            .map_err(|_| "the engine's thread died".to_owned())?
            .map_err(|error| error.to_string())?;
        let dispatcher = Dispatcher {
            options,
            device: device.clone(),
            drawings: drawings_sender,
            status: status.clone(),
        };
        Ok(Self {
            status,
            device,
            task: tokio::spawn(dispatcher.run()),
        })
    }

    /// Whether it draws.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<EngineStatus> {
        self.status.clone()
    }

    /// The device's name.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Waits, after a stop was asked for, until the running job is finished or back in the queue.
    pub async fn stopped(self, shutdown_timeout: Duration) {
        if tokio::time::timeout(shutdown_timeout + ENGINE_STOP_GRACE, self.task)
            .await
            .is_err()
        {
            tracing::warn!(
                "the engine did not stop in time; its job will be drawn again at the next start"
            );
        }
    }
}

/// The half that talks to the store.
struct Dispatcher {
    options: EngineOptions,
    device: String,
    drawings: mpsc::Sender<Drawing>,
    status: watch::Receiver<EngineStatus>,
}

impl Dispatcher {
    async fn run(mut self) {
        let draining = self.options.shutdown.draining();
        tokio::select! {
            () = draining.cancelled() => return,
            ready = self.status.wait_for(|status| *status == EngineStatus::Ready) => if ready.is_err() { return },
        }
        loop {
            let leased = tokio::select! {
                biased;
                () = draining.cancelled() => return,
                leased = self.options.store.lease() => leased,
            };
            match leased {
                Ok(lease) => self.run_job(&lease).await,
                Err(Error::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "no job can be taken from the store");
                    tokio::time::sleep(STORE_RETRY_DELAY).await;
                }
            }
        }
    }

    /// Draws one job and ends it, whatever happens.
    async fn run_job(&self, lease: &Lease) {
        let job_id = lease.job_id.as_str();
        let attempt = lease.attempt;
        self.options.positions.left(job_id);
        self.options.estimator.started();
        let ended = match from_bytes::<StoredJob>(&lease.payload) {
            Ok(stored) => self.draw_job(lease, &stored.request).await,
            Err(error) => {
                let object = ErrorObject::new(ErrorCode::InternalError, error.to_string());
                self.fail(lease, Vec::new(), object).await
            }
        };
        let succeeded = matches!(ended, Ok(Some(Ending::Succeeded)));
        self.options.estimator.ended(succeeded);
        match ended {
            Ok(ending) => tracing::info!(job_id, attempt, ?ending, "job ended"),
            Err(error) => {
                tracing::error!(job_id, attempt, %error, "the job's result could not be stored")
            }
        }
    }

    /// `None` if the job went back in the queue.
    async fn draw_job(
        &self,
        lease: &Lease,
        request: &NormalizedRequest,
    ) -> Result<Option<Ending>, Error> {
        let (reports_sender, mut reports) = mpsc::channel(ENGINE_REPORTS_MAX);
        let cancelled = self.options.store.cancel_requested(lease);
        let abandoned = CancellationToken::new();
        let mut recorder = Recorder::new(&*self.options.store, lease, request);
        let params = match self.params(request).await? {
            Ok(params) => params,
            Err(object) => return self.fail(lease, Vec::new(), object).await,
        };
        let steps = match self.options.catalog.get(&request.model) {
            Some(model) => model.description.steps_run(&params),
            None => params.steps,
        };
        recorder.started(&self.device, steps);
        recorder.flush().await?;
        let drawing = Drawing {
            model: request.model.clone(),
            loras: request.loras.clone(),
            params,
            preview_every: request
                .preview
                .and_then(|preview| usize::try_from(preview.every.get()).ok()),
            cancelled: cancelled.clone(),
            abandoned: abandoned.clone(),
            reports: reports_sender,
        };
        if self.drawings.send(drawing).await.is_err() {
            let object = ErrorObject::new(ErrorCode::InternalError, "the engine is gone");
            return self.fail(lease, Vec::new(), object).await;
        }
        let ended = self.record(&mut recorder, &mut reports, &abandoned).await;
        if ended.is_err() {
            // The store refuses this attempt's events: no use drawing on.
            abandoned.cancel();
        }
        let ended = ended?;
        if *cancelled.borrow() {
            return self.cancel(lease, &ended, recorder).await;
        }
        match ended {
            Ok(()) => self.succeed(lease, recorder).await,
            Err(Failure::Stopped { .. }) => {
                self.options.store.release(lease).await?;
                Ok(None)
            }
            Err(failure) => {
                let object = failure_object(lease, &failure);
                self.fail(lease, recorder.warnings, object).await
            }
        }
    }

    /// What to draw, with the images that it starts from. They were looked at when the job was accepted: what is wrong
    /// with them now, the disk did.
    async fn params(
        &self,
        request: &NormalizedRequest,
    ) -> Result<Result<DrawParams, ErrorObject>, Error> {
        let file = async |input: &Option<ImageInput>| match input {
            Some(input) => self.options.store.blob(&input.sha256).await,
            None => Ok(None),
        };
        let sources = Sources {
            init_image: file(&request.init_image).await?,
            mask: file(&request.mask).await?,
        };
        let request = request.clone();
        let params = spawn_blocking(move || edit::params(&request, sources))
            .await
            .map_err(std::io::Error::other)?;
        Ok(params.map_err(|error| {
            tracing::error!(%error, "a job's images can no longer be used");
            ErrorObject::new(
                ErrorCode::InternalError,
                "the images that the job starts from can no longer be read; the server's log says why",
            )
        }))
    }

    /// Logs what the thread reports until the drawing has ended. A stopping server lets a job finish that can in
    /// time, and stops another at its next step.
    async fn record(
        &self,
        recorder: &mut Recorder<'_>,
        reports: &mut mpsc::Receiver<Report>,
        abandoned: &CancellationToken,
    ) -> Result<Result<(), Failure>, Error> {
        let draining = self.options.shutdown.draining();
        let mut batch = Vec::with_capacity(ENGINE_REPORTS_BATCH_MAX);
        let mut deadline = None;
        loop {
            let received = tokio::select! {
                () = draining.cancelled(), if deadline.is_none() => {
                    let timeout = self.options.shutdown_timeout;
                    if !recorder.ends_within(timeout) {
                        abandoned.cancel();
                    }
                    deadline = Some(tokio::time::Instant::now() + timeout);
                    continue;
                }
                () = sleep_until(deadline), if deadline.is_some() && !abandoned.is_cancelled() => {
                    abandoned.cancel();
                    continue;
                }
                received = reports.recv_many(&mut batch, ENGINE_REPORTS_BATCH_MAX) => received,
            };
            for report in batch.drain(..) {
                if let Some(ended) = recorder.note(report).await? {
                    recorder.flush().await?;
                    return Ok(ended);
                }
            }
            recorder.flush().await?;
            if received == 0 {
                let gone = Failure::Panicked("the engine's thread died".to_owned());
                return Ok(Err(gone));
            }
        }
    }

    async fn succeed(
        &self,
        lease: &Lease,
        recorder: Recorder<'_>,
    ) -> Result<Option<Ending>, Error> {
        let queue_ms =
            u64::try_from(lease.leased_at_ms.saturating_sub(lease.created_at_ms)).unwrap_or(0);
        let timings = recorder.progress.timings(queue_ms);
        let outcome = Outcome {
            warnings: recorder.warnings,
            timings: Some(timings),
            images: recorder.images.clone(),
            error: None,
        };
        let last_event = EventData::Complete {
            images: recorder.images,
            timings,
            image_base64: None,
        };
        self.finish(lease, Ending::Succeeded, &outcome, &last_event)
            .await
    }

    async fn cancel(
        &self,
        lease: &Lease,
        ended: &Result<(), Failure>,
        recorder: Recorder<'_>,
    ) -> Result<Option<Ending>, Error> {
        let step = match ended {
            Err(Failure::Stopped { step }) => to_u32(*step),
            _ => recorder.progress.steps_done(),
        };
        let outcome = Outcome {
            warnings: recorder.warnings,
            ..Outcome::default()
        };
        self.finish(
            lease,
            Ending::Cancelled,
            &outcome,
            &EventData::Cancelled { step },
        )
        .await
    }

    async fn fail(
        &self,
        lease: &Lease,
        warnings: Vec<String>,
        error: ErrorObject,
    ) -> Result<Option<Ending>, Error> {
        let outcome = Outcome {
            warnings,
            error: Some(error.clone()),
            ..Outcome::default()
        };
        self.finish(lease, Ending::Failed, &outcome, &EventData::Error { error })
            .await
    }

    async fn finish(
        &self,
        lease: &Lease,
        ending: Ending,
        outcome: &Outcome,
        last_event: &EventData,
    ) -> Result<Option<Ending>, Error> {
        self.options
            .store
            .finish(lease, ending, to_bytes(outcome), to_bytes(last_event))
            .await?;
        Ok(Some(ending))
    }
}

/// Turns reports into events and files.
struct Recorder<'a> {
    store: &'a dyn JobStore,
    lease: &'a Lease,
    request: &'a NormalizedRequest,
    progress: Progress,
    warnings: Vec<String>,
    images: Vec<ImageResult>,
    pending: Vec<NewEvent>,
}

impl<'a> Recorder<'a> {
    fn new(store: &'a dyn JobStore, lease: &'a Lease, request: &'a NormalizedRequest) -> Self {
        let images = usize::try_from(request.n.get()).unwrap_or(1);
        Self {
            store,
            lease,
            request,
            progress: Progress::new(Instant::now(), images),
            warnings: Vec::new(),
            images: Vec::new(),
            pending: Vec::new(),
        }
    }

    fn started(&mut self, device: &str, steps: usize) {
        self.push(&EventData::Started {
            model: self.request.model.clone(),
            device: device.to_owned(),
            total: to_u32(steps),
            seed: self.request.seed,
        });
    }

    /// The end, if the report says so.
    async fn note(&mut self, report: Report) -> Result<Option<Result<(), Failure>>, Error> {
        match report {
            Report::Encoded { at } => self.progress.encoded(at),
            Report::Step {
                image,
                step,
                total,
                at,
            } => {
                let event = self.progress.step(image, step, total, at);
                self.push(&event);
            }
            Report::Preview {
                image,
                step,
                picture,
            } => self.preview(image, step, picture).await,
            Report::Image {
                index,
                seed,
                picture,
                at,
            } => {
                self.progress.image(at);
                self.image(to_u32(index), Seed(seed), picture).await?;
            }
            Report::Ended(ended) => return Ok(Some(ended)),
        }
        Ok(None)
    }

    async fn preview(&mut self, image: usize, step: usize, picture: RgbImage) {
        let Some(format) = self.request.preview.map(|preview| preview.format) else {
            return;
        };
        let (width, height) = (to_u32(picture.width()), to_u32(picture.height()));
        // A preview that cannot be encoded is no reason to fail a job.
        let Ok(Ok(bytes)) = spawn_blocking(move || encode_preview(&picture, format)).await else {
            return;
        };
        let event = EventData::Preview {
            step: to_u32(step),
            image: to_u32(image),
            b64_json: BASE64.encode(bytes),
            mime_type: crate::encode::preview_mime_type(format).to_owned(),
            width,
            height,
        };
        self.pending.push(NewEvent {
            payload: to_bytes(&event),
            durability: Durability::Ephemeral,
        });
    }

    /// Stores the file first: an `image` event is a promise that it can be fetched.
    async fn image(&mut self, index: u32, seed: Seed, picture: RgbImage) -> Result<(), Error> {
        let format = self.request.output_format;
        let (width, height) = (to_u32(picture.width()), to_u32(picture.height()));
        let metadata = PictureMetadata::of(self.request, seed);
        let bytes = spawn_blocking(move || encode_image(&picture, format, metadata.as_ref()))
            .await
            .map_err(std::io::Error::other)?
            .map_err(std::io::Error::other)?;
        self.store.put_image(self.lease, index, bytes).await?;
        let image = ImageResult {
            index,
            seed,
            width,
            height,
            mime_type: format.mime_type().to_owned(),
            url: image_url(&self.lease.job_id, index),
            image_base64: None,
        };
        self.push(&EventData::Image(image.clone()));
        self.images.push(image);
        Ok(())
    }

    fn push(&mut self, event: &EventData) {
        self.pending.push(NewEvent {
            payload: to_bytes(event),
            durability: Durability::Logged,
        });
    }

    async fn flush(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.store
            .append(self.lease, std::mem::take(&mut self.pending))
            .await
    }

    fn ends_within(&self, timeout: Duration) -> bool {
        self.progress
            .eta_ms()
            .is_some_and(|eta_ms| u128::from(eta_ms) < timeout.as_millis())
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What the client is told; details that could name files stay in the log.
fn failure_object(lease: &Lease, failure: &Failure) -> ErrorObject {
    tracing::error!(job_id = lease.job_id, attempt = lease.attempt, error = %failure, "drawing failed");
    let draw = |error: &DiffusionError| {
        match error.kind() {
        ErrorKind::InvalidParameter | ErrorKind::InvalidPrompt => {
            (ErrorCode::InvalidValue, error.to_string())
        }
        ErrorKind::LoraMismatch => (
            ErrorCode::InvalidValue,
            "a LoRA was made for another model; the server's log says which and why".to_owned(),
        ),
        ErrorKind::NotFinite => (
            ErrorCode::DrawingFailed,
            "the model's numbers ran out of bounds; another scheduler, more steps or less guidance may help".to_owned(),
        ),
        ErrorKind::OutOfMemory => (
            ErrorCode::DrawingFailed,
            "the device ran out of memory; a smaller image may fit".to_owned(),
        ),
        _ => (
            ErrorCode::DrawingFailed,
            "the engine could not draw this; the server's log says why".to_owned(),
        ),
    }
    };
    let (code, message) = match failure {
        Failure::Draw(error) | Failure::Lora(error) => draw(error),
        Failure::LoraGone(_) => (ErrorCode::LoraNotFound, failure.to_string()),
        Failure::Load(LoadError::Unknown(id)) => (
            ErrorCode::ModelNotFound,
            format!("there is no model {id} here any more"),
        ),
        Failure::Load(LoadError::Failed(_)) => (
            ErrorCode::ModelLoadFailed,
            "the model could not be loaded; the server's log says why".to_owned(),
        ),
        Failure::Panicked(_) | Failure::Stopped { .. } => (
            ErrorCode::DrawingFailed,
            "the engine failed at this job and goes on with the next; the server's log says why"
                .to_owned(),
        ),
    };
    ErrorObject::new(code, message)
}
