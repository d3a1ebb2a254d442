//! Models from the Hugging Face hub: listed, fetched and kept as its own tools do, so that the cache is shared with them.
//!
//! [`Hub::pull`] asks the hub what a repository holds, `select` says which of it a model needs, `download` fetches one
//! file so that it can be interrupted anywhere, and [`HubCache`] is the folder layout. Nothing is taken that does not
//! have the hash that the hub's listing gives.

mod cache;
mod download;
mod environment;
mod id;
mod pull;
mod select;

pub(crate) use cache::folder_bytes;
pub use cache::{CachedModel, HubCache};
pub use environment::HubSettings;
pub use id::HubId;
pub use pull::{Hub, PullOptions, Pulled};

use std::path::{Path, PathBuf};

/// Why a model could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Not the id of a repository.
    #[error("a hub id is org/name, or org/name@revision, got {0:?}")]
    InvalidId(String),
    /// A variable of the environment makes no sense.
    #[error("{name} {message}")]
    Environment {
        /// The variable.
        name: &'static str,
        /// What it must be.
        message: String,
    },
    /// The user wants no network.
    #[error("HF_HUB_OFFLINE is set, so nothing can be pulled")]
    Offline,
    /// No answer.
    #[error("{host} cannot be reached: {message}")]
    Unreachable {
        /// Who was asked.
        host: String,
        /// What happened.
        message: String,
    },
    /// The connection broke on the way, or the server was too busy.
    #[error(
        "{file}: {message}; what has arrived is kept, so that the next pull goes on from there"
    )]
    Interrupted {
        /// The file on its way.
        file: String,
        /// What happened.
        message: String,
        /// When the server wants to be asked again, in seconds.
        retry_after_s: Option<u64>,
    },
    /// No such repository, or a private one.
    #[error(
        "there is no model {repository} at {host}, or it is private and HF_TOKEN holds no token that may read it"
    )]
    NoRepository {
        /// What was asked for.
        repository: String,
        /// Who was asked.
        host: String,
    },
    /// No such branch, tag or commit.
    #[error("{repository} has no revision {revision}")]
    NoRevision {
        /// Whose.
        repository: String,
        /// Which.
        revision: String,
    },
    /// Its owner lets in only who has agreed to terms.
    #[error(
        "{repository} is gated: accept its terms at {page}, then put a token of that account in HF_TOKEN"
    )]
    Gated {
        /// Which.
        repository: String,
        /// Where.
        page: String,
    },
    /// Another refusal.
    #[error("{what}: the server answered {status}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The status.
        status: u16,
    },
    /// The answer is not the hub's protocol.
    #[error("{host} does not speak the hub's protocol: {message}")]
    Protocol {
        /// Who.
        host: String,
        /// What is wrong.
        message: String,
    },
    /// There is nothing in it to draw with.
    #[error("{repository} {message}")]
    NotAModel {
        /// Which.
        repository: String,
        /// Why.
        message: String,
    },
    /// The bytes are not those of the listing.
    #[error(
        "{file} arrived twice with other bytes than the hub lists ({wanted}); the pull was given up"
    )]
    WrongContent {
        /// Which.
        file: String,
        /// The hash it should have.
        wanted: String,
    },
    /// Not enough room.
    #[error("{repository} needs {needed} more on the disk of {}, which has {available} left", folder.display())]
    DiskFull {
        /// What was to be fetched.
        repository: String,
        /// What it takes.
        needed: bytesize::ByteSize,
        /// What there is.
        available: bytesize::ByteSize,
        /// Where.
        folder: PathBuf,
    },
    /// A file or folder of the cache.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
}

impl HubError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
