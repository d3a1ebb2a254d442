//! The studio inside the binary; read from disk in a debug build.

use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "../ui/app/dist"]
#[allow_missing = true]
struct Files;

/// The page that everything starts from.
const INDEX: &str = "index.html";

/// A file of the studio by its path without the leading `/`; an empty path is the page itself.
#[must_use]
pub fn file(path: &str) -> Option<EmbeddedFile> {
    Files::get(if path.is_empty() { INDEX } else { path })
}

/// The page itself, unless this build has no studio.
#[must_use]
pub fn index() -> Option<EmbeddedFile> {
    Files::get(INDEX)
}
