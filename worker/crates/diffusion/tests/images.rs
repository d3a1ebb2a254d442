//! The pixel work around a drawing: against Pillow, diffusers and OpenCV, and what must hold for every picture and mask.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;

use proptest::prelude::*;
use scumble_diffusion::image::{
    Edges, Fit, Image, Region, SIDE_MAX, extend, fill_with_mean, masked_region, paste, round_up,
    smear, split_alpha,
};
use scumble_diffusion::{Device, ErrorKind, GrayImage, RgbImage, Tensor};
use serde::Deserialize;

mod common;

#[derive(Deserialize)]
struct Golden {
    fit: Vec<FitCase>,
    blur: Vec<BlurCase>,
    smear: Vec<String>,
    region: Vec<RegionCase>,
    overlay: Vec<OverlayCase>,
    latent_mask: Vec<String>,
    #[serde(skip)]
    tensors: HashMap<String, Tensor>,
}

#[derive(Deserialize)]
struct FitCase {
    source: String,
    fit: String,
    result: String,
}

#[derive(Deserialize)]
struct BlurCase {
    source: String,
    sigma: f64,
    result: String,
}

#[derive(Deserialize)]
struct RegionCase {
    mask: [usize; 2],
    /// Left, top, right, bottom.
    white: [usize; 4],
    padding: usize,
    target: [usize; 2],
    /// Left, top, right, bottom.
    region: [usize; 4],
}

#[derive(Deserialize)]
struct OverlayCase {
    name: String,
    region: [usize; 4],
}

impl Golden {
    fn read() -> Self {
        let folder = common::golden_folder().join("images");
        let manifest = std::fs::read(folder.join("images.json")).unwrap();
        let tensors = folder.join("images.safetensors");
        Self {
            tensors: candle_core::safetensors::load(tensors, &Device::Cpu).unwrap(),
            ..serde_json::from_slice(&manifest).unwrap()
        }
    }

    fn image<const CHANNELS: usize>(&self, name: &str) -> Image<CHANNELS> {
        let tensor = &self.tensors[name];
        let pixels = tensor.flatten_all().unwrap().to_vec1::<u8>().unwrap();
        Image::new(tensor.dim(1).unwrap(), tensor.dim(0).unwrap(), pixels).unwrap()
    }
}

fn region([left, top, right, bottom]: [usize; 4]) -> Region {
    Region {
        x: left,
        y: top,
        width: right - left,
        height: bottom - top,
    }
}

/// The largest difference of two bytes.
fn difference<const CHANNELS: usize>(left: &Image<CHANNELS>, right: &Image<CHANNELS>) -> u8 {
    assert_eq!(
        (left.width(), left.height()),
        (right.width(), right.height())
    );
    left.pixels()
        .iter()
        .zip(right.pixels())
        .map(|(left, right)| left.abs_diff(*right))
        .max()
        .unwrap()
}

#[test]
fn pictures_are_resized_filled_out_and_cropped_bit_for_bit_as_the_reference_does() {
    let golden = Golden::read();
    assert!(golden.fit.len() > 150);
    for case in &golden.fit {
        let fit = match case.fit.as_str() {
            "fill" => Fit::Fill,
            "crop" => Fit::Crop,
            _ => Fit::Stretch,
        };
        if golden.tensors[&case.source].rank() == 3 {
            let wanted: RgbImage = golden.image(&case.result);
            let source: RgbImage = golden.image(&case.source);
            let got = source.fit(wanted.width(), wanted.height(), fit).unwrap();
            assert_eq!(difference(&got, &wanted), 0, "{}", case.result);
        } else {
            let wanted: GrayImage = golden.image(&case.result);
            let source: GrayImage = golden.image(&case.source);
            let got = source.fit(wanted.width(), wanted.height(), fit).unwrap();
            assert_eq!(difference(&got, &wanted), 0, "{}", case.result);
        }
    }
}

#[test]
fn masks_are_blurred_as_opencv_does_in_floats() {
    let golden = Golden::read();
    let mut worst = 0;
    for case in &golden.blur {
        let source: GrayImage = golden.image(&case.source);
        let got = source.blurred(case.sigma).unwrap();
        worst = worst.max(difference(&got, &golden.image(&case.result)));
    }
    println!("blur: {worst} of 255");
    assert!(worst <= 1, "{worst}");
}

