//! Every bound of the wire contract, in one place, each named with its unit.

/// Longest prompt or negative prompt, in Unicode scalar values.
pub const PROMPT_CHARS_MAX: usize = 4_000;
/// Smallest width or height, in pixels, before the model's own bounds.
pub const DIMENSION_PIXELS_MIN: u32 = 8;
/// Largest width or height, in pixels, before the model's own bounds.
pub const DIMENSION_PIXELS_MAX: u32 = 4_096;
/// Width and height are multiples of this many pixels.
pub const DIMENSION_PIXELS_MULTIPLE: u32 = 8;
/// Fewest denoising steps.
pub const STEPS_MIN: u32 = 1;
/// Most denoising steps.
pub const STEPS_MAX: u32 = 150;
/// Smallest guidance scale.
pub const GUIDANCE_SCALE_MIN: f64 = 0.0;
/// Largest guidance scale.
pub const GUIDANCE_SCALE_MAX: f64 = 30.0;
/// Fewest images in one job.
pub const BATCH_IMAGES_MIN: u32 = 1;
/// Most images in one job.
pub const BATCH_IMAGES_MAX: u32 = 8;
/// Longest model id or scheduler name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Largest integer that JavaScript's `Number` holds exactly.
pub const JSON_SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;
/// Largest strength of an edit; the smallest is anything above 0.
pub const STRENGTH_MAX: f64 = 1.0;
/// Largest guidance rescale; the smallest is 0.
pub const GUIDANCE_RESCALE_MAX: f64 = 1.0;
/// Widest blur of a mask, as its standard deviation in pixels.
pub const MASK_BLUR_PIXELS_MAX: f64 = 64.0;
/// Most pixels around the masked part that are drawn along with it.
pub const ONLY_MASKED_PADDING_PIXELS_MAX: u32 = 1_024;
/// Most pixels added to one edge of an image.
pub const OUTPAINT_PIXELS_MAX: u32 = 4_096;
/// Most layers of the text encoder that are left out, before the model's own bound.
pub const CLIP_SKIP_MAX: u32 = 32;
/// Most LoRAs of one job.
pub const LORAS_MAX: usize = 8;
/// Smallest scale of a LoRA.
pub const LORA_SCALE_MIN: f64 = -4.0;
/// Largest scale of a LoRA.
pub const LORA_SCALE_MAX: f64 = 4.0;
/// Largest image file that is taken, in bytes.
pub const IMAGE_BYTES_MAX: usize = 20 * 1024 * 1024;
/// Widest and highest image that is taken, in pixels.
pub const IMAGE_SIDE_PIXELS_MAX: u32 = 4_096;
/// Longest image in a JSON body, in bytes: the largest file in base64, with line breaks and the head of a `data:` URL.
pub const IMAGE_TEXT_BYTES_MAX: usize = IMAGE_BYTES_MAX.div_ceil(3) * 4 / 64 * 66 + 1_024;
/// Largest body of a job beside its images, in bytes.
pub const JOB_TEXT_BYTES_MAX: usize = 256 * 1024;
/// Largest body of a job, in bytes: two images in base64, and the rest.
pub const JOB_BODY_BYTES_MAX: usize = 2 * IMAGE_TEXT_BYTES_MAX + JOB_TEXT_BYTES_MAX;
/// Longest line of a Server-Sent Events stream that a reader accepts, in bytes (a 4096² PNG in base64 fits).
pub const SSE_LINE_BYTES_MAX: usize = 128 * 1024 * 1024;
