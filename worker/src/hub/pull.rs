//! A whole model, from the hub to the cache.

use super::{
    HubError, HubId, HubSettings,
    cache::is_commit,
    download::{Download, delay, describe, follow, incomplete, may_retry},
    select::{self, Hash, INDEX, RemoteFile, Selection},
};
use bytesize::ByteSize;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, StatusCode};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use reqwest::{Client, Response, Url, redirect::Policy};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Files fetched at once.
const DOWNLOADS_MAX: usize = 3;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest listing of a repository, in bytes.
const LISTING_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What must be left on the disk besides, in bytes.
const DISK_RESERVE_BYTES: u64 = 64 * 1024 * 1024;

/// The hub, over the network.
#[derive(Debug)]
pub struct Hub {
    settings: HubSettings,
    client: Client,
}

/// What to fetch of a repository.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Weights of this variant where there are such: `fp16`.
    pub variant: Option<String>,
    /// Only this file.
    pub file: Option<String>,
}

/// A model that is in the cache now.
#[derive(Debug)]
pub struct Pulled {
    /// Its folder, or its one file.
    pub path: PathBuf,
    /// The commit that was fetched.
    pub commit: String,
    /// Its files.
    pub files: usize,
    /// Bytes of all its files.
    pub bytes: u64,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// What the hub says about a repository at a revision.
#[derive(Debug, Deserialize)]
struct Listing {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    #[serde(alias = "oid")]
    sha256: String,
    size: u64,
}

/// A repository at a commit.
struct Snapshot {
    id: HubId,
    commit: String,
    files: Vec<RemoteFile>,
}

impl Hub {
    /// A client of the hub that these settings name.
    ///
    /// # Errors
    /// If the user wants no network, or the system's certificates cannot be read.
    pub fn new(settings: HubSettings) -> Result<Self, HubError> {
        if settings.offline {
            return Err(HubError::Offline);
        }
        // Only fails if one is in place already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("scumble/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(settings.read_timeout)
            .build()
            .map_err(|error| HubError::Unreachable {
                host: settings.endpoint.to_string(),
                message: describe(error),
            })?;
        Ok(Self { settings, client })
    }

    /// Fetches a model, as far as it is not in the cache.
    ///
    /// # Errors
    /// If there is no such model, nothing in it can be drawn with, it does not fit on the disk, or it does not arrive whole.
    pub async fn pull(
        &self,
        id: &HubId,
        options: &PullOptions,
        bars: &MultiProgress,
    ) -> Result<Pulled, HubError> {
        let snapshot = self.snapshot(id).await?;
        let has_index = snapshot.file(INDEX).is_some();
        let (selection, single) = if options.file.is_some() || !has_index {
            let file = select::single_file(&snapshot.files, options.file.as_deref())
                .map_err(|message| snapshot.not_a_model(message))?;
            let selection = Selection {
                files: vec![file.clone()],
                notes: Vec::new(),
            };
            (selection, Some(file.path.clone()))
        } else {
            (self.components(&snapshot, options, bars).await?, None)
        };
        self.check_disk(&snapshot, &selection.files)?;
        stream::iter(&selection.files)
            .map(|file| self.fetch(&snapshot, file, bars))
            .buffer_unordered(DOWNLOADS_MAX)
            .try_collect::<()>()
            .await?;
        self.settings.cache.set_ref(id, &snapshot.commit)?;
        Ok(Pulled {
            path: match single {
                Some(file) => self.settings.cache.pointer(id, &snapshot.commit, &file),
                None => self.settings.cache.commit(id, &snapshot.commit),
            },
            files: selection.files.len(),
            bytes: selection.files.iter().map(|file| file.size).sum(),
            notes: selection.notes,
            commit: snapshot.commit,
        })
    }

    /// What to fetch of a model in the diffusers layout, the index included.
    async fn components(
        &self,
        snapshot: &Snapshot,
        options: &PullOptions,
        bars: &MultiProgress,
    ) -> Result<Selection, HubError> {
        let index: Map<String, Value> = self.json(snapshot, INDEX, bars).await?;
        let mut selection = select::components(&snapshot.files, &index, options.variant.as_deref())
            .map_err(|message| snapshot.not_a_model(message))?;
        if let Some(settings) = selection.files.iter().find(|file| !file.path.contains('/')) {
            let settings: Value = self.json(snapshot, &settings.path.clone(), bars).await?;
            let named = select::named_by_settings(&snapshot.files, &settings);
            selection.files.splice(0..0, named.cloned());
        }
        selection.files.splice(0..0, snapshot.file(INDEX).cloned());
        Ok(selection)
    }

