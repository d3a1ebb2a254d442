//! The hub's cache on disk, laid out as huggingface_hub lays it out, so that Python tools find the same files:
//! `models--org--name/blobs/<hash>`, `refs/<revision>` with a commit, `snapshots/<commit>/<file>` as links to blobs.

use super::{HubError, HubId};
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

/// Most revisions of a repository that are looked at.
const REFS_MAX: usize = 1_000;

/// A folder of repositories.
#[derive(Debug, Clone)]
pub struct HubCache {
    folder: PathBuf,
    symlinks: bool,
}

/// A repository in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedModel {
    /// Which.
    pub id: HubId,
    /// Its folder: `models--org--name`.
    pub folder: PathBuf,
    /// Its files, at the main branch or the only revision there is; `None` if no pull of it has ended.
    pub snapshot: Option<PathBuf>,
}

impl HubCache {
    /// The cache in this folder, which need not exist. Without `symlinks`, files lie in the snapshots themselves.
    #[must_use]
    pub const fn new(folder: PathBuf, symlinks: bool) -> Self {
        Self { folder, symlinks }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The repositories in it, by name.
    #[must_use]
    pub fn models(&self) -> Vec<CachedModel> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let mut models: Vec<CachedModel> = entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let id = HubId::from_folder(path.file_name()?.to_str()?)?;
                path.is_dir().then(|| CachedModel {
                    snapshot: self.snapshot(&id).or_else(|| self.only_snapshot(&id)),
                    id,
                    folder: path,
                })
            })
            .collect();
        models.sort_by(|a, b| a.folder.cmp(&b.folder));
        models
    }

    /// The files of a repository at a revision, if a pull of it has ended.
    #[must_use]
    pub fn snapshot(&self, id: &HubId) -> Option<PathBuf> {
        let folder = self.folder.join(id.folder());
        let commit = fs::read_to_string(folder.join("refs").join(id.revision()));
        let commit = commit.as_deref().map_or(id.revision(), str::trim);
        // A full commit only: a branch without a ref is not here, even if a folder happens to have its name.
        let path = folder.join("snapshots").join(commit);
        (is_commit(commit) && path.is_dir()).then_some(path)
    }

    /// The files of a repository whose main branch was never pulled: those of another branch.
    fn only_snapshot(&self, id: &HubId) -> Option<PathBuf> {
        let folder = self.folder.join(id.folder());
        let mut open = vec![folder.join("refs")];
        let mut found = Vec::new();
        while let Some(path) = open.pop() {
            for entry in fs::read_dir(path).ok()?.take(REFS_MAX) {
                let path = entry.ok()?.path();
                if path.is_dir() {
                    open.push(path);
                } else if let Ok(commit) = fs::read_to_string(&path)
                    && is_commit(commit.trim())
                {
                    found.push(folder.join("snapshots").join(commit.trim()));
                }
            }
        }
        found.sort();
        found.into_iter().find(|path| path.is_dir())
    }

    pub(super) fn blob(&self, id: &HubId, hash: &str) -> PathBuf {
        self.folder.join(id.folder()).join("blobs").join(hash)
    }

    /// Where a file of a commit is, or will be. `file` has `/` between its parts, which were checked to stay inside.
    pub(super) fn pointer(&self, id: &HubId, commit: &str, file: &str) -> PathBuf {
        self.commit(id, commit).join(file)
    }

    /// Where the files of a commit are, or will be.
    pub(super) fn commit(&self, id: &HubId, commit: &str) -> PathBuf {
        let snapshots = self.folder.join(id.folder()).join("snapshots");
        snapshots.join(commit)
    }

    /// Puts a file that has arrived where readers look for it.
    pub(super) fn link(
        &self,
        id: &HubId,
        commit: &str,
        file: &str,
        hash: &str,
    ) -> Result<(), HubError> {
        let pointer = self.pointer(id, commit, file);
        let blob = self.blob(id, hash);
        create_parent(&pointer)?;
        if pointer.exists() {
            return Ok(());
        }
        // A link whose blob somebody removed.
        let _ = fs::remove_file(&pointer);
        let up = "../".repeat(file.split('/').count() + 1);
        if self.symlinks && symlink(&format!("{up}blobs/{hash}"), &pointer).is_ok() {
            return Ok(());
        }
        // As huggingface_hub does where there are no links: the file itself goes there, for a copy takes twice the room.
        fs::rename(&blob, &pointer).map_err(HubError::io(&pointer))
    }

    /// Notes that a revision is at a commit, all files of which are there.
    pub(super) fn set_ref(&self, id: &HubId, commit: &str) -> Result<(), HubError> {
        if id.revision() == commit {
            return Ok(());
        }
        let path = self
            .folder
            .join(id.folder())
            .join("refs")
            .join(id.revision());
        create_parent(&path)?;
        // Readers never see half a commit.
        let unfinished = path.with_file_name(format!(".{commit}.{}", std::process::id()));
        fs::write(&unfinished, commit).map_err(HubError::io(&unfinished))?;
        fs::rename(&unfinished, &path).map_err(HubError::io(&path))
    }

    /// Waits until no other process fetches this blob. The lock is huggingface_hub's own, and gone with the file.
    pub(super) async fn lock(&self, id: &HubId, hash: &str) -> Result<File, HubError> {
        let folder = self.folder.join(".locks").join(id.folder());
        let path = folder.join(format!("{hash}.lock"));
        create_parent(&path)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(HubError::io(&path))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, path = %path.display(), "this disk has no locks");
                return Ok(file);
            }
        }
        let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
        locked
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(HubError::io(&path))
    }

    /// Removes a repository with all its revisions. The bytes that became free.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn remove(&self, id: &HubId) -> Result<u64, HubError> {
        let folder = self.folder.join(id.folder());
        let bytes = folder_bytes(&folder);
        fs::remove_dir_all(&folder).map_err(HubError::io(&folder))?;
        let locks = self.folder.join(".locks").join(id.folder());
        if locks.exists() {
            fs::remove_dir_all(&locks).map_err(HubError::io(&locks))?;
        }
        Ok(bytes)
    }
}

