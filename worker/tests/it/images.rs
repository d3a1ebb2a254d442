//! Finished pictures, and answers that are pictures.

use crate::support::{Server, long_job, short_job};
use scumble_protocol::{Job, JobStatus};
use serde_json::{Value, json};

#[tokio::test]
async fn an_image_has_its_size_its_type_and_headers_that_keep_it_inert() {
    let server = Server::start().await;
    let job = server.draw(&short_job()).await;
    let image = job.images.first().expect("image").clone();
    let response = server.get(&image.url).await;
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "image/png");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(
        headers["content-security-policy"],
        "default-src 'none'; sandbox"
    );
    assert_eq!(
        headers["cache-control"],
        "private, max-age=31536000, immutable"
    );
    let bytes = response.bytes().await.expect("bytes");
    let decoded = image::load_from_memory(&bytes).expect("a picture");
    assert_eq!(
        (decoded.width(), decoded.height()),
        (image.width, image.height)
    );
    assert_eq!(decoded.width(), job.request.width.get());
    server.stop().await;
}

#[tokio::test]
async fn an_image_known_by_its_etag_is_not_sent_again() {
    let server = Server::start().await;
    let job = server.draw(&short_job()).await;
    let url = server.url(&job.images[0].url);
    let etag = server.get(&job.images[0].url).await.headers()["etag"].clone();
    let send = |name: &str, value: reqwest::header::HeaderValue| {
        server.client.get(&url).header(name, value).send()
    };
    assert_eq!(
        send("if-none-match", etag).await.expect("answer").status(),
        304
    );
    let other = reqwest::header::HeaderValue::from_static("\"other\"");
    assert_eq!(
        send("if-none-match", other).await.expect("answer").status(),
        200
    );
    server.stop().await;
}

#[tokio::test]
async fn a_part_of_an_image_is_that_part() {
    let server = Server::start().await;
    let job = server.draw(&short_job()).await;
    let whole = server
        .get(&job.images[0].url)
        .await
        .bytes()
        .await
        .expect("bytes");
    let url = server.url(&job.images[0].url);
    let range = |range: &'static str| server.client.get(&url).header("range", range).send();
    let response = range("bytes=8-15").await.expect("answer");
    assert_eq!(response.status(), 206);
    assert_eq!(
        response.headers()["content-range"],
        format!("bytes 8-15/{}", whole.len())
    );
    assert_eq!(response.bytes().await.expect("bytes"), whole.slice(8..16));
    let response = range("bytes=9999999-").await.expect("answer");
    assert_eq!(response.status(), 416);
    server.stop().await;
}

#[tokio::test]
async fn prefer_wait_with_accept_image_answers_with_the_picture() {
    let server = Server::start().await;
    for (accept, format) in [
        ("image/png", image::ImageFormat::Png),
        ("image/webp", image::ImageFormat::WebP),
        ("image/jpeg", image::ImageFormat::Jpeg),
    ] {
        let response = server
            .client
            .post(server.url("/v1/jobs"))
            .header("prefer", "wait=120")
            .header("accept", accept)
            .json(&short_job())
            .send()
            .await
            .expect("answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], accept);
        let bytes = response.bytes().await.expect("bytes");
        image::load_from_memory_with_format(&bytes, format).expect("a picture");
    }
    server.stop().await;
}

#[tokio::test]
async fn prefer_wait_answers_with_the_finished_job_and_its_pixels() {
    let server = Server::start().await;
    let response = server
        .client
        .post(server.url("/v1/jobs"))
        .header("prefer", "wait=120")
        .json(&short_job())
        .send()
        .await
        .expect("answer");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["preference-applied"], "wait=120");
    let job: Job = response.json().await.expect("job");
    assert_eq!(job.status, JobStatus::Succeeded);
    assert!(job.timings.is_some());
    assert!(job.images[0].image_base64.is_some());
    server.stop().await;
}

#[tokio::test]
async fn a_wait_that_is_too_short_answers_with_the_job_as_it_stands() {
    let server = Server::start().await;
    let response = server
        .client
        .post(server.url("/v1/jobs"))
        .header("prefer", "wait=0")
        .json(&long_job())
        .send()
        .await
        .expect("answer");
    assert_eq!(response.status(), 202);
    let job: Job = response.json().await.expect("job");
    server.delete(&job).await;
    server.stop().await;
}

#[tokio::test]
async fn an_image_of_a_batch_is_the_single_image_of_its_seed() {
    let server = Server::start().await;
    let mut request = short_job();
    request["n"] = json!(2);
    let batch = server.draw(&request).await;
    assert_eq!(batch.images[1].seed.0, 8);
    request["n"] = json!(1);
    request["seed"] = json!(8);
    let single = server.draw(&request).await;
    let second = server
        .get(&batch.images[1].url)
        .await
        .bytes()
        .await
        .expect("bytes");
    let alone = server
        .get(&single.images[0].url)
        .await
        .bytes()
        .await
        .expect("bytes");
    assert_eq!(second, alone);
    server.stop().await;
}

#[tokio::test]
async fn models_and_schedulers_say_what_a_job_may_ask_for() {
    let server = Server::start().await;
    let models: Value = server.get("/v1/models").await.json().await.expect("json");
    assert_eq!(models["object"], "list");
    assert_eq!(models["data"][0]["id"], "pocket");
    assert_eq!(models["data"][0]["loaded"], true);
    let one: Value = server
        .get("/v1/models/pocket")
        .await
        .json()
        .await
        .expect("json");
    assert_eq!(one, models["data"][0]);
    let schedulers: Value = server
        .get("/v1/schedulers")
        .await
        .json()
        .await
        .expect("json");
    let names: Vec<&str> = schedulers["data"]
        .as_array()
        .expect("list")
        .iter()
        .filter_map(|scheduler| scheduler["name"].as_str())
        .collect();
    for name in [
        "ddim",
        "euler",
        "euler_ancestral",
        "dpmpp_2m",
        "dpmpp_2m_karras",
        "heun",
        "unipc_karras",
        "lcm",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    server.stop().await;
}
