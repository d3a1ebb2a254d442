//! `scumble models list`.

use super::{origin_words, print_json, print_line, print_table};
use crate::{
    catalog::{Catalog, CatalogModel, Origin, UnusableModel},
    config::ModelsListArgs,
};
use bytesize::ByteSize;
use scumble_protocol::{Model, ModelId};
use serde::Serialize;
use std::path::Path;

/// What `--json` gives.
#[derive(Debug, Serialize)]
struct List<'a> {
    /// As `GET /v1/models` shows them, and where they are.
    models: Vec<Entry<'a>>,
    unusable: Vec<Unusable<'a>>,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    model: Model,
    parameters: u64,
    /// Bytes of the files with its weights.
    file_bytes: u64,
    #[serde(flatten)]
    place: Place<'a>,
}

#[derive(Debug, Serialize)]
struct Unusable<'a> {
    id: &'a ModelId,
    reason: &'a str,
    #[serde(flatten)]
    place: Place<'a>,
}

#[derive(Debug, Serialize)]
struct Place<'a> {
    path: Option<&'a Path>,
    hub_id: Option<String>,
}

pub(super) fn run(args: &ModelsListArgs) -> Result<(), String> {
    let catalog = args.models.catalog()?;
    if args.json {
        return print_json(&List {
            models: catalog.iter().map(|model| entry(&catalog, model)).collect(),
            unusable: catalog.unusable().iter().map(unusable).collect(),
        });
    }
    let heads = [
        "MODEL",
        "FAMILY",
        "SIZE",
        "STEPS",
        "GUIDANCE",
        "SCHEDULER",
        "ON DISK",
        "FROM",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(catalog.iter().map(|model| row(&catalog, model)));
    print_table(&rows)?;
    if !catalog.unusable().is_empty() {
        print_line("\nCannot be used:")?;
    }
    for model in catalog.unusable() {
        let place = origin_words(&model.origin);
        print_line(&format!("{} ({place}): {}", model.id, model.reason))?;
    }
    Ok(())
}

fn row(catalog: &Catalog, model: &CatalogModel) -> Vec<String> {
    let shown = catalog.to_model(model);
    vec![
        shown.id.to_string(),
        shown.family,
        format!("{}x{}", shown.defaults.width, shown.defaults.height),
        shown.defaults.steps.to_string(),
        shown.defaults.guidance_scale.to_string(),
        shown.defaults.scheduler.to_string(),
        ByteSize(model.file_bytes()).to_string(),
        origin_words(&model.origin),
    ]
}

fn entry<'a>(catalog: &Catalog, model: &'a CatalogModel) -> Entry<'a> {
    Entry {
        model: catalog.to_model(model),
        parameters: model.parameters(),
        file_bytes: model.file_bytes(),
        place: place(&model.origin),
    }
}

fn unusable(model: &UnusableModel) -> Unusable<'_> {
    Unusable {
        id: &model.id,
        reason: &model.reason,
        place: place(&model.origin),
    }
}

fn place(origin: &Origin) -> Place<'_> {
    Place {
        path: origin.path(),
        hub_id: match origin {
            Origin::Hub(id, _) => Some(id.to_string()),
            _ => None,
        },
    }
}
