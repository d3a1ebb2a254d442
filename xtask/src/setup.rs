//! Fetches what a fresh machine lacks: at most once, said aloud, and nothing system-wide but Chromium.

use crate::{
    debian_wasm,
    stamp::Inputs,
    task::{Task, find},
    workspace::Workspace,
};
use anyhow::{Context, Result, bail};
use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

pub(crate) const WASM_TARGET: &str = "wasm32-unknown-unknown";
const NODE_MAJOR_MIN: u32 = 20;

/// Where the standard library for wasm may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WasmSource {
    /// Whatever is there or can be had, the cheapest first.
    Any,
    /// The current toolchain's own, added with rustup if need be.
    Rustup,
    /// Built from Debian's sources of the standard library.
    Debian,
}

/// How cargo is told to build for wasm.
#[derive(Debug, Clone)]
pub(crate) struct WasmCompiler {
    /// For the wasm build's command alone: native builds keep the user's compiler.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Names compiler and version; another one means building again.
    pub(crate) identity: String,
}

/// All that `demo` and `test` need.
pub(crate) fn everything(workspace: &Workspace, source: WasmSource) -> Result<()> {
    node()?;
    let compiler = wasm_compiler(workspace, source)?;
    eprintln!("   wasm: {}", compiler.identity);
    wasm_bindgen(workspace)?;
    npm_install(workspace, &workspace.sdk())?;
    npm_install(workspace, &workspace.ui())?;
    let chromium = chromium()?;
    eprintln!("   Chromium: {}", chromium.display());
    Ok(())
}

/// A compiler that can target wasm, set up if there is none yet.
pub(crate) fn wasm_compiler(workspace: &Workspace, source: WasmSource) -> Result<WasmCompiler> {
    if source == WasmSource::Debian {
        return debian_wasm::compiler(workspace);
    }
    let own = own_compiler()?;
    if let Some(own) = own {
        return Ok(own);
    }
    // A fallback that an earlier run built saves asking rustup again for what it could not give.
    if source == WasmSource::Any && debian_wasm::is_built() {
        return debian_wasm::compiler(workspace);
    }
    let added = add_with_rustup();
    match (added, source) {
        (Ok(()), _) => own_compiler()?
            .with_context(|| format!("rustup added {WASM_TARGET}, but to another toolchain")),
        (Err(error), WasmSource::Rustup) => Err(error),
        (Err(error), _) => {
            eprintln!("   {error:#}; building its standard library from Debian's sources instead");
            debian_wasm::compiler(workspace)
        }
    }
}

/// The user's own toolchain, if it has the wasm target.
fn own_compiler() -> Result<Option<WasmCompiler>> {
    let sysroot = Task::new("rustc").args(["--print", "sysroot"]).output()?;
    let library = Path::new(&sysroot)
        .join("lib/rustlib")
        .join(WASM_TARGET)
        .join("lib");
    if !holds_core(&library) {
        return Ok(None);
    }
    Ok(Some(WasmCompiler {
        environment: Vec::new(),
        identity: Task::new("rustc").arg("--version").output()?,
    }))
}

/// Whether a library folder holds a compiled `core`.
pub(crate) fn holds_core(library: &Path) -> bool {
    fs::read_dir(library).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libcore-") && name.ends_with(".rlib")
        })
    })
}

fn add_with_rustup() -> Result<()> {
    if find("rustup").is_none() {
        bail!("rustc lacks the target {WASM_TARGET} and there is no rustup to add it");
    }
    Task::new("rustup")
        .args(["target", "add", WASM_TARGET])
        .niced()
        .run()
        .with_context(|| format!("rustup cannot add {WASM_TARGET} here"))
}

/// The wasm-bindgen program of the very version that the crate has: the two speak a private format.
pub(crate) fn wasm_bindgen(workspace: &Workspace) -> Result<PathBuf> {
    let lock =
        fs::read_to_string(workspace.root().join("Cargo.lock")).context("reading Cargo.lock")?;
    let version =
        locked_version(&lock, "wasm-bindgen").context("Cargo.lock names no wasm-bindgen")?;
    let program = workspace
        .tools()
        .join("bin")
        .join(format!("wasm-bindgen{}", env::consts::EXE_SUFFIX));
    let wanted = format!("wasm-bindgen {version}");
    if Task::new(&program)
        .arg("--version")
        .output()
        .is_ok_and(|found| found == wanted)
    {
        return Ok(program);
    }
    eprintln!("   building {wanted} into .tools (some minutes, once)");
    let build = workspace.tools().join("build");
    // Unoptimised: it builds in a third of the time and still does our one module in under a second.
    Task::new("cargo")
        .args([
            "install",
            "wasm-bindgen-cli",
            "--debug",
            "--version",
            version,
            "--root",
        ])
        .arg(workspace.tools())
        .arg("--target-dir")
        .arg(&build)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .folder(workspace.root())
        .niced()
        .run()?;
    fs::remove_dir_all(&build).with_context(|| format!("removing {}", build.display()))?;
    Ok(program)
}

