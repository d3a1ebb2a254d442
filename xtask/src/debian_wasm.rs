//! The way to wasm where rustup cannot download: Debian's `rustc-web`, unpacked into a private folder (nothing is
//! installed), with its standard library built once for wasm from Debian's own sources.
//!
//! The compiler is named to cargo by `RUSTC` on the wasm build alone; the user's toolchains are left as they are.

use crate::{
    setup::{self, WASM_TARGET, WasmCompiler, holds_core},
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

/// Written last; a folder without it was broken off.
const COMPLETE: &str = "complete";

/// Whether an earlier run made it.
pub(crate) fn is_built() -> bool {
    home().is_ok_and(|home| home.join(COMPLETE).is_file())
}

/// The compiler, made first if need be (about two minutes).
pub(crate) fn compiler(workspace: &Workspace) -> Result<WasmCompiler> {
    let home = home()?;
    if !home.join(COMPLETE).is_file() {
        make(workspace, &home).context(
            "no Rust standard library for wasm could be had: `rustup target add wasm32-unknown-unknown` \
             does not work here, and Debian's rustc-web could not stand in",
        )?;
    }
    let environment = environment(&home);
    let version = Task::new(home.join("bin/rustc"))
        .arg("--version")
        .envs(&environment)
        .output()?;
    Ok(WasmCompiler {
        identity: format!("{version}, from Debian"),
        environment,
    })
}

fn home() -> Result<PathBuf> {
    let cache = match env::var_os("XDG_CACHE_HOME") {
        Some(cache) if !cache.is_empty() => PathBuf::from(cache),
        _ => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(cache.join("scumble/rust-wasm32"))
}

/// What makes cargo use the compiler in `home`. Its libraries lie beside it, where Debian's rustc does not look.
fn environment(home: &Path) -> Vec<(OsString, OsString)> {
    vec![
        ("RUSTC".into(), home.join("bin/rustc").into()),
        ("LD_LIBRARY_PATH".into(), home.join("lib").into()),
    ]
}

fn make(workspace: &Workspace, home: &Path) -> Result<()> {
    for program in ["apt-get", "apt-cache", "dpkg-deb"] {
        if find(program).is_none() {
            bail!("`{program}` is not on this machine, so it is no Debian");
        }
    }
    let work = workspace.state().join("debian-wasm");
    remove(&work)?;
    remove(home)?;
    let release = Release::candidate()?;
    eprintln!(
        "   unpacking Debian's rustc-web {} into {}",
        release.version,
        home.display()
    );
    unpack(&release, &work)?;
    lay_out(&release, &work.join("root"), home)?;
    build_std(&work, home)?;
    remove(&work)?;
    fs::write(home.join(COMPLETE), &release.version).context("finishing the wasm compiler")
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    Ok(())
}

/// One version of Debian's packages.
struct Release {
    /// Debian's, such as `1.96.0+dfsg1-1~deb12u2`.
    version: String,
    /// Rust's, such as `1.96.0`.
    rust: String,
    /// The package with the LLVM that this rustc is linked to.
    llvm: String,
}

impl Release {
    /// What apt would install.
    fn candidate() -> Result<Self> {
        let policy = || {
            Task::new("apt-cache")
                .args(["policy", "rustc-web"])
                .output()
        };
        let mut found = candidate_version(&policy()?).map(str::to_owned);
        if found.is_none() && setup::is_root() {
            setup::apt_get(&["update", "-qq"])?;
            found = candidate_version(&policy()?).map(str::to_owned);
        }
        let version = found.context("apt knows no rustc-web; `apt-get update` may help")?;
        let rust = rust_version(&version).to_owned();
        let details = Task::new("apt-cache")
            .args([
                "show",
                &format!("libstd-rust-web-{}={version}", minor(&rust)),
            ])
            .output()?;
        let llvm = llvm_package(&details)
            .context("Debian's libstd-rust-web names no libllvm")?
            .to_owned();
        Ok(Self {
            version,
            rust,
            llvm,
        })
    }

    fn packages(&self) -> Vec<String> {
        let version = &self.version;
        vec![
            format!("rustc-web={version}"),
            format!("libstd-rust-web-{}={version}", minor(&self.rust)),
            format!("libstd-rust-web-dev={version}"),
            format!("rust-web-src={version}"),
            self.llvm.clone(),
        ]
    }
}

fn candidate_version(policy: &str) -> Option<&str> {
    policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate:"))
        .map(str::trim)
        .filter(|version| *version != "(none)")
}

/// `1.96.0+dfsg1-1~deb12u2` → `1.96.0`.
fn rust_version(debian: &str) -> &str {
    debian.split(['+', '-', '~']).next().unwrap_or(debian)
}

/// `1.96.0` → `1.96`.
fn minor(rust: &str) -> &str {
    rust.rsplit_once('.').map_or(rust, |(minor, _)| minor)
}

fn llvm_package(details: &str) -> Option<&str> {
    details
        .lines()
        .find_map(|line| line.strip_prefix("Depends:"))?
        .split(',')
        .filter_map(|package| package.split_whitespace().next())
        .find(|name| name.starts_with("libllvm"))
}

fn unpack(release: &Release, work: &Path) -> Result<()> {
    let packages = work.join("packages");
    fs::create_dir_all(&packages)?;
    Task::new("apt-get")
        .args(["download", "-qq"])
        .args(release.packages())
        .folder(&packages)
        .niced()
        .run()?;
    for package in fs::read_dir(&packages)? {
        Task::new("dpkg-deb")
            .arg("-x")
            .arg(package?.path())
            .arg(work.join("root"))
            .niced()
            .run()?;
    }
    Ok(())
}

/// Puts Debian's files where a sysroot has them. The linker is the user's own toolchain's, by a link and not by a
/// copy: it loads libraries from beside itself.
fn lay_out(release: &Release, unpacked: &Path, home: &Path) -> Result<()> {
    let host = host_triple()?;
    let multiarch = host.replace("-unknown-", "-");
    let lender = PathBuf::from(Task::new("rustc").args(["--print", "sysroot"]).output()?);
    let linkers = lender.join("lib/rustlib").join(&host).join("bin");
    if !linkers.join("rust-lld").is_file() {
        bail!("{} has no rust-lld to link wasm with", lender.display());
    }
    let rustlib = home.join("lib/rustlib");
    fs::create_dir_all(rustlib.join("src"))?;
    fs::create_dir_all(home.join("bin"))?;
    let usr = unpacked.join("usr");
    for (from, to) in [
        (usr.join("bin/rustc"), home.join("bin/rustc")),
        (usr.join("lib/rustlib").join(&host), rustlib.join(&host)),
        (
            usr.join("src").join(format!("rustc-{}", release.rust)),
            rustlib.join("src/rust"),
        ),
    ] {
        copy(&from, &to)?;
    }
    // The dot: the folder's contents, into the `lib` that is there already.
    copy(
        &usr.join("lib").join(multiarch).join("."),
        &home.join("lib"),
    )?;
    link(&linkers, &rustlib.join(&host).join("bin"))
}

fn host_triple() -> Result<String> {
    Task::new("rustc")
        .arg("-vV")
        .output()?
        .lines()
        .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        .context("`rustc -vV` names no host")
}

/// With `cp`, which keeps links and modes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    Task::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .output()
        .map(|_| ())
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) -> Result<()> {
    std::os::unix::fs::symlink(to, at).with_context(|| format!("linking {}", at.display()))
}

#[cfg(not(unix))]
fn link(_to: &Path, _at: &Path) -> Result<()> {
    bail!("Debian's packages serve on Debian alone")
}

/// Builds std for wasm from the sources and the vendored crates that Debian ships, with no network.
fn build_std(work: &Path, home: &Path) -> Result<()> {
    let source = home.join("lib/rustlib/src/rust");
    let project = work.join("project");
    let target = work.join("target");
    fs::create_dir_all(project.join("src"))?;
    fs::write(project.join("src/lib.rs"), "#![no_std]\n")?;
    fs::write(
        project.join("Cargo.toml"),
        "[package]\nname = \"nothing\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n",
    )?;
    // Bitcode is embedded so that crates built on it may use LTO; `test` is what `cargo test` would link.
    let flags = [
        "-Cembed-bitcode=yes".to_owned(),
        format!("--remap-path-prefix={}=/rustc", source.display()),
    ]
    .join("\u{1f}");
    Task::new("cargo")
        .args(["build", "--release", "--offline", "--target", WASM_TARGET])
        .arg("-Zbuild-std=std,panic_abort,test,proc_macro")
        .arg("--target-dir")
        .arg(&target)
        .args([
            "--config",
            "source.crates-io.replace-with=\"debian\"",
            "--config",
        ])
        .arg(format!(
            "source.debian.directory=\"{}\"",
            source.join("library/vendor").display()
        ))
        .envs(&environment(home))
        // Unlocks -Z in a stable compiler: std itself is built with unstable features.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .folder(&project)
        .niced()
        .run()?;
    let library = home.join("lib/rustlib").join(WASM_TARGET).join("lib");
    fs::create_dir_all(&library)?;
    let built = target.join(WASM_TARGET).join("release/deps");
    for entry in fs::read_dir(&built).with_context(|| format!("reading {}", built.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.ends_with(".rlib") && !name.starts_with("libnothing-") {
            fs::copy(&path, library.join(&name))?;
        }
    }
    if !holds_core(&library) {
        bail!("the standard library was built, but holds no core");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_versions_and_dependencies_are_read() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n";
        let version = candidate_version(policy).expect("candidate");
        assert_eq!(rust_version(version), "1.96.0");
        assert_eq!(minor(rust_version(version)), "1.96");
        assert_eq!(candidate_version("rustc-web:\n  Candidate: (none)\n"), None);
        let details = "Package: libstd-rust-web-1.96\nDepends: libc6 (>= 2.34), libllvm22 (>= 1:22), zlib1g\n";
        assert_eq!(llvm_package(details), Some("libllvm22"));
    }
}
