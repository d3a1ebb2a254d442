//! Builds the SDK and the user interface.

use crate::{
    setup::{self, WASM_TARGET, WasmSource},
    stamp::Inputs,
    task::Task,
    workspace::Workspace,
};
use anyhow::Result;
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// What the Rust crate of the SDK is called once it is a library.
const SDK_LIBRARY: &str = "scumble_sdk";

/// `strip-target-features` comes last in the list and in effect: the features are read before they are dropped.
const WASM_OPT_FLAGS: [&str; 10] = [
    "-Oz",
    "--enable-bulk-memory",
    "--enable-nontrapping-float-to-int",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-reference-types",
    "--enable-multivalue",
    "--strip-debug",
    "--strip-producers",
    "--strip-target-features",
];

/// `@scumble/sdk`, whole: wasm, bindings, TypeScript. Fails when a page would have to fetch more than the budget in
/// the SDK's `scripts/size.mjs`.
pub(crate) fn sdk(workspace: &Workspace, source: WasmSource) -> Result<()> {
    setup::npm_install(workspace, &workspace.sdk())?;
    bindings(workspace, source)?;
    let folder = workspace.sdk();
    let stamp = Inputs::default()
        .path(&folder.join("js"))?
        .path(&folder.join("package.json"))?
        .path(&folder.join("package-lock.json"))?
        .path(&folder.join("tsconfig.json"))?
        .path(&folder.join("scripts"))?
        .path(&wasm_file(&workspace.sdk_bindings()))?
        .path(&glue_file(&workspace.sdk_bindings()))?
        .stamp(workspace, "sdk-typescript");
    if stamp.is_current(&[&folder.join("dist")]) {
        return Ok(());
    }
    npm_run(&folder, &["run", "build"])?;
    npm_run(&folder, &["run", "size"])?;
    stamp.write()
}

fn wasm_file(folder: &Path) -> PathBuf {
    folder.join(format!("{SDK_LIBRARY}_bg.wasm"))
}

fn glue_file(folder: &Path) -> PathBuf {
    folder.join(format!("{SDK_LIBRARY}.js"))
}

/// The wasm module and its JavaScript glue, in the SDK's sources.
fn bindings(workspace: &Workspace, source: WasmSource) -> Result<()> {
    let compiler = setup::wasm_compiler(workspace, source)?;
    let wasm_bindgen = setup::wasm_bindgen(workspace)?;
    let root = workspace.root();
    let folder = workspace.sdk_bindings();
    let stamp = Inputs::default()
        .text(&compiler.identity)
        .text(&WASM_OPT_FLAGS.join(" "))
        .path(&root.join("Cargo.toml"))?
        .path(&root.join("Cargo.lock"))?
        .path(&workspace.sdk().join("Cargo.toml"))?
        .path(&workspace.sdk().join("src"))?
        .path(&workspace.sdk().join("package-lock.json"))?
        .path(&root.join("worker/crates/protocol"))?
        .stamp(workspace, "sdk-wasm");
    if stamp.is_current(&[&wasm_file(&folder), &glue_file(&folder)]) {
        return Ok(());
    }
    let target = workspace.wasm_target();
    Task::new("cargo")
        .args(["build", "--package", "scumble-sdk", "--profile", "wasm"])
        .args(["--target", WASM_TARGET, "--target-dir"])
        .arg(&target)
        .envs(&compiler.environment)
        // Replaces the user's own flags too, which are for native code.
        .env("CARGO_ENCODED_RUSTFLAGS", path_flags(workspace))
        .folder(root)
        .run()?;
    let module = target
        .join(WASM_TARGET)
        .join("wasm")
        .join(format!("{SDK_LIBRARY}.wasm"));
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    // `web` glue takes the module's bytes or address from its caller, so the same glue serves browsers and Node.
    Task::new(wasm_bindgen)
        .args(["--target", "web", "--out-name", SDK_LIBRARY, "--out-dir"])
        .arg(&folder)
        .arg(module)
        .folder(root)
        .run()?;
    let wasm = wasm_file(&folder);
    Task::new(workspace.sdk().join("node_modules/.bin/wasm-opt"))
        .args(WASM_OPT_FLAGS)
        .arg(&wasm)
        .arg("-o")
        .arg(&wasm)
        .folder(root)
        .run()?;
    stamp.write()
}

/// Keeps this machine's folders out of the panic messages inside the module.
fn path_flags(workspace: &Workspace) -> String {
    let mut flags = vec![format!(
        "--remap-path-prefix={}=.",
        workspace.root().display()
    )];
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    if let Some(cargo_home) = cargo_home {
        flags.push(format!(
            "--remap-path-prefix={}=cargo",
            cargo_home.display()
        ));
    }
    flags.join("\u{1f}")
}

/// `@scumble/react` and the studio.
pub(crate) fn ui(workspace: &Workspace) -> Result<()> {
    let folder = workspace.ui();
    setup::npm_install(workspace, &folder)?;
    let stamp = Inputs::default()
        .path(&folder)?
        .path(&workspace.sdk().join("dist"))?
        .path(&workspace.sdk().join("package.json"))?
        .stamp(workspace, "ui");
    let outputs = [
        folder.join("packages/react/dist"),
        folder.join("app/dist/index.html"),
    ];
    if stamp.is_current(&outputs.each_ref().map(PathBuf::as_path)) {
        return Ok(());
    }
    npm_run(&folder, &["run", "build"])?;
    stamp.write()
}

/// The worker for users, with the studio that `ui` built inside.
pub(crate) fn worker(workspace: &Workspace) -> Result<PathBuf> {
    Task::new("cargo")
        .args(["build", "--release", "--package", "scumble-worker"])
        .args(["--bin", "scumble"])
        .folder(workspace.root())
        .run()?;
    Ok(workspace.worker_binary("release"))
}

/// The worker for tests. It is built together with them: alone it would want its dependencies with other features,
/// and with that a second build of most of them.
pub(crate) fn worker_for_tests(workspace: &Workspace) -> Result<PathBuf> {
    Task::new("cargo")
        .args(["build", "--workspace", "--bins", "--tests", "--locked"])
        .folder(workspace.root())
        .run()?;
    Ok(workspace.worker_binary("debug"))
}

/// npm in one of our packages, with nothing of npm's own news.
pub(crate) fn npm_run(folder: &Path, arguments: &[&str]) -> Result<()> {
    Task::new("npm")
        .args(arguments)
        .env("NPM_CONFIG_UPDATE_NOTIFIER", "false")
        .folder(folder)
        .run()
}