#[test]
fn holes_are_smeared_as_a1111_does_but_for_rounding() {
    let golden = Golden::read();
    for name in &golden.smear {
        let image: RgbImage = golden.image(&format!("{name}/image"));
        let mask: GrayImage = golden.image(&format!("{name}/mask"));
        let wanted: Image<4> = golden.image(&format!("{name}/result"));
        let got = smear(&image, &mask).unwrap();
        let (mut total, mut worst) = (0, 0);
        for (got, wanted) in got
            .pixels()
            .chunks_exact(3)
            .zip(wanted.pixels().chunks_exact(4))
        {
            for (got, wanted) in got.iter().zip(wanted) {
                worst = worst.max(got.abs_diff(*wanted));
                total += u32::from(got.abs_diff(*wanted));
            }
        }
        let mean = f64::from(total) / got.pixels().len() as f64;
        println!("{name}: worst {worst}, mean {mean:.3} of 255");
        // Pillow rounds colours to bytes after dividing by alphas of a few units.
        assert!(worst <= 4 && mean <= 0.5, "{name}: {worst} {mean}");
    }
}

#[test]
fn the_region_of_a_mask_is_the_references() {
    let golden = Golden::read();
    assert_eq!(golden.region.len(), 200);
    for case in &golden.region {
        let [width, height] = case.mask;
        let mut pixels = vec![0; width * height];
        let [left, top, right, bottom] = case.white;
        for row in pixels.chunks_exact_mut(width).take(bottom).skip(top) {
            row[left..right].fill(255);
        }
        let mask = GrayImage::new(width, height, pixels).unwrap();
        let [target_width, target_height] = case.target;
        assert_eq!(
            masked_region(&mask, case.padding, target_width, target_height),
            Some(region(case.region))
        );
    }
}

#[test]
fn a_drawing_is_laid_over_the_original_as_the_reference_does_but_for_rounding() {
    let golden = Golden::read();
    for case in &golden.overlay {
        let name = &case.name;
        let got = paste(
            &golden.image(&format!("{name}/original")),
            &golden.image(&format!("{name}/drawn")),
            region(case.region),
            &golden.image(&format!("{name}/mask")),
        )
        .unwrap();
        // Pillow rounds the original once more, multiplied by its alpha.
        let worst = difference(&got, &golden.image(&format!("{name}/result")));
        println!("{name}: {worst} of 255");
        assert!(worst <= 1, "{name}: {worst}");
    }
}

