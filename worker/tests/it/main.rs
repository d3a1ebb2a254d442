//! The worker as a client meets it: real sockets, the real store, the real engine, the embedded model.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that meets something else than it expects may end there"
)]

mod cli;
mod doors;
mod edits;
mod faults;
mod hub;
mod images;
mod input;
mod loras;
mod metadata;
mod models;
mod mutants;
mod pull;
mod stop;
mod stream;
mod support;
mod tokenize;
mod uploads;
