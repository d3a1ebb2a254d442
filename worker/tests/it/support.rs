//! One server a test, on a port and in a folder of its own.

use clap::Parser as _;
use scumble_protocol::{
    EventData, Job, JobEvent,
    sse::{DONE, Decoder, Message},
};
use scumble_worker::{
    commands::serve::Running,
    config::{Cli, Command},
    engine::EngineStatus,
    server::ConnectionLimits,
    shutdown::Shutdown,
};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command as Process,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};

/// A drawing of many seconds: long enough to be met while it runs.
pub(crate) fn long_job() -> Value {
    json!({"prompt": "a red apple on a blue background", "steps": 150, "n": 8, "seed": 1})
}

/// A drawing of a moment.
pub(crate) fn short_job() -> Value {
    json!({"prompt": "a red apple on a blue background", "steps": 2, "seed": 7})
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) client: reqwest::Client,
    shutdown: Shutdown,
    running: JoinHandle<Result<(), String>>,
    pub(crate) data_dir: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        let data_dir = tempfile::tempdir().expect("folder");
        Self::start_in(data_dir, arguments).await
    }

    /// Returns when the model is loaded.
    pub(crate) async fn start_in(data_dir: TempDir, arguments: &[&str]) -> Self {
        let running = running(data_dir.path(), arguments, ConnectionLimits::default()).await;
        let mut status = running.engine_status();
        status
            .wait_for(|status| *status == EngineStatus::Ready)
            .await
            .expect("the engine loads its model");
        Self::from_running(running, data_dir)
    }

    pub(crate) fn from_running(running: Running, data_dir: TempDir) -> Self {
        Self {
            address: running.address(),
            client: client(),
            shutdown: running.shutdown(),
            running: tokio::spawn(running.wait()),
            data_dir,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.client
            .get(self.url(path))
            .send()
            .await
            .expect("answer")
    }

    pub(crate) async fn post(&self, body: &Value) -> reqwest::Response {
        self.client
            .post(self.url("/v1/jobs"))
            .json(body)
            .send()
            .await
            .expect("answer")
    }

    pub(crate) async fn submit(&self, body: &Value) -> Job {
        let response = self.post(body).await;
        assert_eq!(response.status(), 202);
        response.json().await.expect("job")
    }

    pub(crate) async fn job(&self, job: &Job) -> Job {
        self.get(&format!("/v1/jobs/{}", job.job_id))
            .await
            .json()
            .await
            .expect("job")
    }

    pub(crate) async fn delete(&self, job: &Job) -> reqwest::Response {
        self.client
            .delete(self.url(&format!("/v1/jobs/{}", job.job_id)))
            .send()
            .await
            .expect("answer")
    }

    pub(crate) async fn stream(&self, job: &Job) -> EventStream {
        self.stream_after(job, None).await
    }

    pub(crate) async fn stream_after(&self, job: &Job, last_event_id: Option<u64>) -> EventStream {
        let url = self.url(&format!("/v1/jobs/{}/stream", job.job_id));
        let mut request = self.client.get(url);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.expect("stream");
        assert_eq!(response.status(), 200);
        EventStream {
            response,
            decoder: Decoder::new(),
            messages: VecDeque::new(),
        }
    }

    /// Draws to the end.
    pub(crate) async fn draw(&self, body: &Value) -> Job {
        let job = self.submit(body).await;
        self.stream(&job).await.rest().await;
        self.job(&job).await
    }

    /// Stops as a signal would, and gives the folder back.
    pub(crate) async fn stop(self) -> TempDir {
        self.shutdown.begin();
        self.running.await.expect("no panic").expect("a clean stop");
        self.data_dir
    }

    pub(crate) fn begin_stop(&self) {
        self.shutdown.begin();
    }

    /// Sends bytes as they are and reads until the server closes.
    pub(crate) async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("connection");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("request is taken");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("answer");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// A client of its own; reqwest wants a provider of cryptography even where all is plain HTTP.
pub(crate) fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// The binary, which finds no models of whoever runs the tests.
pub(crate) fn scumble(arguments: &[&str]) -> Process {
    let mut command = Process::new(env!("CARGO_BIN_EXE_scumble"));
    command.args(arguments).env(
        "SCUMBLE_MODELS_DIR",
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"),
    );
    command
}

pub(crate) async fn running(
    data_dir: &Path,
    arguments: &[&str],
    limits: ConnectionLimits,
) -> Running {
    let data_dir = data_dir.to_str().expect("utf-8");
    let line = [
        "scumble",
        "serve",
        "--port",
        "0",
        "--device",
        "cpu",
        "--data-dir",
        data_dir,
    ];
    let Command::Serve(mut serve) = Cli::parse_from(line.iter().chain(arguments)).command else {
        unreachable!("the line says serve");
    };
    // Not those of whoever runs the tests.
    let models_dir = &mut serve.models.places.models_dir;
    models_dir.get_or_insert_with(|| data_dir.into());
    Running::start(serve, limits)
        .await
        .expect("the server starts")
}

/// What a picture's file shows, without what it says about how it was drawn: that names the model.
pub(crate) fn pixels(file: &[u8]) -> Vec<u8> {
    let picture = image::load_from_memory(file).expect("a picture");
    picture.to_rgb8().into_raw()
}

/// A model folder on disk: the embedded model's own.
pub(crate) fn model_folder() -> PathBuf {
    match std::env::var("SCUMBLE_MODEL") {
        Ok(source) => source.trim_start_matches("pocket=").into(),
        Err(_) => Path::new(env!("CARGO_MANIFEST_DIR")).join("models/pocket"),
    }
}

/// A copy that a test may break.
pub(crate) fn copied_model(into: &Path) -> PathBuf {
    let copy = into.join("broken");
    for part in ["", "tokenizer", "text_encoder", "unet", "vae", "scheduler"] {
        std::fs::create_dir_all(copy.join(part)).expect("folder");
        for entry in std::fs::read_dir(model_folder().join(part)).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_file() {
                let name = path.file_name().expect("name");
                std::fs::write(
                    copy.join(part).join(name),
                    std::fs::read(&path).expect("file"),
                )
                .expect("copy");
            }
        }
    }
    copy
}

