//! The Scumble client's core: submit a job, follow its events, resume, retry, cancel.
//!
//! Everything that decides (what is retried, what is dropped as a repeat, when a stream is resumed and when it is
//! given up) is here, over the [`transport::Transport`] trait, and is tested natively with a scripted one. The
//! browser's and Node's transport is `fetch`; the JavaScript face is a thin layer of TypeScript over the exports.

pub mod client;
pub mod error;
pub mod events;
pub mod retry;
pub mod stop;
pub mod transport;

#[cfg(target_arch = "wasm32")]
pub mod exports;
#[cfg(target_arch = "wasm32")]
mod fetch;
