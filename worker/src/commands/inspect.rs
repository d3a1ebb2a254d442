//! `scumble inspect`: what a picture's file says about how it was drawn.

use crate::{config::InspectArgs, metadata};
use scumble_protocol::{PngInfo, TextSource};
use std::{
    fs,
    io::{self, Write as _},
};

/// Characters of a text of another program that are shown.
const OTHER_TEXT_CHARS_MAX: usize = 2_000;

pub(super) fn run(args: &InspectArgs) -> Result<(), String> {
    let name = args.image.display();
    let bytes = fs::read(&args.image).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let info = metadata::read(&bytes).map_err(|error| format!("{name} {error}"))?;
    let text = if args.json {
        serde_json::to_string_pretty(&info).map_err(|error| error.to_string())?
    } else {
        describe(&info)
    };
    for warning in &info.warnings {
        eprintln!("note: {warning}");
    }
    writeln!(io::stdout().lock(), "{}", text.trim_end()).map_err(|error| error.to_string())
}

fn describe(info: &PngInfo) -> String {
    let source = match info.source {
        None => "nothing is said about how it was drawn",
        Some(TextSource::Scumble) => "drawn by Scumble",
        Some(TextSource::Comfyui) => "drawn by ComfyUI",
        Some(TextSource::Invokeai) => "drawn by InvokeAI",
        Some(_) => "drawn by AUTOMATIC1111 or alike",
    };
    let mut text = format!("{}x{} pixels, {source}\n", info.width, info.height);
    if let Some(parameters) = &info.parameters {
        text.push_str(&format!("\n{parameters}\n"));
    }
    if let Some(request) = &info.scumble
        && let Ok(json) = serde_json::to_string_pretty(request)
    {
        text.push_str(&format!("\nrequest: {json}\n"));
    }
    for other in &info.texts {
        let is_shown = info.parameters.as_ref() == Some(&other.text)
            || (info.scumble.is_some() && other.key == metadata::REQUEST_KEYWORD);
        if !is_shown {
            let cut: String = other.text.chars().take(OTHER_TEXT_CHARS_MAX).collect();
            let more = if cut.len() < other.text.len() {
                " …"
            } else {
                ""
            };
            text.push_str(&format!("\n{}: {cut}{more}\n", other.key));
        }
    }
    text
}
