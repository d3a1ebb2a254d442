//! Inputs and uploads: on the disk once, as long as something names them, and no longer.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Watch, job, open, open_at, options};
use scumble_jobs::{
    Blob, Ending, Error, JobStore, NewJob, NewUpload,
    sqlite::{SqliteOptions, SqliteStore},
};
use std::{path::Path, sync::Arc};
use tempfile::tempdir;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

fn files(data_dir: &Path) -> usize {
    std::fs::read_dir(data_dir.join("blobs")).unwrap().count()
}

fn job_with(id: &str, inputs: &[&Blob]) -> NewJob {
    NewJob {
        inputs: inputs.iter().map(|&blob| blob.clone()).collect(),
        ..job(id)
    }
}

fn upload(id: &str, blob: &Blob) -> NewUpload {
    NewUpload {
        id: id.to_owned(),
        blob: blob.clone(),
        details: b"details".to_vec(),
        kept_ms: DAY_MS,
    }
}

async fn submit(store: &SqliteStore, job: NewJob) -> Result<(), Error> {
    store
        .submit(job, Box::new(|_| Vec::new()))
        .await
        .map(|_| ())
}

async fn finish_next(store: &SqliteStore) {
    let lease = store.lease().await.unwrap();
    store
        .finish(&lease, Ending::Succeeded, Vec::new(), Vec::new())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_jobs_inputs_survive_a_restart_and_lie_on_the_disk_once() {
    let folder = tempdir().unwrap();
    let (image, mask) = (Blob::new(vec![1; 100_000]), Blob::new(vec![2; 10]));
    let store = open(folder.path());
    submit(&store, job_with("job_a", &[&image, &mask]))
        .await
        .unwrap();
    submit(&store, job_with("job_b", &[&image, &image]))
        .await
        .unwrap();
    assert_eq!(files(folder.path()), 2);
    drop(store);
    std::fs::write(folder.path().join("blobs/torn.part"), "x").unwrap();
    let store = open(folder.path());
    assert_eq!(files(folder.path()), 2, "torn writes go, inputs stay");
    for blob in [&image, &mask] {
        let read = store.blob(blob.sha256()).await.unwrap();
        assert_eq!(read.as_deref(), Some(blob.bytes()));
    }
    assert_eq!(store.blob("../jobs.sqlite3").await.unwrap(), None);
}

#[tokio::test]
async fn inputs_go_with_the_last_job_that_has_them() {
    let folder = tempdir().unwrap();
    let (shared, own) = (Blob::new(vec![1]), Blob::new(vec![2]));
    let store = open(folder.path());
    submit(&store, job_with("job_a", &[&shared, &own]))
        .await
        .unwrap();
    submit(&store, job_with("job_b", &[&shared])).await.unwrap();
    finish_next(&store).await;
    assert_eq!(store.prune(DAY_MS, 0).await.unwrap(), 1);
    assert_eq!(store.blob(own.sha256()).await.unwrap(), None);
    assert!(store.blob(shared.sha256()).await.unwrap().is_some());
    finish_next(&store).await;
    assert_eq!(store.prune(DAY_MS, 0).await.unwrap(), 1);
    assert_eq!(files(folder.path()), 0);
}

#[tokio::test]
async fn a_refused_job_leaves_no_input_behind() {
    let folder = tempdir().unwrap();
    let store = SqliteStore::open(SqliteOptions {
        queue_jobs_max: 1,
        ..options(folder.path())
    })
    .unwrap();
    let kept = Blob::new(vec![1]);
    submit(&store, job_with("job_a", &[&kept])).await.unwrap();
    let refused = submit(&store, job_with("job_b", &[&kept, &Blob::new(vec![2])])).await;
    assert!(matches!(refused, Err(Error::QueueFull { .. })));
    store.close().await;
    assert_eq!(files(folder.path()), 1);
    assert!(store.blob(kept.sha256()).await.unwrap().is_some());
}

#[tokio::test]
async fn the_oldest_jobs_go_when_inputs_have_more_bytes_than_they_may() {
    let folder = tempdir().unwrap();
    let clock = Arc::new(Watch::default());
    let store = SqliteStore::open(SqliteOptions {
        input_bytes_max: 250,
        clock: Arc::<Watch>::clone(&clock),
        ..options(folder.path())
    })
    .unwrap();
    let mut now = 0;
    for (id, byte) in [("job_a", 1), ("job_b", 2), ("job_c", 3)] {
        submit(&store, job_with(id, &[&Blob::new(vec![byte; 100])]))
            .await
            .unwrap();
        finish_next(&store).await;
        now += 1;
        clock.set(now);
    }
    assert_eq!(store.prune(DAY_MS, 100).await.unwrap(), 1);
    assert!(store.get("job_a").await.unwrap().is_none());
    assert!(store.get("job_b").await.unwrap().is_some());
    assert_eq!(files(folder.path()), 2);
}

#[tokio::test]
async fn an_upload_is_kept_for_its_time_and_a_job_keeps_its_bytes_longer() {
    let folder = tempdir().unwrap();
    let clock = Arc::new(Watch::default());
    let store = open_at(folder.path(), &clock);
    let blob = Blob::new(vec![7; 50]);
    let stored = store.put_upload(upload("upload_a", &blob)).await.unwrap();
    assert_eq!((stored.bytes, stored.sha256.as_str()), (50, blob.sha256()));
    assert_eq!(store.upload("upload_a").await.unwrap(), Some(stored));
    submit(&store, job_with("job_a", &[&blob])).await.unwrap();
    clock.set(DAY_MS);
    assert_eq!(store.upload("upload_a").await.unwrap(), None);
    assert!(!store.delete_upload("upload_a").await.unwrap());
    store.prune(DAY_MS, 10).await.unwrap();
    assert!(store.blob(blob.sha256()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_deleted_upload_takes_its_file_with_it() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    let blob = Blob::new(vec![7; 50]);
    store.put_upload(upload("upload_a", &blob)).await.unwrap();
    store.put_upload(upload("upload_b", &blob)).await.unwrap();
    assert!(store.delete_upload("upload_a").await.unwrap());
    assert_eq!(files(folder.path()), 1);
    assert!(store.delete_upload("upload_b").await.unwrap());
    assert!(!store.delete_upload("upload_b").await.unwrap());
    assert_eq!(files(folder.path()), 0);
}

#[tokio::test]
async fn uploads_beyond_the_bytes_that_may_be_kept_are_refused_until_some_go() {
    let folder = tempdir().unwrap();
    let clock = Arc::new(Watch::default());
    let store = SqliteStore::open(SqliteOptions {
        upload_bytes_max: 100,
        clock: Arc::<Watch>::clone(&clock),
        ..options(folder.path())
    })
    .unwrap();
    let (first, second) = (Blob::new(vec![1; 60]), Blob::new(vec![2; 60]));
    store.put_upload(upload("upload_a", &first)).await.unwrap();
    let refused = store.put_upload(upload("upload_b", &second)).await;
    assert!(
        matches!(refused, Err(Error::UploadsFull { kept_bytes: 60, .. })),
        "{refused:?}"
    );
    clock.set(DAY_MS);
    store.put_upload(upload("upload_b", &second)).await.unwrap();
}

#[tokio::test]
async fn a_blob_that_the_disk_changed_is_not_given_out() {
    let folder = tempdir().unwrap();
    let store = open(folder.path());
    let blob = Blob::new(vec![7; 50]);
    submit(&store, job_with("job_a", &[&blob])).await.unwrap();
    std::fs::write(folder.path().join("blobs").join(blob.sha256()), [8; 50]).unwrap();
    assert!(matches!(store.blob(blob.sha256()).await, Err(Error::Io(_))));
}
