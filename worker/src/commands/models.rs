//! `scumble models`: what can draw, as a table.

use crate::{catalog::Catalog, config::ModelsArgs};
use std::io::{self, Write as _};

pub(super) fn run(args: &ModelsArgs) -> Result<(), String> {
    let catalog = Catalog::open(&args.models.models).map_err(|error| error.to_string())?;
    let mut rows =
        vec![["MODEL", "FAMILY", "SIZE", "STEPS", "GUIDANCE", "SCHEDULER"].map(str::to_owned)];
    for model in catalog.to_list().data {
        rows.push([
            model.id.to_string(),
            model.family,
            format!("{}x{}", model.defaults.width, model.defaults.height),
            model.defaults.steps.to_string(),
            model.defaults.guidance_scale.to_string(),
            model.defaults.scheduler.to_string(),
        ]);
    }
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut output = io::stdout().lock();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        writeln!(output, "{}", cells.join("  ").trim_end()).map_err(|error| error.to_string())?;
    }
    Ok(())
}
