//! The files of images: written beside, synced, renamed; a row of the database makes them visible.

use super::rows::Holder;
use crate::Error;
use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Longer than any id that we make.
const JOB_ID_BYTES_MAX: usize = 64;

/// Ids become names of folders, so they hold nothing that a path could mean something by.
pub(super) fn is_job_id(id: &str) -> bool {
    (1..=JOB_ID_BYTES_MAX).contains(&id.len())
        && id
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

#[derive(Debug)]
pub(super) struct ImageFiles {
    root: PathBuf,
    /// Makes every name new, across restarts too: a late write never lands on a file that a row names.
    serial: AtomicU64,
}

impl ImageFiles {
    /// Makes the folder and deletes what no row names: torn writes, and files whose row was never committed.
    pub(super) fn open(root: PathBuf, named: &HashSet<(String, String)>) -> Result<Self, Error> {
        fs::create_dir_all(&root)?;
        let jobs: HashSet<&str> = named.iter().map(|(job_id, _)| job_id.as_str()).collect();
        for folder in fs::read_dir(&root)? {
            let folder = folder?;
            let job_id = folder.file_name().to_string_lossy().into_owned();
            if !folder.file_type()?.is_dir() {
                fs::remove_file(folder.path())?;
            } else if !jobs.contains(job_id.as_str()) {
                fs::remove_dir_all(folder.path())?;
            } else {
                for file in fs::read_dir(folder.path())? {
                    let file = file?;
                    let name = file.file_name().to_string_lossy().into_owned();
                    if !named.contains(&(job_id.clone(), name)) {
                        fs::remove_file(file.path())?;
                    }
                }
            }
        }
        let serials = named
            .iter()
            .filter_map(|(_, name)| name.rsplit('-').next()?.parse().ok());
        let last_serial: u64 = serials.max().unwrap_or(0);
        Ok(Self {
            root,
            serial: AtomicU64::new(last_serial),
        })
    }

    /// Writes a file and gives its name; on disk when this returns.
    pub(super) fn write(&self, holder: &Holder, index: u32, bytes: &[u8]) -> Result<String, Error> {
        if !is_job_id(&holder.job_id) {
            return Err(Error::NotFound(holder.job_id.clone()));
        }
        let folder = self.root.join(&holder.job_id);
        if !folder.is_dir() {
            fs::create_dir_all(&folder)?;
            sync_folder(&self.root)?;
        }
        let serial = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        let name = format!("{}-{index}-{serial}", holder.attempt);
        write_durably(&folder, &format!("{name}.part"), &name, bytes)?;
        Ok(name)
    }

    pub(super) fn read(&self, job_id: &str, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.root.join(job_id).join(name))
    }

    /// A file that stays behind is no harm: the next start removes it.
    pub(super) fn remove(&self, job_id: &str, name: &str) {
        if let Err(error) = fs::remove_file(self.root.join(job_id).join(name)) {
            tracing::warn!(job_id, %error, "an image file that nothing names could not be removed");
        }
    }

    /// As [`ImageFiles::remove`], for all of a job.
    pub(super) fn remove_job(&self, job_id: &str) {
        match fs::remove_dir_all(self.root.join(job_id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(job_id, %error, "the images of a deleted job could not be removed");
            }
            _ => {}
        }
    }
}

/// Writes a file whole or not at all; on disk when this returns.
pub(super) fn write_durably(
    folder: &Path,
    unfinished_name: &str,
    name: &str,
    bytes: &[u8],
) -> io::Result<()> {
    let unfinished = folder.join(unfinished_name);
    let written = File::create(&unfinished)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&unfinished, folder.join(name)))
        .and_then(|()| sync_folder(folder));
    if written.is_err() {
        // The error that matters is the first; what stays behind goes at the next start.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// A rename is only as durable as the folder that holds the name.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()
    } else {
        Ok(())
    }
}
