//! Several models in one worker: found, loaded when a job needs them, put out again when another does.

use crate::support::{Server, copied_model, model_folder, pixels, scumble};
use scumble_protocol::{ErrorCode, JobStatus};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Tiny models of random weights, which the diffusion crate's own tests draw with.
fn tiny(name: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/diffusion/tests");
    tests.join("golden").join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

async fn models(server: &Server) -> Value {
    server.get("/v1/models").await.json().await.expect("json")
}

/// The ids of the models whose weights are in memory.
async fn loaded(server: &Server) -> Vec<String> {
    let list = models(server).await;
    let list = list["data"].as_array().expect("list");
    list.iter()
        .filter(|model| model["loaded"] == true)
        .map(|model| model["id"].as_str().expect("id").to_owned())
        .collect()
}

async fn picture(server: &Server, model: &str) -> Vec<u8> {
    let job = json!({"prompt": "a red apple", "model": model, "steps": 2, "seed": 7});
    let job = server.draw(&job).await;
    assert_eq!(job.status, JobStatus::Succeeded, "{model}: {:?}", job.error);
    let bytes = server.get(&job.images[0].url).await.bytes().await;
    pixels(&bytes.expect("picture"))
}

#[tokio::test]
async fn models_take_turns_in_too_little_memory_and_draw_as_if_alone() {
    let (one, two) = (tiny("sd1"), tiny("sd2"));
    let sources = [
        format!("one={}", one.display()),
        format!("two={}", two.display()),
    ];
    let named = [
        "--model",
        "pocket",
        "--model",
        &sources[0],
        "--model",
        &sources[1],
    ];

    let roomy = Server::start_with(&named).await;
    assert_eq!(loaded(&roomy).await, ["pocket", "one", "two"]);
    let sizes: BTreeMap<String, u64> = models(&roomy).await["data"]
        .as_array()
        .expect("list")
        .iter()
        .map(|model| {
            let id = model["id"].as_str().expect("id").to_owned();
            (id, model["size_bytes"].as_u64().expect("size"))
        })
        .collect();
    let mut alone = BTreeMap::new();
    for model in ["pocket", "one", "two"] {
        alone.insert(model, picture(&roomy, model).await);
    }
    assert_eq!(loaded(&roomy).await, ["pocket", "one", "two"]);
    roomy.stop().await;

    // Room for the largest, or for both of the others.
    assert!(sizes["one"] + sizes["two"] < sizes["pocket"]);
    let limit = sizes["pocket"].to_string();
    let tight = Server::start_with(&[&named[..], &["--models-memory-max", &limit]].concat()).await;
    assert_eq!(loaded(&tight).await, ["pocket"]);
    let turns: [(&str, &[&str]); 7] = [
        ("pocket", &["pocket"]),
        ("one", &["one"]),
        ("two", &["one", "two"]),
        ("one", &["one", "two"]),
        ("pocket", &["pocket"]),
        ("two", &["two"]),
        ("one", &["one", "two"]),
    ];
    for (model, in_memory) in turns {
        assert_eq!(picture(&tight, model).await, alone[model], "{model}");
        assert_eq!(loaded(&tight).await, in_memory, "after {model}");
    }
    tight.stop().await;

    // The one not used for longest goes first.
    let limit = (sizes["one"] + sizes["two"]).to_string();
    let named = [
        "--model",
        &sources[0],
        "--model",
        &sources[1],
        "--models-memory-max",
        &limit,
    ];
    let pair = Server::start_with(&named).await;
    assert_eq!(loaded(&pair).await, ["one", "two"]);
    picture(&pair, "one").await;
    // Larger than all the room: loaded alone.
    assert_eq!(picture(&pair, "pocket").await, alone["pocket"]);
    assert_eq!(loaded(&pair).await, ["pocket"]);
    pair.stop().await;
}

/// A folder with a sound model and with others that are not.
fn models_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    let sound = copied_model(folder.path());
    fs::rename(sound, folder.path().join("My Model")).expect("renamed");
    let cut = copied_model(folder.path());
    let unet = cut.join("unet/diffusion_pytorch_model.safetensors");
    let whole = fs::read(&unet).expect("weights");
    fs::write(unet, &whole[..whole.len() / 2]).expect("cut");
    fs::write(folder.path().join("pickle.ckpt"), "\u{80}\u{2}").expect("file");
    fs::write(folder.path().join("noise.safetensors"), vec![7; 64]).expect("file");
    // The name of the model inside: not taken away from it.
    let pocket = copied_model(&folder.path().join("nested"));
    fs::rename(pocket, folder.path().join("pocket")).expect("renamed");
    folder
}

