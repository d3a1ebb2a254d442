//! Images sent once, to be used by several jobs.

use crate::{
    edits::{drawn, edit, inpaint, mask, picture, png},
    support::{Server, files_in},
};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

async fn upload(server: &Server, bytes: Vec<u8>, content_type: &str) -> reqwest::Response {
    server
        .client
        .post(server.url("/v1/uploads"))
        .header("content-type", content_type)
        .body(bytes)
        .send()
        .await
        .expect("answer")
}

#[tokio::test]
async fn an_upload_draws_what_its_bytes_draw_and_jobs_outlive_it() {
    let server = Server::start().await;
    let (inline, expected) = drawn(&server, &inpaint()).await;
    // Called what it is not: the bytes count.
    let response = upload(&server, png(picture(64, 64)), "image/jpeg").await;
    assert_eq!(response.status(), 201);
    let location = response.headers()["location"]
        .to_str()
        .expect("text")
        .to_owned();
    let image: Value = response.json().await.expect("json");
    assert_eq!(
        location,
        format!("/v1/uploads/{}", image["id"].as_str().expect("id"))
    );
    assert_eq!(image["mime_type"], "image/png");
    assert_eq!(
        (&image["width"], &image["height"]),
        (&json!(64), &json!(64))
    );
    assert_eq!(image["bytes"], png(picture(64, 64)).len());
    assert!(image["expires_at"].as_str() > image["created_at"].as_str());
    let form = Form::new().part("file", Part::bytes(png(mask(64, 64))).file_name("mask.png"));
    let response = server
        .client
        .post(server.url("/v1/uploads"))
        .multipart(form)
        .send()
        .await
        .expect("answer");
    assert_eq!(response.status(), 201);
    let mask: Value = response.json().await.expect("json");

    let mut request = inpaint();
    request["init_image"] = image["id"].clone();
    request["mask"] = mask["id"].clone();
    let (job, result) = drawn(&server, &request).await;
    assert_eq!(result, expected);
    assert_eq!(job.request, inline.request);
    assert_eq!(
        job.request.init_image.expect("input").sha256,
        image["sha256"]
    );

    let delete = || server.client.delete(server.url(&location)).send();
    let shown: Value = server.get(&location).await.json().await.expect("json");
    assert_eq!(shown, image);
    assert_eq!(delete().await.expect("answer").status(), 204);
    assert_eq!(delete().await.expect("answer").status(), 404);
    assert_eq!(server.get(&location).await.status(), 404);
    assert_eq!(server.post(&request).await.status(), 400);
    assert_eq!(
        files_in(&server.data_dir.path().join("blobs")),
        2,
        "the jobs keep them"
    );
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_image_is_not_kept() {
    let server = Server::start().await;
    for (bytes, content_type, status, code) in [
        (b"hello".to_vec(), "image/png", 400, "invalid_image"),
        (Vec::new(), "image/png", 400, "invalid_image"),
        (
            png(picture(8, 8)),
            "text/html",
            415,
            "unsupported_media_type",
        ),
        (
            png(picture(8, 8)),
            "image/gif",
            415,
            "unsupported_media_type",
        ),
        (
            vec![0; 20 * 1024 * 1024 + 1],
            "image/png",
            413,
            "payload_too_large",
        ),
    ] {
        let response = upload(&server, bytes, content_type).await;
        assert_eq!(response.status(), status, "{content_type} {code}");
        let error: Value = response.json().await.expect("json");
        assert_eq!(error["error"]["code"], code);
    }
    for path in ["/v1/uploads/nonsense", "/v1/uploads/..%2f..%2fetc"] {
        assert_eq!(server.get(path).await.status(), 404, "{path}");
    }
    assert_eq!(files_in(&server.data_dir.path().join("blobs")), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_is_full_of_uploads_says_when_to_come_back() {
    let small = png(picture(8, 8));
    let room = small.len().to_string();
    let server = Server::start_with(&["--upload-bytes-max", &room]).await;
    assert_eq!(upload(&server, small, "image/png").await.status(), 201);
    let response = upload(&server, png(mask(8, 8)), "image/png").await;
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    let error: Value = response.json().await.expect("json");
    assert_eq!(error["error"]["code"], "uploads_full");
    drawn(&server, &edit()).await;
    server.stop().await;
}