/// The version of `package` in the text of a Cargo.lock.
fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"");
    lock.lines()
        .skip_while(|line| *line != name)
        .nth(1)?
        .strip_prefix("version = \"")?
        .strip_suffix('"')
}

/// Node of a version that the packages support.
pub(crate) fn node() -> Result<()> {
    let version = Task::new("node")
        .arg("--version")
        .output()
        .with_context(|| {
            format!("Node {NODE_MAJOR_MIN} or newer is needed for the SDK and the studio")
        })?;
    let major: u32 = version
        .trim_start_matches('v')
        .split('.')
        .next()
        .and_then(|major| major.parse().ok())
        .with_context(|| format!("`node --version` said {version}"))?;
    if major < NODE_MAJOR_MIN {
        bail!("Node {NODE_MAJOR_MIN} or newer is needed, this is {version}");
    }
    Ok(())
}

/// The npm packages of one folder, exactly as its lock file says; skipped while the lock file is the same.
pub(crate) fn npm_install(workspace: &Workspace, folder: &Path) -> Result<()> {
    let lock = folder.join("package-lock.json");
    if !lock.is_file() {
        bail!(
            "{} is missing; run `npm install` in {} and commit it",
            workspace.short(&lock),
            workspace.short(folder)
        );
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let stamp = Inputs::default()
        .path(&lock)?
        .path(&folder.join("package.json"))?
        .stamp(workspace, &format!("npm-{name}"));
    // npm writes this file last, so a broken-off installation is not taken for a whole one.
    if stamp.is_current(&[&folder.join("node_modules/.package-lock.json")]) {
        return Ok(());
    }
    Task::new("npm")
        .args(["ci", "--no-audit", "--no-fund"])
        // The tests drive the system's Chromium.
        .env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")
        .folder(folder)
        .niced()
        .run()?;
    stamp.write()
}

/// A Chromium for the tests: the one that `CHROMIUM_PATH` names, the system's, or one from apt where we may install.
pub(crate) fn chromium() -> Result<PathBuf> {
    if let Some(path) = env::var_os("CHROMIUM_PATH") {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("CHROMIUM_PATH names {}, which is not there", path.display());
        }
        return Ok(path);
    }
    if let Some(found) = installed_chromium() {
        return Ok(found);
    }
    if !is_root() || find("apt-get").is_none() {
        bail!(
            "the end-to-end tests need Chromium: install it (`sudo apt-get install chromium`) \
             or name one in CHROMIUM_PATH"
        );
    }
    apt_get(&["update", "-qq"])?;
    apt_get(&[
        "install",
        "-y",
        "-qq",
        "--no-install-recommends",
        "chromium",
    ])?;
    installed_chromium().context("apt installed chromium, but there is no such program")
}

/// Whether we may install things for the whole system.
pub(crate) fn is_root() -> bool {
    cfg!(unix)
        && Task::new("id")
            .arg("-u")
            .output()
            .is_ok_and(|user| user == "0")
}

/// apt, asking nothing.
pub(crate) fn apt_get(arguments: &[&str]) -> Result<()> {
    Task::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .niced()
        .run()
}

fn installed_chromium() -> Option<PathBuf> {
    [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ]
    .into_iter()
    .find_map(find)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locked_version_is_that_of_the_whole_name() {
        let lock = "[[package]]\nname = \"wasm-bindgen-futures\"\nversion = \"0.4.80\"\n\n\
                    [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\n";
        assert_eq!(locked_version(lock, "wasm-bindgen"), Some("0.2.130"));
        assert_eq!(locked_version(lock, "wasm"), None);
    }

    #[test]
    fn a_missing_lock_file_is_said_with_what_to_do() {
        let root = tempfile::tempdir().expect("folder");
        let workspace = Workspace::at(root.path());
        let error = npm_install(&workspace, &workspace.ui()).expect_err("no lock file");
        assert!(
            error
                .to_string()
                .starts_with("ui/package-lock.json is missing")
        );
    }
}
