//! scumble
fn main() {}
