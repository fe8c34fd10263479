//! The parts of the benches that need neither sockets nor a quiet machine: what they say is only as good as these. Each is seen to notice
//! what it is there for.

#[path = "counts/budget.rs"]
mod budget;
#[path = "counts/callgrind.rs"]
#[expect(dead_code, reason = "the benches need more of it")]
mod callgrind;
#[path = "load/crowd.rs"]
mod crowd;
#[path = "load/frames.rs"]
#[expect(dead_code, reason = "the benches need more of it")]
mod frames;
#[path = "load/plot.rs"]
mod plot;
#[path = "load/report.rs"]
#[expect(dead_code, reason = "the benches need more of it")]
mod report;
#[path = "load/row.rs"]
mod row;
#[path = "load/sink.rs"]
mod sink;
#[path = "load/tally.rs"]
mod tally;
#[path = "load/text.rs"]
mod text;

#[path = "parts/counting.rs"]
mod counting;
#[path = "parts/figures.rs"]
mod figures;
#[path = "parts/receiving.rs"]
mod receiving;
