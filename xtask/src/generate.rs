//! TypeScript types from the Rust ones.

use crate::{task::Task, workspace::Workspace};
use anyhow::{Context, Result, bail};
use std::{fs, path::PathBuf};

const HEADER: &str =
    "// Written by `cargo xtask generate` from worker/crates/protocol; edits here are lost.\n";

fn file(workspace: &Workspace) -> PathBuf {
    workspace.sdk().join("js/src/generated/protocol.ts")
}

/// Writes the types.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    let path = file(workspace);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&path, types(workspace)?).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("   {} is written", workspace.short(&path));
    Ok(())
}

/// Fails when the types that are checked in are not those that the Rust types give.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let path = file(workspace);
    let found = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    same(&found, &types(workspace)?).with_context(|| {
        format!(
            "{} is not what worker/crates/protocol says; run `cargo xtask generate`",
            workspace.short(&path)
        )
    })
}

fn same(found: &str, expected: &str) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let difference = found
        .lines()
        .zip(expected.lines())
        .enumerate()
        .find(|(_, (found, expected))| found != expected);
    match difference {
        Some((index, (found, expected))) => {
            bail!("line {} is `{found}` and should be `{expected}`", index + 1)
        }
        None => bail!(
            "it has {} lines and should have {}",
            found.lines().count(),
            expected.lines().count()
        ),
    }
}

fn types(workspace: &Workspace) -> Result<String> {
    let folder = workspace.state().join("typescript");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    Task::new("cargo")
        .args([
            "run",
            "--quiet",
            "--package",
            "scumble-protocol",
            "--features",
            "ts",
        ])
        .args(["--example", "typescript", "--"])
        .arg(&folder)
        .folder(workspace.root())
        .run()?;
    let files = fs::read_dir(&folder)?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>, _>>()?;
    if files != ["protocol.ts"] {
        bail!(
            "every wire type belongs in one file (`export_to = \"protocol.ts\"`), but there are {files:?}"
        );
    }
    Ok(tidied(&fs::read_to_string(folder.join("protocol.ts"))?))
}

/// Our header for ts-rs's own, and no blanks at line ends.
fn tidied(written: &str) -> String {
    let mut text = HEADER.to_owned();
    for line in written.lines().skip(1) {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_told_by_its_first_line() {
        assert!(same("a\nb\n", "a\nb\n").is_ok());
        let error = same("a\nb\n", "a\nc\n").expect_err("differs");
        assert_eq!(error.to_string(), "line 2 is `b` and should be `c`");
        let error = same("a\n", "a\nb\n").expect_err("shorter");
        assert_eq!(error.to_string(), "it has 1 lines and should have 2");
    }

    #[test]
    fn the_header_names_the_command_and_blanks_go() {
        assert_eq!(
            tidied("// ts-rs\n\ntype A = { \n"),
            format!("{HEADER}\ntype A = {{\n")
        );
    }
}
