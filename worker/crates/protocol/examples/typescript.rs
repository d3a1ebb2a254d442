//! Writes the wire types as TypeScript into the folder given. `cargo xtask generate` calls it and adds the header;
//! nothing else should.

use scumble_protocol::{
    ErrorBody, Job, JobEvent, JobRequest, LoraList, ModelList, PngInfo, PngInfoRequest,
    SchedulerList, TokenCount, TokenizeRequest, Upload,
};
use std::{env, process::ExitCode};
use ts_rs::{Config, ExportError, TS};

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1) else {
        eprintln!("usage: typescript FOLDER");
        return ExitCode::from(2);
    };
    match export(&Config::new().with_out_dir(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the TypeScript types could not be written: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Each call takes along every type that its root mentions, so only what a client sends or gets whole stands here.
fn export(config: &Config) -> Result<(), ExportError> {
    JobRequest::export_all(config)?;
    Job::export_all(config)?;
    JobEvent::export_all(config)?;
    ErrorBody::export_all(config)?;
    ModelList::export_all(config)?;
    LoraList::export_all(config)?;
    SchedulerList::export_all(config)?;
    TokenizeRequest::export_all(config)?;
    TokenCount::export_all(config)?;
    Upload::export_all(config)?;
    PngInfoRequest::export_all(config)?;
    PngInfo::export_all(config)
}
