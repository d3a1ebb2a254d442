//! The binary from the shell.

use crate::{
    edits::{inpaint, mask, picture, png},
    support::{Server, copied_model},
};
use serde_json::json;
use std::{
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

fn scumble(arguments: &[&str]) -> Output {
    crate::support::scumble(arguments)
        .output()
        .expect("the binary runs")
}

/// A failure is one sentence on standard error and exit code 1.
fn refusal(arguments: &[&str]) -> String {
    let output = scumble(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    let sentence = text
        .lines()
        .filter(|line| line.starts_with("scumble: "))
        .collect::<Vec<_>>();
    assert_eq!(sentence.len(), 1, "{text}");
    sentence.concat()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

#[test]
fn generate_writes_the_same_picture_for_the_same_seed() {
    let folder = tempfile::tempdir().expect("folder");
    let draw = |name: &str, seed: &str| {
        let path = folder.path().join(name);
        let output = scumble(&[
            "generate",
            "a red apple on a blue background",
            "-o",
            text(&path),
            "--steps",
            "3",
            "--seed",
            seed,
            "--width",
            "64",
            "--height",
            "64",
        ]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(&format!("seed {seed}")), "{said}");
        std::fs::read(path).expect("file")
    };
    let first = draw("one.png", "7");
    assert_eq!(first, draw("two.png", "7"));
    assert_ne!(first, draw("three.png", "8"));
    let picture = image::load_from_memory(&first).expect("a picture");
    assert_eq!((picture.width(), picture.height()), (64, 64));
}

#[test]
fn generate_says_kindly_when_it_knows_none_of_the_words_and_draws_all_the_same() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("guess.png");
    let note_on = |prompt: &str| {
        let size = ["--steps", "1", "--width", "64", "--height", "64"];
        let output = scumble(&[&["generate", prompt, "-o", text(&path)], &size[..]].concat());
        assert!(output.status.success(), "{output:?}");
        assert!(path.exists());
        String::from_utf8_lossy(&output.stderr)
            .contains("none of the things that pocket has learned")
    };
    assert!(note_on("quarterly earnings"));
    assert!(!note_on("a fox on a blue background"));
}

#[tokio::test]
async fn the_shell_and_the_api_draw_the_same_pixels() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("apple.png");
    let output = scumble(&[
        "generate",
        "a red apple",
        "-o",
        text(&path),
        "--steps",
        "2",
        "--seed",
        "7",
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let server = Server::start().await;
    let job = server
        .draw(&json!({"prompt": "a red apple", "steps": 2, "seed": 7}))
        .await;
    let bytes = server
        .get(&job.images[0].url)
        .await
        .bytes()
        .await
        .expect("bytes");
    assert_eq!(bytes, std::fs::read(path).expect("file"));
    server.stop().await;
}

#[tokio::test]
async fn the_shell_and_the_api_edit_to_the_same_bytes_and_the_file_says_how() {
    let folder = tempfile::tempdir().expect("folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("init.png"), png(picture(64, 64))).expect("file");
    std::fs::write(path("mask.png"), png(mask(64, 64))).expect("file");
    let edit = |name: &str, more: &[&str]| {
        let (init_image, result) = (path("init.png"), path(name));
        let mut arguments = vec![
            "generate",
            "a red apple on a blue background",
            "--steps=4",
            "--seed=7",
            "--strength=0.5",
        ];
        arguments.extend(["-o", text(&result), "--init-image", text(&init_image)]);
        arguments.extend(more);
        let output = scumble(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        std::fs::read(&result).expect("file")
    };
    let mask_path = path("mask.png");
    let masked = ["--mask", text(&mask_path), "--mask-blur=2"];
    let plain = edit("plain.png", &masked);
    let only_masked = edit(
        "only_masked.png",
        &[
            &masked[..],
            &[
                "--only-masked=8",
                "--inpaint-fill=noise",
                "--guidance-rescale=0.5",
            ],
        ]
        .concat(),
    );
    let outpaint = edit("outpaint.png", &["--outpaint=16,0,0,16"]);
    let silent = edit("silent.png", &[&masked[..], &["--no-metadata"]].concat());

    let server = Server::start().await;
    let rows: [(&[u8], serde_json::Value); 4] = [
        (&plain, json!({})),
        (
            &only_masked,
            json!({
                "only_masked": true, "only_masked_padding": 8, "inpaint_fill": "noise",
                "guidance_rescale": 0.5,
            }),
        ),
        (
            &outpaint,
            json!({"mask": null, "mask_blur": null, "outpaint": {"left": 16, "bottom": 16}}),
        ),
        (&silent, json!({"metadata": false})),
    ];
    for (bytes, more) in rows {
        let mut request = inpaint();
        for (field, value) in more.as_object().expect("object") {
            request[field] = value.clone();
        }
        let job = server.draw(&request).await;
        let served = server.get(&job.images[0].url).await;
        assert_eq!(served.bytes().await.expect("bytes"), bytes, "{more}");
    }
    server.stop().await;

    let result = path("only_masked.png");
    let output = scumble(&["inspect", text(&result)]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in [
        "64x64 pixels, drawn by Scumble",
        "Denoising strength: 0.5, ",
        "Masked content: latent noise, ",
        "Inpaint area: Only masked, Masked area padding: 8",
        "\"only_masked_padding\": 8",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let output = scumble(&["inspect", "--json", text(&result)]);
    let info: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(info["scumble"]["task"], "inpaint");
    let result = path("silent.png");
    let output = scumble(&["inspect", text(&result)]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("nothing is said"), "{said}");
}

#[test]
fn images_that_cannot_be_used_are_named_in_the_shell() {
    let folder = tempfile::tempdir().expect("folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("text.png"), "no picture").expect("file");
    std::fs::write(path("init.png"), png(picture(8, 8))).expect("file");
    let (bad, good, missing) = (path("text.png"), path("init.png"), path("missing.png"));
    for (arguments, parts) in [
        (
            &["--init-image", text(&bad)][..],
            ["--init-image", "text.png must be a PNG, JPEG or WebP"],
        ),
        (
            &["--init-image", text(&missing)],
            ["--init-image", "missing.png cannot be read"],
        ),
        (
            &["--init-image", text(&good), "--mask", text(&bad)],
            ["--mask", "text.png must be"],
        ),
        (&["--mask", text(&good)], ["mask", "needs an init_image"]),
        (&["--strength=0.5"], ["strength", "needs an init_image"]),
        (
            &["--strength=0"],
            ["--strength", "above 0 and at most 1, got 0"],
        ),
        (&["--clip-skip=99"], ["--clip-skip", "0..=32, got 99"]),
        (&["--outpaint=1,2,3"], ["--outpaint", "four numbers"]),
        (&["--outpaint=1,2,3,-4"], ["--outpaint", "bottom"]),
        (
            &["--inpaint-fill=red"],
            ["--inpaint-fill", "original, noise, blur or fill, got red"],
        ),
    ] {
        let sentence = refusal(&[&["generate", "x"], arguments].concat());
        for part in parts {
            assert!(sentence.contains(part), "{part}: {sentence}");
        }
    }
    assert!(refusal(&["inspect", text(&bad)]).contains("must be a PNG, JPEG or WebP"));
    assert!(refusal(&["inspect", text(&missing)]).contains("cannot be read"));
}

#[test]
fn generate_refuses_what_it_cannot_draw_in_one_sentence() {
    let rows: [(&[&str], &str); 4] = [
        (
            &["generate", "x", "--steps", "0"],
            "--steps must be 1..=150, got 0",
        ),
        (
            &["generate", "x", "--width", "4000"],
            "width must be a multiple of",
        ),
        (&["generate", " "], "the prompt must not be empty"),
        (
            &["generate", "x", "-o", "x.gif"],
            "--output must end in .png",
        ),
    ];
    for (arguments, part) in rows {
        let sentence = refusal(arguments);
        assert!(sentence.contains(part), "{sentence}");
    }
}

#[test]
fn models_are_listed_as_a_table() {
    let output = scumble(&["models"]);
    assert!(output.status.success());
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.starts_with("MODEL"), "{table}");
    assert!(
        table.lines().any(|line| line.starts_with("pocket ")),
        "{table}"
    );
}

#[test]
fn a_broken_model_folder_is_named_and_ends_the_start() {
    let folder = tempfile::tempdir().expect("folder");
    let missing = folder.path().join("nowhere");
    let model = copied_model(folder.path());
    let data_dir = folder.path().join("data");
    let serve = |source: &Path| {
        refusal(&[
            "serve",
            "--port",
            "0",
            "--data-dir",
            text(&data_dir),
            "--model",
            text(source),
        ])
    };
    assert!(serve(&missing).contains("nowhere"));

    let weights = model.join("unet/diffusion_pytorch_model.safetensors");
    let whole = std::fs::read(&weights).expect("weights");
    std::fs::write(&weights, &whole[..whole.len() / 2]).expect("cut");
    let sentence = serve(&model);
    assert!(
        sentence.contains("unet/diffusion_pytorch_model.safetensors"),
        "{sentence}"
    );
    std::fs::remove_file(&weights).expect("removed");
    let sentence = serve(&model);
    assert!(sentence.contains("unet"), "{sentence}");

    std::fs::write(model.join("unet/config.json"), "{").expect("cut");
    let sentence = serve(&model);
    assert!(sentence.contains("unet/config.json"), "{sentence}");
}

#[test]
fn a_taken_port_is_said_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("port");
    let port = taken.local_addr().expect("address").port().to_string();
    let folder = tempfile::tempdir().expect("folder");
    let sentence = refusal(&["serve", "--port", &port, "--data-dir", text(folder.path())]);
    assert!(sentence.contains(&port), "{sentence}");
    assert!(sentence.contains("--port"), "{sentence}");
}

#[test]
fn an_address_that_others_reach_needs_a_key() {
    let folder = tempfile::tempdir().expect("folder");
    let sentence = refusal(&[
        "serve",
        "--host",
        "0.0.0.0",
        "--port",
        "0",
        "--data-dir",
        text(folder.path()),
    ]);
    assert!(sentence.contains("--api-key"), "{sentence}");
    assert!(sentence.contains("--insecure"), "{sentence}");
}

#[cfg(unix)]
#[test]
fn a_signal_stops_the_server_with_exit_code_0() {
    use std::io::{BufRead as _, BufReader};
    let folder = tempfile::tempdir().expect("folder");
    let line = ["serve", "--port", "0", "--data-dir", text(folder.path())];
    let mut server = crate::support::scumble(&line)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("output"))
        .read_line(&mut line)
        .expect("a line");
    assert!(
        line.starts_with("Scumble is at http://127.0.0.1:"),
        "{line}"
    );
    let killed = Command::new("kill")
        .args(["-TERM", &server.id().to_string()])
        .status()
        .expect("kill");
    assert!(killed.success());
    assert_eq!(server.wait().expect("status").code(), Some(0));
}
