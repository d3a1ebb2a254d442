//! The Python scripts behind golden tensors and the embedded model. No test needs them: what they make is checked in.

use crate::{stamp::Inputs, task::Task, workspace::Workspace};
use anyhow::{Context, Result};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Makes the golden tensors anew.
pub(crate) fn golden(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let folder = workspace
        .root()
        .join("worker/crates/diffusion/tests/golden");
    let python = environment(workspace, "golden", &folder.join("requirements.txt"))?;
    script(&python, &folder.join("make.py"), &folder, arguments)
}

/// Trains, evaluates or exports the embedded model.
pub(crate) fn pocket(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let folder = workspace.root().join("worker/models/pocket/train");
    let python = environment(workspace, "pocket", &folder.join("requirements.txt"))?;
    let mut all: Vec<OsString> = Vec::new();
    if !arguments.iter().any(|argument| argument == "--work") {
        all.extend(["--work".into(), workspace.tools().join("pocket").into()]);
    }
    all.extend_from_slice(arguments);
    script(&python, &folder.join("run.py"), &folder, &all)
}

fn script(python: &Path, script: &Path, folder: &Path, arguments: &[OsString]) -> Result<()> {
    Task::new(python)
        .arg(script)
        .args(arguments)
        .folder(folder)
        .run()
}

/// The checkout's virtual environment with what `requirements` says in it; gives its Python.
fn environment(workspace: &Workspace, name: &str, requirements: &Path) -> Result<PathBuf> {
    let home = workspace.tools().join("python");
    let python = if cfg!(windows) {
        home.join("Scripts/python.exe")
    } else {
        home.join("bin/python")
    };
    let stamp = Inputs::default()
        .path(requirements)?
        .stamp(workspace, &format!("python-{name}"));
    if stamp.is_current(&[&python]) {
        return Ok(python);
    }
    if !python.is_file() {
        Task::new("python3")
            .args(["-m", "venv"])
            .arg(&home)
            .run()
            .context("Python 3 with venv is needed")?;
    }
    Task::new(&python)
        .args([
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "-q",
            "-r",
        ])
        .arg(requirements)
        .niced()
        .run()?;
    stamp.write()?;
    Ok(python)
}
