//! Fills a request in from its model's defaults and checks what only the model can know.

mod edit;

use crate::{
    catalog::{Catalog, CatalogModel, scheduler_list, scheduler_name},
    inputs::{Input, Inputs},
    loras::LoraShelf,
    metadata::take_loras,
    record::StoredJob,
};
use edit::Edit;
use scumble_diffusion::SchedulerKind;
use scumble_protocol::{
    BatchSize, ClipSkip, Dimension, ErrorCode, ErrorObject, GuidanceScale, JobRequest, LoraChoice,
    ModelId, ModelVocabulary, NormalizedRequest, Prompt, SchedulerName, Seed, Steps,
    limits::{BATCH_IMAGES_MAX, JSON_SAFE_INTEGER_MAX, LORA_SCALE_MAX, LORA_SCALE_MIN, LORAS_MAX},
};

/// Words of the vocabulary that a warning names.
const WORDS_NAMED_MAX: usize = 8;
/// Characters of a LoRA's tag in a prompt that an error shows.
const LORA_TAG_CHARS_SHOWN_MAX: usize = 80;

/// What will be drawn for `request` and its images, with what a person should know about it.
///
/// # Errors
/// Names the field at fault: an unknown model or scheduler, a size that the model cannot draw, or fields that contradict
/// each other.
pub fn normalize(
    request: JobRequest,
    inputs: &Inputs,
    catalog: &Catalog,
    shelf: &LoraShelf,
) -> Result<StoredJob, ErrorObject> {
    let model = model(request.model.as_ref(), catalog)?;
    let description = &model.description;
    let prompt_words = model
        .vocabulary
        .as_ref()
        .and_then(|vocabulary| unknown_words(request.prompt.as_str(), model, vocabulary));
    let steps = match request.steps {
        Some(steps) => steps,
        None => u32::try_from(description.steps)
            .ok()
            .and_then(|steps| Steps::new(steps).ok())
            .ok_or_else(|| default_out_of_bounds("steps", model))?,
    };
    let (prompt, loras) = chosen_loras(&request, model, shelf)?;
    let scheduler = match &request.scheduler {
        Some(name) => scheduler(name)?,
        None => model.description.scheduler,
    };
    let edit = Edit::of(&request, inputs, (steps, scheduler), model)?;
    let mut warnings: Vec<String> = prompt_words.into_iter().collect();
    warnings.extend(edit.warnings);
    let request = NormalizedRequest {
        task: edit.task,
        width: dimension("width", edit.width, description.width, model)?,
        height: dimension("height", edit.height, description.height, model)?,
        steps,
        guidance_scale: match request.guidance_scale {
            Some(guidance_scale) => guidance_scale,
            None => GuidanceScale::new(description.guidance_scale)
                .map_err(|_| default_out_of_bounds("guidance_scale", model))?,
        },
        seed: request.seed.unwrap_or_else(random_seed),
        n: match request.n {
            Some(n) => n,
            None => BatchSize::new(1).expect("one image is a batch: this is a bug"),
        },
        scheduler: scheduler_name(scheduler),
        model: model.id.clone(),
        prompt,
        negative_prompt: request.negative_prompt.unwrap_or_default(),
        init_image: inputs.init_image.as_ref().map(Input::to_wire),
        strength: edit.strength,
        mask: inputs.mask.as_ref().map(Input::to_wire),
        mask_blur: edit.mask_blur,
        mask_invert: edit.mask_invert,
        only_masked: edit.only_masked,
        only_masked_padding: edit.only_masked_padding,
        inpaint_fill: edit.inpaint_fill,
        outpaint: request.outpaint,
        clip_skip: clip_skip(request.clip_skip, model)?,
        guidance_rescale: request.guidance_rescale.unwrap_or_default(),
        loras,
        preview: request.preview,
        output_format: request.output_format.unwrap_or_default(),
        response_format: request.response_format.unwrap_or_default(),
        metadata: request.metadata.unwrap_or(true),
        cancel_on_disconnect: request.cancel_on_disconnect.unwrap_or(false),
    };
    Ok(StoredJob { request, warnings })
}

