//! What a client asks for, as sent and as understood.

use crate::{
    BatchSize, ClipSkip, Dimension, ErrorCode, ErrorObject, GuidanceRescale, GuidanceScale,
    ImageSource, LoraName, LoraScale, MaskBlur, ModelId, NegativePrompt, OnlyMaskedPadding,
    OutpaintPixels, PreviewInterval, Prompt, SchedulerName, Seed, Steps, Strength,
    limits::LORAS_MAX,
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeOwned},
};

/// What kind of drawing a job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Task {
    /// From words alone.
    #[default]
    TextToImage,
    /// From an image, all of which may change.
    ImageToImage,
    /// From an image, a part of which is drawn anew; what is not masked stays bit for bit.
    Inpaint,
}

impl Task {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TextToImage => "text_to_image",
            Self::ImageToImage => "image_to_image",
            Self::Inpaint => "inpaint",
        }
    }
}

/// What is under the mask before drawing begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
#[serde(rename_all = "snake_case")]
pub enum InpaintFill {
    /// The image; the default.
    #[default]
    Original,
    /// Noise.
    Noise,
    /// The image, blurred.
    Blur,
    /// The colours around the mask, spread into it.
    Fill,
}

/// Pixels added to an image's edges, to be drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "ts",
    derive(ts_rs::TS),
    ts(export_to = "protocol.ts", optional_fields)
)]
#[serde(deny_unknown_fields, default)]
pub struct Outpaint {
    /// On the left.
    #[cfg_attr(feature = "ts", ts(as = "Option<u32>"))]
    pub left: OutpaintPixels,
    /// On top.
    #[cfg_attr(feature = "ts", ts(as = "Option<u32>"))]
    pub top: OutpaintPixels,
    /// On the right.
    #[cfg_attr(feature = "ts", ts(as = "Option<u32>"))]
    pub right: OutpaintPixels,
    /// At the bottom.
    #[cfg_attr(feature = "ts", ts(as = "Option<u32>"))]
    pub bottom: OutpaintPixels,
}

impl Outpaint {
    /// Whether it adds nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// A LoRA and how strongly it counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
#[serde(deny_unknown_fields)]
pub struct LoraChoice {
    /// Which.
    pub name: LoraName,
    /// How strongly; 1 when left out.
    #[serde(default)]
    #[cfg_attr(feature = "ts", ts(as = "Option<LoraScale>", optional))]
    pub scale: LoraScale,
}

/// An image that a job was given, by what it is instead of by its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct ImageInput {
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Pixels across, turned upright as its EXIF orientation says.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// `image/png`, `image/webp` or `image/jpeg`: what the bytes are, whatever they were called.
    pub mime_type: String,
}

/// The file format of finished images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
#[serde(rename_all = "snake_case")]
pub enum OutputFormat {
    /// Lossless; the default.
    #[default]
    Png,
    /// Lossless WebP, smaller than PNG.
    Webp,
    /// Lossy, quality 90.
    Jpeg,
}

impl OutputFormat {
    /// The media type of the file.
    #[must_use]
    pub const fn mime_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Jpeg => "image/jpeg",
        }
    }
}

/// How finished images reach the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
#[serde(rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Base64 inside the `image` events, and by URL; the default.
    #[default]
    B64Json,
    /// By URL only.
    Url,
}

/// How often a look at the unfinished image is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
#[serde(deny_unknown_fields)]
pub struct Preview {
    /// Steps between two previews.
    #[cfg_attr(feature = "ts", ts(type = "number"))]
    pub every: PreviewInterval,
    /// Their file format.
    #[serde(default)]
    #[cfg_attr(feature = "ts", ts(as = "Option<PreviewFormat>", optional))]
    pub format: PreviewFormat,
}

/// The file format of previews.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
#[serde(rename_all = "snake_case")]
pub enum PreviewFormat {
    /// The default.
    #[default]
    Webp,
    /// For clients without WebP.
    Png,
    /// Smallest for large previews.
    Jpeg,
}

