//! `scumble models rm`.

use super::print_line;
use crate::{
    catalog::{Origin, locate},
    config::ModelsRmArgs,
    hub::{HubId, folder_bytes},
};
use bytesize::ByteSize;
use std::{fs, path::Path};

pub(super) fn run(args: &ModelsRmArgs) -> Result<(), String> {
    let places = args.places.places()?;
    // By its hub id a repository is found even if its pull never ended.
    let half = args.model.parse::<HubId>().ok().and_then(|id| {
        let folder = places.cache.as_ref()?.folder().join(id.folder());
        folder.is_dir().then_some(id)
    });
    let origin = match half {
        Some(id) => Some(Origin::Hub(id, places.folder.clone().unwrap_or_default())),
        None => locate(&args.model, &places).map(|(_, origin)| origin),
    };
    let bytes = match origin {
        Some(Origin::Hub(id, _)) => {
            let cache = places.cache.as_ref();
            let cache = cache.ok_or("there is no cache of the hub to remove from")?;
            cache.remove(&id).map_err(|error| error.to_string())?
        }
        Some(Origin::Folder(path)) => remove(&path)?,
        Some(Origin::Named(path)) => {
            return Err(format!(
                "{} is not in the models folder; remove it by hand",
                path.display()
            ));
        }
        Some(Origin::Embedded) => {
            return Err(format!(
                "{} is inside the binary and stays there",
                args.model
            ));
        }
        None => {
            return Err(format!(
                "there is no model {}; `scumble models` lists those there are",
                args.model
            ));
        }
    };
    print_line(&format!(
        "removed {}: {} are free",
        args.model,
        ByteSize(bytes)
    ))
}

/// Removes a folder or file, but only the link where it is one.
fn remove(path: &Path) -> Result<u64, String> {
    let bytes = if path.is_symlink() {
        0
    } else if path.is_dir() {
        folder_bytes(path)
    } else {
        fs::metadata(path).map_or(0, |there| there.len())
    };
    let removed = if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes)
}
