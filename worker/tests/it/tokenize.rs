//! Prompts are counted, and long ones drawn.

use crate::support::{Server, long_job};
use scumble_protocol::{ErrorCode, JobStatus, TokenCount};
use serde_json::{Value, json};

const PROMPT: &str = "a red apple on a blue background";

async fn answer(server: &Server, body: &Value) -> reqwest::Response {
    server
        .client
        .post(server.url("/v1/tokenize"))
        .json(body)
        .send()
        .await
        .expect("answer")
}

async fn count(server: &Server, prompt: &str) -> TokenCount {
    let response = answer(server, &json!({"model": "pocket", "prompt": prompt})).await;
    assert_eq!(response.status(), 200);
    response.json().await.expect("count")
}

#[tokio::test]
async fn a_prompt_is_counted_as_the_model_reads_it() {
    let server = Server::start().await;
    let response = answer(&server, &json!({"prompt": PROMPT})).await;
    assert_eq!(
        response.json::<Value>().await.expect("count"),
        json!({"model": "pocket", "tokens": 7, "chunks": [7], "chunk_tokens": 22, "truncated": false})
    );
    assert_eq!(count(&server, "").await.chunks, [0]);
    let weighted = "a ((red)) (apple:1.3) on a [blue] background";
    assert_eq!(count(&server, weighted).await.chunks, [7]);
    let with_lora = format!("{PROMPT} <lora:glow:0.5>");
    assert_eq!(count(&server, &with_lora).await.chunks, [7]);
    assert_eq!(count(&server, "a fox BREAK a cat").await.chunks, [2, 2]);
    let long = count(&server, &[PROMPT; 7].join(" ")).await;
    assert_eq!((long.tokens, long.chunks), (49, vec![22, 22, 5]));
    let phrases = count(&server, &[PROMPT; 4].join(", ")).await;
    assert_eq!(phrases.tokens, 31);
    assert_eq!(phrases.chunks, [22, 9]);
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_counted_is_refused_with_its_field() {
    let server = Server::start().await;
    for (body, code, param, part) in [
        (
            json!({"prompt": "x", "model": "sd-9"}),
            "model_not_found",
            "model",
            "model must be one of pocket, got sd-9",
        ),
        (
            json!({"prompt": "x".repeat(4_001)}),
            "invalid_value",
            "prompt",
            "4000",
        ),
        (
            json!({"prompt": "BREAK ".repeat(600)}),
            "invalid_value",
            "prompt",
            "at most 341 chunks of 22 tokens, got 600",
        ),
        (json!({}), "missing_field", "prompt", "prompt is required"),
        (
            json!({"prompt": "x", "texts": []}),
            "unknown_field",
            "texts",
            "texts",
        ),
    ] {
        let response = answer(&server, &body).await;
        assert_eq!(response.status(), 400, "{code}");
        let error = response.json::<Value>().await.expect("error");
        let error = error.get("error").expect("error");
        assert_eq!(error.get("code"), Some(&json!(code)));
        assert_eq!(error.get("param"), Some(&json!(param)));
        let message = error
            .get("message")
            .and_then(Value::as_str)
            .expect("message");
        assert!(message.contains(part), "{message}");
    }
    let response = server
        .client
        .post(server.url("/v1/tokenize"))
        .body("x")
        .send()
        .await;
    assert_eq!(response.expect("answer").status(), 415);
    server.stop().await;
}

#[tokio::test]
async fn counting_does_not_wait_for_the_drawing() {
    let server = Server::start().await;
    let job = server.submit(&long_job()).await;
    let mut stream = server.stream(&job).await;
    while let Some(message) = stream.message().await {
        if message.event == "progress" {
            break;
        }
    }
    assert_eq!(count(&server, PROMPT).await.tokens, 7);
    assert_eq!(server.job(&job).await.status, JobStatus::Running);
    assert_eq!(server.delete(&job).await.status(), 202);
    server.stop().await;
}

#[tokio::test]
async fn a_prompt_longer_than_the_encoder_is_drawn_whole() {
    let server = Server::start().await;
    let start = [PROMPT; 4].join(" ");
    let draw = async |prompt: String| {
        let job = server
            .draw(&json!({"prompt": prompt, "steps": 2, "seed": 7}))
            .await;
        assert_eq!(job.status, JobStatus::Succeeded);
        assert!(job.warnings.is_empty(), "{:?}", job.warnings);
        let path = format!("/v1/jobs/{}/images/0", job.job_id);
        server.get(&path).await.bytes().await.expect("image")
    };
    // The prompts part only where the encoder alone would not have read on.
    let yellow = draw(format!("{start} and a yellow banana")).await;
    let green = draw(format!("{start} and a green tree")).await;
    assert_ne!(yellow, green);
    server.stop().await;
}

#[tokio::test]
async fn a_prompt_of_too_many_chunks_fails_with_its_bound() {
    let server = Server::start().await;
    let job = server
        .draw(&json!({"prompt": format!("apple {}", "BREAK ".repeat(600)), "steps": 2}))
        .await;
    assert_eq!(job.status, JobStatus::Failed);
    let error = job.error.expect("error");
    assert_eq!(error.code, ErrorCode::InvalidValue);
    assert!(
        error.message.contains("at most 341 chunks"),
        "{}",
        error.message
    );
    server.stop().await;
}
