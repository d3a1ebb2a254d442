//! What breaks inside stays inside.

use crate::support::{Server, copied_model, running, short_job};
use axum::{Router, routing::get};
use scumble_protocol::{ErrorCode, JobStatus};
use scumble_worker::{
    engine::EngineStatus,
    router::layers,
    server::{ConnectionLimits, Listener},
};
use serde_json::{Value, json};

#[tokio::test]
async fn a_panic_in_a_handler_is_a_500_with_a_request_id_and_the_server_lives() {
    async fn panics() {
        panic!("the path /secret leaked");
    }
    let data_dir = tempfile::tempdir().expect("folder");
    let worker = running(data_dir.path(), &[], ConnectionLimits::default()).await;
    let router = layers(Router::new().route("/panics", get(panics)), worker.app());
    let listener = Listener::bind("127.0.0.1:0".parse().expect("address"))
        .await
        .expect("port");
    let address = listener.address();
    tokio::spawn(listener.serve(router, ConnectionLimits::default(), worker.shutdown()));
    for _ in 0..2 {
        let response = crate::support::client()
            .get(format!("http://{address}/panics"))
            .send()
            .await
            .expect("answer");
        assert_eq!(response.status(), 500);
        let request_id = response.headers()["x-request-id"]
            .to_str()
            .expect("text")
            .to_owned();
        let text = response.text().await.expect("text");
        assert!(!text.contains("secret"), "{text}");
        let error: Value = serde_json::from_str(&text).expect("json");
        assert_eq!(error["error"]["code"], "internal_error");
        assert_eq!(error["error"]["request_id"], request_id);
    }
    worker
        .engine_status()
        .wait_for(|status| *status == EngineStatus::Ready)
        .await
        .expect("the model loads");
    Server::from_running(worker, data_dir).stop().await;
}

#[tokio::test]
async fn a_model_that_fails_fails_its_job_and_the_next_one_draws() {
    let folder = tempfile::tempdir().expect("folder");
    let broken = copied_model(folder.path());
    // Loaded only when a job asks for it: there is room for the default model alone.
    let source = format!("broken={}", broken.display());
    let own = format!("own={}", crate::support::model_folder().display());
    let arguments = [
        "--models-memory-max",
        "1MiB",
        "--model",
        &own,
        "--model",
        &source,
    ];
    let server = Server::start_with(&arguments).await;
    let weights = broken.join("unet/diffusion_pytorch_model.safetensors");
    let whole = std::fs::read(&weights).expect("weights");
    std::fs::write(&weights, &whole[..whole.len() / 2]).expect("cut");

    let failed = server
        .draw(&json!({"prompt": "a red apple", "model": "broken", "steps": 1}))
        .await;
    assert_eq!(failed.status, JobStatus::Failed);
    let error = failed.error.expect("error");
    assert_eq!(error.code, ErrorCode::ModelLoadFailed);
    assert!(!error.message.contains("safetensors"), "{}", error.message);
    assert_eq!(server.draw(&short_job()).await.status, JobStatus::Succeeded);
    server.stop().await;
}