/// Bytes of all files in a folder; links do not count.
#[must_use]
pub(crate) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let kind = entry.file_type().ok()?;
            if kind.is_dir() {
                Some(folder_bytes(&entry.path()))
            } else if kind.is_file() {
                Some(entry.metadata().ok()?.len())
            } else {
                None
            }
        })
        .sum()
}

pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn create_parent(path: &Path) -> Result<(), HubError> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(HubError::io(parent)),
        None => Ok(()),
    }
}

#[cfg(unix)]
fn symlink(target: &str, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &str, link: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(target.replace('/', "\\"), link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &str, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn pulled(symlinks: bool) -> (tempfile::TempDir, HubCache, HubId) {
        let folder = tempfile::tempdir().expect("folder");
        let cache = HubCache::new(folder.path().to_owned(), symlinks);
        let id: HubId = "org/name@refs/pr/1".parse().expect("id");
        let blob = cache.blob(&id, "abc");
        create_parent(&blob).expect("folder");
        fs::write(&blob, "{}").expect("blob");
        cache
            .link(&id, COMMIT, "unet/config.json", "abc")
            .expect("link");
        (folder, cache, id)
    }

    fn only(cache: &HubCache) -> CachedModel {
        let models = cache.models();
        assert_eq!(models.len(), 1);
        models.into_iter().next().expect("a model")
    }

    #[test]
    fn a_snapshot_is_seen_only_once_its_pull_has_ended() {
        let (_folder, cache, id) = pulled(true);
        assert_eq!(cache.snapshot(&id), None);
        assert_eq!(only(&cache).snapshot, None);
        cache.set_ref(&id, COMMIT).expect("ref");
        let snapshot = cache.snapshot(&id).expect("snapshot");
        assert!(snapshot.ends_with(COMMIT));
        assert_eq!(only(&cache).snapshot, Some(snapshot.clone()));
        let by_commit = format!("org/name@{COMMIT}").parse().expect("id");
        assert_eq!(cache.snapshot(&by_commit), Some(snapshot));
        let main = "org/name".parse().expect("id");
        assert_eq!(cache.snapshot(&main), None);
    }

    #[test]
    fn files_are_links_where_there_are_links_and_else_the_files_themselves() {
        for symlinks in [true, false] {
            let (_folder, cache, id) = pulled(symlinks);
            let pointer = cache.pointer(&id, COMMIT, "unet/config.json");
            assert_eq!(fs::read_to_string(&pointer).expect("file"), "{}");
            assert_eq!(pointer.is_symlink(), symlinks && cfg!(unix));
            let removed = cache.remove(&id).expect("removed");
            assert_eq!(removed, 2);
            assert!(cache.models().is_empty());
        }
    }
}
