//! `scumble models inspect`: what a model is made of, from its configs and the headers of its weights.

use super::{grouped, origin_words, print_json, print_line, print_table};
use crate::{
    catalog::{CatalogModel, Origin, locate, model_files},
    config::ModelsInspectArgs,
};
use bytesize::ByteSize;
use scumble_diffusion::{ModelDescription, ModelFiles, Pipeline, WeightsSurvey};
use scumble_protocol::{ModelId, Task};
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;

/// What `--json` gives. What could not be read is null, and said among the problems.
#[derive(Debug, Serialize)]
struct Inspection {
    id: ModelId,
    #[serde(skip)]
    origin: Origin,
    path: Option<PathBuf>,
    family: Option<String>,
    tasks: Vec<Task>,
    defaults: Option<Defaults>,
    limits: Option<Limits>,
    parts: Vec<Part>,
    parameters: u64,
    file_bytes: u64,
    scheduler_config: Option<Value>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Defaults {
    width: usize,
    height: usize,
    steps: usize,
    guidance_scale: f64,
    scheduler: String,
}

#[derive(Debug, Serialize)]
struct Limits {
    dimension_min: usize,
    dimension_max: usize,
    dimension_multiple: usize,
    prompt_tokens: usize,
}

#[derive(Debug, Serialize)]
struct Part {
    name: String,
    parameters: u64,
    tensors: usize,
    dtypes: Vec<String>,
    bytes: u64,
    files: Vec<String>,
}

pub(super) fn run(args: &ModelsInspectArgs) -> Result<(), String> {
    let places = args.places.places()?;
    let (id, origin) = locate(&args.model, &places).ok_or_else(|| {
        format!(
            "there is no model {}: no such folder or file, and `scumble models` lists none of this name",
            args.model
        )
    })?;
    let inspection = inspect(id, origin);
    if args.json {
        print_json(&inspection)?;
    } else {
        print(&inspection)?;
    }
    match inspection.problems.first() {
        None => Ok(()),
        Some(problem) => Err(format!("model {} cannot be used: {problem}", inspection.id)),
    }
}

fn inspect(id: ModelId, origin: Origin) -> Inspection {
    let mut inspection = Inspection {
        path: origin.path().map(Into::into),
        id,
        origin,
        family: None,
        tasks: Vec::new(),
        defaults: None,
        limits: None,
        parts: Vec::new(),
        parameters: 0,
        file_bytes: 0,
        scheduler_config: None,
        problems: Vec::new(),
    };
    match model_files(&inspection.origin) {
        Ok(files) => inspection.read(&files),
        Err(error) => inspection.problems.push(error.to_string()),
    }
    inspection
}

impl Inspection {
    fn read(&mut self, files: &ModelFiles) {
        match Pipeline::describe(files) {
            Ok(description) => self.describe(&description),
            Err(error) => self.problems.push(error.to_string()),
        }
        match Pipeline::survey(files) {
            Ok(weights) => {
                self.parameters = weights.iter().map(|part| part.parameters).sum();
                self.file_bytes = weights.iter().map(|part| part.bytes).sum();
                self.parts = weights.into_iter().map(Part::from).collect();
            }
            // A config that is wrong is wrong for both.
            Err(error)
                if self
                    .problems
                    .iter()
                    .any(|known| *known == error.to_string()) => {}
            Err(error) => self.problems.push(error.to_string()),
        }
        self.scheduler_config = files
            .read("scheduler/scheduler_config.json")
            .ok()
            .flatten()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    }

    fn describe(&mut self, description: &ModelDescription) {
        self.family = Some(description.family.to_string());
        self.tasks = CatalogModel::tasks(description);
        self.defaults = Some(Defaults {
            width: description.width,
            height: description.height,
            steps: description.steps,
            guidance_scale: description.guidance_scale,
            scheduler: description.scheduler.name().to_owned(),
        });
        self.limits = Some(Limits {
            dimension_min: description.dimension_min,
            dimension_max: description.dimension_max,
            dimension_multiple: description.dimension_multiple,
            prompt_tokens: description.prompt_tokens,
        });
    }
}

impl From<WeightsSurvey> for Part {
    fn from(survey: WeightsSurvey) -> Self {
        Self {
            name: survey.component,
            parameters: survey.parameters,
            tensors: survey.tensors,
            dtypes: survey.dtypes.into_iter().collect(),
            bytes: survey.bytes,
            files: survey.files,
        }
    }
}

fn print(inspection: &Inspection) -> Result<(), String> {
    let mut rows = vec![
        fact("model", inspection.id.as_str()),
        fact("from", &origin_words(&inspection.origin)),
    ];
    if let Some(path) = &inspection.path {
        rows.push(fact("path", &path.display().to_string()));
    }
    rows.extend(
        inspection
            .family
            .iter()
            .map(|family| fact("family", family)),
    );
    if !inspection.tasks.is_empty() {
        rows.push(fact("tasks", &task_names(&inspection.tasks)));
    }
    if let Some(Defaults {
        width,
        height,
        steps,
        guidance_scale,
        scheduler,
    }) = &inspection.defaults
    {
        let text =
            format!("{width}x{height}, {steps} steps, guidance {guidance_scale}, {scheduler}");
        rows.push(fact("defaults", &text));
    }
    if let Some(Limits {
        dimension_min,
        dimension_max,
        dimension_multiple,
        prompt_tokens,
    }) = &inspection.limits
    {
        let text =
            format!("{dimension_min} to {dimension_max} pixels in steps of {dimension_multiple}");
        rows.push(fact("sizes", &text));
        rows.push(fact("prompt", &format!("{prompt_tokens} tokens at once")));
    }
    if !inspection.parts.is_empty() {
        let text = format!(
            "{} parameters, {} on disk",
            grouped(inspection.parameters),
            ByteSize(inspection.file_bytes)
        );
        rows.push(fact("weights", &text));
    }
    print_table(&rows)?;
    print_parts(&inspection.parts)?;
    if let Some(config) = &inspection.scheduler_config {
        print_line("\nscheduler config")?;
        print_json(config)?;
    }
    for problem in &inspection.problems {
        print_line(&format!("\nproblem: {problem}"))?;
    }
    Ok(())
}

fn print_parts(parts: &[Part]) -> Result<(), String> {
    if parts.is_empty() {
        return Ok(());
    }
    print_line("")?;
    let heads = [
        "PART",
        "PARAMETERS",
        "TENSORS",
        "STORED AS",
        "ON DISK",
        "FILE",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for part in parts {
        rows.push(vec![
            part.name.clone(),
            grouped(part.parameters),
            part.tensors.to_string(),
            part.dtypes.join(", "),
            ByteSize(part.bytes).to_string(),
            part.files.join(", "),
        ]);
    }
    print_table(&rows)
}

/// The tasks by their names on the wire.
fn task_names(tasks: &[Task]) -> String {
    let names: Vec<String> = tasks
        .iter()
        .filter_map(|task| Some(serde_json::to_value(task).ok()?.as_str()?.to_owned()))
        .collect();
    names.join(", ")
}

fn fact(name: &str, value: &str) -> Vec<String> {
    vec![name.to_owned(), value.to_owned()]
}
