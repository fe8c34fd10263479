//! Fuzzing by mutation on stable Rust, of everything that reads what somebody else wrote.
//!
//! `cargo test --lib fuzz` runs all targets for a few seconds, always with the same inputs. `HOLDLINE_FUZZ_SEED` makes other ones,
//! `HOLDLINE_FUZZ_RUNS` more of them (for each target), `HOLDLINE_FUZZ_KEEP=1` keeps what led to an answer nobody had given before.
//! What fails is kept in `corpus/{target}` in any case, and is tried first from then on.
//!
//! A target says what must hold for any input at all: nothing panics; what comes out is bounded by what went in; what is taken
//! survives being written and read again; and where the rules are simple, a naive [`model`] of them says the same.
//! Targets of private modules stand in this directory, too, but are mounted where they can see what they test. [`wire`](../wire.rs) does the
//! same to the real binary.

pub(crate) mod engine;
pub(crate) mod model;

mod config;
mod names;
mod protocol;
