//! Faults: what locks are for. Each test does to real brokers, databases and clients what the failure matrix of the reliability notes
//! says, demands what the matrix demands, and then checks every invariant from outside.
//!
//! `cargo test --test suite -- --ignored faults::`; the numbers are those of the matrix. A test starts a `Cluster`, hurts it, and ends
//! with `finish()` (`verdict`), which makes everything whole, lets all clients leave, and compares what they saw (`journal`) with the tables
//! (`ledger`) and the logs (`checker`). `chaos` does everything at once, by a seed; `mutants` shows that the suite can fail.

pub(crate) mod audit;
pub(crate) mod checker;
pub(crate) mod cluster;
pub(crate) mod dice;
pub(crate) mod driver;
pub(crate) mod fleet;
pub(crate) mod journal;
pub(crate) mod ledger;
pub(crate) mod node;
pub(crate) mod plan;
pub(crate) mod verdict;

#[cfg(test)]
mod checker_tests;

mod asking;
mod chaos;
mod clients;
mod contention;
mod crowds;
mod database;
mod embedded;
mod links;
mod listeners;
mod mutants;
mod nodes;
mod panics;
mod webhooks;
