//! Holdline from the outside: the tests talk to the real binary over TCP and link none of its types; only the `handlers` family
//! embeds the library, as an application would, and `stored` writes histories with the library's store.
//!
//! `cargo test --test suite`; the binary is the one cargo built, or the one that `HOLDLINE_BIN` names.
//! The law is the wire contract: a test that disagrees with it is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

mod apps;
mod apps_webhooks;
mod architecture;
#[path = "bench/parts.rs"]
mod bench;

mod cache;
mod capacity;
mod cli;
mod cli_ask;
mod cli_beside;
mod cli_consumers;
mod cli_events;
mod cli_nodes;
mod cli_tail;
mod client_events;
mod close_codes;
mod config;
mod config_locks;
mod config_sources;
mod desk;
mod doctor;
mod doctor_database;
mod events_api;
mod faults;
mod framing;
mod fuzz;
mod garbage;
mod guides;
mod handlers;
mod handlers_broker;
mod handlers_causes;
mod handlers_compose;
mod handlers_embed;
mod handlers_failures;
mod handlers_holds;
mod handlers_never;
mod handlers_order;
mod handlers_outcomes;
mod handlers_request;
mod handlers_script;
mod handlers_slow;
mod handshake;
mod handshake_auth;
mod holds_config;
mod http_wire;
mod idempotency;
mod limits;
mod limits_node;
mod listeners;
mod listeners_readers;
mod liveness;
mod locks_api;
mod locks_cli;
mod logs;
mod memory;
mod messages;
mod metrics;
mod metrics_prometheus;
mod openapi;
mod order;
mod otlp;
mod packaging;
mod presence;
mod presence_crowd;
mod proxies;
mod receipts;
mod refusals;
mod rest_batch;
mod rest_publish;
mod rest_query;
mod rest_signature;
mod secrets;
mod secrets_config;
mod shutdown;
mod signin;
mod slow_consumer;
mod sockets;
mod subscribe;
mod subscription_count;
mod terminate;
mod tls;
mod watchlist;
mod webhooks_crowd;
mod webhooks_delivery;
mod webhooks_feed;
mod webhooks_nodes;
mod webhooks_operate;
mod webhooks_received;
