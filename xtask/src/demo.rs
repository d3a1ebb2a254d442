//! From a bare checkout to a picture in a browser.

use crate::{
    build, http,
    picture::Picture,
    server::{self, Server},
    setup::{self, WasmSource},
    task::find,
    workspace::Workspace,
};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{
    env, fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const PROMPT: &str = "a red apple on a blue background";
const SEED: u64 = 7;
const DRAWN_WITHIN: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How to run it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) port: u16,
    /// Whether to open a browser where there is one.
    pub(crate) open: bool,
    /// Whether to verify one picture and end.
    pub(crate) check: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 8600,
            open: true,
            check: false,
        }
    }
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let started = Instant::now();
    server::require_free(options.port)?;
    say("the SDK (wasm and TypeScript)");
    setup::node()?;
    build::sdk(workspace, WasmSource::Any)?;
    say("the React package and the studio");
    build::ui(workspace)?;
    say("the worker, in release (some minutes the first time)");
    let binary = build::worker(workspace)?;
    let data = workspace
        .state()
        .join(if options.check { "demo-check" } else { "demo" });
    if options.check && data.exists() {
        fs::remove_dir_all(&data)?;
    }
    say("a first picture");
    let mut server = Server::start(&binary, options.port, &data)?;
    let job = draw(&mut server)?;
    let took = job.pointer("/timings/total_ms").and_then(Value::as_u64);
    eprintln!(
        "   drew \"{PROMPT}\"{}",
        took.map(|milliseconds| format!(" in {milliseconds} ms"))
            .unwrap_or_default()
    );
    if options.check {
        let (width, height) = check(&server, &job)?;
        server.stop()?;
        println!(
            "demo: ok, a {width}×{height} picture with a blue background, {:.0} s in all",
            started.elapsed().as_secs_f64()
        );
        return Ok(());
    }
    // The studio shows the job that the address names, so the page is not empty.
    let id = job
        .get("job_id")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let address = format!("{}/#job={id}", server.address());
    println!("\nScumble draws at {address}   (Ctrl-C stops it)\n");
    if options.open {
        open_browser(&address);
    }
    server.wait_for_interrupt()
}

fn say(what: &str) {
    eprintln!("── {what}");
}

/// Submits the first picture and follows it to its end.
fn draw(server: &mut Server) -> Result<Value> {
    let submitted = json!({ "prompt": PROMPT, "seed": SEED, "response_format": "url" });
    let accepted = http::post(server.port(), "/v1/jobs", &submitted)?
        .success()?
        .json()?;
    let id = accepted
        .get("job_id")
        .and_then(Value::as_str)
        .context("the worker accepted a job without an id")?
        .to_owned();
    let asked = Instant::now();
    while asked.elapsed() < DRAWN_WITHIN {
        server.require_running()?;
        let job = http::get(server.port(), &format!("/v1/jobs/{id}"))?
            .success()?
            .json()?;
        match job.get("status").and_then(Value::as_str) {
            Some("succeeded") => return Ok(job),
            Some("failed" | "cancelled") => bail!("the first picture was not drawn: {job}"),
            _ => thread::sleep(LOOK_EVERY),
        }
    }
    bail!(
        "the first picture was not drawn within {} s",
        DRAWN_WITHIN.as_secs()
    )
}

/// Fetches the picture the way a page would and looks at it.
fn check(server: &Server, job: &Value) -> Result<(usize, usize)> {
    let url = job
        .pointer("/images/0/url")
        .and_then(Value::as_str)
        .context("the finished job names no picture")?;
    let answer = http::get(server.port(), url)?.success()?;
    let picture = Picture::from_png(&answer.body)?;
    let side = |name: &str| -> Result<usize> {
        let value = job
            .pointer(&format!("/request/{name}"))
            .and_then(Value::as_u64)
            .with_context(|| format!("the finished job names no {name}"))?;
        Ok(usize::try_from(value)?)
    };
    let asked = (side("width")?, side("height")?);
    if picture.size() != asked {
        bail!(
            "the picture should be {asked:?} pixels, it is {:?}",
            picture.size()
        );
    }
    picture.check_blue_background()?;
    let page = http::get(server.port(), "/")?.success()?;
    if !String::from_utf8_lossy(&page.body).contains("<script") {
        bail!("the worker serves no studio at /");
    }
    Ok(asked)
}

/// Opens the studio where somebody would see it; a machine without a desktop is no error.
fn open_browser(address: &str) {
    let opener = if cfg!(target_os = "macos") {
        Some("open")
    } else if cfg!(windows) {
        Some("explorer")
    } else if env::var_os("DISPLAY").is_some() || env::var_os("WAYLAND_DISPLAY").is_some() {
        Some("xdg-open")
    } else {
        None
    };
    if let Some(opener) = opener.filter(|opener| find(opener).is_some()) {
        let _ = Command::new(opener)
            .arg(address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
    }
}
