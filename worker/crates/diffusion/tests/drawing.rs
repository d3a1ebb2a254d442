//! What drawing promises whatever the model.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::ops::ControlFlow;

use scumble_diffusion::{
    DeviceChoice, DrawParams, ErrorKind, Family, LoadOptions, ModelFiles, Noise, Pipeline, Report,
    RgbImage, SchedulerKind,
};

mod common;

use common::{golden_folder, tiny_params, tiny_pipeline};

fn images(pipeline: &Pipeline, params: &DrawParams) -> Vec<(u64, RgbImage)> {
    let mut images = Vec::new();
    pipeline
        .draw(params, &mut |report| {
            if let Report::Image { index, seed, image } = report {
                assert_eq!(index, images.len());
                images.push((seed, image));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    images
}

#[test]
fn image_n_of_a_batch_is_bit_for_bit_the_single_image_of_seed_plus_n() {
    for (model, scheduler) in [
        ("sd1", SchedulerKind::EulerAncestral),
        ("sd2", SchedulerKind::Dpmpp2mKarras),
        ("sdxl", SchedulerKind::Euler),
    ] {
        let pipeline = tiny_pipeline(model);
        for seed in [40, u64::MAX] {
            let single = DrawParams {
                seed,
                ..tiny_params(scheduler)
            };
            let batch = images(
                &pipeline,
                &DrawParams {
                    n: 3,
                    ..single.clone()
                },
            );
            assert_eq!(batch.len(), 3);
            for (offset, (image_seed, image)) in (0..).zip(&batch) {
                let seed = seed.wrapping_add(offset);
                assert_eq!(*image_seed, seed);
                let alone = images(
                    &pipeline,
                    &DrawParams {
                        seed,
                        ..single.clone()
                    },
                );
                assert!(alone[0].1 == *image, "{model} {scheduler} image {offset}");
            }
            assert_ne!(batch[0].1, batch[1].1, "seeds make a difference");
        }
    }
}

#[test]
fn the_prompt_the_negative_prompt_and_guidance_change_the_image() {
    for model in ["sd1", "sd2", "sdxl"] {
        let pipeline = tiny_pipeline(model);
        let params = tiny_params(SchedulerKind::Ddim);
        let draw = |params: DrawParams| images(&pipeline, &params).remove(0).1;
        let base = draw(params.clone());
        assert_eq!((base.width(), base.height()), (32, 32));
        assert_eq!(base.pixels().len(), 32 * 32 * 3);
        assert_eq!(
            base,
            draw(params.clone()),
            "the same request, the same pixels"
        );
        for other in [
            DrawParams {
                prompt: "and the cat".into(),
                ..params.clone()
            },
            DrawParams {
                negative_prompt: "a cat".into(),
                ..params.clone()
            },
            DrawParams {
                guidance_scale: 1.0,
                ..params.clone()
            },
            DrawParams {
                steps: 7,
                ..params.clone()
            },
        ] {
            assert_ne!(base, draw(other.clone()), "{model} {other:?}");
        }
    }
}

#[test]
fn breaking_in_a_report_stops_within_that_step() {
    let pipeline = tiny_pipeline("sd1");
    let params = DrawParams {
        n: 2,
        ..tiny_params(SchedulerKind::Dpmpp2m)
    };
    let mut steps = 0;
    let error = pipeline
        .draw(&params, &mut |report| match report {
            Report::Step {
                image: 1, step: 3, ..
            } => {
                steps += 1;
                ControlFlow::Break(())
            }
            Report::Step { .. } => {
                steps += 1;
                ControlFlow::Continue(())
            }
            Report::Encoded | Report::Image { .. } => ControlFlow::Continue(()),
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopped { step: 3 });
    assert_eq!(steps, params.steps + 3, "nothing came after the break");
    let error = pipeline
        .draw(&params, &mut |_| ControlFlow::Break(()))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopped { step: 0 });
}

#[test]
fn previews_have_the_images_size_and_come_to_look_like_it() {
    for model in ["sd1", "sd2", "sdxl"] {
        let pipeline = tiny_pipeline(model);
        let mut previews = Vec::new();
        let mut image = None;
        pipeline
            .draw(&tiny_params(SchedulerKind::Euler), &mut |report| {
                match report {
                    Report::Step { preview, .. } => previews.push(preview.render().unwrap()),
                    Report::Image {
                        image: finished, ..
                    } => image = Some(finished),
                    Report::Encoded => {}
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        let image = image.unwrap();
        assert_eq!(previews.len(), 6);
        assert!(
            previews
                .iter()
                .all(|preview| (preview.width(), preview.height()) == (32, 32))
        );
        assert_ne!(previews[0], previews[5]);
        assert_eq!(previews[5].pixels().len(), image.pixels().len());
    }
}

#[test]
fn parameters_out_of_bounds_are_named_with_their_bound() {
    let pipeline = tiny_pipeline("sd1");
    let params = tiny_params(SchedulerKind::Ddim);
    for (params, message) in [
        (
            DrawParams {
                width: 33,
                ..params.clone()
            },
            "width must be a multiple of 4 in 16..=64, got 33",
        ),
        (
            DrawParams {
                height: 128,
                ..params.clone()
            },
            "height must be a multiple of 4 in 16..=64, got 128",
        ),
        (
            DrawParams {
                steps: 0,
                ..params.clone()
            },
            "steps must be 1..=1000, got 0",
        ),
        (
            DrawParams {
                n: 0,
                ..params.clone()
            },
            "n must be at least 1, got 0",
        ),
        (
            DrawParams {
                guidance_scale: f64::NAN,
                ..params.clone()
            },
            "guidance_scale must be 0 or more, got NaN",
        ),
    ] {
        let error = pipeline
            .draw(&params, &mut |_| panic!("nothing was to be drawn"))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidParameter);
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn noise_that_is_not_finite_is_an_error_and_the_pipeline_draws_on() {
    struct Broken;
    impl Noise for Broken {
        fn draw(&mut self, count: usize) -> Vec<f32> {
            vec![f32::NAN; count]
        }
    }
    let pipeline = tiny_pipeline("sd1");
    let params = tiny_params(SchedulerKind::Ddim);
    let error = pipeline
        .draw_with_noise(&params, &mut |_| Box::new(Broken), &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFinite);
    assert_eq!(images(&pipeline, &params).len(), 1);
}

#[test]
fn a_model_is_described_by_its_configs_alone() {
    let expected = [
        ("sd1", Family::Sd1, SchedulerKind::Dpmpp2m, 4),
        ("sd2", Family::Sd2, SchedulerKind::Ddim, 4),
        ("sdxl", Family::Sdxl, SchedulerKind::Euler, 4),
    ];
    for (name, family, scheduler, multiple) in expected {
        let files = ModelFiles::folder(golden_folder().join(name)).unwrap();
        let description = Pipeline::describe(&files).unwrap();
        assert_eq!(description.family, family);
        assert_eq!(description.family.to_string(), name);
        assert_eq!(description.scheduler, scheduler);
        assert_eq!(description.dimension_multiple, multiple);
        assert_eq!((description.width, description.height), (32, 32));
        assert_eq!(description.prompt_tokens, 16);
    }
}

#[test]
fn embedded_files_draw_the_same_pixels_as_a_folder() {
    let folder = golden_folder().join("sd1");
    let mut files: Vec<(&'static str, &'static [u8])> = Vec::new();
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path
                .strip_prefix(&folder)
                .unwrap()
                .to_string_lossy()
                .replace('\\', "/");
            files.push((name.leak(), std::fs::read(&path).unwrap().leak()));
        }
    }
    let embedded = ModelFiles::embedded(files.leak());
    let device = DeviceChoice::Cpu.open().unwrap();
    let pipeline = Pipeline::load(&embedded, &device, &LoadOptions::default()).unwrap();
    let params = tiny_params(SchedulerKind::Dpmpp2m);
    assert_eq!(
        images(&pipeline, &params),
        images(&tiny_pipeline("sd1"), &params)
    );
}
