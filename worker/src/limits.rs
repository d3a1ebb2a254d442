//! The worker's own bounds, each named with its unit; those of the wire contract are in `scumble_protocol::limits`.

use std::time::Duration;

/// Connections open at once; further ones wait in the kernel's backlog.
pub const CONNECTIONS_MAX: usize = 10_000;
/// A connection that has not sent a whole request head within this time is closed.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers of one request.
pub const HEADERS_MAX: usize = 64;
/// Bytes of one request's head.
pub const HEADER_BYTES_MAX: usize = 32 * 1024;
/// A body that has not arrived whole within this time is given up.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Bodies with images in them may take this many times as long.
pub const LARGE_BODY_TIME_FACTOR: u32 = 4;
/// Bodies with images in them that are in memory at once; more wait for their turn.
pub const LARGE_BODIES_MAX: usize = 8;
/// Images that are decoded at once to be looked at, each within some 160 MB.
pub const DECODERS_MAX: usize = 2;
/// Bytes of a form's boundaries and of its parts' heads.
pub const FORM_OVERHEAD_BYTES_MAX: usize = 64 * 1024;
/// A body that is too large is read on for this many bytes, so that its sender hears the answer.
pub const BODY_DISCARDED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Uploads are kept this long.
pub const UPLOADS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes of uploads beyond which further ones are refused, unless `--upload-bytes-max` says otherwise.
pub const UPLOAD_BYTES_MAX: u64 = 1 << 30;
/// Bytes of finished jobs' inputs beyond which the oldest such jobs are removed.
pub const FINISHED_INPUT_BYTES_MAX: u64 = 8 << 30;
/// How long the accept loop rests when the process is out of file descriptors.
pub const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Jobs that wait before further ones are refused, unless `--queue-jobs-max` says otherwise.
pub const QUEUE_JOBS_MAX: u32 = 64;
/// Attempts that may die with the process before a job fails.
pub const ATTEMPTS_MAX: u32 = 3;
/// Waiting jobs that are told when their position changes.
pub const POSITIONS_TOLD_MAX: u32 = 256;
/// Finished jobs are kept this long.
pub const FINISHED_JOBS_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Finished jobs kept, whatever their age.
pub const FINISHED_JOBS_KEPT_MAX: u32 = 10_000;
/// How often old jobs are looked for.
pub const PRUNE_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// The part of the free memory, in percent, that the weights of models may take, unless `--models-memory-max` says
/// otherwise: the rest is for drawing.
pub const MODELS_MEMORY_PERCENT: u64 = 75;
/// Tokenizers in memory at once, besides those of the loaded models; one of Stable Diffusion's takes some megabytes.
pub const TOKENIZERS_LOADED_MAX: usize = 4;
/// Reports of the engine's thread that wait to be logged; a preview that finds no room is dropped.
pub const ENGINE_REPORTS_MAX: usize = 64;
/// Reports logged in one transaction.
pub const ENGINE_REPORTS_BATCH_MAX: usize = 32;

/// Events that a live stream may be behind by before it re-reads the log, which has no previews.
pub const LIVE_EVENTS_MAX: usize = 256;
/// Events read from the log at once.
pub const EVENTS_PAGE_MAX: u32 = 256;
/// A stream on which nothing happens says so this often.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// What a stream that ends early tells its reader to wait before it resumes.
pub const STREAM_RETRY_MS: u32 = 2_000;
/// Longest wait of `Prefer: wait`, in seconds; a larger wish is taken as this.
pub const WAIT_SECONDS_MAX: u64 = 600;
/// Longest request id taken over from a client, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 64;

/// How long a stopping server waits for requests and the running job, unless `--shutdown-timeout-ms` says otherwise.
pub const SHUTDOWN_TIMEOUT_MS: u64 = 10_000;
/// How long the engine may take, beyond that, to stop at the next step.
pub const ENGINE_STOP_GRACE: Duration = Duration::from_secs(2);
