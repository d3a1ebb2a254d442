//! The npm tarballs, as they would be published. The examples are tested with such ones.

use crate::{build, setup::WasmSource, task::Task, workspace::Workspace};
use anyhow::{Context, Result};
use serde_json::Value;
use std::{fs, path::Path};

/// Packs both packages, built first.
pub(crate) fn pack(workspace: &Workspace) -> Result<()> {
    build::sdk(workspace, WasmSource::Any)?;
    build::ui(workspace)?;
    let folder = workspace.state().join("packages");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    pack_one(&workspace.sdk(), &folder)?;
    pack_one(&workspace.ui().join("packages/react"), &folder)
}

fn pack_one(source: &Path, folder: &Path) -> Result<()> {
    let answer = Task::new("npm")
        .args(["pack", "--json", "--ignore-scripts", "--pack-destination"])
        .arg(folder)
        .folder(source)
        .output()?;
    let answer: Value = serde_json::from_str(&answer).context("reading what `npm pack` said")?;
    let name = answer
        .pointer("/0/filename")
        .and_then(Value::as_str)
        .context("`npm pack` named no file")?;
    let path = folder.join(name);
    let size = fs::metadata(&path)
        .with_context(|| format!("npm pack made no {}", path.display()))?
        .len();
    eprintln!("   {} ({size} bytes)", path.display());
    Ok(())
}