    /// A small file of a repository, fetched and parsed.
    async fn json<T: serde::de::DeserializeOwned>(
        &self,
        snapshot: &Snapshot,
        path: &str,
        bars: &MultiProgress,
    ) -> Result<T, HubError> {
        let file = snapshot
            .file(path)
            .ok_or_else(|| snapshot.not_a_model(format!("has no {path}")))?;
        self.fetch(snapshot, file, bars).await?;
        let pointer = self
            .settings
            .cache
            .pointer(&snapshot.id, &snapshot.commit, path);
        let bytes = fs::read(&pointer).map_err(HubError::io(&pointer))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| snapshot.not_a_model(format!("has a broken {path}: {error}")))
    }

    async fn fetch(
        &self,
        snapshot: &Snapshot,
        file: &RemoteFile,
        bars: &MultiProgress,
    ) -> Result<(), HubError> {
        let cache = &self.settings.cache;
        let Snapshot { id, commit, .. } = snapshot;
        let pointer = cache.pointer(id, commit, &file.path);
        if has_size(&pointer, file.size) {
            return Ok(());
        }
        let hash = file.hash.as_str();
        let blob = cache.blob(id, hash);
        let _lock = cache.lock(id, hash).await?;
        if !has_size(&blob, file.size) && !has_size(&pointer, file.size) {
            let bar = bars.add(bar(file));
            let download = Download {
                client: &self.client,
                token: self.settings.token.as_ref(),
                url: self.url(&["resolve", commit], id, &file.path),
                bar: bar.clone(),
                blob,
                file,
            };
            download.run().await?;
            bar.finish();
        }
        cache.link(id, commit, &file.path, hash)
    }

