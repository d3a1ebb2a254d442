//! A1111's text: the prompt, the negative prompt, and a last line of `Key: value` pairs with commas between them. A
//! value with a comma, a colon or a line break stands in quotes, as JSON writes them.

use crate::loras::name_of;
use scumble_diffusion::SchedulerKind;
use scumble_protocol::{
    ClipSkip, GuidanceScale, InpaintFill, LoraChoice, LoraScale, MaskBlur, NormalizedRequest,
    ReadParameters, SchedulerName, Seed, Steps, Strength,
};
use std::collections::BTreeMap;

const NEGATIVE_PROMPT: &str = "Negative prompt:";
/// Pairs that make a line the last line and not one of the prompt's.
const PAIRS_MIN: usize = 3;
/// Pairs that are read.
const PAIRS_MAX: usize = 256;
/// LoRAs that are read from a prompt.
const LORAS_READ_MAX: usize = 32;

/// Our schedulers by their names in A1111, without the spacing of the noise levels.
const SAMPLERS: &[(&str, &str)] = &[
    ("ddim", "DDIM"),
    ("ddpm", "DDPM"),
    ("euler", "Euler"),
    ("euler_ancestral", "Euler a"),
    ("heun", "Heun"),
    ("lms", "LMS"),
    ("dpmpp_2m", "DPM++ 2M"),
    ("dpmpp_2m_sde", "DPM++ 2M SDE"),
    ("dpmpp_sde", "DPM++ SDE"),
    ("unipc", "UniPC"),
    ("lcm", "LCM"),
];
const SPACINGS: &[(&str, &str)] = &[
    ("_karras", "Karras"),
    ("_exponential", "Exponential"),
    ("_beta", "Beta"),
];
/// What `Automatic` stands for with these samplers; with the others it is the model's own spacing.
const AUTOMATIC_SPACINGS: &[(&str, &str)] = &[
    ("DPM++ 2M", "Karras"),
    ("DPM++ SDE", "Karras"),
    ("DPM++ 2M SDE", "Exponential"),
];

/// The text for the one picture that a request draws.
pub(super) fn write(request: &NormalizedRequest) -> String {
    let mut text = request.prompt.as_str().to_owned();
    for lora in &request.loras {
        text.push_str(&format!("<lora:{}:{}>", lora.name, lora.scale));
    }
    let negative_prompt = request.negative_prompt.as_str();
    if !negative_prompt.is_empty() {
        text.push_str(&format!("\n{NEGATIVE_PROMPT} {negative_prompt}"));
    }
    let line: Vec<String> = pairs(request)
        .into_iter()
        .map(|(key, value)| format!("{key}: {}", quoted(&value)))
        .collect();
    format!("{text}\n{}", line.join(", "))
}

fn pairs(request: &NormalizedRequest) -> Vec<(&'static str, String)> {
    let (sampler, spacing) = sampler(&request.scheduler);
    let mut pairs = vec![
        ("Steps", request.steps.to_string()),
        ("Sampler", sampler),
        ("Schedule type", spacing.to_owned()),
        ("CFG scale", request.guidance_scale.to_string()),
        ("Seed", request.seed.to_string()),
        ("Size", format!("{}x{}", request.width, request.height)),
        ("Model", request.model.to_string()),
    ];
    if let Some(strength) = request.strength {
        pairs.push(("Denoising strength", strength.to_string()));
    }
    if request.clip_skip.get() > 0 {
        // A1111 counts the last layer as the first to be skipped.
        pairs.push(("Clip skip", (request.clip_skip.get() + 1).to_string()));
    }
    if request.guidance_rescale.get() > 0.0 {
        pairs.push(("CFG rescale", request.guidance_rescale.to_string()));
    }
    if request.mask_invert == Some(true) {
        pairs.push(("Mask mode", "Inpaint not masked".to_owned()));
    }
    match request.inpaint_fill {
        None | Some(InpaintFill::Original) => {}
        Some(InpaintFill::Noise) => pairs.push(("Masked content", "latent noise".to_owned())),
        Some(InpaintFill::Blur) => pairs.push(("Masked content", "blur".to_owned())),
        Some(InpaintFill::Fill) => pairs.push(("Masked content", "fill".to_owned())),
    }
    if let Some(blur) = request.mask_blur.filter(|blur| blur.get() > 0.0) {
        pairs.push(("Mask blur", blur.to_string()));
    }
    if request.only_masked == Some(true) {
        pairs.push(("Inpaint area", "Only masked".to_owned()));
    }
    if let Some(padding) = request.only_masked_padding {
        pairs.push(("Masked area padding", padding.to_string()));
    }
    pairs.push(("Version", format!("Scumble {}", env!("CARGO_PKG_VERSION"))));
    pairs
}

