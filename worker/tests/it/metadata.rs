//! What files say about how they were drawn, and what is read back from them.

use crate::{
    edits::{base64, inpaint, picture, png},
    support::Server,
};
use png::text_metadata::{ITXtChunk, TEXtChunk, ZTXtChunk};
use serde_json::{Value, json};

const TRICKY: &str = "a fox, \"quoted\", (red:1.2)\nSteps: 5, Sampler: none, CFG scale: 1, Seed: 2\nwith a colon: and Steps: inside, ünïcode 🎨";

async fn info(server: &Server, bytes: Vec<u8>) -> Value {
    let response = server
        .client
        .post(server.url("/v1/png-info"))
        .header("content-type", "image/png")
        .body(bytes)
        .send()
        .await
        .expect("answer");
    assert_eq!(response.status(), 200);
    response.json().await.expect("json")
}

async fn first_image(server: &Server, request: &Value) -> (Value, Vec<u8>) {
    let job = server.draw(request).await;
    let bytes = server
        .get(&job.images[0].url)
        .await
        .bytes()
        .await
        .expect("bytes");
    (
        serde_json::to_value(&job.request).expect("json"),
        bytes.to_vec(),
    )
}

#[tokio::test]
async fn every_format_carries_the_text_and_a_png_the_whole_request() {
    let server = Server::start().await;
    for format in ["png", "webp", "jpeg"] {
        let request = json!({
            "prompt": TRICKY, "negative_prompt": "blurry, low:res", "steps": 2, "seed": "18446744073709551615",
            "guidance_scale": 6.5, "scheduler": "dpmpp_2m_karras", "output_format": format,
        });
        let (echoed, bytes) = first_image(&server, &request).await;
        let info = info(&server, bytes).await;
        assert_eq!(info["source"], "scumble", "{format}");
        let parameters = info["parameters"].as_str().expect("text");
        let expected = format!(
            "{TRICKY}\nNegative prompt: blurry, low:res\nSteps: 2, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 18446744073709551615, Size: {}x{}, Model: pocket, Version: Scumble {}",
            echoed["width"],
            echoed["height"],
            env!("CARGO_PKG_VERSION"),
        );
        assert_eq!(parameters, expected, "{format}");
        let read = &info["request"];
        assert_eq!(read["prompt"], TRICKY);
        assert_eq!(read["negative_prompt"], "blurry, low:res");
        assert_eq!(read["scheduler"], "dpmpp_2m_karras");
        assert_eq!(read["seed"], "18446744073709551615");
        assert_eq!(
            (&read["steps"], &read["guidance_scale"]),
            (&json!(2), &json!(6.5))
        );
        if format == "png" {
            assert_eq!(info["scumble"], echoed);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn an_image_of_a_batch_says_what_draws_it_alone_and_that_request_draws_it() {
    let server = Server::start().await;
    let mut request = inpaint();
    request["n"] = json!(2);
    let job = server.draw(&request).await;
    let second = server
        .get(&job.images[1].url)
        .await
        .bytes()
        .await
        .expect("bytes");
    let info = info(&server, second.to_vec()).await;
    let mut again = info["scumble"].clone();
    assert_eq!((&again["n"], &again["seed"]), (&json!(1), &json!(8)));
    let parameters = info["parameters"].as_str().expect("text");
    for part in ["Seed: 8, ", "Denoising strength: 0.5, ", "Mask blur: 2, "] {
        assert!(parameters.contains(part), "{parameters}");
    }
    // Its images are named by their content; whoever has them sends them again.
    again["init_image"] = request["init_image"].clone();
    again["mask"] = request["mask"].clone();
    let (_, alone) = first_image(&server, &again).await;
    assert_eq!(alone, second);
    server.stop().await;
}

#[tokio::test]
async fn a_file_says_nothing_that_is_not_to() {
    let server = Server::start().await;
    for format in ["png", "webp", "jpeg"] {
        let request = json!({"prompt": "a red apple", "steps": 1, "metadata": false, "output_format": format});
        let (_, bytes) = first_image(&server, &request).await;
        let info = info(&server, bytes).await;
        assert_eq!(info["texts"], json!([]), "{format}");
        assert_eq!(
            (&info["source"], &info["request"]),
            (&Value::Null, &Value::Null)
        );
    }
    server.stop().await;
}

/// A PNG with what `write` puts in it.
fn png_with(write: impl FnOnce(&mut png::Writer<&mut Vec<u8>>)) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 1, 1);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().expect("header");
    write(&mut writer);
    writer.write_image_data(&[0]).expect("pixel");
    writer.finish().expect("end");
    file
}

#[tokio::test]
async fn texts_of_other_programs_are_shown_and_a1111s_understood() {
    let server = Server::start().await;
    let a1111 = png_with(|writer| {
        let text = "a castle, <lora:ink:0.5>\nNegative prompt: people\nSteps: 30, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 768x512, Model hash: abc, Model: v1-5, Clip skip: 2";
        writer
            .write_text_chunk(&ZTXtChunk::new("parameters", text))
            .expect("text");
    });
    let read = info(&server, a1111).await;
    assert_eq!(read["source"], "automatic1111");
    assert_eq!(
        read["request"]["prompt"], "a castle,",
        "the LoRA is a field of its own"
    );
    assert_eq!(
        read["request"]["loras"],
        json!([{"name": "ink", "scale": 0.5}])
    );
    assert_eq!(read["request"]["scheduler"], "euler_ancestral");
    assert_eq!(read["request"]["clip_skip"], 1);
    assert_eq!(
        (&read["request"]["width"], &read["request"]["height"]),
        (&json!(768), &json!(512))
    );

    let comfy = png_with(|writer| {
        writer
            .write_text_chunk(&TEXtChunk::new("prompt", "{\"3\": {}}"))
            .expect("text");
        writer
            .write_text_chunk(&TEXtChunk::new("workflow", "{\"nodes\": []}"))
            .expect("text");
    });
    let read = info(&server, comfy).await;
    assert_eq!(read["source"], "comfyui");
    assert_eq!(
        read["texts"][1],
        json!({"key": "workflow", "text": "{\"nodes\": []}"})
    );
    let invoke = png_with(|writer| {
        writer
            .write_text_chunk(&ITXtChunk::new("invokeai_metadata", "{}"))
            .expect("text");
    });
    assert_eq!(info(&server, invoke).await["source"], "invokeai");
    server.stop().await;
}

#[tokio::test]
async fn hostile_texts_cost_no_more_than_their_bounds() {
    let server = Server::start().await;
    let bombs = png_with(|writer| {
        // 64 MiB each, a few kilobytes in the file.
        let zeros = "0".repeat(64 << 20);
        for _ in 0..3 {
            writer
                .write_text_chunk(&ZTXtChunk::new("parameters", zeros.as_str()))
                .expect("text");
        }
        writer
            .write_text_chunk(&TEXtChunk::new("long", "x".repeat(2 << 20)))
            .expect("text");
    });
    let read = info(&server, bombs).await;
    assert!(read["texts"].to_string().len() < 5 << 20);
    assert!(!read["warnings"].as_array().expect("list").is_empty());
    let many = png_with(|writer| {
        for index in 0..1_000 {
            writer
                .write_text_chunk(&TEXtChunk::new(format!("key{index}"), "x"))
                .expect("text");
        }
    });
    let read = info(&server, many).await;
    assert_eq!(read["texts"].as_array().map(Vec::len), Some(64));
    let deep = png_with(|writer| {
        let text = "[".repeat(200_000);
        writer
            .write_text_chunk(&ITXtChunk::new("scumble", text))
            .expect("text");
    });
    let read = info(&server, deep).await;
    assert_eq!(read["scumble"], Value::Null);
    assert!(
        read["warnings"]
            .to_string()
            .contains("not one that this version understands")
    );
    server.stop().await;
}

#[tokio::test]
async fn png_info_takes_json_and_uploads_and_refuses_what_is_no_picture() {
    let server = Server::start().await;
    let post = |body: Value| {
        server
            .client
            .post(server.url("/v1/png-info"))
            .json(&body)
            .send()
    };
    let bytes = png(picture(8, 4));
    let upload: Value = server
        .client
        .post(server.url("/v1/uploads"))
        .header("content-type", "image/png")
        .body(bytes.clone())
        .send()
        .await
        .expect("answer")
        .json()
        .await
        .expect("json");
    let data_url = format!("data:image/png;base64,{}", base64(&bytes));
    for image in [json!(base64(&bytes)), json!(data_url), upload["id"].clone()] {
        let response = post(json!({"image": image})).await.expect("answer");
        assert_eq!(response.status(), 200);
        let info: Value = response.json().await.expect("json");
        assert_eq!((&info["width"], &info["height"]), (&json!(8), &json!(4)));
    }
    for body in [
        json!({}),
        json!({"image": "AAAA"}),
        json!({"image": 3}),
        json!({"file": "AAAA"}),
    ] {
        let response = post(body.clone()).await.expect("answer");
        assert_eq!(response.status(), 400, "{body}");
        let error: Value = response.json().await.expect("json");
        assert_eq!(error["error"]["param"], "image", "{error}");
    }
    server.stop().await;
}