#[test]
fn a_models_folder_is_listed_with_what_is_wrong_in_it() {
    let folder = models_folder();
    let run = |arguments: &[&str]| {
        let output = scumble(&[arguments, &["--models-dir", text(folder.path())]].concat())
            .env_remove("SCUMBLE_MODELS_DIR")
            .output()
            .expect("the binary runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let list: Value = serde_json::from_str(&run(&["models", "list", "--json"])).expect("json");
    let ids = |key: &str| -> Vec<&str> {
        let list = list[key].as_array().expect("list");
        list.iter()
            .map(|model| model["id"].as_str().expect("id"))
            .collect()
    };
    assert_eq!(ids("models"), ["pocket", "my-model"]);
    assert_eq!(ids("unusable"), ["broken", "noise", "pickle", "pocket"]);
    let reason = |index: usize| list["unusable"][index]["reason"].as_str().expect("reason");
    assert!(
        reason(0).contains("unet/diffusion_pytorch_model.safetensors"),
        "{}",
        reason(0)
    );
    assert!(reason(1).contains("noise.safetensors"), "{}", reason(1));
    assert!(reason(2).contains("pickle"), "{}", reason(2));
    assert!(
        reason(3).contains("another model is called pocket"),
        "{}",
        reason(3)
    );

    let table = run(&["models"]);
    assert!(table.contains("\nmy-model "), "{table}");
    assert!(table.contains("\nCannot be used:\nbroken ("), "{table}");
}

#[tokio::test]
async fn a_bad_model_in_the_folder_stops_nothing_and_its_jobs_are_refused_at_once() {
    let folder = models_folder();
    let server = Server::start_with(&["--models-dir", text(folder.path())]).await;
    let list = models(&server).await;
    let ids: Vec<&Value> = list["data"]
        .as_array()
        .expect("list")
        .iter()
        .map(|model| &model["id"])
        .collect();
    assert_eq!(ids, ["pocket", "my-model"]);
    assert_eq!(
        loaded(&server).await,
        ["pocket"],
        "others are loaded when a job needs them"
    );
    for (model, part) in [
        ("broken", "cannot be used"),
        ("no-such", "must be one of pocket, my-model"),
    ] {
        let response = server.post(&json!({"prompt": "x", "model": model})).await;
        assert_eq!(response.status(), 400);
        let error: Value = response.json().await.expect("json");
        assert_eq!(error["error"]["code"], "model_not_found");
        let message = error["error"]["message"].as_str().expect("text");
        assert!(
            message.contains(part) && !message.contains(text(folder.path())),
            "{message}"
        );
    }
    assert_eq!(
        picture(&server, "my-model").await,
        picture(&server, "pocket").await
    );
    assert_eq!(loaded(&server).await, ["pocket", "my-model"]);
    server.stop().await;
}

#[tokio::test]
async fn a_job_whose_model_is_gone_after_a_restart_fails_and_draws_with_no_other() {
    let source = format!("gone={}", model_folder().display());
    let server = Server::start_with(&["--model", &source]).await;
    let running = server.submit(&crate::support::long_job()).await;
    server.stream(&running).await.progress().await;
    let waiting = json!({"prompt": "a red apple", "model": "gone", "steps": 1});
    let waiting = server.submit(&waiting).await;
    server.begin_stop();
    let data_dir = server.stop().await;

    let server = Server::start_in(data_dir, &[]).await;
    // Both wanted it: the one that was under way, and the one that waited.
    for job in [running, waiting] {
        server.stream(&job).await.rest().await;
        let job = server.job(&job).await;
        assert_eq!(job.status, JobStatus::Failed);
        assert_eq!(job.error.expect("error").code, ErrorCode::ModelNotFound);
    }
    server.stop().await;
}

#[test]
fn a_model_named_by_its_id_becomes_the_default() {
    let folder = models_folder();
    let line = [
        "models",
        "list",
        "--json",
        "--models-dir",
        text(folder.path()),
    ];
    let line = [&line[..], &["--model", "mine=my-model"]].concat();
    let output = scumble(&line)
        .env_remove("SCUMBLE_MODELS_DIR")
        .output()
        .expect("the binary runs");
    let list: Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(list["models"][0]["id"], "mine");
    assert_eq!(list["models"][1]["id"], "pocket");
}

#[test]
fn inspect_tells_what_a_model_is_made_of_and_what_is_wrong_with_it() {
    let folder = models_folder();
    let run = |model: &str| {
        let line = [
            "models",
            "inspect",
            "--json",
            model,
            "--models-dir",
            text(folder.path()),
        ];
        scumble(&line)
            .env_remove("SCUMBLE_MODELS_DIR")
            .output()
            .expect("the binary runs")
    };
    let sound = run("pocket");
    assert!(sound.status.success());
    let sound: Value = serde_json::from_slice(&sound.stdout).expect("json");
    assert_eq!(sound["family"], "sd1");
    assert_eq!(sound["scheduler_config"]["_class_name"], "DDIMScheduler");
    assert_eq!(sound["defaults"]["steps"], 20);
    let parts: Vec<&Value> = sound["parts"]
        .as_array()
        .expect("parts")
        .iter()
        .map(|part| &part["name"])
        .collect();
    assert_eq!(parts, ["text_encoder", "unet", "vae"]);

    let broken = run("broken");
    assert_eq!(broken.status.code(), Some(1));
    let sentence = String::from_utf8_lossy(&broken.stderr).into_owned();
    assert!(sentence.contains("truncated"), "{sentence}");
    let broken: Value = serde_json::from_slice(&broken.stdout).expect("json");
    assert_eq!(broken["family"], "sd1", "what can be read is shown");
    assert_eq!(broken["problems"].as_array().expect("list").len(), 1);

    let by_path = run(text(&tiny("sdxl")));
    let by_path: Value = serde_json::from_slice(&by_path.stdout).expect("json");
    assert_eq!(by_path["family"], "sdxl");
}

#[test]
fn another_autoencoder_draws_another_picture_and_the_same_one_the_same() {
    let folder = tempfile::tempdir().expect("folder");
    let (one, out) = (tiny("sd1"), folder.path().join("out.png"));
    let draw = |more: &[&str]| {
        let line = [
            "generate",
            "x",
            "--steps",
            "1",
            "--seed",
            "7",
            "-o",
            text(&out),
        ];
        let output = scumble(&[&line[..], more].concat())
            .output()
            .expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        pixels(&fs::read(&out).expect("picture"))
    };
    let (same, other) = (one.join("vae"), tiny("sd2").join("vae"));
    let own = draw(&["--model", text(&one)]);
    assert_eq!(draw(&["--model", text(&one), "--vae", text(&same)]), own);
    assert_ne!(draw(&["--model", text(&one), "--vae", text(&other)]), own);
}