/// Jobs in the database, in whatever state.
pub(crate) fn jobs_in(data_dir: &Path) -> u32 {
    let database = rusqlite::Connection::open(data_dir.join("jobs.sqlite3")).expect("database");
    database
        .query_row("SELECT count(*) FROM jobs", [], |row| row.get(0))
        .expect("count")
}

/// Files of a folder.
pub(crate) fn files_in(folder: &Path) -> usize {
    std::fs::read_dir(folder).expect("folder").count()
}

pub(crate) struct EventStream {
    response: reqwest::Response,
    decoder: Decoder,
    messages: VecDeque<Message>,
}

impl EventStream {
    /// The next message, `None` at the stream's end.
    pub(crate) async fn message(&mut self) -> Option<Message> {
        while self.messages.is_empty() {
            let chunk = self.response.chunk().await.expect("stream")?;
            self.messages
                .extend(self.decoder.push(&chunk).expect("lines"));
        }
        self.messages.pop_front()
    }

    /// The next event, `None` at `[DONE]` or at the stream's end.
    pub(crate) async fn event(&mut self) -> Option<JobEvent> {
        let message = self.message().await?;
        if message.data == DONE {
            return None;
        }
        let event: JobEvent = serde_json::from_str(&message.data).expect("event");
        assert_eq!(message.id, event.seq.to_string());
        assert_eq!(message.event, event.data.name());
        Some(event)
    }

    /// The first event of which `wanted` is true.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&EventData) -> bool) -> JobEvent {
        loop {
            let event = self.event().await.expect("the event comes");
            if wanted(&event.data) {
                return event;
            }
        }
    }

    /// A step of the running job.
    pub(crate) async fn progress(&mut self) -> JobEvent {
        self.until(|data| matches!(data, EventData::Progress { .. }))
            .await
    }

    /// Everything to the end; checks that it ends with `[DONE]`.
    pub(crate) async fn rest(&mut self) -> Vec<JobEvent> {
        let mut events = Vec::new();
        while let Some(message) = self.message().await {
            if message.data == DONE {
                assert_eq!(self.message().await, None, "nothing follows [DONE]");
                return events;
            }
            events.push(serde_json::from_str(&message.data).expect("event"));
        }
        panic!("the stream ended without [DONE] after {events:?}");
    }

    /// All bytes to the end, as text.
    pub(crate) async fn text(self) -> String {
        self.response.text().await.expect("text")
    }
}

/// Whether the last event is of this name.
pub(crate) fn ends_with(events: &[JobEvent], name: &str) -> bool {
    events.last().is_some_and(|event| event.data.name() == name)
}
