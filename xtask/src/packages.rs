//! The npm tarballs, and a look at them from the outside: what is published is what must work.

use crate::{
    build,
    server::{self, Server},
    setup::WasmSource,
    task::Task,
    workspace::Workspace,
};
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Our packages, by what they are called and where they lie.
fn sources(workspace: &Workspace) -> [(&'static str, PathBuf); 2] {
    [
        ("@scumble/sdk", workspace.sdk()),
        ("@scumble/react", workspace.ui().join("packages/react")),
    ]
}

/// Packs both packages, built first; gives each one's name and tarball.
pub(crate) fn pack(workspace: &Workspace) -> Result<Vec<(&'static str, PathBuf)>> {
    build::sdk(workspace, WasmSource::Any)?;
    build::ui(workspace)?;
    let folder = workspace.state().join("packages");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    sources(workspace)
        .into_iter()
        .map(|(name, source)| Ok((name, pack_one(&source, &folder)?)))
        .collect()
}

fn pack_one(source: &Path, folder: &Path) -> Result<PathBuf> {
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
    Ok(path)
}

/// Installs the tarballs where nothing else of ours is, and draws with them from Node on a real worker.
pub(crate) fn test_packed(workspace: &Workspace) -> Result<()> {
    let tarballs = pack(workspace)?;
    let folder = workspace.state().join("packed");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut dependencies = Map::new();
    for (name, tarball) in tarballs {
        dependencies.insert(
            name.to_owned(),
            json!(format!("file:{}", tarball.display())),
        );
    }
    // The newest that the packages allow: what a stranger would get.
    for name in ["react", "react-dom"] {
        dependencies.insert(name.to_owned(), json!("^19"));
    }
    let manifest = json!({ "name": "stranger", "private": true, "type": "module", "dependencies": dependencies });
    fs::write(folder.join("package.json"), manifest.to_string())?;
    fs::copy(
        workspace.root().join("xtask/packed/draw.mjs"),
        folder.join("draw.mjs"),
    )?;
    Task::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--no-package-lock"])
        .folder(&folder)
        .run()?;
    let binary = build::worker(workspace, false)?;
    let server = Server::start(&binary, server::free_port()?, &folder.join("data"))?;
    Task::new("node")
        .args(["draw.mjs", &server.address()])
        .folder(&folder)
        .run()?;
    server.stop()
}
