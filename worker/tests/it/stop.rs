//! Stopping loses nothing that was accepted.

use crate::{
    edits::{drawn, inpaint},
    support::{Server, ends_with, long_job, short_job},
};
use scumble_protocol::{EventData, Job, JobStatus};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

#[tokio::test]
async fn a_restart_finishes_the_job_that_was_running_and_those_that_waited() {
    let server = Server::start_with(&["--shutdown-timeout-ms", "0"]).await;
    let running = server
        .submit(&json!({"prompt": "a red apple", "steps": 100, "seed": 1}))
        .await;
    let mut stream = server.stream(&running).await;
    let seen = stream.progress().await.seq;
    let queued = server.submit(&short_job()).await;
    let data_dir = server.stop().await;
    let server = Server::start_in(data_dir, &[]).await;
    let rest = server.stream_after(&running, Some(seen)).await.rest().await;
    assert!(ends_with(&rest, "complete"));
    assert!(
        rest.iter()
            .any(|event| matches!(event.data, EventData::Started { .. }))
    );
    assert!(rest.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    let drawn = server.job(&running).await;
    assert_eq!((drawn.status, drawn.attempt), (JobStatus::Succeeded, 2));
    server.stream(&queued).await.rest().await;
    assert_eq!(server.job(&queued).await.status, JobStatus::Succeeded);
    server.stop().await;
}

#[tokio::test]
async fn a_job_that_can_end_in_time_is_finished_before_the_stop() {
    let server = Server::start_with(&["--shutdown-timeout-ms", "120000"]).await;
    let job = server
        .submit(&json!({"prompt": "a red apple", "steps": 20, "seed": 1}))
        .await;
    server.stream(&job).await.progress().await;
    let data_dir = server.stop().await;
    let server = Server::start_in(data_dir, &[]).await;
    let job = server.job(&job).await;
    assert_eq!((job.status, job.attempt), (JobStatus::Succeeded, 1));
    server.stop().await;
}

#[tokio::test]
async fn open_streams_are_told_to_come_back_and_do_not_hold_up_the_stop() {
    let server = Server::start_with(&["--shutdown-timeout-ms", "0"]).await;
    let running = server.submit(&long_job()).await;
    server.stream(&running).await.progress().await;
    let queued = server.submit(&short_job()).await;
    let stream = server.stream(&queued).await;
    server.begin_stop();
    let text = stream.text().await;
    assert!(text.ends_with("retry: 2000\n\n"), "{text}");
    assert!(!text.contains("[DONE]"), "{text}");
    server.stop().await;
}

/// The binary itself, and where it listens.
fn process(data_dir: &Path) -> (Child, String) {
    let mut server = Command::new(env!("CARGO_BIN_EXE_scumble"))
        .args(["serve", "--port", "0", "--device", "cpu", "--data-dir"])
        .arg(data_dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("output"))
        .read_line(&mut line)
        .expect("a line");
    let url = line.trim_end().trim_start_matches("Scumble is at ");
    (server, url.to_owned())
}

#[tokio::test]
async fn a_killed_process_keeps_what_its_jobs_start_from_and_draws_the_same() {
    let data_dir = tempfile::tempdir().expect("folder");
    let (mut killed, url) = process(data_dir.path());
    let client = reqwest::Client::new();
    let submit = |body: Value| client.post(format!("{url}/v1/jobs")).json(&body).send();
    // Long enough to be running still when the process dies.
    let running = json!({"prompt": "a red apple", "steps": 60, "seed": 1});
    submit(running).await.expect("answer");
    let response = submit(inpaint()).await.expect("answer");
    assert_eq!(response.status(), 202);
    let waiting: Job = response.json().await.expect("job");
    killed.kill().expect("killed");
    killed.wait().expect("dead");

    let server = Server::start_in(data_dir, &[]).await;
    let (by_another, expected) = drawn(&server, &inpaint()).await;
    let job = server.job(&waiting).await;
    assert_eq!(
        job.status,
        JobStatus::Succeeded,
        "it stood before the other"
    );
    assert_eq!(job.request, by_another.request);
    let bytes = server
        .get(&job.images[0].url)
        .await
        .bytes()
        .await
        .expect("bytes");
    let picture = image::load_from_memory(&bytes).expect("a picture");
    assert_eq!(picture.to_rgb8(), expected);
    server.stop().await;
}
