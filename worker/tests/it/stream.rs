//! The event stream: order, numbers, resumption, cancellation.

use crate::support::{Server, ends_with, long_job, short_job};
use scumble_protocol::{EventData, JobEvent, JobStatus};
use serde_json::json;

#[tokio::test]
async fn a_stream_tells_the_whole_job_in_order() {
    let server = Server::start().await;
    let job = server
        .submit(&json!({
            "prompt": "a red apple on a blue background", "steps": 3, "seed": 7, "width": 64, "height": 64,
            "preview": {"every": 2}, "response_format": "url"
        }))
        .await;
    let text = server.stream(&job).await.text().await;
    let mut lines = Vec::new();
    for line in text.lines() {
        lines.push(match line.strip_prefix("data: {") {
            Some(_) => redacted(line.trim_start_matches("data: "), job.job_id.as_str()),
            None => line.to_owned(),
        });
    }
    insta::assert_snapshot!(lines.join("\n"), @r#"
    id: 1
    event: queued
    data: {"eta_ms":"[eta_ms]","event":"queued","job_id":"[job]","position":1,"seq":1}

    id: 2
    event: started
    data: {"device":"cpu","event":"started","job_id":"[job]","model":"pocket","seed":7,"seq":2,"total":3}

    id: 3
    event: progress
    data: {"elapsed_ms":"[elapsed_ms]","eta_ms":"[eta_ms]","event":"progress","image":0,"job_id":"[job]","seq":3,"step":1,"steps_per_second":"[steps_per_second]","total":3}

    id: 4
    event: progress
    data: {"elapsed_ms":"[elapsed_ms]","eta_ms":"[eta_ms]","event":"progress","image":0,"job_id":"[job]","seq":4,"step":2,"steps_per_second":"[steps_per_second]","total":3}

    id: 5
    event: preview
    data: {"b64_json":"[b64_json]","event":"preview","height":64,"image":0,"job_id":"[job]","mime_type":"image/webp","seq":5,"step":2,"width":64}

    id: 6
    event: progress
    data: {"elapsed_ms":"[elapsed_ms]","eta_ms":"[eta_ms]","event":"progress","image":0,"job_id":"[job]","seq":6,"step":3,"steps_per_second":"[steps_per_second]","total":3}

    id: 7
    event: image
    data: {"event":"image","height":64,"index":0,"job_id":"[job]","mime_type":"image/png","seed":7,"seq":7,"url":"/v1/jobs/[job]/images/0","width":64}

    id: 8
    event: complete
    data: {"event":"complete","images":[{"height":64,"index":0,"mime_type":"image/png","seed":7,"url":"/v1/jobs/[job]/images/0","width":64}],"job_id":"[job]","seq":8,"timings":"[timings]"}

    data: [DONE]
    "#);
    server.stop().await;
}

/// The event without what differs from run to run.
fn redacted(json: &str, job_id: &str) -> String {
    let mut event: serde_json::Value = serde_json::from_str(json).expect("json");
    for field in [
        "elapsed_ms",
        "eta_ms",
        "steps_per_second",
        "b64_json",
        "timings",
    ] {
        if let Some(value) = event.get_mut(field) {
            *value = json!(format!("[{field}]"));
        }
    }
    format!("data: {}", event.to_string().replace(job_id, "[job]"))
}

#[tokio::test]
async fn image_events_carry_the_file_unless_only_its_url_is_wanted() {
    use base64::Engine as _;
    let server = Server::start().await;
    let job = server.submit(&short_job()).await;
    let mut stream = server.stream(&job).await;
    let image = stream
        .until(|data| matches!(data, EventData::Image(_)))
        .await;
    let EventData::Image(image) = image.data else {
        unreachable!("asked for above");
    };
    let inline = base64::engine::general_purpose::STANDARD
        .decode(image.image_base64.expect("pixels"))
        .expect("base64");
    let fetched = server.get(&image.url).await.bytes().await.expect("bytes");
    assert_eq!(inline, fetched);
    assert!(ends_with(&stream.rest().await, "complete"));
    let finished = server.job(&job).await;
    assert_eq!(finished.images.len(), 1);
    assert_eq!(finished.images[0].image_base64, None);
    server.stop().await;
}

#[tokio::test]
async fn resume_after_last_event_id_replays_only_what_was_missed() {
    let server = Server::start().await;
    let job = server
        .submit(&json!({"prompt": "a red apple", "steps": 6, "seed": 1}))
        .await;
    let mut first = server.stream(&job).await;
    let seen = first.progress().await.seq;
    drop(first);
    let rest = server.stream_after(&job, Some(seen)).await.rest().await;
    let whole = server.stream(&job).await.rest().await;
    let missed: Vec<&JobEvent> = whole.iter().filter(|event| event.seq > seen).collect();
    assert_eq!(rest.iter().collect::<Vec<_>>(), missed);
    assert!(whole.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert!(ends_with(&rest, "complete"));
    server.stop().await;
}

#[tokio::test]
async fn a_reader_that_has_everything_is_told_not_to_come_back() {
    let server = Server::start().await;
    let job = server.draw(&short_job()).await;
    let last = server
        .stream(&job)
        .await
        .rest()
        .await
        .last()
        .expect("events")
        .seq;
    let path = format!("/v1/jobs/{}/stream?after={last}", job.job_id);
    assert_eq!(server.get(&path).await.status(), 204);
    server.stop().await;
}

#[tokio::test]
async fn an_event_id_that_is_none_is_refused() {
    let server = Server::start().await;
    let job = server.draw(&short_job()).await;
    for after in ["-1", "x", "1.5", "99999999999999999999"] {
        let path = format!("/v1/jobs/{}/stream?after={after}", job.job_id);
        assert_eq!(server.get(&path).await.status(), 400, "{after}");
    }
    server.stop().await;
}

#[tokio::test]
async fn many_watchers_and_late_ones_see_the_same_events() {
    let server = Server::start().await;
    let job = server
        .submit(&json!({"prompt": "a red apple", "steps": 4, "seed": 1}))
        .await;
    let (mut one, mut two) = (server.stream(&job).await, server.stream(&job).await);
    let (one, two) = tokio::join!(one.rest(), two.rest());
    let late = server.stream(&job).await.rest().await;
    assert_eq!(one, two);
    assert_eq!(one, late);
    server.stop().await;
}

#[tokio::test]
async fn a_running_job_stops_within_a_step_of_being_cancelled() {
    let server = Server::start().await;
    let job = server.submit(&long_job()).await;
    let mut stream = server.stream(&job).await;
    stream.progress().await;
    let response = server.delete(&job).await;
    assert_eq!(response.status(), 202);
    let events = stream.rest().await;
    let EventData::Cancelled { step } = events.last().expect("events").data else {
        panic!("not cancelled: {events:?}");
    };
    // Nothing is logged of the steps after the one at which the engine saw the flag.
    let steps: Vec<u32> = events
        .iter()
        .filter_map(|event| match event.data {
            EventData::Progress { step, .. } => Some(step),
            _ => None,
        })
        .collect();
    assert!(
        steps.iter().all(|&logged| logged <= step),
        "{steps:?} after {step}"
    );
    assert!(step < 150, "{step}");
    assert_eq!(server.job(&job).await.status, JobStatus::Cancelled);
    server.stop().await;
}

#[tokio::test]
async fn a_queued_job_is_cancelled_at_once_and_never_starts() {
    let server = Server::start().await;
    let running = server.submit(&long_job()).await;
    server.stream(&running).await.progress().await;
    let queued = server.submit(&short_job()).await;
    assert_eq!(server.delete(&queued).await.status(), 202);
    let names: Vec<&str> = server
        .stream(&queued)
        .await
        .rest()
        .await
        .iter()
        .map(|event| event.data.name())
        .collect();
    assert_eq!(names, ["queued", "cancelled"]);
    server.delete(&running).await;
    server.stop().await;
}

#[tokio::test]
async fn a_finished_job_cannot_be_cancelled() {
    let server = Server::start().await;
    let job = server.draw(&short_job()).await;
    let response = server.delete(&job).await;
    assert_eq!(response.status(), 409);
    assert_eq!(response.headers()["x-should-retry"], "false");
    let error: serde_json::Value = response.json().await.expect("json");
    assert_eq!(error["error"]["code"], "job_finished");
    assert_eq!(server.job(&job).await.status, JobStatus::Succeeded);
    server.stop().await;
}

#[tokio::test]
async fn waiting_jobs_are_told_when_they_move_up() {
    let server = Server::start().await;
    let running = server.submit(&long_job()).await;
    server.stream(&running).await.progress().await;
    let next = server.submit(&long_job()).await;
    let last = server.submit(&short_job()).await;
    assert_eq!((next.position, last.position), (Some(1), Some(2)));
    let mut stream = server.stream(&last).await;
    stream
        .until(|data| matches!(data, EventData::Queued { position: 2, .. }))
        .await;
    server.delete(&next).await;
    stream
        .until(|data| matches!(data, EventData::Queued { position: 1, .. }))
        .await;
    server.delete(&running).await;
    assert!(ends_with(&stream.rest().await, "complete"));
    server.stop().await;
}

#[tokio::test]
async fn a_job_that_nobody_watches_is_cancelled_if_it_asked_for_that() {
    let server = Server::start().await;
    let mut request = long_job();
    request["cancel_on_disconnect"] = json!(true);
    let job = server.submit(&request).await;
    let mut stream = server.stream(&job).await;
    stream.progress().await;
    drop(stream);
    // Drawn only once the first is out of the way.
    let next = server.draw(&short_job()).await;
    assert_eq!(next.status, JobStatus::Succeeded);
    assert_eq!(server.job(&job).await.status, JobStatus::Cancelled);
    server.stop().await;
}
