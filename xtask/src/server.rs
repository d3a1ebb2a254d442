//! A worker that runs as long as we need it, and stops the way an operator would stop it.

use crate::{http, task::Task};
use anyhow::{Context, Result, bail};
use std::{
    io::ErrorKind,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Loading the embedded model takes about a second; a slow disk on a busy machine takes longer.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// The worker itself lets the picture in hand go within a denoising step.
const STOP_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Set by Ctrl-C, SIGTERM and SIGHUP.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A running worker.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    port: u16,
}

/// Says so if something listens on `port`. Cheap, so ask before building for minutes.
pub(crate) fn require_free(port: u16) -> Result<()> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
            "port {port} is taken; stop what listens there or choose another: \
             cargo xtask demo --port {}",
            port.checked_add(1).unwrap_or(8600)
        ),
        Err(error) => Err(error).with_context(|| format!("port {port} cannot be used")),
    }
}

impl Server {
    /// Starts `binary` on the loopback and waits until it takes jobs.
    pub(crate) fn start(binary: &Path, port: u16, data: &Path) -> Result<Self> {
        // From here on an interrupt has a worker to stop first. Only the first call can set the handler.
        let _ = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::SeqCst));
        let task = Task::new(binary)
            .args(["serve", "--host", "127.0.0.1", "--port"])
            .arg(port.to_string())
            .arg("--data-dir")
            .arg(data);
        eprintln!("   $ {}", task.line());
        let mut command = task.command();
        command.stdin(Stdio::null());
        // In a group of its own, so that Ctrl-C on the terminal reaches us and we tell the worker, once.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let mut server = Self { child, port };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < READY_WITHIN {
            self.require_running()?;
            if http::get(self.port, "/ready").is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            thread::sleep(LOOK_EVERY);
        }
        bail!(
            "the worker was not ready within {} s",
            READY_WITHIN.as_secs()
        )
    }

    /// An error once the worker has ended or we were told to.
    pub(crate) fn require_running(&mut self) -> Result<()> {
        if INTERRUPTED.load(Ordering::SeqCst) {
            bail!("interrupted");
        }
        if let Some(status) = self.child.try_wait()? {
            bail!("the worker ended ({status}); its own message is above");
        }
        Ok(())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Serves until the worker ends by itself or somebody interrupts us.
    pub(crate) fn wait_for_interrupt(mut self) -> Result<()> {
        while !INTERRUPTED.load(Ordering::SeqCst) {
            self.require_running()?;
            thread::sleep(LOOK_EVERY);
        }
        eprintln!("   stopping the worker");
        self.stop()
    }

    /// Stops it gracefully; an error if it does not go, or not cleanly.
    pub(crate) fn stop(mut self) -> Result<()> {
        let status = self.end()?;
        if !status.success() {
            bail!("the worker did not stop cleanly ({status})");
        }
        Ok(())
    }

    fn end(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        ask_to_stop(&mut self.child)?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_WITHIN {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(LOOK_EVERY);
        }
        self.child.kill()?;
        self.child.wait()?;
        bail!(
            "the worker did not stop within {} s and was killed",
            STOP_WITHIN.as_secs()
        )
    }
}

impl Drop for Server {
    /// Nothing of ours may outlive us, however we end; whoever wants the outcome calls `stop`.
    fn drop(&mut self) {
        let _ = self.end();
    }
}

#[cfg(unix)]
fn ask_to_stop(child: &mut Child) -> Result<()> {
    Task::new("kill")
        .arg("-TERM")
        .arg(child.id().to_string())
        .output()
        .map(|_| ())
}

#[cfg(not(unix))]
fn ask_to_stop(child: &mut Child) -> Result<()> {
    child.kill().context("stopping the worker")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_said_with_another_to_use() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("port");
        let port = taken.local_addr().expect("address").port();
        let error = require_free(port).expect_err("taken").to_string();
        assert!(
            error.starts_with(&format!("port {port} is taken")),
            "{error}"
        );
        assert!(error.contains("--port"), "{error}");
    }

    #[test]
    fn a_free_port_passes() {
        require_free(0).expect("the system finds one");
    }
}
