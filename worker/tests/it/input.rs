//! What cannot be drawn is refused before a job is made.

use crate::support::{Server, jobs_in};
use scumble_protocol::limits::JOB_BODY_BYTES_MAX;
use serde_json::{Value, json};

#[tokio::test]
async fn bad_values_are_refused_with_field_and_bound_and_make_no_job() {
    let server = Server::start().await;
    let rows = [
        (
            r#"{"prompt":"x","colour":"red"}"#,
            "unknown_field",
            "colour",
            "unknown field `colour`",
        ),
        (
            r#"{"prompt":3}"#,
            "invalid_value",
            "prompt",
            "prompt: invalid type: integer",
        ),
        (
            r#"{"prompt":"x","steps":"ten"}"#,
            "invalid_value",
            "steps",
            "steps: invalid type: string",
        ),
        (r#"{}"#, "missing_field", "prompt", "prompt is required"),
        (
            r#"{"prompt":" "}"#,
            "invalid_value",
            "prompt",
            "prompt must not be empty",
        ),
        (
            r#"{"prompt":"x","width":513}"#,
            "invalid_value",
            "width",
            "width must be a multiple of 8",
        ),
        (
            r#"{"prompt":"x","height":8192}"#,
            "invalid_value",
            "height",
            "within 8..=4096, got 8192",
        ),
        (
            r#"{"prompt":"x","width":2048}"#,
            "invalid_value",
            "width",
            "for model pocket, got 2048",
        ),
        (
            r#"{"prompt":"x","steps":0}"#,
            "invalid_value",
            "steps",
            "steps must be 1..=150, got 0",
        ),
        (
            r#"{"prompt":"x","steps":151}"#,
            "invalid_value",
            "steps",
            "steps must be 1..=150, got 151",
        ),
        (
            r#"{"prompt":"x","n":9}"#,
            "invalid_value",
            "n",
            "n must be 1..=8, got 9",
        ),
        (
            r#"{"prompt":"x","seed":-1}"#,
            "invalid_value",
            "seed",
            "unsigned 64-bit integer",
        ),
        (
            r#"{"prompt":"x","guidance_scale":NaN}"#,
            "invalid_value",
            "guidance_scale",
            "guidance_scale",
        ),
        (
            r#"{"prompt":"x","guidance_scale":"NaN"}"#,
            "invalid_value",
            "guidance_scale",
            "guidance_scale",
        ),
        (
            r#"{"prompt":"x","guidance_scale":30.5}"#,
            "invalid_value",
            "guidance_scale",
            "must be 0..=30, got 30.5",
        ),
        (
            r#"{"prompt":"x","model":"sd-9"}"#,
            "model_not_found",
            "model",
            "model must be one of pocket, got sd-9",
        ),
        (
            r#"{"prompt":"x","model":"../etc"}"#,
            "invalid_value",
            "model",
            "model must be",
        ),
        (
            r#"{"prompt":"x","scheduler":"magic"}"#,
            "scheduler_not_found",
            "scheduler",
            "scheduler must be one of ddim, ",
        ),
        (
            r#"{"prompt":"x","preview":{"every":0}}"#,
            "invalid_value",
            "preview.every",
            "1..=150, got 0",
        ),
    ];
    for (body, code, param, part) in rows {
        let response = server
            .client
            .post(server.url("/v1/jobs"))
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .expect("answer");
        assert_eq!(response.status(), 400, "{body}");
        let request_id = response.headers()["x-request-id"]
            .to_str()
            .expect("text")
            .to_owned();
        let error = response.json::<Value>().await.expect("json")["error"].take();
        let message = error["message"].as_str().expect("message");
        assert_eq!(error["type"], "invalid_request_error", "{body}");
        assert_eq!(error["code"], code, "{body}: {message}");
        assert_eq!(error["param"], param, "{body}: {message}");
        assert!(message.contains(part), "{body}: {message}");
        assert_eq!(error["request_id"], request_id);
    }
    assert_eq!(jobs_in(server.data_dir.path()), 0);
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_a_json_body_of_bounded_size_is_refused() {
    let server = Server::start().await;
    let post = |content_type: &str, body: String| {
        server
            .client
            .post(server.url("/v1/jobs"))
            .header("content-type", content_type)
            .body(body)
            .send()
    };
    let large = format!(r#"{{"prompt":"{}"}}"#, "x".repeat(JOB_BODY_BYTES_MAX));
    let rows = [
        (
            "text/plain",
            r#"{"prompt":"x"}"#.to_owned(),
            415,
            "unsupported_media_type",
        ),
        (
            "application/x-www-form-urlencoded",
            "prompt=x".to_owned(),
            415,
            "unsupported_media_type",
        ),
        ("application/json", large, 413, "payload_too_large"),
        ("application/json", "{".to_owned(), 400, "invalid_json"),
    ];
    for (content_type, body, status, code) in rows {
        let response = post(content_type, body).await.expect("answer");
        assert_eq!(response.status(), status);
        let error: Value = response.json().await.expect("json");
        assert_eq!(error["error"]["code"], code);
    }
    assert_eq!(jobs_in(server.data_dir.path()), 0);
    server.stop().await;
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist_have_the_error_shape() {
    let server = Server::start().await;
    let unknown = "job_01jd0000000000000000000000";
    for path in [
        "/v1/nothing".to_owned(),
        "/v1/jobs/nonsense".to_owned(),
        "/v1/jobs/..%2f..%2fetc".to_owned(),
        format!("/v1/jobs/{unknown}"),
        format!("/v1/jobs/{unknown}/stream"),
        format!("/v1/jobs/{unknown}/images/0"),
        "/v1/models/other".to_owned(),
        "/assets/missing.js".to_owned(),
    ] {
        let response = server.get(&path).await;
        assert_eq!(response.status(), 404, "{path}");
        let error: Value = response.json().await.expect("json");
        assert_eq!(error["error"]["code"], "not_found", "{path}");
    }
    let response = server
        .client
        .put(server.url("/v1/models"))
        .send()
        .await
        .expect("answer");
    assert_eq!(response.status(), 405);
    assert!(response.headers().contains_key("allow"));
    let error: Value = response.json().await.expect("json");
    assert_eq!(error["error"]["code"], "method_not_allowed");
    server.stop().await;
}

#[tokio::test]
async fn a_job_echoes_what_was_filled_in() {
    let server = Server::start().await;
    let model: Value = server.get("/v1/models").await.json().await.expect("json");
    let model = &model["data"][0];
    let job = server
        .submit(&json!({"prompt": "a red apple", "steps": 1}))
        .await;
    let request = serde_json::to_value(&job.request).expect("json");
    assert_eq!(request["model"], "pocket");
    assert_eq!(request["task"], "text_to_image");
    assert_eq!(request["steps"], 1);
    for field in ["width", "height", "guidance_scale", "scheduler"] {
        assert_eq!(request[field], model["defaults"][field], "{field}");
    }
    assert!(
        request["seed"].is_u64(),
        "JavaScript holds a drawn seed: {request}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_scheduler_answers_to_its_aliases_and_is_echoed_by_its_name() {
    let server = Server::start().await;
    let job = server
        .submit(&json!({"prompt": "a red apple", "steps": 1, "scheduler": "k_euler_a"}))
        .await;
    assert_eq!(job.request.scheduler.as_str(), "euler_ancestral");
    server.stop().await;
}

#[tokio::test]
async fn a_full_queue_refuses_with_the_time_to_come_back() {
    let server = Server::start_with(&["--queue-jobs-max", "1"]).await;
    let running = server.submit(&crate::support::long_job()).await;
    server.stream(&running).await.progress().await;
    let queued = server.submit(&crate::support::short_job()).await;
    let response = server.post(&crate::support::short_job()).await;
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    let error: Value = response.json().await.expect("json");
    assert_eq!(error["error"]["code"], "queue_full");
    assert_eq!(server.delete(&queued).await.status(), 202);
    assert_eq!(
        server.post(&crate::support::short_job()).await.status(),
        202
    );
    server.delete(&running).await;
    server.stop().await;
}
