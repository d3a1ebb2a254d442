//! Child programs: shown, streamed, and started in the environment that the user had before cargo changed it.

use anyhow::{Context, Result, bail};
use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// One command line, its folder and its extra environment.
#[derive(Debug)]
pub(crate) struct Task {
    program: OsString,
    arguments: Vec<OsString>,
    folder: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    niced: bool,
}

impl Task {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            folder: None,
            environment: Vec::new(),
            niced: false,
        }
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    pub(crate) fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn envs(mut self, pairs: &[(OsString, OsString)]) -> Self {
        self.environment.extend_from_slice(pairs);
        self
    }

    /// Gives way to whatever else the machine does: installations are long and nobody looks at them.
    pub(crate) fn niced(mut self) -> Self {
        self.niced = true;
        self
    }

    /// The command as one would type it.
    pub(crate) fn line(&self) -> String {
        std::iter::once(&self.program)
            .chain(&self.arguments)
            .map(|word| {
                let word = word.to_string_lossy();
                if word.is_empty() || word.contains([' ', '"', '*', '$']) {
                    format!("'{word}'")
                } else {
                    word.into_owned()
                }
            })
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Runs it with its output on the terminal; an error if it fails.
    pub(crate) fn run(self) -> Result<()> {
        eprintln!("   $ {}", self.line());
        let status = self
            .command()
            .stdin(Stdio::null())
            .status()
            .map_err(|error| self.not_started(&error))?;
        if !status.success() {
            bail!("`{}` failed ({status})", self.line());
        }
        Ok(())
    }

    /// Runs it unseen and gives its standard output, trimmed; its standard error is in the error if it fails.
    pub(crate) fn output(self) -> Result<String> {
        let output = self
            .command()
            .stdin(Stdio::null())
            .output()
            .map_err(|error| self.not_started(&error))?;
        if !output.status.success() {
            bail!(
                "`{}` failed ({}): {}",
                self.line(),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let text = String::from_utf8(output.stdout)
            .with_context(|| format!("`{}` wrote something that is not UTF-8", self.line()))?;
        Ok(text.trim().to_owned())
    }

    /// The command itself, for a caller that keeps the child.
    pub(crate) fn command(&self) -> Command {
        let mut command = if self.niced && cfg!(unix) {
            let mut nice = Command::new("nice");
            nice.args(["-n", "10"]).arg(&self.program);
            nice
        } else {
            Command::new(&self.program)
        };
        command.args(&self.arguments);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        clean(&mut command);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    fn not_started(&self, error: &io::Error) -> anyhow::Error {
        let program = self.program.to_string_lossy();
        if error.kind() == io::ErrorKind::NotFound {
            anyhow::anyhow!("`{program}` is not on this machine; install it and start again")
        } else {
            anyhow::anyhow!("`{program}` could not be started: {error}")
        }
    }
}

/// Takes out what `cargo run` put into our environment. A child cargo would otherwise see other variables than a
/// cargo typed by hand, and rebuild; a child compiler would load libraries of the wrong toolchain.
///
/// `RUSTUP_TOOLCHAIN` stays: it is the toolchain that the user chose, and native builds belong to it. The wasm build
/// sets its own compiler on its own command only.
fn clean(command: &mut Command) {
    for (key, value) in env::vars_os() {
        let Some(name) = key.to_str() else { continue };
        if is_from_cargo_run(name) {
            command.env_remove(&key);
        } else if name == "LD_LIBRARY_PATH" || name == "DYLD_FALLBACK_LIBRARY_PATH" {
            let kept: Vec<_> = env::split_paths(&value)
                .filter(|folder| !is_of_a_build(folder))
                .collect();
            match env::join_paths(&kept) {
                Ok(joined) if !kept.is_empty() => command.env(&key, joined),
                _ => command.env_remove(&key),
            };
        }
    }
}

fn is_from_cargo_run(name: &str) -> bool {
    matches!(
        name,
        "CARGO" | "RUSTC" | "RUSTDOC" | "CARGO_PRIMARY_PACKAGE" | "CARGO_CRATE_NAME"
    ) || ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Whether cargo or rustup put this folder on the library path.
fn is_of_a_build(folder: &Path) -> bool {
    folder.as_os_str().is_empty()
        || folder.ends_with("deps")
        || folder.ends_with("debug")
        || folder.ends_with("release")
        || folder
            .components()
            .any(|part| part.as_os_str() == "rustlib" || part.as_os_str() == "toolchains")
}

/// Where `program` is, going by `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let name = format!("{program}{}", env::consts::EXE_SUFFIX);
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(&name))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_in_the_error() {
        let error = Task::new("cargo")
            .arg("no-such-subcommand")
            .output()
            .expect_err("cargo has no such subcommand");
        assert!(
            error
                .to_string()
                .contains("`cargo no-such-subcommand` failed")
        );
    }

    #[test]
    fn a_missing_program_is_said_to_be_missing() {
        let error = Task::new("scumble-no-such-program")
            .output()
            .expect_err("no such program");
        assert!(error.to_string().contains("is not on this machine"));
    }

    #[test]
    fn children_do_not_see_the_package_that_cargo_runs() {
        assert!(
            env::var_os("CARGO_PKG_NAME").is_some(),
            "cargo test sets it"
        );
        let command = Task::new("cargo").command();
        let removed = command
            .get_envs()
            .any(|(key, value)| key == "CARGO_PKG_NAME" && value.is_none());
        assert!(removed);
    }
}