/// The body of `POST /v1/jobs`. Only `prompt` is required; every other default comes from the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "ts",
    derive(ts_rs::TS),
    ts(export_to = "protocol.ts", optional_fields = nullable)
)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// What to draw: 1–4000 characters.
    pub prompt: Prompt,
    /// What kind of drawing; follows from the other fields when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// Which model draws; the worker's first when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelId>,
    /// What to steer away from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<NegativePrompt>,
    /// Pixels across: a multiple of 8 within the model's bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<Dimension>,
    /// Pixels down: a multiple of 8 within the model's bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<Dimension>,
    /// Denoising steps, 1–150.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Steps>,
    /// How strongly the prompt steers, 0–30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance_scale: Option<GuidanceScale>,
    /// Drawn at random when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Seed>,
    /// How many images, 1–8; image `n` uses seed + n.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<BatchSize>,
    /// Which scheduler; names and aliases are at `/v1/schedulers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SchedulerName>,
    /// The image to start from: its file (PNG, JPEG or WebP) in base64, as a `data:` URL or not, or the id of an upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_image: Option<ImageSource>,
    /// How much of the image is given up to noise, above 0 and at most 1; 0.75 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<Strength>,
    /// Which part is drawn anew (white); given as `init_image` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<ImageSource>,
    /// The standard deviation of the blur that the mask gets, 0–64 pixels; 4 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_blur: Option<MaskBlur>,
    /// Whether black is drawn anew instead of white.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_invert: Option<bool>,
    /// Draws nothing but the masked part, at the whole size of the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_masked: Option<bool>,
    /// Pixels around the masked part that are drawn along with it, 0–1024; 32 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_masked_padding: Option<OnlyMaskedPadding>,
    /// What is under the mask before drawing begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inpaint_fill: Option<InpaintFill>,
    /// Pixels added to the image's edges, to be drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outpaint: Option<Outpaint>,
    /// Last layers of the text encoder that are left out, 0–32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_skip: Option<ClipSkip>,
    /// How much of the prediction's spread is taken back to what it was without guidance, 0–1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance_rescale: Option<GuidanceRescale>,
    /// At most 8 LoRAs.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "loras"
    )]
    pub loras: Option<Vec<LoraChoice>>,
    /// Sends previews while it draws.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
    /// File format of the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_format: Option<OutputFormat>,
    /// How the images reach the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_format: Option<ResponseFormat>,
    /// Whether the images' files say how they were drawn; yes when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<bool>,
    /// Cancels the job when the last stream reader goes away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_on_disconnect: Option<bool>,
}

/// A request with every default filled in: what is drawn, stored and echoed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct NormalizedRequest {
    /// What kind of drawing.
    pub task: Task,
    /// Which model draws.
    pub model: ModelId,
    /// What to draw.
    pub prompt: Prompt,
    /// What to steer away from.
    pub negative_prompt: NegativePrompt,
    /// Pixels across.
    pub width: Dimension,
    /// Pixels down.
    pub height: Dimension,
    /// Denoising steps.
    pub steps: Steps,
    /// How strongly the prompt steers.
    pub guidance_scale: GuidanceScale,
    /// The first image's seed.
    pub seed: Seed,
    /// How many images.
    pub n: BatchSize,
    /// Which scheduler, by its main name.
    pub scheduler: SchedulerName,
    /// The image that it starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub init_image: Option<ImageInput>,
    /// How much of the image is given up to noise; only with an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub strength: Option<Strength>,
    /// Which part is drawn anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub mask: Option<ImageInput>,
    /// The standard deviation of the blur that the mask gets, in pixels; only for an inpaint, as what follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub mask_blur: Option<MaskBlur>,
    /// Whether black is drawn anew instead of white.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub mask_invert: Option<bool>,
    /// Whether nothing but the masked part is drawn, at the whole size of the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub only_masked: Option<bool>,
    /// Pixels around the masked part that are drawn along with it; only with `only_masked`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub only_masked_padding: Option<OnlyMaskedPadding>,
    /// What is under the mask before drawing begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub inpaint_fill: Option<InpaintFill>,
    /// Pixels added to the image's edges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub outpaint: Option<Outpaint>,
    /// Last layers of the text encoder that are left out.
    #[serde(default)]
    pub clip_skip: ClipSkip,
    /// How much of the prediction's spread is taken back to what it was without guidance.
    #[serde(default)]
    pub guidance_rescale: GuidanceRescale,
    /// LoRAs, in the order in which they are added.
    #[serde(default)]
    pub loras: Vec<LoraChoice>,
    /// Whether and how often previews are sent.
    pub preview: Option<Preview>,
    /// File format of the images.
    pub output_format: OutputFormat,
    /// How the images reach the client.
    pub response_format: ResponseFormat,
    /// Whether the images' files say how they were drawn.
    #[serde(default = "yes")]
    pub metadata: bool,
    /// Whether the job is cancelled when the last stream reader goes away.
    pub cancel_on_disconnect: bool,
}

