//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Load on Holdline, on a bare loop for comparison, or on any server that speaks the Pusher protocol.
///
/// Without a scenario, all of them run, short. `table` runs every row of src/docs/performance.md and writes it.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo bench --bench load --")]
pub(crate) struct Options {
    /// idle, connect, churn, fanout, publish, batch, presence, client-events, stuck, holds, mass, workers, handler, slow-http; table
    pub(crate) scenarios: Vec<String>,
    /// Subscribers, or connections; the default is the scenario's
    #[arg(long)]
    pub(crate) subscribers: Option<usize>,
    /// Channels that are published to in turn
    #[arg(long, default_value_t = 1)]
    pub(crate) channels: usize,
    /// Publishes, or connections, under way at a time (closed loop)
    #[arg(long)]
    pub(crate) in_flight: Option<usize>,
    /// Publishes per second (open loop; latency counts from when each was due)
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Length of the measurement, after a short warm-up
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Cycles of connect and churn
    #[arg(long)]
    pub(crate) cycles: Option<usize>,
    /// Bytes of data of one event
    #[arg(long, default_value_t = 200)]
    pub(crate) payload: usize,
    /// Bind the server to one core and the generator to another
    #[arg(long)]
    pub(crate) pin: bool,
    #[arg(long, default_value_t = 0)]
    pub(crate) server_core: usize,
    #[arg(long, default_value_t = 1)]
    pub(crate) generator_core: usize,
    /// Without the floor: Holdline, or the server of --url, alone
    #[arg(long)]
    pub(crate) no_floor: bool,
    /// Write all figures to this file
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// With `table`: put the table and the plot into src/docs, too
    #[arg(long)]
    pub(crate) publish: bool,
    /// Directory for what `table` writes: performance.json, performance.md, performance.svg
    #[arg(long, default_value = "target/performance")]
    pub(crate) out: PathBuf,
    /// Where Holdline keeps locks: sqlite, memory, none, or postgres://…
    #[arg(long, default_value = "sqlite")]
    pub(crate) store: String,
    /// Another build of Holdline
    #[arg(long)]
    pub(crate) bin: Option<PathBuf>,
    /// A running server: ws://host:port
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Its HTTP API, if that is elsewhere: http://host:port
    #[arg(long)]
    pub(crate) http: Option<String>,
    /// What it is called in the output
    #[arg(long, default_value = "server")]
    pub(crate) name: String,
    #[arg(long, default_value = "app-id")]
    pub(crate) app_id: String,
    #[arg(long, default_value = "app-key")]
    pub(crate) key: String,
    #[arg(long, default_value = "app-secret")]
    pub(crate) secret: String,
    /// Its process, for CPU time and memory
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Cores we may use, before anything was bound
    #[arg(skip)]
    pub(crate) cores: Vec<usize>,
    /// Passed by cargo
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
    /// This process is a floor: `write` or `coalesce`
    #[arg(long, hide = true)]
    pub(crate) floor_server: Option<String>,
    #[arg(long, hide = true, default_value_t = 0)]
    pub(crate) port: u16,
}
