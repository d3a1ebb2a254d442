//! Models from the hub: the binary against a server that speaks the hub's protocol.

use crate::{
    hub::{COMMIT, Fault, HubServer, hash_of},
    support::{model_folder, pixels, scumble},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

const ID: &str = "tests/pocket-copy";
const UNET: &str = "unet/diffusion_pytorch_model.safetensors";

/// A user with a cache of their own, and a hub that offers the embedded model's folder.
struct Desk {
    hub: HubServer,
    home: TempDir,
    /// How long a download may stand still before it is taken up anew.
    read_timeout_s: &'static str,
}

impl Desk {
    async fn new() -> Self {
        let hub = HubServer::start().await;
        hub.offer(ID, &model_folder());
        Self {
            hub,
            home: tempfile::tempdir().expect("folder"),
            read_timeout_s: "60",
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = scumble(arguments);
        command
            .env_remove("SCUMBLE_MODELS_DIR")
            .env("HF_ENDPOINT", &self.hub.endpoint)
            .env("HF_HOME", self.home.path())
            .env("XDG_DATA_HOME", self.home.path().join("data"))
            .env("HF_HUB_DOWNLOAD_TIMEOUT", self.read_timeout_s);
        command
    }

    /// The binary runs in a process of its own, while the hub answers here.
    async fn output(&self, mut command: Command) -> Output {
        let run = tokio::task::spawn_blocking(move || command.output());
        run.await.expect("no panic").expect("the binary runs")
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(self.command(arguments)).await;
        said(&output)
    }

    /// One sentence, and exit code 1.
    async fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.output(self.command(arguments)).await;
        failure(&output)
    }

    fn repository(&self) -> PathBuf {
        self.home.path().join("hub/models--tests--pocket-copy")
    }

    fn snapshot(&self) -> PathBuf {
        self.repository().join("snapshots").join(COMMIT)
    }

    /// What the hub lists for a file, which is its blob's name.
    fn blob(&self, file: &str) -> PathBuf {
        let bytes = fs::read(model_folder().join(file)).expect("file");
        self.repository()
            .join("blobs")
            .join(hash_of(file, &bytes).0)
    }

    fn requests_for(&self, file: &str) -> Vec<Option<String>> {
        let seen = self.hub.seen().into_iter();
        seen.filter(|seen| seen.file == file)
            .map(|seen| seen.range)
            .collect()
    }
}

fn said(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn failure(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("scumble: "))
        .collect();
    assert_eq!(lines.len(), 1, "{text}");
    lines.concat()
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below");
                found.push(name.to_str().expect("utf-8").to_owned());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_pulled_model_is_what_the_hub_offers_and_draws_the_same_picture() {
    let desk = Desk::new().await;
    for (path, bytes) in [
        ("README.md", "a card"),
        ("whole.ckpt", "a pickle"),
        ("unet/diffusion_pytorch_model.bin", "a pickle"),
        (
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "other weights",
        ),
        ("safety_checker/model.safetensors", "not needed"),
    ] {
        desk.hub.offer_file(ID, path, bytes);
    }
    let out = desk.run(&["models", "pull", ID]).await;
    assert!(
        out.contains("01234567") && out.contains("draws: sd1"),
        "{out}"
    );

    let files = files_below(&desk.snapshot());
    let wanted = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "scumble.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "unet/config.json",
        UNET,
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "vocabulary.json",
    ];
    assert_eq!(files, wanted);
    for file in wanted {
        let original = fs::read(model_folder().join(file)).expect("file");
        assert_eq!(
            fs::read(desk.snapshot().join(file)).expect("file"),
            original,
            "{file}"
        );
        assert!(desk.blob(file).is_file(), "{file}");
    }
    let commit = fs::read_to_string(desk.repository().join("refs/main")).expect("ref");
    assert_eq!(commit, COMMIT);
    let blobs = files_below(&desk.repository().join("blobs"));
    assert!(blobs.iter().all(|blob| !blob.contains('.')), "{blobs:?}");

    desk.hub.seen();
    desk.run(&["models", "pull", ID]).await;
    assert!(desk.hub.seen().is_empty(), "nothing is fetched twice");

    let draw = async |model: &str, name: &str| {
        let path = desk.home.path().join(name);
        let path = path.to_str().expect("utf-8");
        let line = ["generate", "a red apple", "--steps", "2", "--seed", "7"];
        desk.run(&[&line[..], &["-o", path, "--model", model]].concat())
            .await;
        pixels(&fs::read(path).expect("picture"))
    };
    let folder = model_folder();
    let original = draw(folder.to_str().expect("utf-8"), "original.png").await;
    assert_eq!(draw(ID, "pulled.png").await, original);
    assert_eq!(draw("pocket-copy", "by-name.png").await, original);
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_stopped() {
    let mut desk = Desk::new().await;
    desk.read_timeout_s = "3";
    desk.hub.faults(
        UNET,
        [
            Fault::Cut(5_000_000),
            Fault::Status(503),
            Fault::Stall(2_000_000),
            Fault::Status(429),
        ],
    );
    desk.run(&["models", "pull", ID]).await;
    let seen: Vec<_> = desk
        .hub
        .seen()
        .into_iter()
        .filter(|seen| seen.file == UNET)
        .collect();
    assert_eq!(seen.len(), 5);
    assert_eq!((&seen[0].range, &seen[0].if_range), (&None, &None));
    for later in &seen[1..] {
        assert_eq!(later.if_range.as_deref(), Some("\"at-the-cdn\""));
    }
    // How much of a cut part arrives is up to the network, but never more than was sent.
    let start = |range: &Option<String>| -> usize {
        let range = range.as_deref().expect("a range");
        range
            .trim_start_matches("bytes=")
            .trim_end_matches('-')
            .parse()
            .expect("a number")
    };
    let starts: Vec<usize> = seen[1..].iter().map(|seen| start(&seen.range)).collect();
    assert!(starts[0] > 0 && starts[0] <= 5_000_000, "{starts:?}");
    assert_eq!(starts[0], starts[1]);
    assert_eq!(starts[2], starts[1] + 2_000_000);
    assert_eq!(starts[2], starts[3]);
    assert!(!desk.blob(UNET).with_extension("incomplete").exists());
}

#[tokio::test]
async fn a_pull_that_was_given_up_is_taken_up_by_the_next_one() {
    let mut desk = Desk::new().await;
    desk.read_timeout_s = "3";
    let faults = std::iter::once(Fault::Stall(3_000_000)).chain(vec![Fault::Status(500); 5]);
    desk.hub.faults(UNET, faults);
    let sentence = desk.refusal(&["models", "pull", ID]).await;
    assert!(
        sentence.contains(UNET) && sentence.contains("kept"),
        "{sentence}"
    );
    let partial = desk.blob(UNET).with_extension("incomplete");
    assert_eq!(
        fs::metadata(&partial).expect("a partial file").len(),
        3_000_000
    );
    assert!(!desk.repository().join("refs/main").exists());
    let list = desk.run(&["models", "list"]).await;
    assert!(!list.contains("pocket-copy"), "{list}");

    desk.hub.faults(UNET, []);
    desk.hub.seen();
    desk.run(&["models", "pull", ID]).await;
    assert_eq!(desk.requests_for(UNET), [Some("bytes=3000000-".to_owned())]);
    assert!(!partial.exists());
}

#[tokio::test]
async fn a_partial_file_is_thrown_away_where_it_does_not_fit() {
    let desk = Desk::new().await;
    let partial = desk.blob(UNET).with_extension("incomplete");
    fs::create_dir_all(partial.parent().expect("folder")).expect("folder");
    // Other bytes, as after a power cut: seen only when the whole is hashed.
    fs::write(&partial, vec![0; 1_000_000]).expect("file");
    desk.run(&["models", "pull", ID]).await;
    assert_eq!(
        desk.requests_for(UNET),
        [Some("bytes=1000000-".to_owned()), None]
    );

    // A server that heeds no ranges sends the whole anew.
    let vae = "vae/diffusion_pytorch_model.safetensors";
    fs::remove_file(desk.snapshot().join(vae)).expect("link");
    fs::remove_file(desk.blob(vae)).expect("blob");
    fs::write(desk.blob(vae).with_extension("incomplete"), "part").expect("file");
    desk.hub.faults(vae, [Fault::Whole]);
    desk.run(&["models", "pull", ID]).await;
    assert_eq!(desk.requests_for(vae), [Some("bytes=4-".to_owned())]);
    let original = fs::read(model_folder().join(vae)).expect("file");
    assert_eq!(fs::read(desk.snapshot().join(vae)).expect("file"), original);
}

#[tokio::test]
async fn bytes_with_another_hash_never_become_a_file() {
    for file in [UNET, "unet/config.json"] {
        let desk = Desk::new().await;
        desk.hub.faults(file, [Fault::Wrong]);
        desk.run(&["models", "pull", ID]).await;
        assert_eq!(desk.requests_for(file), [None, None], "fetched once more");

        let desk = Desk::new().await;
        desk.hub.faults(file, [Fault::Wrong, Fault::Wrong]);
        let sentence = desk.refusal(&["models", "pull", ID]).await;
        assert!(
            sentence.contains(file) && sentence.contains("other bytes"),
            "{sentence}"
        );
        assert!(!desk.blob(file).exists());
        assert!(!desk.blob(file).with_extension("incomplete").exists());
        assert!(!desk.repository().join("refs/main").exists());
    }
}

#[tokio::test]
async fn two_pulls_at_once_fetch_every_file_once() {
    let desk = Desk::new().await;
    let pull = || desk.output(desk.command(&["models", "pull", ID]));
    let (one, two) = tokio::join!(pull(), pull());
    said(&one);
    said(&two);
    assert_eq!(desk.requests_for(UNET).len(), 1);
    assert!(desk.blob(UNET).is_file());
}

#[tokio::test]
async fn the_token_is_shown_to_the_hub_and_never_to_where_it_redirects() {
    let desk = Desk::new().await;
    desk.hub
        .change(ID, |repository| repository.token = Some("right".to_owned()));
    let sentence = desk.refusal(&["models", "pull", ID]).await;
    assert!(
        sentence.contains("private") && sentence.contains("HF_TOKEN"),
        "{sentence}"
    );

    let with_token = |token: &str| {
        let mut command = desk.command(&["models", "pull", ID]);
        command.env("HF_TOKEN", token);
        desk.output(command)
    };
    desk.hub.change(ID, |repository| repository.gated = true);
    let gated = sentence_with(&desk.refusal(&["models", "pull", ID]).await, "gated");
    assert!(
        gated.contains(&format!("{}/{ID}", desk.hub.endpoint)),
        "{gated}"
    );
    let output = with_token("wrong").await;
    sentence_with(&failure(&output), "gated");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("wrong"));

    said(&with_token("right").await);
    let (at_hub, at_cdn) = desk.hub.tokens();
    assert!(at_hub > 0);
    assert_eq!(at_cdn, 0);
}

fn sentence_with(sentence: &str, part: &str) -> String {
    assert!(sentence.contains(part), "{sentence}");
    sentence.to_owned()
}

#[tokio::test]
async fn what_cannot_be_pulled_is_said_in_one_sentence() {
    let desk = Desk::new().await;
    desk.hub.offer_file("tests/empty", "README.md", "nothing");
    desk.hub.offer_file("tests/huge", "model.safetensors", "x");
    let file = |path: &str, size: u64| {
        let lfs = json!({"sha256": "0".repeat(64), "size": size, "pointerSize": 135});
        json!({"sha": COMMIT, "siblings": [{"rfilename": path, "size": size, "lfs": lfs}]})
    };
    desk.hub.change("tests/huge", |huge| {
        huge.listing = Some(file("model.safetensors", 1 << 60))
    });
    desk.hub.offer_file("tests/outside", "x", "x");
    desk.hub.change("tests/outside", |outside| {
        outside.listing = Some(file("../../x", 1))
    });
    desk.hub.offer_file("tests/unhashed", "x", "x");
    desk.hub.change("tests/unhashed", |unhashed| {
        unhashed.listing =
            Some(json!({"sha": COMMIT, "siblings": [{"rfilename": "x.safetensors"}]}));
    });
    let rows = [
        ("tests/nothing", "there is no model tests/nothing"),
        (
            "tests/pocket-copy@v9",
            "tests/pocket-copy has no revision v9",
        ),
        (
            "tests/empty",
            "neither a model_index.json nor a .safetensors file",
        ),
        ("tests/huge", "on the disk of"),
        ("tests/outside", "it lists a file \"../../x\""),
        ("tests/unhashed", "nothing could be verified"),
    ];
    for (id, part) in rows {
        sentence_with(&desk.refusal(&["models", "pull", id]).await, part);
    }
    assert!(
        desk.hub.seen().is_empty(),
        "nothing was fetched for any of them"
    );
    let mut offline = desk.command(&["models", "pull", ID]);
    offline.env("HF_HUB_OFFLINE", "1");
    let listings = desk.hub.listings();
    sentence_with(&failure(&desk.output(offline).await), "HF_HUB_OFFLINE");
    assert_eq!(desk.hub.listings(), listings);
}

#[tokio::test]
async fn a_revision_is_kept_beside_the_main_branch() {
    let desk = Desk::new().await;
    for revision in ["v1.0", "refs/pr/1", COMMIT] {
        desk.run(&["models", "pull", &format!("{ID}@{revision}")])
            .await;
        desk.run(&["models", "inspect", &format!("{ID}@{revision}")])
            .await;
    }
    assert_eq!(
        files_below(&desk.repository().join("refs")),
        ["refs/pr/1", "v1.0"]
    );
    let sentence = desk.refusal(&["generate", "x", "--model", ID]).await;
    assert!(
        sentence.contains("models pull tests/pocket-copy"),
        "{sentence}"
    );
    assert_eq!(desk.requests_for(UNET).len(), 1);
}

#[tokio::test]
async fn without_links_the_snapshot_holds_the_files_themselves() {
    let desk = Desk::new().await;
    let pull = || {
        let mut command = desk.command(&["models", "pull", ID]);
        command.env("HF_HUB_DISABLE_SYMLINKS", "1");
        desk.output(command)
    };
    said(&pull().await);
    let unet = desk.snapshot().join(UNET);
    assert!(unet.is_file() && !unet.is_symlink());
    desk.hub.seen();
    said(&pull().await);
    assert!(desk.hub.seen().is_empty(), "nothing is fetched twice");
    desk.run(&["models", "inspect", ID]).await;
}

#[tokio::test]
async fn a_pulled_model_is_listed_inspected_served_and_removed_by_name() {
    let desk = Desk::new().await;
    let models = desk.home.path().join("models");
    let models = models.to_str().expect("utf-8");
    let into = ["--models-dir", models];
    let all = |line: &[&'static str]| -> Vec<&str> { [line, &into].concat() };
    desk.run(&all(&["models", "pull", ID])).await;
    assert!(
        !desk.home.path().join("hub").exists(),
        "all of it is in the folder named"
    );

    let list: Value =
        serde_json::from_str(&desk.run(&all(&["models", "list", "--json"])).await).expect("json");
    let listed = list["models"].as_array().expect("list");
    let pulled = listed
        .iter()
        .find(|model| model["id"] == "pocket-copy")
        .expect("listed");
    assert_eq!(pulled["hub_id"], ID);
    assert_eq!(pulled["family"], "sd1");
    assert_eq!(list["unusable"], json!([]));

    let inspected: Value = serde_json::from_str(
        &desk
            .run(&all(&["models", "inspect", "pocket-copy", "--json"]))
            .await,
    )
    .expect("json");
    assert_eq!(inspected["parameters"], pulled["parameters"]);
    assert_eq!(inspected["problems"], json!([]));

    let out = desk.run(&all(&["models", "rm", "pocket-copy"])).await;
    assert!(out.contains("MiB are free"), "{out}");
    let list = desk.run(&all(&["models"])).await;
    assert!(!list.contains("pocket-copy"), "{list}");
    let sentence = desk.refusal(&all(&["models", "rm", "pocket-copy"])).await;
    assert!(
        sentence.contains("there is no model pocket-copy"),
        "{sentence}"
    );
    let sentence = desk.refusal(&all(&["models", "rm", "pocket"])).await;
    assert!(sentence.contains("inside the binary"), "{sentence}");
}