const fn yes() -> bool {
    true
}

fn loras<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<LoraChoice>>, D::Error> {
    let loras = Option::<Vec<LoraChoice>>::deserialize(deserializer)?;
    match loras.as_ref().map(Vec::len) {
        Some(length) if length > LORAS_MAX => Err(de::Error::custom(format_args!(
            "must be at most {LORAS_MAX} LoRAs, got {length}"
        ))),
        _ => Ok(loras),
    }
}

/// Why a body is not a request: the field at fault and a sentence with the bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.message)]
pub struct InvalidRequest(Box<ErrorObject>);

impl InvalidRequest {
    /// The error as it goes over the wire.
    #[must_use]
    pub fn into_object(self) -> ErrorObject {
        *self.0
    }
}

impl JobRequest {
    /// Parses the body of `POST /v1/jobs`.
    ///
    /// # Errors
    /// Names the first field at fault in `param`, with its bound and the value.
    pub fn from_json(body: &[u8]) -> Result<Self, InvalidRequest> {
        parse(body)
    }
}

/// Parses a body. Errors name the first field at fault.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, InvalidRequest> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let request = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        invalid(&path, error.into_inner())
    })?;
    deserializer.end().map_err(|error| invalid(".", error))?;
    Ok(request)
}

fn invalid(path: &str, error: serde_json::Error) -> InvalidRequest {
    let text = error.to_string();
    // serde_json ends every message with a position; it helps with broken JSON, not with a field's bound.
    let sentence = text.split(" at line ").next().unwrap_or(&text);
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().to_owned();
    let object = if let Some(field) = sentence.strip_prefix("missing field ") {
        let field = quoted(field);
        ErrorObject::new(ErrorCode::MissingField, format!("{field} is required")).with_param(field)
    } else if sentence.starts_with("unknown field ") {
        let field = quoted(sentence);
        let param = if path.ends_with(&field) {
            path.to_owned()
        } else {
            field
        };
        ErrorObject::new(ErrorCode::UnknownField, sentence).with_param(param)
    } else if path == "." || path.ends_with('?') {
        // `?` stands for a key that could not be read: the JSON itself is broken there.
        ErrorObject::new(
            if error.is_data() {
                ErrorCode::InvalidValue
            } else {
                ErrorCode::InvalidJson
            },
            format!("the body must be a JSON object: {text}"),
        )
    } else {
        let message = if sentence.starts_with("must ") {
            format!("{path} {sentence}")
        } else if let Some(expected) = expectation(path).filter(|_| !error.is_data()) {
            // Such as NaN, which JSON does not have.
            format!("{path} must be {expected}, and what is there is no such JSON: {sentence}")
        } else {
            format!("{path}: {sentence}")
        };
        ErrorObject::new(ErrorCode::InvalidValue, message).with_param(path)
    };
    InvalidRequest(Box::new(object))
}

