//! Drawings that start from an image: what is drawn, what stays, and what is refused.

use crate::support::{Server, files_in, jobs_in};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use image::{
    DynamicImage, GrayImage, ImageEncoder as _, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage,
};
use reqwest::multipart::{Form, Part};
use scumble_protocol::{EventData, Job, JobStatus};
use serde_json::{Value, json};
use std::io::Cursor;

const SIDE: u32 = 64;

pub(crate) fn file(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("encodes");
    bytes.into_inner()
}

pub(crate) fn png(picture: impl Into<DynamicImage>) -> Vec<u8> {
    file(&picture.into(), ImageFormat::Png)
}

/// A picture of which no two pixels are alike.
pub(crate) fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let byte = |value: u32| u8::try_from(value % 256).expect("a byte");
        Rgb([byte(x * 3 + 40), byte(y * 3 + 90), byte(x * 5 + y * 7)])
    })
}

/// White in a square in the middle.
pub(crate) fn mask(width: u32, height: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| {
        let is_inside = |at: u32, side: u32| (side * 3 / 8..side * 5 / 8).contains(&at);
        Luma([if is_inside(x, width) && is_inside(y, height) {
            255
        } else {
            0
        }])
    })
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// An edit of a moment.
pub(crate) fn edit() -> Value {
    json!({
        "prompt": "a red apple on a blue background", "steps": 4, "seed": 7, "strength": 0.5,
        "init_image": base64(&png(picture(SIDE, SIDE))),
    })
}

pub(crate) fn inpaint() -> Value {
    let mut request = edit();
    request["mask"] = json!(base64(&png(mask(SIDE, SIDE))));
    request["mask_blur"] = json!(2);
    request
}

pub(crate) async fn drawn(server: &Server, request: &Value) -> (Job, RgbImage) {
    let job = server.draw(request).await;
    assert_eq!(job.status, JobStatus::Succeeded, "{:?}", job.error);
    let bytes = server
        .get(&job.images[0].url)
        .await
        .bytes()
        .await
        .expect("bytes");
    let picture = image::load_from_memory(&bytes).expect("a picture");
    (job, picture.to_rgb8())
}

