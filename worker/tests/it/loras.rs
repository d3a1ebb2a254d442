//! LoRAs by name: listed, added to a model for one job, and taken out for the next.

use crate::support::Server;
use scumble_protocol::{JobStatus, LoraList};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("crates/diffusion/tests/golden")
        .join(path)
}

/// Draws with a tiny model of random weights.
async fn server() -> Server {
    let model = format!("tiny={}", golden("sd1").display());
    let loras = golden("loras").display().to_string();
    Server::start_with(&["--model", &model, "--loras-dir", &loras]).await
}

fn job(prompt: &str, loras: Value) -> Value {
    json!({
        "model": "tiny", "prompt": prompt, "loras": loras, "seed": 3, "steps": 2,
        "width": 64, "height": 64, "metadata": false,
    })
}

async fn pixels(server: &Server, body: &Value) -> Vec<u8> {
    let job = server.draw(body).await;
    assert_eq!(job.status, JobStatus::Succeeded, "{:?}", job.error);
    let image = format!("/v1/jobs/{}/images/0", job.job_id);
    server
        .get(&image)
        .await
        .bytes()
        .await
        .expect("bytes")
        .to_vec()
}

/// The error of a request that is refused.
async fn refusal(server: &Server, body: &Value) -> Value {
    let response = server.post(body).await;
    assert_eq!(response.status(), 400);
    let body: Value = response.json().await.expect("error");
    body["error"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lora_changes_one_job_and_leaves_the_next_exactly_as_it_was() {
    let server = server().await;
    let bare = pixels(&server, &job("the red fox", json!([]))).await;
    let one = json!([{"name": "sd1-a-kohya", "scale": 0.8}]);
    let changed = pixels(&server, &job("the red fox", one.clone())).await;
    assert_ne!(changed, bare);
    let two = json!([{"name": "sd1-a-kohya", "scale": 0.8}, {"name": "sd1-b-peft", "scale": -0.5}]);
    assert_ne!(pixels(&server, &job("the red fox", two)).await, changed);
    assert_eq!(pixels(&server, &job("the red fox", json!([]))).await, bare);
    assert_eq!(pixels(&server, &job("the red fox", one)).await, changed);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_names_loras_as_a1111_prompts_do() {
    let server = server().await;
    let field = json!([{"name": "sd1-a-kohya", "scale": 0.8}]);
    let by_field = pixels(&server, &job("the red fox", field)).await;
    let tagged = job("<lora:SD1-A-kohya:0.8>the red fox", json!([]));
    assert_eq!(pixels(&server, &tagged).await, by_field);
    let drawn = server.draw(&tagged).await;
    assert_eq!(drawn.request.prompt.as_str(), "the red fox");
    assert_eq!(drawn.request.loras.len(), 1);
    for (prompt, says) in [
        (
            "a fox <lora:sd1-a-kohya:0.8:0.5>",
            "a LoRA in the prompt must be <lora:NAME>",
        ),
        ("a fox <lora:sd1-a-kohya:9>", "with a scale within -4..=4"),
        (
            "<lora:sd1-a-kohya>",
            "the prompt without its LoRAs must not be empty",
        ),
        (
            "a fox <lora:nobody>",
            "prompt must name one of sd1-a-kohya,",
        ),
    ] {
        let error = refusal(&server, &job(prompt, json!([]))).await;
        assert_eq!(error["param"], "prompt");
        let message = error["message"].as_str().expect("message");
        assert!(message.contains(says), "{message}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loras_that_cannot_be_used_are_refused_at_once_where_their_files_tell() {
    let server = server().await;
    let unknown = json!([{"name": "sd1-a-kohya"}, {"name": "nobody"}]);
    let error = refusal(&server, &job("a fox", unknown)).await;
    assert_eq!(error["code"], "lora_not_found");
    assert_eq!(error["param"], "loras[1].name");
    let error = refusal(&server, &job("a fox", json!([{"name": "sdxl-a-kohya"}]))).await;
    assert_eq!(error["code"], "invalid_value");
    assert_eq!(error["param"], "loras[0].name");
    assert_eq!(
        error["message"],
        "loras[0].name must name a LoRA for models of the family sd1, as tiny is; sdxl-a-kohya is for SDXL"
    );
    // Nothing in this one's header tells, so the model does.
    let job_with = |name: &str| job("a fox", json!([{"name": name}]));
    let failed = server.draw(&job_with("sdxl-b-peft")).await;
    assert_eq!(failed.status, JobStatus::Failed);
    let error = failed.error.expect("error");
    assert!(
        error
            .message
            .starts_with("a LoRA was made for another model")
    );
    assert!(!error.message.contains('/'), "{}", error.message);
    pixels(&server, &job_with("sd1-lokr")).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loras_are_listed_with_what_their_files_say() {
    let server = server().await;
    let list: LoraList = server.get("/v1/loras").await.json().await.expect("list");
    let names: Vec<&str> = list.data.iter().map(|lora| lora.name.as_str()).collect();
    assert!(
        names.is_sorted() && names.contains(&"sd1-dora"),
        "{names:?}"
    );
    // What is drawn with them lies beside them and is none.
    assert!(!names.contains(&"golden"));
    let xl = list
        .data
        .iter()
        .find(|lora| lora.name.as_str() == "sdxl-a-kohya")
        .expect("listed");
    assert_eq!(xl.base.as_deref(), Some("SDXL"));
    assert_eq!((xl.rank_min, xl.rank_max), (Some(2), Some(4)));
    assert_eq!(xl.kinds, ["lora"]);
    assert!(xl.targets.contains_key("text_encoder_2"));
    server.stop().await;
}

#[test]
fn generate_draws_with_loras() {
    let folder = tempfile::tempdir().expect("folder");
    let draw = |name: &str, more: &[&str]| {
        let path = folder.path().join(name);
        let model = golden("sd1").display().to_string();
        let loras = golden("loras").display().to_string();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_scumble"))
            .args([
                "generate",
                "the red fox",
                "--model",
                &model,
                "--loras-dir",
                &loras,
            ])
            .args([
                "--steps", "2", "--seed", "3", "--width", "64", "--height", "64",
            ])
            .args(["--device", "cpu", "--no-metadata", "-o"])
            .arg(&path)
            .args(more)
            .output()
            .expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (std::fs::read(&path).ok(), said)
    };
    let (bare, _) = draw("bare.png", &[]);
    let (changed, said) = draw(
        "changed.png",
        &["--lora", "sd1-a-kohya:0.8", "--lora", "sd1-dora"],
    );
    assert!(bare.is_some() && changed.is_some(), "{said}");
    assert_ne!(bare, changed);
    let (none, said) = draw("none.png", &["--lora", "nobody:0.8"]);
    assert_eq!(none, None);
    assert!(said.contains("must name one of sd1-a-kohya,"), "{said}");
}