/// A scheduler in A1111's two words.
fn sampler(scheduler: &SchedulerName) -> (String, &'static str) {
    let name = scheduler.as_str();
    let (base, spacing) = SPACINGS
        .iter()
        .find_map(|(suffix, spacing)| Some((name.strip_suffix(suffix)?, Some(*spacing))))
        .unwrap_or((name, None));
    let sampler = SAMPLERS
        .iter()
        .find_map(|(own, theirs)| (*own == base).then_some(*theirs))
        .unwrap_or(base);
    let is_spaced = AUTOMATIC_SPACINGS
        .iter()
        .any(|(known, _)| *known == sampler);
    let unspaced = if is_spaced { "Normal" } else { "Automatic" };
    (sampler.to_owned(), spacing.unwrap_or(unspaced))
}

fn quoted(value: &str) -> String {
    if value.contains([',', '\n', ':']) {
        serde_json::Value::from(value).to_string()
    } else {
        value.to_owned()
    }
}

/// Understands what it can; never fails, since there is no text that could not be a prompt.
pub(super) fn parse(text: &str) -> ReadParameters {
    let text = text.trim();
    let (above, last) = text.rsplit_once('\n').unwrap_or(("", text));
    let pairs = read_pairs(last);
    let (prompts, pairs) = if pairs.len() < PAIRS_MIN {
        (text, Vec::new())
    } else {
        (above, pairs)
    };
    let (prompt, negative_prompt) = split_prompts(prompts);
    let (prompt, loras) = take_loras(&prompt);
    let fields: BTreeMap<String, String> = pairs.into_iter().collect();
    let field = |key: &str| fields.get(key).map(String::as_str);
    let size = field("Size").and_then(|size| {
        let (width, height) = size.split_once('x')?;
        Some((width.parse().ok()?, height.parse().ok()?))
    });
    ReadParameters {
        prompt,
        negative_prompt,
        steps: number(field("Steps")).and_then(|steps| Steps::new(steps).ok()),
        scheduler: field("Sampler").and_then(|sampler| scheduler(sampler, field("Schedule type"))),
        guidance_scale: number(field("CFG scale")).and_then(|scale| GuidanceScale::new(scale).ok()),
        seed: number(field("Seed")).map(Seed),
        width: size.map(|(width, _)| width),
        height: size.map(|(_, height)| height),
        model: field("Model").map(str::to_owned),
        strength: number(field("Denoising strength"))
            .and_then(|strength| Strength::new(strength).ok()),
        mask_blur: number(field("Mask blur")).and_then(|blur| MaskBlur::new(blur).ok()),
        clip_skip: number(field("Clip skip"))
            .and_then(|skip: u32| ClipSkip::new(skip.checked_sub(1)?).ok()),
        loras,
        fields,
    }
}

fn number<T: std::str::FromStr>(text: Option<&str>) -> Option<T> {
    text?.trim().parse().ok()
}

/// The `Key: value` pairs of a line; what lies between them and is none is passed over.
fn read_pairs(line: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = line;
    while pairs.len() < PAIRS_MAX {
        let Some((before, after)) = rest.split_once(':') else {
            break;
        };
        let key = before.rsplit(',').next().unwrap_or_default().trim();
        if !is_key(key) {
            rest = after;
            continue;
        }
        let (value, following) = read_value(after.trim_start());
        pairs.push((key.to_owned(), value));
        rest = following;
    }
    pairs
}

