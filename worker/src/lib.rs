//! The worker: takes drawing jobs over HTTP, draws them on one device, and streams what happens.
//!
//! A request goes through [`router`] to one of [`routes`], is parsed into the newtypes of `scumble_protocol`, filled
//! in by [`normalize`], and put in the job store; [`engine`] leases it, draws it with `scumble_diffusion` and logs
//! events, which any number of streams read. Status codes are in [`error`], bounds in [`limits`].

pub mod app;
pub mod auth;
pub mod catalog;
pub mod commands;
pub mod config;
pub mod decode;
pub mod edit;
pub mod encode;
pub mod engine;
pub mod error;
pub mod estimate;
pub mod hub;
pub mod inputs;
pub mod limits;
pub mod loras;
pub mod metadata;
pub mod normalize;
pub mod origin;
pub mod positions;
pub mod record;
pub mod request_scope;
pub mod router;
pub mod routes;
pub mod server;
pub mod shutdown;
pub mod telemetry;
pub mod tokenizers;
pub mod ui;
pub mod watchers;
