//! Remembers what a step was made from, so that a second run does only what changed.

use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

/// Folders that hold what a build makes, never what it reads.
const MADE_FOLDERS: [&str; 6] = [
    "node_modules",
    "dist",
    "target",
    "wasm",
    "test-results",
    "playwright-report",
];

/// What a step reads, folded into one number: paths, contents, versions.
///
/// The hash only has to change when an input does; it is not stable across Rust releases, and a new compiler is a
/// good reason to build again.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    hasher: DefaultHasher,
}

impl Inputs {
    pub(crate) fn text(mut self, text: &str) -> Self {
        text.hash(&mut self.hasher);
        self
    }

    /// A file, or a folder with all that is in it but what builds left there. A missing one counts as missing.
    pub(crate) fn path(mut self, path: &Path) -> Result<Self> {
        self.add(path, path)?;
        Ok(self)
    }

    fn add(&mut self, base: &Path, path: &Path) -> Result<()> {
        let relative = path.strip_prefix(base).unwrap_or(path);
        if path.is_dir() {
            let mut entries = fs::read_dir(path)
                .with_context(|| format!("reading {}", path.display()))?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<Vec<_>, _>>()?;
            entries.sort();
            for entry in entries {
                let name = entry.file_name().unwrap_or_default();
                let made = entry.is_dir() && MADE_FOLDERS.iter().any(|made| name == *made)
                    || entry
                        .extension()
                        .is_some_and(|ending| ending == "tsbuildinfo");
                if !made {
                    self.add(base, &entry)?;
                }
            }
        } else if path.is_file() {
            relative.hash(&mut self.hasher);
            fs::read(path)
                .with_context(|| format!("reading {}", path.display()))?
                .hash(&mut self.hasher);
        } else {
            (relative, "missing").hash(&mut self.hasher);
        }
        Ok(())
    }

    /// The stamp of step `name` for these inputs.
    pub(crate) fn stamp(self, workspace: &Workspace, name: &str) -> Stamp {
        Stamp {
            file: workspace.state().join(format!("{name}.stamp")),
            fingerprint: format!("{:016x}", self.hasher.finish()),
        }
    }
}

/// What a step was last made from, against what it would be made from now.
#[derive(Debug)]
pub(crate) struct Stamp {
    file: PathBuf,
    fingerprint: String,
}

impl Stamp {
    /// Whether the step was last done from these very inputs and what it made is still there.
    pub(crate) fn is_current(&self, outputs: &[&Path]) -> bool {
        outputs.iter().all(|output| output.exists())
            && fs::read_to_string(&self.file).is_ok_and(|found| found == self.fingerprint)
    }

    /// Remembers that the step is done. Call it last: a step that failed half-way must run again.
    pub(crate) fn write(&self) -> Result<()> {
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.file, &self.fingerprint)
            .with_context(|| format!("writing {}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(root: &Path) -> Stamp {
        Inputs::default()
            .text("version 1")
            .path(&root.join("src"))
            .expect("inputs")
            .stamp(&Workspace::at(root), "step")
    }

    fn checkout() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("folder");
        fs::create_dir_all(root.path().join("src/deep")).expect("folders");
        fs::write(root.path().join("src/deep/a.rs"), "a").expect("file");
        fs::write(root.path().join("made"), "output").expect("file");
        root
    }

    #[test]
    fn a_step_is_current_only_after_it_was_written() {
        let root = checkout();
        let made = root.path().join("made");
        assert!(!stamp(root.path()).is_current(&[&made]));
        stamp(root.path()).write().expect("written");
        assert!(stamp(root.path()).is_current(&[&made]));
    }

    #[test]
    fn a_changed_a_new_and_a_renamed_input_each_make_it_stale() {
        let root = checkout();
        let file = root.path().join("src/deep/a.rs");
        stamp(root.path()).write().expect("written");
        fs::write(&file, "b").expect("file");
        assert!(!stamp(root.path()).is_current(&[]), "changed");
        fs::write(&file, "a").expect("file");
        assert!(stamp(root.path()).is_current(&[]), "as it was");
        fs::write(root.path().join("src/b.rs"), "").expect("file");
        assert!(!stamp(root.path()).is_current(&[]), "new");
        fs::remove_file(root.path().join("src/b.rs")).expect("removed");
        fs::rename(&file, root.path().join("src/deep/c.rs")).expect("renamed");
        assert!(!stamp(root.path()).is_current(&[]), "renamed");
    }

    #[test]
    fn a_removed_output_makes_it_stale() {
        let root = checkout();
        let made = root.path().join("made");
        stamp(root.path()).write().expect("written");
        fs::remove_file(&made).expect("removed");
        assert!(!stamp(root.path()).is_current(&[&made]));
    }

    #[test]
    fn what_builds_leave_behind_is_no_input() {
        let root = checkout();
        stamp(root.path()).write().expect("written");
        fs::create_dir_all(root.path().join("src/node_modules/x")).expect("folder");
        fs::write(root.path().join("src/node_modules/x/y.js"), "y").expect("file");
        assert!(stamp(root.path()).is_current(&[]));
    }
}
