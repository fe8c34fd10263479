//! The same over the wire. What is inside of the library is fuzzed there: see `inside.rs`.

#[allow(dead_code, reason = "its own tests run with the library")]
mod engine;
mod wire;
