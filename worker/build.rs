//! Puts the embedded model's files into the binary: a table of relative path and bytes.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// What lies beside the model but is no part of it.
const FOLDERS_LEFT_OUT: [&str; 1] = ["train"];
/// Extensions of a model's own files; cards, licences and samples stay out.
const EXTENSIONS: [&str; 3] = ["json", "safetensors", "txt"];
/// Has such an extension, and is no part of the model either.
const FILES_LEFT_OUT: [&str; 1] = ["evaluation.json"];

fn main() -> io::Result<()> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let output = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let model = package.join("models/pocket");
    let mut files = Vec::new();
    // Without an index the folder is no model yet, and the binary has none.
    if model.join("model_index.json").is_file() {
        collect(&model, "", &mut files)?;
        files.sort();
    }
    fs::write(output.join("pocket.rs"), table(&files))?;
    watch(&package);
    Ok(())
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let relative = format!("{prefix}{name}");
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() {
            if !FOLDERS_LEFT_OUT.contains(&relative.as_str()) {
                collect(&path, &format!("{relative}/"), files)?;
            }
        } else if extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
            && !FILES_LEFT_OUT.contains(&relative.as_str())
        {
            files.push((relative, path));
        }
    }
    Ok(())
}

fn table(files: &[(String, PathBuf)]) -> String {
    let mut source = String::from(
        "/// Relative path and bytes.\npub(super) static FILES: &[(&str, &[u8])] = &[\n",
    );
    for (relative, path) in files {
        source.push_str(&format!("    ({relative:?}, include_bytes!({path:?})),\n"));
    }
    source.push_str("];\n");
    source
}

/// What the binary holds of the tree. A path that does not exist would make every build a new one, so its nearest
/// parent stands for it.
fn watch(package: &Path) {
    println!("cargo::rerun-if-changed=build.rs");
    let model = package.join("models/pocket");
    for part in [
        "model_index.json",
        "scumble.json",
        "vocabulary.json",
        "unet",
        "vae",
        "text_encoder",
        "tokenizer",
        "scheduler",
    ] {
        let path = model.join(part);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    println!("cargo::rerun-if-changed={}", model.display());
    let studio = package.join("../ui/app");
    let built = studio.join("dist");
    let watched = if built.exists() { built } else { studio };
    if watched.exists() {
        println!("cargo::rerun-if-changed={}", watched.display());
    }
}
