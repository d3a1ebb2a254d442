//! Where things are.

use anyhow::{Context, Result};
use std::{
    env,
    path::{Path, PathBuf},
};

/// The checkout and its well-known places.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
    /// Cargo's target folder for native builds.
    target: PathBuf,
}

impl Workspace {
    /// The checkout that this program was started from (cargo says so), else the one that it was built in.
    pub(crate) fn locate() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .parent()
            .context("xtask's folder has no parent")?
            .to_owned();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => std::path::absolute(folder)?,
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            target: root.join("target"),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What xtask remembers or leaves between runs.
    pub(crate) fn state(&self) -> PathBuf {
        self.target.join("xtask")
    }

    /// Cargo's target folder for wasm. Apart from the native one: other flags, sometimes another compiler.
    pub(crate) fn wasm_target(&self) -> PathBuf {
        self.target.join("wasm")
    }

    /// Tools at the versions that this checkout asks for.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join(".tools")
    }

    pub(crate) fn sdk(&self) -> PathBuf {
        self.root.join("sdk-wasm")
    }

    /// What wasm-bindgen makes; git ignores it, the SDK's TypeScript imports it.
    pub(crate) fn sdk_bindings(&self) -> PathBuf {
        self.sdk().join("js/src/wasm")
    }

    pub(crate) fn ui(&self) -> PathBuf {
        self.root.join("ui")
    }

    /// The worker's binary in one of cargo's profile folders (`debug`, `release`).
    pub(crate) fn worker_binary(&self, profile_folder: &str) -> PathBuf {
        self.target
            .join(profile_folder)
            .join(format!("scumble{}", env::consts::EXE_SUFFIX))
    }

    /// `path` as a person would type it from the checkout.
    pub(crate) fn short(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .display()
            .to_string()
    }
}
