//! What drawing from images and under masks promises whatever the model.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::OnceLock;

use proptest::prelude::*;
use scumble_diffusion::{
    DrawParams, ErrorKind, GrayImage, Inpaint, InpaintFill, Noise, Pipeline, Report, RgbImage,
    SchedulerKind, Start,
};

mod common;

use common::{tiny_params, tiny_pipeline};

fn pipeline() -> &'static Pipeline {
    static PIPELINE: OnceLock<Pipeline> = OnceLock::new();
    PIPELINE.get_or_init(|| tiny_pipeline("sd1"))
}

fn draw(params: &DrawParams) -> RgbImage {
    let mut drawn = None;
    pipeline()
        .draw(params, &mut |report| {
            if let Report::Image { image, .. } = report {
                drawn = Some(image);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    drawn.unwrap()
}

fn error(params: &DrawParams) -> (ErrorKind, String) {
    let error = pipeline()
        .draw(params, &mut |_| panic!("nothing was to be drawn"))
        .unwrap_err();
    (error.kind(), error.to_string())
}

/// Colours that differ from pixel to pixel.
fn picture(width: usize, height: usize) -> RgbImage {
    let pixels = (0..width * height * 3)
        .map(|index| u8::try_from((index * 37 + index / 7) % 256).unwrap())
        .collect();
    RgbImage::new(width, height, pixels).unwrap()
}

fn mask(width: usize, height: usize, value: impl Fn(usize, usize) -> u8) -> GrayImage {
    let pixels = (0..width * height)
        .map(|index| value(index % width, index / width))
        .collect();
    GrayImage::new(width, height, pixels).unwrap()
}

fn inpaint(image: RgbImage, mask: GrayImage) -> Inpaint {
    Inpaint {
        image,
        mask,
        strength: 0.7,
        mask_blur: 0.0,
        mask_invert: false,
        only_masked: None,
        fill: InpaintFill::Original,
    }
}

fn params(start: Start) -> DrawParams {
    DrawParams {
        steps: 4,
        start,
        ..tiny_params(SchedulerKind::Ddim)
    }
}

fn painted(inpaint: Inpaint) -> RgbImage {
    draw(&params(Start::Inpaint(inpaint)))
}

/// Whatever a mask may look like: noise of every level, or a box on black.
fn any_mask() -> impl Strategy<Value = GrayImage> {
    let noise = prop::collection::vec(
        prop_oneof![3 => Just(0u8), 1 => any::<u8>(), 1 => Just(255u8)],
        32 * 32,
    )
    .prop_map(|pixels| GrayImage::new(32, 32, pixels).unwrap());
    let boxed = (0usize..32, 0usize..32, 1usize..33, 1usize..33).prop_map(|(x, y, w, h)| {
        mask(32, 32, |column, row| {
            if (x..x + w).contains(&column) && (y..y + h).contains(&row) {
                255
            } else {
                0
            }
        })
    });
    prop_oneof![noise, boxed]
}

fn any_fill() -> impl Strategy<Value = InpaintFill> {
    prop_oneof![
        Just(InpaintFill::Original),
        Just(InpaintFill::Noise),
        Just(InpaintFill::Blur),
        Just(InpaintFill::Fill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_the_blurred_mask_leaves_at_zero_keeps_every_bit(
        mask in any_mask(),
        mask_blur in prop_oneof![Just(0.0), 0.1..3.0f64],
        mask_invert in any::<bool>(),
        only_masked in prop::option::of(0usize..40),
        strength in prop_oneof![Just(1.0), 0.5..1.0f64],
        fill in any_fill(),
        (width, height) in (4usize..9, 4usize..9),
        image_is_of_that_size in any::<bool>(),
    ) {
        let (width, height) = (width * 4, height * 4);
        let image = if image_is_of_that_size { picture(width, height) } else { picture(45, 19) };
        let inpaint = Inpaint {
            mask_blur,
            mask_invert,
            only_masked,
            strength,
            fill,
            ..inpaint(image.clone(), mask.clone())
        };
        let result = draw(&DrawParams {
            width,
            height,
            steps: 2,
            guidance_scale: 1.0,
            ..params(Start::Inpaint(inpaint))
        });
        let original = image.resize(width, height).unwrap();
        let mask = mask.resize(width, height).unwrap();
        let mask = if mask_invert { mask.inverted() } else { mask };
        let mask = mask.blurred(mask_blur).unwrap();
        prop_assert_eq!((result.width(), result.height()), (width, height));
        for (index, weight) in mask.pixels().iter().enumerate() {
            if *weight == 0 {
                let bytes = index * 3..index * 3 + 3;
                prop_assert_eq!(&result.pixels()[bytes.clone()], &original.pixels()[bytes]);
            }
        }
    }
}

#[test]
fn a_black_mask_returns_the_image_and_an_inverted_one_repaints_it_all() {
    let black = || mask(32, 32, |_, _| 0);
    for only_masked in [None, Some(4)] {
        let kept = Inpaint {
            only_masked,
            mask_blur: 2.0,
            ..inpaint(picture(32, 32), black())
        };
        assert_eq!(painted(kept.clone()), picture(32, 32));
        let repainted = painted(Inpaint {
            mask_invert: true,
            ..kept
        });
        let pairs = repainted.pixels().iter().zip(picture(32, 32).into_pixels());
        let same = pairs.filter(|(new, old)| **new == *old).count();
        assert!(same < 32 * 32 * 3 / 10, "{same} bytes stayed by chance");
    }
}

#[test]
fn a_white_mask_below_full_strength_is_image_to_image() {
    for scheduler in [
        SchedulerKind::Ddim,
        SchedulerKind::Heun,
        SchedulerKind::Dpmpp2mKarras,
    ] {
        let from_image = DrawParams {
            scheduler,
            ..params(Start::Image {
                image: picture(45, 19),
                strength: 0.7,
            })
        };
        let white = inpaint(picture(45, 19), mask(9, 50, |_, _| 255));
        let under_mask = DrawParams {
            start: Start::Inpaint(white),
            ..from_image.clone()
        };
        assert_eq!(draw(&from_image), draw(&under_mask), "{scheduler}");
    }
}

#[test]
fn a_mask_of_one_pixel_changes_nothing_else() {
    let result = painted(inpaint(
        picture(32, 32),
        mask(32, 32, |x, y| if (x, y) == (8, 12) { 255 } else { 0 }),
    ));
    let original = picture(32, 32);
    for y in 0..32 {
        for x in 0..32 {
            let stays = (x, y) != (8, 12);
            assert_eq!(result.pixel(x, y) == original.pixel(x, y), stays, "{x} {y}");
        }
    }
}

#[test]
fn between_black_and_white_the_result_lies_between_image_and_drawing() {
    let of = |value: u8| painted(inpaint(picture(32, 32), mask(32, 32, move |_, _| value)));
    // Both are drawn anew in the latents, so that they differ in how they are laid over the image alone.
    let (half, full) = (of(128), of(255));
    let original = picture(32, 32);
    let triples = half
        .pixels()
        .iter()
        .zip(full.pixels())
        .zip(original.pixels());
    for ((half, full), original) in triples {
        let mixed = (i32::from(*full) * 128 + i32::from(*original) * 127 + 127) / 255;
        assert_eq!(i32::from(*half), mixed);
    }
}

#[test]
fn every_choice_changes_the_result() {
    let boxed = mask(32, 32, |x, y| {
        let inside = (8..20).contains(&x) && (10..18).contains(&y);
        if inside { 255 } else { 0 }
    });
    let base = inpaint(picture(32, 32), boxed);
    let drawn = painted(base.clone());
    assert_eq!(
        drawn,
        painted(base.clone()),
        "the same request, the same pixels"
    );
    for other in [
        Inpaint {
            strength: 1.0,
            ..base.clone()
        },
        Inpaint {
            mask_blur: 2.0,
            ..base.clone()
        },
        Inpaint {
            mask_invert: true,
            ..base.clone()
        },
        Inpaint {
            only_masked: Some(0),
            ..base.clone()
        },
        Inpaint {
            fill: InpaintFill::Noise,
            ..base.clone()
        },
        Inpaint {
            fill: InpaintFill::Blur,
            ..base.clone()
        },
        Inpaint {
            fill: InpaintFill::Fill,
            ..base.clone()
        },
    ] {
        assert_ne!(drawn, painted(other.clone()), "{other:?}");
    }
}

#[test]
fn strength_takes_its_share_of_the_steps_and_reports_say_so() {
    for (strength, wanted) in [(0.26, 1), (0.5, 2), (0.99, 3), (1.0, 4)] {
        let params = params(Start::Image {
            image: picture(32, 32),
            strength,
        });
        let mut steps = Vec::new();
        pipeline()
            .draw(&params, &mut |report| {
                if let Report::Step { step, total, .. } = report {
                    steps.push((step, total));
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        let expected: Vec<(usize, usize)> = (1..=wanted).map(|step| (step, wanted)).collect();
        assert_eq!(steps, expected, "strength {strength}");
        assert_eq!(pipeline().description().steps_run(&params), wanted);
    }
}

#[test]
fn image_n_of_a_batch_is_the_single_image_of_seed_plus_n_for_every_task() {
    let half = inpaint(
        picture(20, 20),
        mask(32, 32, |x, _| if x < 20 { 255 } else { 0 }),
    );
    for start in [
        Start::Image {
            image: picture(20, 20),
            strength: 0.6,
        },
        Start::Inpaint(half),
    ] {
        let batch = DrawParams {
            n: 2,
            scheduler: SchedulerKind::EulerAncestral,
            ..params(start)
        };
        let images = RefCell::new(Vec::new());
        pipeline()
            .draw(&batch, &mut |report| {
                if let Report::Image { seed, image, .. } = report {
                    images.borrow_mut().push((seed, image));
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        for (seed, image) in images.into_inner() {
            let single = DrawParams {
                n: 1,
                seed,
                ..batch.clone()
            };
            assert_eq!(image, draw(&single));
        }
    }
}

#[test]
fn strengths_that_make_no_sense_or_take_no_step_are_named() {
    let of = |strength| {
        error(&params(Start::Image {
            image: picture(8, 8),
            strength,
        }))
    };
    for (strength, message) in [
        (0.0, "strength must be above 0 and at most 1, got 0"),
        (1.5, "strength must be above 0 and at most 1, got 1.5"),
        (f64::NAN, "strength must be above 0 and at most 1, got NaN"),
        (
            0.2,
            "strength must be at least 0.25 for a single one of 4 steps to be taken, got 0.2",
        ),
    ] {
        assert_eq!(of(strength), (ErrorKind::InvalidParameter, message.into()));
    }
    let rescaled = DrawParams {
        guidance_rescale: 1.5,
        ..params(Start::Noise)
    };
    assert_eq!(
        error(&rescaled),
        (
            ErrorKind::InvalidParameter,
            "guidance_rescale must be 0..=1, got 1.5".into()
        )
    );
}

#[test]
fn stopping_and_numbers_that_are_not_finite_end_every_task() {
    struct Broken;
    impl Noise for Broken {
        fn draw(&mut self, count: usize) -> Vec<f32> {
            vec![f32::NAN; count]
        }
    }
    let white = mask(32, 32, |_, _| 255);
    for start in [
        Start::Image {
            image: picture(32, 32),
            strength: 0.9,
        },
        Start::Inpaint(inpaint(picture(32, 32), white)),
    ] {
        let params = params(start);
        let error = pipeline()
            .draw(&params, &mut |report| match report {
                Report::Step { step: 2, .. } => ControlFlow::Break(()),
                Report::Image { .. } => panic!("it was to stop"),
                _ => ControlFlow::Continue(()),
            })
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopped { step: 2 });
        let error = pipeline()
            .draw_with_noise(&params, &mut |_| Box::new(Broken), &mut |_| {
                ControlFlow::Continue(())
            })
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFinite);
        draw(&params);
    }
}

#[test]
fn previews_show_what_the_mask_keeps_as_it_will_stay() {
    let image = picture(32, 32);
    let left = mask(32, 32, |x, _| if x < 16 { 255 } else { 0 });
    for only_masked in [None, Some(2)] {
        let inpaint = Inpaint {
            only_masked,
            ..inpaint(image.clone(), left.clone())
        };
        pipeline()
            .draw(&params(Start::Inpaint(inpaint)), &mut |report| {
                if let Report::Step { preview, .. } = report {
                    let preview = preview.render().unwrap();
                    assert_eq!((preview.width(), preview.height()), (32, 32));
                    assert_eq!(preview.pixel(31, 5), image.pixel(31, 5));
                    assert_ne!(preview.pixels(), image.pixels());
                }
                ControlFlow::Continue(())
            })
            .unwrap();
    }
}
