//! `scumble models pull`.

use super::print_line;
use crate::{
    config::ModelsPullArgs,
    hub::{Hub, HubSettings, PullOptions, Pulled},
};
use bytesize::ByteSize;
use indicatif::MultiProgress;
use scumble_diffusion::{ModelFiles, Pipeline};
use std::time::Instant;

pub(super) fn run(args: &ModelsPullArgs) -> Result<(), String> {
    let settings = HubSettings::from_environment(args.places.models_dir.as_deref());
    let hub = settings
        .and_then(Hub::new)
        .map_err(|error| error.to_string())?;
    let options = PullOptions {
        variant: args.variant.clone(),
        file: args.file.clone(),
    };
    let bars = MultiProgress::new();
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be started: {error}"))?;
    let pulled = runtime
        .block_on(hub.pull(&args.id, &options, &bars))
        .map_err(|error| error.to_string())?;
    for note in &pulled.notes {
        eprintln!("note: {note}");
    }
    report(args, &pulled, started.elapsed().as_secs_f64())
}

/// Says where it is, and whether it can be drawn with.
fn report(args: &ModelsPullArgs, pulled: &Pulled, elapsed_s: f64) -> Result<(), String> {
    print_line(&format!(
        "{} at {}: {} files, {}, in {elapsed_s:.1} s",
        args.id,
        pulled.commit.get(..8).unwrap_or(&pulled.commit),
        pulled.files,
        ByteSize(pulled.bytes),
    ))?;
    print_line(&pulled.path.display().to_string())?;
    let described = ModelFiles::open(&pulled.path).and_then(|files| {
        Pipeline::survey(&files)?;
        Pipeline::describe(&files)
    });
    match described {
        Ok(description) => print_line(&format!(
            "draws: {}, {}x{}; try scumble generate --model {} \"…\"",
            description.family, description.width, description.height, args.id
        )),
        Err(error) if args.file.is_some() => {
            // A single file may be a part of a model: an autoencoder, a LoRA.
            eprintln!("note: by itself it is not a model: {error}");
            Ok(())
        }
        Err(error) => Err(format!(
            "{} was pulled but cannot be used: {error}",
            args.id
        )),
    }
}