/// The prompt without the LoRAs that it names as A1111's prompts do, and those with the request's own before them.
fn chosen_loras(
    request: &JobRequest,
    model: &CatalogModel,
    shelf: &LoraShelf,
) -> Result<(Prompt, Vec<LoraChoice>), ErrorObject> {
    let invalid = |field: &str, message: String| {
        ErrorObject::new(ErrorCode::InvalidValue, message).with_param(field)
    };
    let (text, named) = take_loras(request.prompt.as_str());
    if let Some((_, tag)) = text.split_once("<lora:") {
        let tag: String = tag.chars().take(LORA_TAG_CHARS_SHOWN_MAX).collect();
        let message = format!(
            "a LoRA in the prompt must be <lora:NAME> or <lora:NAME:SCALE> with a scale within {LORA_SCALE_MIN}..={LORA_SCALE_MAX}, got <lora:{tag}"
        );
        return Err(invalid("prompt", message));
    }
    let prompt = if named.is_empty() {
        request.prompt.clone()
    } else {
        Prompt::new(text)
            .map_err(|error| invalid("prompt", format!("the prompt without its LoRAs {error}")))?
    };
    let mut loras = request.loras.clone().unwrap_or_default();
    for (index, lora) in loras.iter().enumerate() {
        check_lora(&format!("loras[{index}].name"), lora, model, shelf)?;
    }
    for lora in &named {
        check_lora("prompt", lora, model, shelf)?;
    }
    loras.extend(named);
    if loras.len() > LORAS_MAX {
        let message = format!(
            "loras must be at most {LORAS_MAX} LoRAs with those in the prompt, got {}",
            loras.len()
        );
        return Err(invalid("loras", message));
    }
    Ok((prompt, loras))
}

/// Errors if there is no such LoRA, or if its file says that it was made for models of another family.
fn check_lora(
    field: &str,
    lora: &LoraChoice,
    model: &CatalogModel,
    shelf: &LoraShelf,
) -> Result<(), ErrorObject> {
    let Some(shelved) = shelf.get(&lora.name) else {
        let names = shelf.names();
        let message = format!("{field} must name one of {names}, got {}", lora.name);
        return Err(ErrorObject::new(ErrorCode::LoraNotFound, message).with_param(field));
    };
    let family = model.description.family;
    match &shelved.description.base {
        Some(base) if shelved.description.family != Some(family) => {
            let message = format!(
                "{field} must name a LoRA for models of the family {family}, as {} is; {} is for {base}",
                model.id, lora.name
            );
            Err(ErrorObject::new(ErrorCode::InvalidValue, message).with_param(field))
        }
        _ => Ok(()),
    }
}

/// The model of this id, the default one if none is named.
///
/// # Errors
/// If there is none of this id.
pub fn model<'a>(
    id: Option<&ModelId>,
    catalog: &'a Catalog,
) -> Result<&'a CatalogModel, ErrorObject> {
    let Some(id) = id else {
        return Ok(catalog.default_model());
    };
    catalog.get(id).ok_or_else(|| {
        let unusable = catalog.unusable().iter().any(|model| model.id == *id);
        let why = if unusable {
            ", which cannot be used; the server's log says why"
        } else {
            ""
        };
        let message = format!("model must be one of {}, got {id}{why}", catalog.ids());
        ErrorObject::new(ErrorCode::ModelNotFound, message).with_param("model")
    })
}

/// Errors if the model's text encoder has fewer layers to leave out.
fn clip_skip(wanted: Option<ClipSkip>, model: &CatalogModel) -> Result<ClipSkip, ErrorObject> {
    let layers = wanted.unwrap_or_default();
    let max = model.description.clip_skip_max;
    if usize::try_from(layers.get()).is_ok_and(|layers| layers <= max) {
        return Ok(layers);
    }
    let message = format!(
        "clip_skip must be 0..={max} for model {}, got {layers}",
        model.id
    );
    Err(ErrorObject::new(ErrorCode::InvalidValue, message).with_param("clip_skip"))
}

fn dimension(
    field: &str,
    wanted: Option<Dimension>,
    default: usize,
    model: &CatalogModel,
) -> Result<Dimension, ErrorObject> {
    let range = model.dimensions();
    let Some(wanted) = wanted else {
        return u32::try_from(default)
            .ok()
            .and_then(|pixels| Dimension::new(pixels).ok())
            .ok_or_else(|| default_out_of_bounds(field, model));
    };
    let pixels = wanted.get();
    if (range.minimum..=range.maximum).contains(&pixels) && pixels.is_multiple_of(range.multiple) {
        return Ok(wanted);
    }
    let message = format!(
        "{field} must be a multiple of {} within {}..={} for model {}, got {pixels}",
        range.multiple, range.minimum, range.maximum, model.id
    );
    Err(ErrorObject::new(ErrorCode::InvalidValue, message).with_param(field))
}

