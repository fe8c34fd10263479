//! Listeners that come with the broker.

pub(crate) mod broadcast;
pub(crate) mod http;
pub(crate) mod orders;
pub(crate) mod post;
pub(crate) mod signers;
pub(crate) mod webhook;

#[cfg(test)]
pub(crate) mod tests;
