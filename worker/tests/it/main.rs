//! The worker as a client meets it: real sockets, the real store, the real engine, the embedded model.

mod cli;
mod doors;
mod faults;
mod images;
mod input;
mod stop;
mod stream;
mod support;
