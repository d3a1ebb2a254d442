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
/// Largest JSON body of a job, in bytes (images sent as base64 will raise it).
pub const JOB_BODY_BYTES_MAX: usize = 256 * 1024;
/// Longest line of a Server-Sent Events stream that a reader accepts, in bytes (a 4096² PNG in base64 fits).
pub const SSE_LINE_BYTES_MAX: usize = 128 * 1024 * 1024;
