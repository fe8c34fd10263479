//! Locks, the log and those who read it, the store and its nodes.

use std::{collections::BTreeMap, fmt, sync::Arc};

use parking_lot::RwLock;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{
    page::{Page, labels},
    sample::{Sample, Sampler},
};
use crate::lifecycle::{
    LockManager, PostStats,
    store::{LockState, NodeState, ParkReason, StoreStats},
};

/// What a node with a store has to tell.
#[derive(Clone, Debug)]
pub(in crate::server) struct StoreSources {
    pub(in crate::server) locks: LockManager,
    /// Without locks the store is there for webhooks alone.
    pub(in crate::server) keeps_locks: bool,
    pub(in crate::server) calls: Arc<StoreStats>,
    /// Whom requests are posted to, by the names their places in the log are kept under.
    pub(in crate::server) endpoints: PostedTo,
}

/// Those whom requests are posted to; they come and go.
pub(in crate::server) type PostedTo = Arc<RwLock<Vec<(String, Arc<PostStats>)>>>;

/// Reads it.
#[derive(Debug)]
pub(super) struct Store {
    sources: StoreSources,
    sampler: Sampler,
}

impl Store {
    pub(super) fn new(sources: StoreSources) -> Self {
        Self { sampler: Sampler::start(sources.locks.clone()), sources }
    }
}

impl Collector for Store {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let page = &mut Page::new(encoder);
        if self.sources.keeps_locks {
            self.locks(page)?;
        }
        self.calls(page)?;
        self.posts(page)?;
        let sample = self.sampler.latest();
        let help = "Times that the store could not be read for these metrics.";
        page.counter("holdline_store_sample_failures", help, [(labels![], self.sampler.failures())])?;
        match sample {
            Some(sample) => sampled(page, &sample),
            None => Ok(()),
        }
    }
}

impl Store {
    fn locks(&self, page: &mut Page<'_>) -> fmt::Result {
        let numbers = self.sources.locks.numbers();
        page.plain_gauge("holdline_holds", "Holds of connections of this node.", numbers.holds as u64)?;
        page.plain_gauge("holdline_lock_waiters", "Refused clients that wait for a resource to be free.", numbers.waiters as u64)?;
        page.plain_gauge("holdline_unwritten_ops", "Outcomes and ends of connections that wait for the store.", numbers.unwritten as u64)?;
        page.plain_gauge("holdline_locks_available", "1 if a hold would be granted now, else 0.", u64::from(numbers.available))?;
        let help = "1 if this node may have been declared dead, because the store does not answer; else 0.";
        page.plain_gauge("holdline_lease_in_doubt", help, u64::from(numbers.in_doubt))?;
        let acquires = self.sources.locks.stats().acquires().map(|(result, view)| (labels!["result" => result.as_str()], view));
        let help = "How long requests for holds took, from the hook's outcome to the answer of the store, by result.";
        page.histogram("holdline_lock_acquire_duration_seconds", help, acquires)?;
        let batches = self.sources.locks.lanes().stats().batches().map(|(kind, view)| (labels!["kind" => kind], view));
        page.histogram("holdline_lane_batch_size", "Outcomes (commit) or ends (release) that went to the store in one call.", batches)
    }

    fn calls(&self, page: &mut Page<'_>) -> fmt::Result {
        let calls = self.sources.calls.calls().map(|(call, outcome, view)| (labels!["call" => call, "outcome" => outcome], view));
        page.histogram("holdline_store_call_duration_seconds", "How long calls of the store took, by call and outcome.", calls)
    }

    fn posts(&self, page: &mut Page<'_>) -> fmt::Result {
        let endpoints = self.sources.endpoints.read().clone();
        let attempts = endpoints.iter().flat_map(|(name, stats)| {
            stats.outcomes().map(|(outcome, count)| (labels!["endpoint" => name.as_str(), "outcome" => outcome.as_str()], count))
        });
        let help = "Requests to endpoints of webhooks and to HTTP listeners, by outcome.";
        page.counter("holdline_webhook_attempts", help, attempts)?;
        let times = endpoints.iter().map(|(name, stats)| (labels!["endpoint" => name.as_str()], stats.time()));
        page.histogram("holdline_webhook_duration_seconds", "How long their answers took.", times)
    }
}

fn sampled(page: &mut Page<'_>, sample: &Sample) -> fmt::Result {
    let help = "How old what follows is, which is read from the store now and then: locks, log, consumers and nodes.";
    page.plain_gauge("holdline_store_sample_age_seconds", help, sample.at.elapsed().as_secs_f64())?;
    let locks = [LockState::Held, LockState::Grace].map(|state| (labels!["state" => state.as_str()], sample.census.locks(state)));
    page.gauge("holdline_locks", "Locks of all nodes: held, or in the grace after their holder went away.", locks)?;
    let head = sample.head.iter().enumerate().map(|(shard, position)| (labels!["shard" => shard.to_string()], *position));
    page.gauge("holdline_log_head", "The last position of each shard of the log.", head)?;
    let mut lags: BTreeMap<&str, i64> = BTreeMap::new();
    for row in &sample.consumers {
        *lags.entry(&row.name).or_default() += row.lag();
    }
    let parked = lags.keys().flat_map(|name| {
        let of = |reason: &ParkReason| (labels!["consumer" => *name, "reason" => reason.as_str()], sample.census.parked(name, *reason));
        ParkReason::ALL.iter().map(of).collect::<Vec<_>>()
    });
    let parked: Vec<_> = parked.collect();
    let lags = lags.iter().map(|(name, lag)| (labels!["consumer" => *name], *lag));
    page.gauge("holdline_consumer_lag", "Entries of the log that a consumer has still to come to.", lags)?;
    page.gauge("holdline_consumer_parked", "Entries of the log that a consumer has put aside, by reason.", parked)?;
    let nodes = NodeState::ALL.iter().map(|state| {
        let count = sample.nodes.iter().filter(|node| node.view.state == *state).count();
        (labels!["state" => state.as_str()], count as u64)
    });
    page.gauge("holdline_nodes", "Nodes that share the store, by state.", nodes)
}