/// What a field takes, in its own words: it is shown a value that no field takes.
fn expectation(field: &str) -> Option<String> {
    let probe = serde_json::json!({ "prompt": "x", field: {} });
    let refusal = serde_json::from_value::<JobRequest>(probe)
        .err()?
        .to_string();
    let (_, expected) = refusal.split_once("expected ")?;
    Some(expected.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> (ErrorCode, Option<String>, String) {
        let object = JobRequest::from_json(body.as_bytes())
            .expect_err("refused")
            .into_object();
        (object.code, object.param, object.message)
    }

    #[test]
    fn only_the_prompt_is_required() {
        let request = JobRequest::from_json(br#"{"prompt":"a fox"}"#).expect("valid");
        assert_eq!(request.prompt.as_str(), "a fox");
        assert_eq!(request.steps, None);
        let (code, param, message) = refusal("{}");
        assert_eq!(code, ErrorCode::MissingField);
        assert_eq!(param.as_deref(), Some("prompt"));
        assert_eq!(message, "prompt is required");
    }

    #[test]
    fn a_bad_value_names_its_field_its_bound_and_the_value() {
        let cases = [
            (
                r#"{"prompt":"x","width":513}"#,
                "width",
                "width must be a multiple of 8",
            ),
            (
                r#"{"prompt":"x","steps":0}"#,
                "steps",
                "steps must be 1..=150, got 0",
            ),
            (
                r#"{"prompt":"x","steps":151}"#,
                "steps",
                "steps must be 1..=150, got 151",
            ),
            (
                r#"{"prompt":"x","steps":"many"}"#,
                "steps",
                "steps: invalid type: string \"many\", expected an integer within 1..=150",
            ),
            (
                r#"{"prompt":"x","guidance_scale":NaN}"#,
                "guidance_scale",
                "guidance_scale must be a number within 0..=30, ",
            ),
            (
                r#"{"prompt":"x","guidance_scale":"NaN"}"#,
                "guidance_scale",
                "guidance_scale: invalid type: string \"NaN\", expected a number within 0..=30",
            ),
            (
                r#"{"prompt":"x","guidance_scale":1e999}"#,
                "guidance_scale",
                "guidance_scale must be a number within 0..=30, ",
            ),
            (
                r#"{"prompt":"x","guidance_scale":31}"#,
                "guidance_scale",
                "guidance_scale must be 0..=30, got 31",
            ),
            (r#"{"prompt":""}"#, "prompt", "prompt must not be empty"),
            (r#"{"prompt":"x","n":9}"#, "n", "n must be 1..=8, got 9"),
            (r#"{"prompt":"x","seed":-1}"#, "seed", "seed: "),
            (
                r#"{"prompt":"x","preview":{"every":0}}"#,
                "preview.every",
                "preview.every must be 1..=150, got 0",
            ),
            (
                r#"{"prompt":"x","strength":0}"#,
                "strength",
                "strength must be above 0 and at most 1, got 0",
            ),
            (
                r#"{"prompt":"x","strength":1.01}"#,
                "strength",
                "strength must be above 0 and at most 1, got 1.01",
            ),
            (
                r#"{"prompt":"x","mask_blur":-1}"#,
                "mask_blur",
                "mask_blur must be 0..=64, got -1",
            ),
            (
                r#"{"prompt":"x","only_masked_padding":2000}"#,
                "only_masked_padding",
                "only_masked_padding must be 0..=1024, got 2000",
            ),
            (
                r#"{"prompt":"x","outpaint":{"left":-8}}"#,
                "outpaint.left",
                "outpaint.left must be 0..=4096, got -8",
            ),
            (
                r#"{"prompt":"x","clip_skip":33}"#,
                "clip_skip",
                "clip_skip must be 0..=32, got 33",
            ),
            (
                r#"{"prompt":"x","guidance_rescale":1.5}"#,
                "guidance_rescale",
                "guidance_rescale must be 0..=1, got 1.5",
            ),
            (
                r#"{"prompt":"x","inpaint_fill":"red"}"#,
                "inpaint_fill",
                "inpaint_fill: unknown variant `red`, expected one of",
            ),
            (
                r#"{"prompt":"x","task":"upscale"}"#,
                "task",
                "task: unknown variant `upscale`, expected one of",
            ),
            (
                r#"{"prompt":"x","loras":[{"name":"a","scale":9}]}"#,
                "loras[0].scale",
                "loras[0].scale must be -4..=4, got 9",
            ),
            (
                r#"{"prompt":"x","init_image":"http://example.com/a.png"}"#,
                "init_image",
                "init_image must be base64, a data: URL or the id of an upload",
            ),
        ];
        for (body, field, start) in cases {
            let (code, param, message) = refusal(body);
            assert_eq!(code, ErrorCode::InvalidValue, "{body}: {message}");
            assert_eq!(param.as_deref(), Some(field), "{body}: {message}");
            assert!(message.starts_with(start), "{body}: {message}");
            assert!(!message.contains(" line "), "{body}: {message}");
        }
    }

    #[test]
    fn an_unknown_field_is_named() {
        let (code, param, message) = refusal(r#"{"prompt":"x","cfg":7}"#);
        assert_eq!(code, ErrorCode::UnknownField);
        assert_eq!(param.as_deref(), Some("cfg"));
        assert!(
            message.starts_with("unknown field `cfg`, expected one of"),
            "{message}"
        );
    }

    #[test]
    fn what_is_not_json_is_said_to_be_so() {
        assert_eq!(refusal("").0, ErrorCode::InvalidJson);
        assert_eq!(refusal("{").0, ErrorCode::InvalidJson);
        assert_eq!(refusal("{prompt:1}").0, ErrorCode::InvalidJson);
        assert_eq!(refusal("[]").0, ErrorCode::InvalidValue);
        assert_eq!(
            refusal(r#"{"prompt":"x"} trailing"#).0,
            ErrorCode::InvalidJson
        );
    }
}
