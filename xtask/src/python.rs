//! The Python scripts behind golden tensors, the embedded model and the benchmarks. No test needs them: what they make is checked in.

use crate::{stamp::Inputs, task::Task, workspace::Workspace};
use anyhow::{Context, Result};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Where the scripts and their packages are.
const TRAIN: &str = "worker/models/pocket/train";
const GOLDEN: &str = "worker/crates/diffusion/tests/golden";

/// Makes the golden tensors anew: those of the tiny models, then those of the embedded one.
pub(crate) fn golden(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let folder = workspace.root().join(GOLDEN);
    let make = folder.join("make.py");
    let python = environment(workspace)?;
    if !arguments.is_empty() {
        return script(&python, &make, &folder, arguments);
    }
    script(&python, &make, &folder, &[])?;
    let pocket = workspace.root().join("worker/models/pocket");
    script(&python, &make, &folder, &["--pocket".into(), pocket.into()])
}

/// Trains, evaluates or exports the embedded model.
pub(crate) fn pocket(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let folder = workspace.root().join(TRAIN);
    let python = environment(workspace)?;
    let mut all: Vec<OsString> = Vec::new();
    if !arguments.iter().any(|argument| argument == "--work") {
        all.extend(["--work".into(), workspace.tools().join("pocket").into()]);
    }
    all.extend_from_slice(arguments);
    script(&python, &folder.join("run.py"), &folder, &all)
}

/// Makes models of random weights at their real sizes in `out`, those that are not there yet.
pub(crate) fn full_size_models(workspace: &Workspace, out: &Path, wanted: &[String]) -> Result<()> {
    let folder = workspace.root().join("xtask/bench");
    let mut arguments: Vec<OsString> = vec![out.into()];
    arguments.extend(wanted.iter().map(OsString::from));
    let python = environment(workspace)?;
    script(
        &python,
        &folder.join("full_size_models.py"),
        &folder,
        &arguments,
    )
}

fn script(python: &Path, script: &Path, folder: &Path, arguments: &[OsString]) -> Result<()> {
    Task::new(python)
        .arg(script)
        .args(arguments)
        .folder(folder)
        .run()
}

/// The checkout's virtual environment, which both kinds of script share; gives its Python.
fn environment(workspace: &Workspace) -> Result<PathBuf> {
    let requirements = &workspace.root().join(TRAIN).join("requirements.txt");
    let home = workspace.tools().join("python");
    let python = if cfg!(windows) {
        home.join("Scripts/python.exe")
    } else {
        home.join("bin/python")
    };
    let stamp = Inputs::default()
        .path(requirements)?
        .stamp(workspace, "python");
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