    /// What a repository holds at a revision.
    async fn snapshot(&self, id: &HubId) -> Result<Snapshot, HubError> {
        let mut url = self.settings.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty()
                .extend(["api", "models", id.organisation(), id.name()])
                .extend(["revision", id.revision()]);
        }
        url.query_pairs_mut().append_pair("blobs", "true");
        let mut failures = 0;
        let body = loop {
            match self.listing(id, url.clone()).await {
                Err(HubError::Interrupted {
                    message,
                    retry_after_s,
                    ..
                }) => {
                    failures += 1;
                    if !may_retry(failures) {
                        return Err(HubError::Unreachable {
                            host: self.host(),
                            message,
                        });
                    }
                    tokio::time::sleep(delay(failures, retry_after_s)).await;
                }
                other => break other?,
            }
        };
        let listing: Listing = serde_json::from_slice(&body)
            .map_err(|error| self.protocol(format!("its listing of {id}: {error}")))?;
        if !is_commit(&listing.sha) {
            return Err(self.protocol(format!("its listing of {id} names no commit")));
        }
        let files = listing
            .siblings
            .into_iter()
            .map(|sibling| self.remote_file(sibling))
            .collect::<Result<_, _>>()?;
        Ok(Snapshot {
            id: id.clone(),
            commit: listing.sha,
            files,
        })
    }

    async fn listing(&self, id: &HubId, url: Url) -> Result<Vec<u8>, HubError> {
        let token = self.settings.token.as_ref();
        let response = follow(&self.client, token, url, HeaderMap::new(), "the listing").await?;
        let mut response = self.accepted(id, response)?;
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(error) => {
                    return Err(HubError::Interrupted {
                        file: "the listing".to_owned(),
                        message: describe(error),
                        retry_after_s: None,
                    });
                }
            }
            if body.len() > LISTING_BYTES_MAX {
                return Err(self.protocol(format!(
                    "its listing of {id} is longer than {LISTING_BYTES_MAX} bytes"
                )));
            }
        }
    }

    /// The hub's refusals by their own names.
    fn accepted(&self, id: &HubId, response: Response) -> Result<Response, HubError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let code = response
            .headers()
            .get("x-error-code")
            .and_then(|code| code.to_str().ok());
        Err(match (code, status) {
            (Some("GatedRepo"), _) | (None, StatusCode::FORBIDDEN) => HubError::Gated {
                repository: id.repository(),
                page: self.url(&[], id, "").to_string(),
            },
            (Some("RevisionNotFound"), _) => HubError::NoRevision {
                repository: id.repository(),
                revision: id.revision().to_owned(),
            },
            // The hub does not tell whether a repository is private or not there.
            (_, StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND) => HubError::NoRepository {
                repository: id.repository(),
                host: self.host(),
            },
            _ => HubError::Refused {
                what: id.to_string(),
                status: status.as_u16(),
            },
        })
    }

    fn remote_file(&self, sibling: Sibling) -> Result<RemoteFile, HubError> {
        let path = sibling.rfilename;
        if !stays_inside(&path) {
            return Err(self.protocol(format!("it lists a file {path:?}")));
        }
        let (size, hash) = match sibling.lfs {
            Some(lfs) => (Some(lfs.size), Hash::sha256(&lfs.sha256)),
            None => (sibling.size, sibling.blob_id.as_deref().and_then(Hash::git)),
        };
        match (size, hash) {
            (Some(size), Some(hash)) => Ok(RemoteFile { path, size, hash }),
            _ => Err(self.protocol(format!(
                "it lists {path} without a size or a hash, so that nothing could be verified"
            ))),
        }
    }

    /// Refuses a model that will not fit before the first large byte of it.
    fn check_disk(&self, snapshot: &Snapshot, files: &[RemoteFile]) -> Result<(), HubError> {
        let cache = &self.settings.cache;
        let needed: u64 = files
            .iter()
            .filter(|file| {
                let pointer = cache.pointer(&snapshot.id, &snapshot.commit, &file.path);
                !has_size(&pointer, file.size)
            })
            .map(|file| {
                let blob = cache.blob(&snapshot.id, file.hash.as_str());
                let partial = fs::metadata(incomplete(&blob)).map_or(0, |there| there.len());
                let is_there = has_size(&blob, file.size);
                if is_there {
                    0
                } else {
                    file.size.saturating_sub(partial)
                }
            })
            .sum();
        fs::create_dir_all(cache.folder()).map_err(HubError::io(cache.folder()))?;
        let available =
            fs4::available_space(cache.folder()).map_err(HubError::io(cache.folder()))?;
        if needed > 0 && needed.saturating_add(DISK_RESERVE_BYTES) > available {
            return Err(HubError::DiskFull {
                repository: snapshot.id.repository(),
                needed: ByteSize(needed),
                available: ByteSize(available),
                folder: cache.folder().to_owned(),
            });
        }
        Ok(())
    }

    /// `{endpoint}/{org}/{name}/{route}…/{file}`.
    fn url(&self, route: &[&str], id: &HubId, file: &str) -> Url {
        let mut url = self.settings.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty()
                .extend([id.organisation(), id.name()])
                .extend(route)
                .extend(file.split('/').filter(|part| !part.is_empty()));
        }
        url
    }

    fn host(&self) -> String {
        let url = &self.settings.endpoint;
        url.as_str().trim_end_matches('/').to_owned()
    }

    fn protocol(&self, message: String) -> HubError {
        HubError::Protocol {
            host: self.host(),
            message,
        }
    }
}

impl Snapshot {
    fn file(&self, path: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|file| file.path == path)
    }

    fn not_a_model(&self, message: String) -> HubError {
        HubError::NotAModel {
            repository: self.id.to_string(),
            message,
        }
    }
}

fn has_size(path: &Path, size: u64) -> bool {
    fs::metadata(path).is_ok_and(|there| there.is_file() && there.len() == size)
}

/// Whether a path is one of plain names below where it starts.
fn stays_inside(path: &str) -> bool {
    let is_plain = |part: &str| {
        !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '\0'])
    };
    path.split('/').all(is_plain)
}

fn bar(file: &RemoteFile) -> ProgressBar {
    let bar = ProgressBar::new(file.size).with_message(file.path.clone());
    if let Ok(style) = ProgressStyle::with_template(
        "{bar:24} {binary_bytes:>10}/{binary_total_bytes:<10} {binary_bytes_per_sec:>11} {eta:>4}  {msg}",
    ) {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_are_seen() {
        for path in ["unet/config.json", "a b.json", "x..y"] {
            assert!(stays_inside(path), "{path}");
        }
        for path in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "c:\\x",
            "c:x",
            "a\\b",
            "a/.",
        ] {
            assert!(!stays_inside(path), "{path}");
        }
    }
}