#[test]
fn tensors_of_pictures_and_masks_are_the_references() {
    let golden = Golden::read();
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let image: RgbImage = golden.image("values");
    let tensor = image.to_tensor(&Device::Cpu).unwrap();
    assert_eq!(tensor.dims(), [1, 3, 16, 16]);
    assert_eq!(values(&tensor), values(&golden.tensors["values/tensor"]));
    assert_eq!(RgbImage::from_tensor(&tensor).unwrap(), image);
    for name in &golden.latent_mask {
        let mask: GrayImage = golden.image(name);
        let binary = mask.to_tensor(&Device::Cpu).unwrap();
        let latents = mask.to_latent_tensor(8, &Device::Cpu).unwrap();
        for (got, part) in [(binary, "binary"), (latents, "latents")] {
            let wanted = &golden.tensors[&format!("{name}/{part}")];
            assert_eq!(got.dims(), wanted.dims());
            assert_eq!(values(&got), values(wanted), "{name}/{part}");
        }
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused_with_their_bounds() {
    for (width, height, bytes) in [(0, 4, 0), (4, 0, 0), (2, 2, 11), (2, 2, 13), (65_536, 1, 3)] {
        let error = RgbImage::new(width, height, vec![0; bytes]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidParameter);
        println!("{error}");
    }
    let image = RgbImage::filled(4, 3, [1, 2, 3]).unwrap();
    for (width, height) in [(0, 1), (1, 0), (SIDE_MAX + 1, 1)] {
        for fit in [Fit::Stretch, Fit::Fill, Fit::Crop] {
            assert!(image.fit(width, height, fit).is_err());
        }
    }
    for region in [
        [0, 0, 5, 3],
        [0, 0, 4, 4],
        [1, 1, 1, 2],
        [4, 0, 5, 1],
        [0, 3, 1, 4],
    ] {
        assert!(image.crop(self::region(region)).is_err(), "{region:?}");
    }
    let beyond = Region {
        x: usize::MAX,
        y: 0,
        width: 2,
        height: 1,
    };
    assert!(image.crop(beyond).is_err());
    let edges = Edges {
        left: usize::MAX,
        ..Edges::default()
    };
    assert!(extend(&image, edges).is_err());
    assert!(image.extend_to(SIDE_MAX + 1, 3).is_err());
    let mask = GrayImage::filled(3, 4, [255]).unwrap();
    assert!(smear(&image, &mask).is_err());
    assert!(fill_with_mean(&image, &mask).is_err());
    assert!(paste(&image, &image, region([0, 0, 1, 1]), &mask).is_err());
    assert!(mask.to_latent_tensor(8, &Device::Cpu).is_err());
    assert!(mask.to_latent_tensor(0, &Device::Cpu).is_err());
    for sigma in [-1.0, 257.0, f64::NAN, f64::INFINITY] {
        assert!(mask.blurred(sigma).is_err());
    }
}

#[test]
fn the_longest_of_lines_is_resized() {
    let pixels = (0..SIDE_MAX * 3).map(|at| (at % 251) as u8).collect();
    let line = RgbImage::new(1, SIDE_MAX, pixels).unwrap();
    for fit in [Fit::Stretch, Fit::Fill, Fit::Crop] {
        let square = line.fit(64, 64, fit).unwrap();
        assert_eq!((square.width(), square.height()), (64, 64));
    }
    let dot = line.resize(1, 1).unwrap();
    let again = dot.resize(1, SIDE_MAX).unwrap();
    assert!(again.pixels().chunks(3).all(|pixel| pixel == dot.pixels()));
}

#[test]
fn a_black_mask_has_no_region_and_a_single_pixel_has_one() {
    let black = GrayImage::filled(40, 30, [0]).unwrap();
    assert!(black.is_black());
    assert_eq!(masked_region(&black, 8, 64, 64), None);
    let white = black.clone().inverted();
    assert_eq!(
        masked_region(&white, 0, 64, 64),
        Some(region([0, 0, 40, 30]))
    );
    assert_eq!(masked_region(&white, 0, 0, 64), None);
    let mut pixels = vec![0; 40 * 30];
    pixels[29 * 40 + 39] = 1;
    let dot = GrayImage::new(40, 30, pixels).unwrap();
    assert_eq!(
        masked_region(&dot, 0, 64, 64),
        Some(region([39, 29, 40, 30]))
    );
    assert_eq!(
        masked_region(&dot, 3, 64, 64),
        Some(region([36, 26, 40, 30]))
    );
    assert_eq!(
        masked_region(&dot, 3, 128, 64),
        Some(region([32, 26, 40, 30]))
    );
}

#[test]
fn a_mask_of_everything_is_filled_with_grey() {
    let image = RgbImage::filled(3, 2, [9, 8, 7]).unwrap();
    let white = GrayImage::filled(3, 2, [255]).unwrap();
    let grey = RgbImage::filled(3, 2, [128; 3]).unwrap();
    assert_eq!(smear(&image, &white).unwrap(), grey);
    assert_eq!(fill_with_mean(&image, &white).unwrap(), grey);
}

#[test]
fn the_middle_of_a_wide_hole_has_colour() {
    // Wider than the widest of the blurs reaches, where A1111 leaves black.
    let image = RgbImage::filled(2400, 1, [200, 100, 50]).unwrap();
    let mut mask = vec![255; 2400];
    mask[0] = 0;
    let mask = GrayImage::new(2400, 1, mask).unwrap();
    let filled = smear(&image, &mask).unwrap();
    assert_eq!(filled.pixel(0, 0), Some([200, 100, 50]));
    assert_eq!(filled.pixel(2399, 0), Some([200, 100, 50]));
}

#[test]
fn transparent_pixels_become_the_mask() {
    let (image, mask) = split_alpha(2, 1, vec![1, 2, 3, 255, 4, 5, 6, 10]).unwrap();
    assert_eq!(image.pixels(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(mask.pixels(), [0, 245]);
}

#[test]
fn what_lies_over_a_whole_picture_fades_from_the_middle_of_the_blur_outwards() {
    let mask = GrayImage::new(4, 1, vec![0, 1, 128, 255]).unwrap();
    assert_eq!(mask.doubled().pixels(), [0, 2, 255, 255]);
}

fn images<const CHANNELS: usize>(
    sides: std::ops::Range<usize>,
) -> impl Strategy<Value = Image<CHANNELS>> {
    (sides.clone(), sides).prop_flat_map(|(width, height)| {
        proptest::collection::vec(any::<u8>(), width * height * CHANNELS)
            .prop_map(move |pixels| Image::new(width, height, pixels).unwrap())
    })
}

/// Mostly black, with a few pixels of any value.
fn masks(width: usize, height: usize) -> impl Strategy<Value = GrayImage> {
    let dots = proptest::collection::vec((0..width * height, any::<u8>()), 0..4);
    (dots, any::<bool>()).prop_map(move |(dots, inverted)| {
        let mut pixels = vec![0; width * height];
        for (at, value) in dots {
            pixels[at] = value;
        }
        let mask = GrayImage::new(width, height, pixels).unwrap();
        if inverted { mask.inverted() } else { mask }
    })
}

fn masked_images() -> impl Strategy<Value = (RgbImage, GrayImage)> {
    images::<3>(1..40).prop_flat_map(|image| {
        let mask = masks(image.width(), image.height());
        (Just(image), mask)
    })
}

proptest! {
    #[test]
    fn a_size_of_its_own_changes_nothing(image in images::<3>(1..20)) {
        for fit in [Fit::Stretch, Fit::Fill, Fit::Crop] {
            prop_assert_eq!(&image.fit(image.width(), image.height(), fit).unwrap(), &image);
        }
    }

    #[test]
    fn one_colour_stays_one_colour_at_every_size(
        colour: [u8; 3], from in (1usize..70, 1usize..70), to in (1usize..70, 1usize..70),
    ) {
        let image = RgbImage::filled(from.0, from.1, colour).unwrap();
        for fit in [Fit::Stretch, Fit::Fill, Fit::Crop] {
            let resized = image.fit(to.0, to.1, fit).unwrap();
            prop_assert_eq!(resized, RgbImage::filled(to.0, to.1, colour).unwrap());
        }
    }

    #[test]
    fn extending_to_the_multiple_and_cropping_back_changes_nothing(
        image in images::<3>(1..30), multiple in 1usize..65,
    ) {
        let (width, height) = (round_up(image.width(), multiple), round_up(image.height(), multiple));
        let extended = image.extend_to(width, height).unwrap();
        prop_assert_eq!(extended.width() % multiple, 0);
        prop_assert_eq!(extended.height() % multiple, 0);
        prop_assert!(extended.width() < image.width() + multiple);
        let all = Region { x: 0, y: 0, width: image.width(), height: image.height() };
        prop_assert_eq!(&extended.crop(all).unwrap(), &image);
        prop_assert_eq!(
            extended.pixel(width - 1, height - 1),
            image.pixel(image.width() - 1, image.height() - 1)
        );
    }

    #[test]
    fn inverting_twice_changes_nothing(mask in images::<1>(1..20)) {
        prop_assert_eq!(mask.clone().inverted().inverted(), mask);
    }

    #[test]
    fn a_blur_keeps_zero_beyond_its_reach_and_white_where_all_is_white(
        mask in (1usize..40, 1usize..40).prop_flat_map(|(width, height)| masks(width, height)),
        sigma in 0.0..12.0,
    ) {
        let blurred = mask.blurred(sigma).unwrap();
        let reach = (2.5 * sigma + 0.5) as usize;
        for y in 0..mask.height() {
            for x in 0..mask.width() {
                let rows = y.saturating_sub(reach)..(y + reach + 1).min(mask.height());
                let mut seen = rows.flat_map(|row| {
                    let columns = x.saturating_sub(reach)..(x + reach + 1).min(mask.width());
                    columns.map(move |column| (column, row))
                });
                let untouched = seen.all(|(column, row)| mask.pixel(column, row) == Some([0]));
                if untouched {
                    prop_assert_eq!(blurred.pixel(x, y), Some([0]));
                }
            }
        }
        let white = GrayImage::filled(mask.width(), mask.height(), [255]).unwrap();
        prop_assert_eq!(&white.blurred(sigma).unwrap(), &white);
        prop_assert_eq!(mask.blurred(0.0).unwrap(), mask);
    }

    #[test]
    fn a_region_holds_the_whole_mask_lies_inside_and_has_the_shape_where_it_can(
        (image, mask) in masked_images(), padding in 0usize..50, width in 1usize..200, height in 1usize..200,
    ) {
        let Some(region) = masked_region(&mask, padding, width, height) else {
            prop_assert!(mask.is_black());
            return Ok(());
        };
        prop_assert!(image.crop(region).is_ok());
        for y in 0..mask.height() {
            for x in 0..mask.width() {
                let inside = (region.x..region.x + region.width).contains(&x)
                    && (region.y..region.y + region.height).contains(&y);
                prop_assert!(inside || mask.pixel(x, y) == Some([0]));
            }
        }
        let shape = width as f64 / height as f64;
        let off_columns = (region.height as f64 * shape - region.width as f64).abs() < 1.0;
        let off_rows = (region.width as f64 / shape - region.height as f64).abs() < 1.0;
        let whole = region.width == mask.width() || region.height == mask.height();
        prop_assert!(off_columns || off_rows || whole, "{:?}", region);
    }

    #[test]
    fn what_the_blurred_mask_leaves_at_zero_keeps_its_bytes(
        (image, mask) in masked_images(), drawn in images::<3>(1..40), sigma in 0.0..6.0, padding in 0usize..9,
    ) {
        let mask = mask.blurred(sigma).unwrap();
        let Some(region) = masked_region(&mask, padding, drawn.width(), drawn.height()) else {
            return Ok(());
        };
        let fills = [smear(&image, &mask).unwrap(), fill_with_mean(&image, &mask).unwrap()];
        let pasted = paste(&image, &drawn, region, &mask).unwrap();
        for result in fills.iter().chain([&pasted]) {
            prop_assert_eq!((result.width(), result.height()), (image.width(), image.height()));
            let pixels = image.pixels().chunks(3).zip(result.pixels().chunks(3)).zip(mask.pixels());
            for ((before, after), weight) in pixels {
                prop_assert!(*weight != 0 || before == after);
            }
        }
        let whole = drawn.fit(region.width, region.height, Fit::Crop).unwrap();
        for y in 0..region.height {
            for x in 0..region.width {
                if mask.pixel(region.x + x, region.y + y) == Some([255]) {
                    prop_assert_eq!(pasted.pixel(region.x + x, region.y + y), whole.pixel(x, y));
                }
            }
        }
    }

    #[test]
    fn a_canvas_holds_its_picture_and_masks_the_rest(
        image in images::<3>(1..12), left in 0usize..9, top in 0usize..9, right in 0usize..9, bottom in 0usize..9,
    ) {
        let (canvas, mask) = extend(&image, Edges { left, top, right, bottom }).unwrap();
        prop_assert_eq!(canvas.width(), left + image.width() + right);
        prop_assert_eq!(canvas.height(), top + image.height() + bottom);
        for y in 0..canvas.height() {
            for x in 0..canvas.width() {
                let closest = (
                    x.saturating_sub(left).min(image.width() - 1),
                    y.saturating_sub(top).min(image.height() - 1),
                );
                prop_assert_eq!(canvas.pixel(x, y), image.pixel(closest.0, closest.1));
                let on_picture = closest == (x.wrapping_sub(left), y.wrapping_sub(top));
                prop_assert_eq!(mask.pixel(x, y), Some([if on_picture { 0 } else { 255 }]));
            }
        }
    }

    #[test]
    fn pixels_survive_the_way_through_a_tensor(image in images::<3>(1..12)) {
        let tensor = image.to_tensor(&Device::Cpu).unwrap();
        prop_assert_eq!(RgbImage::from_tensor(&tensor).unwrap(), image);
    }
}
