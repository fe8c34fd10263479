//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Load on Holdline, on a bare loop for comparison, or on any server that speaks the Pusher protocol.
///
/// Without a scenario, all of them run, short. `table` measures every row of src/docs/performance.md; `publish-figures` puts what
/// it wrote into that page, its plot and README.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo bench --bench load --")]
pub(crate) struct Options {
    /// idle, connect, churn, fanout, publish, batch, presence, client-events, stuck, holds, mass, workers, handler, slow-http; table;
    /// publish-figures
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
    /// Cycles of connect, churn and handler
    #[arg(long)]
    pub(crate) cycles: Option<usize>,
    /// Bytes of data of one event
    #[arg(long, default_value_t = 200)]
    pub(crate) payload: usize,
    /// Bind the server to one core and the generator to another; with several workers both share all cores
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
    /// Run each comparison with the floor so many times, in turn, and take the lowest of each
    #[arg(long, default_value_t = 1)]
    pub(crate) repeat: usize,
    /// With `table`: this row only (may be repeated): burst, single, paced, large, channels, nobody, batch, connect, churn, idle,
    /// presence, client-events, workers, stuck, handler
    #[arg(long)]
    pub(crate) row: Vec<String>,
    /// With `table`: run a void row again at most so many times
    #[arg(long, default_value_t = 1)]
    pub(crate) again: usize,
    /// With `table`: put the figures, the plot and the short table into src/docs and README, too
    #[arg(long)]
    pub(crate) publish: bool,
    /// What `table` writes, and what `publish-figures` reads
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/performance.json"))]
    pub(crate) out: PathBuf,
    /// Where Holdline keeps locks: sqlite, memory, none, or postgres://…
    #[arg(long, default_value = "sqlite")]
    pub(crate) store: String,
    /// Another build of Holdline
    #[arg(long)]
    pub(crate) bin: Option<PathBuf>,
    /// A running server: ws://host:port, without TLS
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
    /// Its process, for CPU time and memory; its children are counted
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