fn default_out_of_bounds(field: &str, model: &CatalogModel) -> ErrorObject {
    let message = format!(
        "{field} is required: the default of model {} is outside what a job may ask for",
        model.id
    );
    ErrorObject::new(ErrorCode::MissingField, message).with_param(field)
}

fn scheduler(name: &SchedulerName) -> Result<SchedulerKind, ErrorObject> {
    name.as_str().parse::<SchedulerKind>().map_err(|_| {
        let names: Vec<String> = scheduler_list()
            .data
            .into_iter()
            .map(|scheduler| scheduler.name.to_string())
            .collect();
        let message = format!("scheduler must be one of {}, got {name}", names.join(", "));
        ErrorObject::new(ErrorCode::SchedulerNotFound, message).with_param("scheduler")
    })
}

/// A seed that JavaScript holds exactly, as do the seeds of a whole batch from it.
fn random_seed() -> Seed {
    let bits = getrandom::u64().unwrap_or_else(|error| {
        tracing::warn!(%error, "the system gives no random numbers; the seed is 0");
        0
    });
    Seed(bits % (JSON_SAFE_INTEGER_MAX - u64::from(BATCH_IMAGES_MAX)))
}

/// A sentence if the prompt has none of the things that the model knows.
fn unknown_words(
    prompt: &str,
    model: &CatalogModel,
    vocabulary: &ModelVocabulary,
) -> Option<String> {
    let objects = &vocabulary.objects;
    if objects.is_empty() || mentions_any(prompt, objects) {
        return None;
    }
    // From all over the list: it is sorted by subject.
    let apart = (objects.len() / WORDS_NAMED_MAX).max(1);
    let named: Vec<&str> = objects
        .iter()
        .step_by(apart)
        .take(WORDS_NAMED_MAX)
        .map(String::as_str)
        .collect();
    let example = match model.description.examples.first() {
        Some(example) => format!("; try {example:?}"),
        None => String::new(),
    };
    Some(format!(
        "the prompt has none of the things that {} has learned to draw, so it will guess; it knows {} and more \
         (/v1/models/{} lists them){example}",
        model.id,
        named.join(", "),
        model.id,
    ))
}

/// Whether one of `phrases` stands in `text` as whole words; a plural `s` counts as the word.
fn mentions_any(text: &str, phrases: &[String]) -> bool {
    let words = |text: &str| -> String {
        let lower = text.to_lowercase();
        let mut spaced = String::from(" ");
        for word in lower.split(|char: char| !char.is_alphanumeric()) {
            if !word.is_empty() {
                spaced.push_str(word);
                spaced.push(' ');
            }
        }
        spaced
    };
    let text = words(text);
    phrases.iter().any(|phrase| {
        let phrase = words(phrase);
        let plural = format!("{}s ", phrase.trim_end());
        phrase.len() > 2 && (text.contains(&phrase) || text.contains(&plural))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{ModelPlaces, ModelSearch};

    #[test]
    fn phrases_are_found_as_whole_words_only() {
        let phrases = ["red apple".to_owned(), "cat".to_owned()];
        for prompt in ["A Red Apple!", "two cats, please", "the cat", "red  apple"] {
            assert!(mentions_any(prompt, &phrases), "{prompt}");
        }
        for prompt in ["catalog", "red and apple", "", "bobcat"] {
            assert!(!mentions_any(prompt, &phrases), "{prompt}");
        }
    }

    #[test]
    fn a_prompt_of_unlearned_words_gets_a_note_with_an_example_and_examples_get_none() {
        let places = ModelPlaces {
            folder: None,
            cache: None,
        };
        let search = ModelSearch {
            sources: &[],
            vae: None,
            places: &places,
        };
        let catalog = Catalog::open(&search).expect("the embedded model");
        let model = catalog.default_model();
        let vocabulary = model.vocabulary.as_ref().expect("its words");
        let note = unknown_words("quarterly earnings", model, vocabulary).expect("a note");
        let examples = &model.description.examples;
        let first = examples.first().expect("an example");
        assert!(note.contains(&format!("{first:?}")), "{note}");
        for example in examples {
            assert_eq!(unknown_words(example, model, vocabulary), None, "{example}");
        }
    }

    #[test]
    fn random_seeds_of_a_whole_batch_are_exact_in_javascript() {
        for _ in 0..1_000 {
            let last = random_seed().of_image(BATCH_IMAGES_MAX - 1);
            assert!(last.0 <= JSON_SAFE_INTEGER_MAX);
        }
    }
}