/// The error's code, field and message.
async fn refused(server: &Server, request: &Value) -> (String, String, String) {
    let response = server.post(request).await;
    let status = response.status();
    let error: Value = response.json().await.expect("json");
    assert_eq!(status, 400, "{error}");
    let text = |field: &str| {
        error["error"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (text("code"), text("param"), text("message"))
}

#[tokio::test]
async fn an_image_to_image_keeps_some_of_its_picture_and_says_what_it_did() {
    let server = Server::start().await;
    let job = server.submit(&edit()).await;
    let events = server.stream(&job).await.rest().await;
    let totals: Vec<u32> = events
        .iter()
        .filter_map(|event| match event.data {
            EventData::Started { total, .. } | EventData::Progress { total, .. } => Some(total),
            _ => None,
        })
        .collect();
    assert_eq!(totals, [2, 2, 2], "half of four steps, told at the start");
    let echoed = serde_json::to_value(server.job(&job).await.request).expect("json");
    assert_eq!(echoed["task"], "image_to_image");
    assert_eq!(echoed["strength"], 0.5);
    assert_eq!(
        (&echoed["width"], &echoed["height"]),
        (&json!(64), &json!(64))
    );
    let input = &echoed["init_image"];
    assert_eq!(
        (&input["width"], &input["mime_type"]),
        (&json!(64), &json!("image/png"))
    );
    assert_eq!(input["sha256"].as_str().map(str::len), Some(64));
    assert!(echoed.get("mask").is_none() && echoed.get("mask_blur").is_none());
    assert!(
        echoed.to_string().len() < 2_000,
        "no pixels in it: {echoed}"
    );

    let mut request = edit();
    let (_, half) = drawn(&server, &request).await;
    let distance = |other: &RgbImage| -> u64 {
        let original = picture(SIDE, SIDE);
        let pairs = original.as_raw().iter().zip(other.as_raw());
        pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum()
    };
    request["strength"] = json!(1);
    let (_, whole) = drawn(&server, &request).await;
    assert!(distance(&half) > 0, "it changes the picture");
    assert!(distance(&half) < distance(&whole), "and keeps some of it");
    server.stop().await;
}

#[tokio::test]
async fn what_the_blurred_mask_leaves_black_comes_back_bit_for_bit() {
    let server = Server::start().await;
    let (job, result) = drawn(&server, &inpaint()).await;
    let original = picture(SIDE, SIDE);
    // The square and what a blur of two pixels can reach.
    let reach = 8;
    let near = SIDE * 3 / 8 - reach..SIDE * 5 / 8 + reach;
    let mut changed = 0;
    for (x, y, pixel) in result.enumerate_pixels() {
        if near.contains(&x) && near.contains(&y) {
            changed += u32::from(pixel != original.get_pixel(x, y));
        } else {
            assert_eq!(pixel, original.get_pixel(x, y), "{x},{y}");
        }
    }
    assert!(changed > 200, "what is masked is drawn anew: {changed}");
    let echoed = serde_json::to_value(&job.request).expect("json");
    assert_eq!(echoed["task"], "inpaint");
    assert_eq!(echoed["mask_blur"], 2.0);
    assert_eq!(echoed["inpaint_fill"], "original");
    assert_eq!(echoed["only_masked"], false);

    let mut request = inpaint();
    request["mask_invert"] = json!(true);
    let (_, inverted) = drawn(&server, &request).await;
    let middle = (SIDE / 2, SIDE / 2);
    assert_eq!(
        inverted.get_pixel(middle.0, middle.1),
        original.get_pixel(middle.0, middle.1)
    );
    assert_ne!(inverted.get_pixel(0, 0), original.get_pixel(0, 0));
    server.stop().await;
}

#[tokio::test]
async fn every_way_to_say_which_part_is_drawn_anew_keeps_the_rest() {
    let server = Server::start().await;
    let original = picture(SIDE, SIDE);
    let mut only_masked = inpaint();
    only_masked["only_masked"] = json!(true);
    only_masked["only_masked_padding"] = json!(4);
    let holed = RgbaImage::from_fn(SIDE, SIDE, |x, y| {
        let [red, green, blue] = original.get_pixel(x, y).0;
        Rgba([
            red,
            green,
            blue,
            255 - mask(SIDE, SIDE).get_pixel(x, y).0[0],
        ])
    });
    let mut by_alpha = edit();
    by_alpha["task"] = json!("inpaint");
    by_alpha["mask_blur"] = json!(0);
    by_alpha["init_image"] = json!(base64(&png(holed)));
    for (name, request) in [("only_masked", only_masked), ("by_alpha", by_alpha)] {
        let (_, result) = drawn(&server, &request).await;
        assert_eq!(result.get_pixel(0, 0), original.get_pixel(0, 0), "{name}");
        let middle = result.get_pixel(SIDE / 2, SIDE / 2);
        assert_ne!(middle, original.get_pixel(SIDE / 2, SIDE / 2), "{name}");
    }
    for fill in ["noise", "blur", "fill"] {
        let mut request = inpaint();
        request["inpaint_fill"] = json!(fill);
        let (_, result) = drawn(&server, &request).await;
        assert_eq!(result.get_pixel(0, 0), original.get_pixel(0, 0), "{fill}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_outpaint_is_larger_by_its_edges_and_keeps_the_picture() {
    let server = Server::start().await;
    let mut request = edit();
    request["mask_blur"] = json!(0);
    request["outpaint"] = json!({"left": 16, "bottom": 32});
    let (job, result) = drawn(&server, &request).await;
    assert_eq!(result.dimensions(), (SIDE + 16, SIDE + 32));
    assert_eq!(job.warnings, Vec::<String>::new());
    for (x, y, pixel) in picture(SIDE, SIDE).enumerate_pixels() {
        assert_eq!(result.get_pixel(x + 16, y), pixel, "{x},{y}");
    }
    let echoed = serde_json::to_value(&job.request).expect("json");
    assert_eq!(echoed["task"], "inpaint");
    assert_eq!(
        echoed["outpaint"],
        json!({"left": 16, "top": 0, "right": 0, "bottom": 32})
    );
    server.stop().await;
}

#[tokio::test]
async fn a_size_that_is_not_asked_for_is_the_pictures_own_and_every_adjustment_is_said() {
    let server = Server::start().await;
    let rows: [(_, _, _, _, &[&str]); 5] = [
        (64, 128, json!({}), (64, 128), &[]),
        (
            100,
            75,
            json!({}),
            (96, 80),
            &["100x75 pixels is resized to 96x80"],
        ),
        (1000, 500, json!({}), (256, 128), &["resized to 256x128"]),
        (
            100,
            200,
            json!({"width": 64}),
            (64, 128),
            &["resized to 64x128"],
        ),
        (
            64,
            64,
            json!({"mask": base64(&png(mask(32, 48))), "only_masked_padding": 8}),
            (64, 64),
            &[
                "counts for nothing without only_masked",
                "32x48 pixels is stretched to the picture's 64x64",
            ],
        ),
    ];
    for (width, height, more, expected, warnings) in rows {
        let mut request = edit();
        request["steps"] = json!(2);
        request["init_image"] = json!(base64(&png(picture(width, height))));
        for (field, value) in more.as_object().expect("object") {
            request[field] = value.clone();
        }
        let (job, result) = drawn(&server, &request).await;
        assert_eq!(result.dimensions(), expected, "{width}x{height}");
        assert_eq!(job.warnings.len(), warnings.len(), "{:?}", job.warnings);
        for (said, part) in job.warnings.iter().zip(warnings) {
            assert!(said.contains(part), "{said}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn fields_that_do_not_go_together_are_refused_and_the_field_is_named() {
    let server = Server::start().await;
    let image = base64(&png(picture(16, 16)));
    let mask = base64(&png(mask(16, 16)));
    let rows = [
        (
            json!({"mask": mask}),
            "invalid_value",
            "mask",
            "needs an init_image",
        ),
        (
            json!({"strength": 0.5}),
            "invalid_value",
            "strength",
            "needs an init_image",
        ),
        (
            json!({"outpaint": {"left": 8}}),
            "invalid_value",
            "outpaint",
            "needs an init_image",
        ),
        (
            json!({"mask_blur": 4}),
            "invalid_value",
            "mask_blur",
            "only for task inpaint",
        ),
        (
            json!({"init_image": image, "only_masked": true}),
            "invalid_value",
            "only_masked",
            "only for task inpaint",
        ),
        (
            json!({"init_image": image, "inpaint_fill": "fill"}),
            "invalid_value",
            "inpaint_fill",
            "only for task inpaint",
        ),
        (
            json!({"task": "text_to_image", "init_image": image}),
            "invalid_value",
            "task",
            "takes no init_image",
        ),
        (
            json!({"task": "text_to_image", "strength": 0.5}),
            "invalid_value",
            "task",
            "takes no strength",
        ),
        (
            json!({"task": "image_to_image"}),
            "missing_field",
            "init_image",
            "init_image is required",
        ),
        (
            json!({"task": "inpaint", "mask": mask}),
            "missing_field",
            "init_image",
            "init_image is required",
        ),
        (
            json!({"task": "image_to_image", "init_image": image, "mask": mask}),
            "invalid_value",
            "task",
            "takes no mask",
        ),
        (
            json!({"task": "inpaint", "init_image": image}),
            "missing_field",
            "mask",
            "mask is required",
        ),
        (
            json!({"init_image": image, "strength": 0}),
            "invalid_value",
            "strength",
            "above 0 and at most 1, got 0",
        ),
        (
            json!({"init_image": image, "strength": 1.5}),
            "invalid_value",
            "strength",
            "above 0 and at most 1, got 1.5",
        ),
        (
            json!({"init_image": image, "strength": 0.01, "steps": 10}),
            "invalid_value",
            "strength",
            "0.1000..=1, got 0.01",
        ),
        (
            json!({"init_image": image, "outpaint": {}}),
            "invalid_value",
            "outpaint",
            "at least one pixel",
        ),
        (
            json!({"init_image": image, "width": 60}),
            "invalid_value",
            "width",
            "multiple of 8",
        ),
        (
            json!({"clip_skip": 32}),
            "invalid_value",
            "clip_skip",
            "for model pocket, got 32",
        ),
        (
            json!({"loras": [{"name": "ink"}]}),
            "lora_not_found",
            "loras[0].name",
            "ink",
        ),
    ];
    for (more, code, param, part) in rows {
        let mut request = json!({"prompt": "a red apple"});
        for (field, value) in more.as_object().expect("object") {
            request[field] = value.clone();
        }
        let (found_code, found_param, message) = refused(&server, &request).await;
        assert_eq!(
            (found_code.as_str(), found_param.as_str()),
            (code, param),
            "{message}"
        );
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(jobs_in(server.data_dir.path()), 0);
    assert_eq!(files_in(&server.data_dir.path().join("blobs")), 0);
    server.stop().await;
}

/// A PNG whose header promises this size, and nothing behind it.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgba);
    let writer = encoder.write_header().expect("header");
    drop(writer);
    file
}

#[tokio::test]
async fn images_that_cannot_be_used_are_refused_at_once_with_a_sentence() {
    let server = Server::start().await;
    let good = png(picture(16, 16));
    let jpeg = file(&picture(64, 64).into(), ImageFormat::Jpeg);
    let webp = file(&picture(64, 64).into(), ImageFormat::WebP);
    let cut = |bytes: &[u8]| bytes[..bytes.len() * 2 / 3].to_vec();
    let mut broken = good.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 0xff;
    let rows: Vec<(Vec<u8>, &str)> = vec![
        (
            b"GIF89a\x01\x00\x01\x00".to_vec(),
            "must be a PNG, JPEG or WebP file",
        ),
        (
            b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(),
            "must be a PNG, JPEG or WebP file",
        ),
        (bomb(1, 65_535), "at most 4096x4096 pixels, got 1x65535"),
        (
            bomb(30_000, 30_000),
            "at most 4096x4096 pixels, got 30000x30000",
        ),
        (bomb(4_097, 4), "at most 4096x4096 pixels, got 4097x4"),
        (bomb(64, 64), "PNG"),
        (cut(&good), "PNG"),
        (cut(&jpeg), "this JPEG ends early"),
        (cut(&webp), "WebP"),
        (broken, "this PNG cannot be decoded"),
        (good[..8].to_vec(), "PNG"),
        (vec![0xff, 0xd8, 0xff], "JPEG"),
        (b"RIFF\xff\xff\xff\xffWEBPVP8 ".to_vec(), "WebP"),
        (vec![0; 20 * 1024 * 1024 + 1], "at most 20971520 bytes"),
    ];
    for (bytes, part) in rows {
        for field in ["init_image", "mask"] {
            let mut request = edit();
            request[field] = json!(base64(&bytes));
            let (code, param, message) = refused(&server, &request).await;
            assert_eq!(
                (code.as_str(), param.as_str()),
                ("invalid_image", field),
                "{message}"
            );
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    for (text, code, part) in [
        (
            "https://example.com/a.png",
            "invalid_value",
            "URLs are never fetched",
        ),
        ("/etc/passwd", "invalid_image", "base64"),
        ("data:image/png,abc", "invalid_value", "base64"),
        (
            "upload_01jd0000000000000000000000",
            "invalid_image",
            "upload that is kept here",
        ),
    ] {
        let mut request = edit();
        request["init_image"] = json!(text);
        let (found, param, message) = refused(&server, &request).await;
        assert_eq!(
            (found.as_str(), param.as_str()),
            (code, "init_image"),
            "{message}"
        );
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(jobs_in(server.data_dir.path()), 0);
    let (_, _) = drawn(&server, &edit()).await;
    server.stop().await;
}

/// The picture as a client sent it, at strength so low that one step of many is taken: what was read is what is seen.
async fn seen(server: &Server, bytes: &[u8]) -> (Job, RgbImage) {
    let mut request = inpaint();
    request["init_image"] = json!(base64(bytes));
    request["mask"] = json!(base64(&png(GrayImage::new(8, 8))));
    request["mask_blur"] = json!(0);
    drawn(server, &request).await
}

#[tokio::test]
async fn pictures_of_every_kind_are_seen_as_they_look() {
    let server = Server::start().await;
    let colours = |x: u32| {
        if x < 32 { [200, 40, 90] } else { [30, 160, 60] }
    };
    let plain = RgbImage::from_fn(64, 64, |x, _| Rgb(colours(x)));
    let near = |picture: &RgbImage, x: u32, y: u32, expected: [u8; 3], slack: u8, name: &str| {
        let found = picture.get_pixel(x, y).0;
        let is_near = found
            .iter()
            .zip(expected)
            .all(|(a, b)| a.abs_diff(b) <= slack);
        assert!(
            is_near,
            "{name}: {found:?} at {x},{y}, expected {expected:?}"
        );
    };
    let dynamic = DynamicImage::from(plain.clone());
    let transparent = RgbaImage::from_fn(64, 64, |x, _| {
        let [red, green, blue] = colours(x);
        Rgba([red, green, blue, if x < 32 { 255 } else { 0 }])
    });
    let gray = DynamicImage::from(GrayImage::from_pixel(64, 64, Luma([77])));
    let fixture = |name: &str| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/pictures/");
        std::fs::read(format!("{path}{name}")).expect("fixture")
    };
    let (left, right) = (colours(0), colours(63));
    let rows = vec![
        ("8-bit", png(plain.clone()), left, right, 0),
        ("16-bit", png(dynamic.to_rgb16()), left, right, 0),
        ("jpeg", file(&dynamic, ImageFormat::Jpeg), left, right, 12),
        ("webp", file(&dynamic, ImageFormat::WebP), left, right, 0),
        ("gray", png(gray.clone()), [77; 3], [77; 3], 0),
        ("16-bit gray", png(gray.to_luma16()), [77; 3], [77; 3], 0),
        ("transparent", png(transparent), left, [255; 3], 0),
        ("palette", palette_png(left, right), left, right, 0),
        ("cmyk", fixture("cmyk.jpg"), left, right, 12),
        ("progressive", fixture("progressive.jpg"), left, right, 12),
        (
            "animated webp",
            fixture("animated.webp"),
            [255, 0, 0],
            [255, 0, 0],
            0,
        ),
        (
            "animated png",
            fixture("animated.png"),
            [255, 0, 0],
            [255, 0, 0],
            0,
        ),
    ];
    for (name, bytes, left, right, slack) in rows {
        let (job, result) = seen(&server, &bytes).await;
        let (width, height) = result.dimensions();
        near(&result, 1, height / 2, left, slack, name);
        near(&result, width - 2, height / 2, right, slack, name);
        let says_animated = job.warnings.iter().any(|said| said.contains("first frame"));
        assert_eq!(says_animated, name.starts_with("animated"), "{name}");
    }
    // Sideways in the file, upright for whoever looks: 8 rows of 32 turned clockwise.
    let upright = RgbImage::from_fn(64, 128, |_, y| Rgb(if y < 64 { left } else { right }));
    let sideways = image::imageops::rotate270(&upright);
    let (job, result) = seen(&server, &jpeg_turned(&sideways, 6)).await;
    assert_eq!(result.dimensions(), (64, 128));
    near(&result, 32, 10, left, 12, "turned");
    near(&result, 32, 118, right, 12, "turned");
    let input = job.request.init_image.expect("input");
    assert_eq!((input.width, input.height), (64, 128));
    server.stop().await;
}

fn palette_png(left: [u8; 3], right: [u8; 3]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 64, 64);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette([left, right].concat());
    let mut writer = encoder.write_header().expect("header");
    let row: Vec<u8> = (0..64).map(|x| u8::from(x >= 32)).collect();
    writer.write_image_data(&row.repeat(64)).expect("pixels");
    writer.finish().expect("end");
    file
}

fn jpeg_turned(picture: &RgbImage, orientation: u8) -> Vec<u8> {
    // A TIFF of one entry: 0x0112, orientation, one short.
    let exif = [
        b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(),
        &[orientation],
        b"\0\0\0\0\0\0",
    ]
    .concat();
    let mut file = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 95);
    encoder.set_exif_metadata(exif).expect("exif");
    encoder
        .write_image(
            picture.as_raw(),
            picture.width(),
            picture.height(),
            image::ExtendedColorType::Rgb8,
        )
        .expect("encodes");
    file
}

#[tokio::test]
async fn a_form_with_files_draws_what_json_with_base64_draws() {
    let server = Server::start().await;
    let (by_json, expected) = drawn(&server, &inpaint()).await;
    let mut request = inpaint();
    for field in ["init_image", "mask"] {
        request.as_object_mut().expect("object").remove(field);
    }
    let part = |bytes: Vec<u8>| Part::bytes(bytes).file_name("blob");
    let whole = || {
        Form::new()
            .text("request", request.to_string())
            .part("init_image", part(png(picture(SIDE, SIDE))))
            .part("mask", part(png(mask(SIDE, SIDE))))
    };
    let post = |form: Form| {
        server
            .client
            .post(server.url("/v1/jobs"))
            .multipart(form)
            .send()
    };
    let response = post(whole()).await.expect("answer");
    assert_eq!(response.status(), 202);
    let job: Job = response.json().await.expect("job");
    server.stream(&job).await.rest().await;
    let job = server.job(&job).await;
    assert_eq!(job.request, by_json.request);
    let bytes = server
        .get(&job.images[0].url)
        .await
        .bytes()
        .await
        .expect("bytes");
    assert_eq!(
        image::load_from_memory(&bytes).expect("picture").to_rgb8(),
        expected
    );

    for (form, code, param) in [
        (
            Form::new().part("mask", part(vec![1])),
            "missing_field",
            "request",
        ),
        (whole().text("colour", "red"), "unknown_field", "colour"),
        (whole().part("mask", part(vec![1])), "invalid_value", "mask"),
        (
            Form::new()
                .text("request", inpaint().to_string())
                .part("init_image", part(png(picture(8, 8)))),
            "invalid_value",
            "init_image",
        ),
        (
            Form::new()
                .text("request", request.to_string())
                .part("init_image", part(b"no image".to_vec())),
            "invalid_image",
            "init_image",
        ),
        (Form::new().text("request", "{"), "invalid_json", ""),
    ] {
        let response = post(form).await.expect("answer");
        assert_eq!(response.status(), 400);
        let error: Value = response.json().await.expect("json");
        assert_eq!(error["error"]["code"], code, "{error}");
        assert_eq!(
            error["error"]["param"].as_str().unwrap_or_default(),
            param,
            "{error}"
        );
    }
    let cut = server
        .client
        .post(server.url("/v1/jobs"))
        .header("content-type", "multipart/form-data; boundary=x")
        .body("--x\r\ncontent-disposition: form-data; name=\"request\"\r\n\r\n{")
        .send()
        .await
        .expect("answer");
    assert_eq!(cut.status(), 400);
    server.stop().await;
}

#[tokio::test]
async fn an_image_of_the_largest_size_fits_in_a_json_body() {
    let server = Server::start().await;
    // Noise hardly compresses: close below 20 MiB.
    let mut state = 1_u32;
    let noise = RgbImage::from_fn(2_600, 2_600, |_, _| {
        Rgb([(); 3].map(|()| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u8::try_from(state >> 24).expect("a byte")
        }))
    });
    let large = png(noise);
    assert!(
        (19 << 20..20 << 20).contains(&large.len()),
        "{}",
        large.len()
    );
    let mut request = inpaint();
    request["init_image"] = json!(base64(&large));
    request["mask"] = json!(base64(&large));
    request["width"] = json!(64);
    request["height"] = json!(64);
    let (job, result) = drawn(&server, &request).await;
    assert_eq!(result.dimensions(), (64, 64));
    assert_eq!(job.request.init_image.map(|input| input.width), Some(2_600));
    server.stop().await;
}

#[tokio::test]
async fn an_inputs_file_that_the_disk_lost_fails_the_job_and_the_next_one_draws() {
    let server = Server::start().await;
    let running = server.submit(&crate::support::long_job()).await;
    server.stream(&running).await.progress().await;
    let job = server.submit(&edit()).await;
    let input = job.request.init_image.clone().expect("input");
    let path = server.data_dir.path().join("blobs").join(&input.sha256);
    std::fs::remove_file(path).expect("there is such a file");
    server.delete(&running).await;
    server.stream(&job).await.rest().await;
    let job = server.job(&job).await;
    assert_eq!(job.status, JobStatus::Failed);
    assert!(!job.error.expect("error").message.contains("blobs"));
    drawn(&server, &edit()).await;
    server.stop().await;
}
