//! The files that jobs are given, named by their content: the same bytes lie on the disk once, however many jobs and
//! uploads name them.

use super::{images::write_durably, live::lock};
use crate::{Blob, Error};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

const SHA256_HEX_BYTES: usize = 64;

#[derive(Debug)]
pub(super) struct BlobFiles {
    root: PathBuf,
    /// Blobs on their way into the database, each with how many bring it. Their files are not to be removed: no row
    /// names them yet.
    pinned: Mutex<HashMap<String, usize>>,
    /// Keeps two writers of the same content out of each other's unfinished file.
    serial: AtomicU64,
}

/// Blobs whose files are on the disk and stay there as long as this lives.
#[derive(Debug)]
pub(super) struct Pins {
    files: Arc<BlobFiles>,
    names: Vec<String>,
}

impl BlobFiles {
    /// Makes the folder and deletes what no row names.
    pub(super) fn open(root: PathBuf, named: &HashSet<String>) -> Result<Self, Error> {
        fs::create_dir_all(&root)?;
        for entry in fs::read_dir(&root)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_file() && !named.contains(&name) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self {
            root,
            pinned: Mutex::default(),
            serial: AtomicU64::new(0),
        })
    }

    /// Brings the blobs to the disk; synced when this returns.
    pub(super) fn put(self: &Arc<Self>, blobs: &[Blob]) -> Result<Pins, Error> {
        let names: Vec<String> = blobs.iter().map(|blob| blob.sha256().to_owned()).collect();
        {
            let mut pinned = lock(&self.pinned);
            for name in &names {
                *pinned.entry(name.clone()).or_default() += 1;
            }
        }
        let pins = Pins {
            files: Arc::clone(self),
            names,
        };
        for blob in blobs {
            let is_there = fs::metadata(self.root.join(blob.sha256()))
                .is_ok_and(|file| usize::try_from(file.len()) == Ok(blob.bytes().len()));
            if !is_there {
                let serial = self.serial.fetch_add(1, Ordering::Relaxed);
                let unfinished = format!("{}-{serial}.part", blob.sha256());
                write_durably(&self.root, &unfinished, blob.sha256(), blob.bytes())?;
            }
        }
        Ok(pins)
    }

    /// The bytes, if they are still what their name says.
    pub(super) fn read(&self, sha256: &str) -> io::Result<Option<Vec<u8>>> {
        if !is_sha256(sha256) {
            return Ok(None);
        }
        let bytes = match fs::read(self.root.join(sha256)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        if hex(&Sha256::digest(&bytes)) == sha256 {
            Ok(Some(bytes))
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the file of blob {sha256} is not what was stored"),
            ))
        }
    }

    /// To be called where no row can come to name the blob meanwhile: by the writer.
    pub(super) fn remove_unless_pinned(&self, sha256: &str) {
        let pinned = lock(&self.pinned);
        if pinned.contains_key(sha256) || !is_sha256(sha256) {
            return;
        }
        match fs::remove_file(self.root.join(sha256)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // No harm: the next start removes it.
                tracing::warn!(%error, "a blob that nothing names could not be removed");
            }
            _ => {}
        }
    }
}

impl Pins {
    pub(super) fn names(&self) -> Vec<String> {
        self.names.clone()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut pinned = lock(&self.files.pinned);
        for name in &self.names {
            if let Some(count) = pinned.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    pinned.remove(name);
                }
            }
        }
    }
}

fn is_sha256(name: &str) -> bool {
    name.len() == SHA256_HEX_BYTES && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// In lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
