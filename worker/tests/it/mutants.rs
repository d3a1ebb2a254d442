//! Files that somebody has tampered with: refused or read, never a panic.

use crate::edits::{file, picture, png};
use image::ImageFormat;
use proptest::prelude::*;
use scumble_diffusion::RgbImage;
use scumble_protocol::{NormalizedRequest, OutputFormat, Seed};
use scumble_worker::{
    decode::Picture,
    encode::encode_image,
    metadata::{self, PictureMetadata},
};
use serde_json::json;
use std::sync::LazyLock;

fn request(prompt: &str, negative_prompt: &str) -> NormalizedRequest {
    serde_json::from_value(json!({
        "task": "text_to_image", "model": "pocket", "prompt": prompt, "negative_prompt": negative_prompt,
        "width": 128, "height": 128, "steps": 3, "guidance_scale": 7.5, "seed": 1, "n": 1,
        "scheduler": "euler", "output_format": "png", "response_format": "url",
        "cancel_on_disconnect": false,
    }))
    .expect("a request")
}

/// Sound files of every format, ours with what they say and others.
static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let request = request("a fox, with: a comma", "blurry");
    let metadata = PictureMetadata::of(&request, Seed(7));
    let small = RgbImage::filled(9, 7, [1, 2, 3]).expect("image");
    let mut files: Vec<Vec<u8>> = [OutputFormat::Png, OutputFormat::Jpeg, OutputFormat::Webp]
        .into_iter()
        .map(|format| encode_image(&small, format, metadata.as_ref()).expect("encodes"))
        .collect();
    files.push(png(picture(9, 7)));
    files.push(file(&picture(17, 9).into(), ImageFormat::Jpeg));
    for name in [
        "cmyk.jpg",
        "progressive.jpg",
        "animated.webp",
        "animated.png",
    ] {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/pictures/");
        files.push(std::fs::read(format!("{path}{name}")).expect("fixture"));
    }
    files
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_change_to_a_file_makes_a_reader_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        kept in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut bytes = FILES[which.index(FILES.len())].clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if is_cut {
            bytes.truncate(kept.index(bytes.len()));
        }
        if let Ok(picture) = Picture::decode(&bytes) {
            prop_assert!(picture.to_rgb().is_ok() && picture.to_mask().is_ok());
            prop_assert!(picture.to_rgb_and_hole().is_ok());
        }
        let _ = metadata::read(&bytes);
    }

    #[test]
    fn what_a_file_says_of_any_prompt_is_read_back(
        prompt in "[^\\x00]{1,200}",
        negative_prompt in "[^\\x00]{0,100}",
        format in prop::sample::select(vec![OutputFormat::Png, OutputFormat::Jpeg, OutputFormat::Webp]),
    ) {
        prop_assume!(!prompt.trim().is_empty());
        let request = request(&prompt, &negative_prompt);
        let metadata = PictureMetadata::of(&request, Seed(7)).expect("something to say");
        let small = RgbImage::filled(2, 2, [1, 2, 3]).expect("image");
        let bytes = encode_image(&small, format, Some(&metadata)).expect("encodes");
        let info = metadata::read(&bytes).expect("a picture");
        prop_assert_eq!(info.parameters, Some(metadata.parameters));
        let read = info.request.expect("understood");
        prop_assert_eq!(read.steps.map(|steps| steps.get()), Some(3));
        prop_assert_eq!(read.seed, Some(Seed(7)));
        if format == OutputFormat::Png {
            let scumble = info.scumble.expect("the request");
            prop_assert_eq!(scumble.prompt.as_str(), prompt.as_str());
            prop_assert_eq!(scumble.negative_prompt.as_str(), negative_prompt.as_str());
        }
    }
}