fn is_key(text: &str) -> bool {
    text.chars().count() >= 2
        && text.starts_with(|char: char| char.is_alphanumeric() || char == '_')
        && text
            .chars()
            .all(|char| char.is_alphanumeric() || matches!(char, '_' | ' ' | '-' | '/'))
}

/// A value and what follows its comma.
fn read_value(text: &str) -> (String, &str) {
    if let Some(end) = closing_quote(text)
        && let (Some(inside), Some(following)) = (text.get(..=end), text.get(end + 1..))
    {
        let following = following.trim_start();
        if following.is_empty() || following.starts_with(',') {
            let value = serde_json::from_str(inside).unwrap_or_else(|_| inside.to_owned());
            return (value, following.get(1..).unwrap_or_default());
        }
    }
    let (value, following) = text.split_once(',').unwrap_or((text, ""));
    (value.trim().to_owned(), following)
}

/// Where the string that opens `text` closes, in bytes.
fn closing_quote(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('"')?;
    let mut is_escaped = false;
    for (at, char) in inside.char_indices() {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn split_prompts(text: &str) -> (String, String) {
    let mut prompts = (Vec::new(), Vec::new());
    let mut is_negative = false;
    for line in text.lines() {
        let line = line.trim();
        let line = match line.strip_prefix(NEGATIVE_PROMPT) {
            Some(rest) => {
                is_negative = true;
                rest.trim()
            }
            None => line,
        };
        if is_negative {
            prompts.1.push(line);
        } else {
            prompts.0.push(line);
        }
    }
    (
        prompts.0.join("\n").trim().to_owned(),
        prompts.1.join("\n").trim().to_owned(),
    )
}

/// Takes `<lora:name:scale>` out of a prompt. What cannot be a LoRA of ours stays where it is.
pub(crate) fn take_loras(prompt: &str) -> (String, Vec<LoraChoice>) {
    let mut loras = Vec::new();
    let mut kept = String::new();
    let mut rest = prompt;
    while let Some(start) = rest.find("<lora:") {
        let (before, tag) = rest.split_at(start);
        kept.push_str(before);
        let end = tag.find('>').map_or(tag.len(), |end| end + 1);
        let (tag, after) = tag.split_at(end);
        match read_lora(tag) {
            Some(lora) if loras.len() < LORAS_READ_MAX => loras.push(lora),
            _ => kept.push_str(tag),
        }
        rest = after;
    }
    kept.push_str(rest);
    (kept.trim().to_owned(), loras)
}

fn read_lora(tag: &str) -> Option<LoraChoice> {
    let mut parts = tag.strip_prefix("<lora:")?.strip_suffix('>')?.split(':');
    let name = name_of(parts.next()?)?;
    let scale = match parts.next() {
        None => LoraScale::default(),
        Some(scale) => LoraScale::new(scale.trim().parse().ok()?).ok()?,
    };
    // A further number is a scale for the unet of its own, which jobs do not have.
    if parts.next().is_some() {
        return None;
    }
    Some(LoraChoice { name, scale })
}

/// Our name of a sampler, with its spacing in a field of its own or, in old files, behind its name.
fn scheduler(sampler: &str, spacing: Option<&str>) -> Option<SchedulerName> {
    let spacing = match spacing {
        Some("Automatic") => AUTOMATIC_SPACINGS
            .iter()
            .find_map(|(known, spacing)| (*known == sampler).then_some(*spacing)),
        spacing => spacing,
    };
    let spaced = spacing.map(|spacing| format!("{sampler} {spacing}"));
    spaced
        .as_deref()
        .into_iter()
        .chain([sampler])
        .find_map(|name| name.parse::<SchedulerKind>().ok())
        .map(crate::catalog::scheduler_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_as_a1111_writes_it_is_understood() {
        let read = parse(
            "portrait of a fox, (detailed:1.2), 50mm <lora:ink wash:0.7>\nsecond line\nNegative prompt: blurry, low\nquality\nSteps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 965400086, Size: 512x768, Model hash: 45dee52b, Model: deliberate_v2, Denoising strength: 0.55, Clip skip: 2, Mask blur: 4, Lora hashes: \"ink wash: aa, other: \\\"bb\\\"\", Version: v1.10.1",
        );
        assert_eq!(
            read.prompt,
            "portrait of a fox, (detailed:1.2), 50mm \nsecond line"
        );
        assert_eq!(read.negative_prompt, "blurry, low\nquality");
        assert_eq!(read.steps.map(Steps::get), Some(28));
        assert_eq!(
            read.scheduler.as_ref().map(SchedulerName::as_str),
            Some("dpmpp_2m_karras")
        );
        assert_eq!(read.guidance_scale.map(GuidanceScale::get), Some(6.5));
        assert_eq!(read.seed, Some(Seed(965_400_086)));
        assert_eq!((read.width, read.height), (Some(512), Some(768)));
        assert_eq!(read.model.as_deref(), Some("deliberate_v2"));
        assert_eq!(read.strength.map(Strength::get), Some(0.55));
        assert_eq!(read.clip_skip.map(ClipSkip::get), Some(1));
        assert_eq!(read.mask_blur.map(MaskBlur::get), Some(4.0));
        let lora = read.loras.first().expect("a lora");
        assert_eq!((lora.name.as_str(), lora.scale.get()), ("ink-wash", 0.7));
        assert_eq!(
            read.fields.get("Lora hashes").map(String::as_str),
            Some("ink wash: aa, other: \"bb\"")
        );
    }

    #[test]
    fn samplers_of_every_age_are_known() {
        for (sampler, spacing, expected) in [
            ("Euler a", None, Some("euler_ancestral")),
            ("Euler", Some("Automatic"), Some("euler")),
            ("DPM++ 2M Karras", None, Some("dpmpp_2m_karras")),
            ("DPM++ 2M", Some("Automatic"), Some("dpmpp_2m_karras")),
            ("DPM++ 2M", Some("Normal"), Some("dpmpp_2m")),
            (
                "DPM++ 2M SDE",
                Some("Exponential"),
                Some("dpmpp_2m_sde_exponential"),
            ),
            ("UniPC", Some("SGM Uniform"), Some("unipc")),
            ("Restart", Some("Automatic"), None),
        ] {
            let found = scheduler(sampler, spacing);
            assert_eq!(
                found.as_ref().map(SchedulerName::as_str),
                expected,
                "{sampler} {spacing:?}"
            );
        }
    }

    #[test]
    fn every_scheduler_of_ours_is_itself_again() {
        for kind in SchedulerKind::all() {
            let name = crate::catalog::scheduler_name(kind);
            let (theirs, spacing) = sampler(&name);
            assert_eq!(scheduler(&theirs, Some(spacing)), Some(name));
        }
    }

    #[test]
    fn a_text_without_a_last_line_is_a_prompt() {
        for text in ["a fox", "Steps: 20", "a: b, c: d", "", "one\ntwo: three"] {
            let read = parse(text);
            assert_eq!(read.prompt, text);
            assert!(read.fields.is_empty(), "{text}");
        }
    }

    #[test]
    fn values_with_commas_colons_or_line_breaks_are_quoted() {
        for value in [
            "plain",
            "a, b",
            "a: b",
            "two\nlines",
            "\"quoted\", and \\ more",
            "é, ü",
        ] {
            let line = format!(
                "Steps: 1, Sampler: Euler, Model: {}, Seed: 2",
                quoted(value)
            );
            let read = parse(&format!("x\n{line}"));
            assert_eq!(read.model.as_deref(), Some(value), "{line}");
            assert_eq!(read.seed, Some(Seed(2)), "{line}");
        }
    }
}
