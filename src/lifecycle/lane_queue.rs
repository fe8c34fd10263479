//! What waits for one writer lane, and in which order it goes. Pure: the shell in `lanes` sends what this says.
//!
//! One batch is under way at a time, and the next forms meanwhile. Releases go first: they free what others wait for. A commit that
//! was never sent is cancelled by its own release. One whose answer is missing is *doubtful*: a copy of it may still be on its way,
//! so whatever comes after, its release leaves a tombstone.

use std::{
    collections::{HashSet, VecDeque},
    time::Instant,
};

use super::lane_suspects::{Suspects, may_go};
use super::store::{Answer, Certainty, CloseCause, CommitOp, Ending, HoldId, OpId, ReleaseOp};

/// What the batch that is under way holds.
#[derive(Debug)]
pub(crate) enum Batch {
    /// Ends.
    Releases(Vec<ReleaseOp>),
    /// Outcomes.
    Commits(Vec<CommitOp>),
}

/// How a commit ended without an answer of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// Too much waits already.
    #[error("too many outcomes wait for the store")]
    Full,
    /// Its connection ended first.
    #[error("the connection ended before its outcome was written")]
    Cancelled,
    /// The node is fenced.
    #[error("this node was declared dead")]
    Fenced,
    /// The store refused it for good.
    #[error("the store refused the outcome")]
    Refused,
}

/// The queue of one lane. `R` is where the answer goes.
#[derive(Debug)]
pub(crate) struct LaneQueue<R> {
    releases: VecDeque<ReleaseOp>,
    commits: VecDeque<Waiting<R>>,
    /// The holds of `commits`, so that a release need not look through them.
    asked: HashSet<HoldId>,
    /// The waiters of the commits under way, by op.
    under_way: Vec<(OpId, R)>,
    busy: bool,
    doubtful: HashSet<HoldId>,
    singly: usize,
    suspects: Suspects,
    limits: LaneLimits,
}

#[derive(Debug)]
struct Waiting<R> {
    op: CommitOp,
    reply: R,
    sent: bool,
}

/// How much waits, and how much goes at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneLimits {
    /// Commits that wait in one lane. Releases need no limit: there is at most one per live hold.
    pub(crate) waiting: usize,
    /// Ends that wait in one lane with what handlers said at them: connections that hold nothing end, too, however long the store is away.
    pub(crate) ends: usize,
    /// Commits in one call.
    pub(crate) commits: usize,
    /// Releases in one call.
    pub(crate) releases: usize,
    /// Shards of the store.
    pub(crate) shards: u16,
}

impl Default for LaneLimits {
    fn default() -> Self {
        Self { waiting: 65_536 / 4, ends: 100_000, commits: 500, releases: 1000, shards: 1 }
    }
}

/// Answers that are due now.
pub(crate) type Replies<R> = Vec<(R, Result<Answer, NoAnswer>)>;

impl<R> LaneQueue<R> {
    pub(crate) fn new(limits: LaneLimits) -> Self {
        Self {
            releases: VecDeque::new(),
            commits: VecDeque::new(),
            asked: HashSet::new(),
            under_way: Vec::new(),
            busy: false,
            doubtful: HashSet::new(),
            singly: 0,
            suspects: Suspects::new(limits.shards),
            limits,
        }
    }

    /// Takes an outcome.
    pub(crate) fn push_commit(&mut self, op: CommitOp, reply: R) -> Result<(), R> {
        if self.commits.len() >= self.limits.waiting {
            return Err(reply);
        }
        self.asked.extend(op.holds.iter().map(|hold| hold.id));
        self.commits.push_back(Waiting { op, reply, sent: false });
        Ok(())
    }

    /// Whether so many ends wait that nothing more can be kept of what is said at them.
    pub(crate) fn is_full_of_ends(&self) -> bool {
        self.releases.len() >= self.limits.ends
    }

    /// Takes an end. Commits of its holds that still wait are withdrawn.
    pub(crate) fn push_release(&mut self, mut release: ReleaseOp) -> Replies<R> {
        let mut withdrawn = Vec::new();
        if release.holds.iter().any(|(hold, _)| self.asked.contains(hold)) {
            let ending: HashSet<HoldId> = release.holds.iter().map(|(hold, _)| *hold).collect();
            let mut kept = VecDeque::with_capacity(self.commits.len());
            for waiting in self.commits.drain(..) {
                if !waiting.op.holds.iter().any(|hold| ending.contains(&hold.id)) {
                    kept.push_back(waiting);
                    continue;
                }
                // All of it ends, also what the release does not name: an outcome is whole.
                release.holds.retain(|(hold, _)| !waiting.op.holds.iter().any(|ours| ours.id == *hold));
                if waiting.sent {
                    release.holds.extend(release_of(&waiting.op).holds);
                }
                for hold in &waiting.op.holds {
                    self.asked.remove(&hold.id);
                }
                withdrawn.push((waiting.reply, Err(NoAnswer::Cancelled)));
            }
            self.commits = kept;
        }
        if !release.holds.is_empty() || !release.events.is_empty() {
            self.releases.push_back(release);
        }
        withdrawn
    }

    /// Withdraws a commit nobody waits for any more. What may have been written is released, also when the answer was given already:
    /// it crossed with the caller's leaving, and nobody has seen it.
    pub(crate) fn abandon(&mut self, op: &CommitOp) -> Replies<R> {
        if op.holds.is_empty() {
            let (gone, kept) = std::mem::take(&mut self.commits).into_iter().partition(|waiting| waiting.op.id == op.id && !waiting.sent);
            self.commits = kept;
            let gone: VecDeque<Waiting<R>> = gone;
            return gone.into_iter().map(|waiting| (waiting.reply, Err(NoAnswer::Cancelled))).collect();
        }
        self.push_release(release_of(op))
    }

    /// What to send now, if nothing is under way.
    pub(crate) fn next_batch(&mut self, now: Instant) -> Option<Batch> {
        if self.busy {
            return None;
        }
        self.suspects.on_trial = None;
        if self.suspects.is_empty() {
            return self.batch_of(|_| true, |_| true);
        }
        for shard in self.suspects.due(now).into_iter().map(Some).chain([None]) {
            // What stays behind keeps its connection's later ops behind it.
            let (suspects, mut behind) = (&self.suspects, HashSet::new());
            let releases = may_go(self.releases.iter(), &mut behind, |op| suspects.may_go(op, shard));
            let commits = may_go(self.commits.iter().map(|waiting| &waiting.op), &mut behind, |op| suspects.may_go(op, shard));
            if releases.iter().chain(&commits).any(|goes| *goes) {
                self.suspects.on_trial = shard;
                return self.batch_of(|at| releases[at], |at| commits[at]);
            }
        }
        None
    }

    /// When to ask for the next batch, if nothing else happens: something waits for a shard that was busy.
    pub(crate) fn next_trial(&self) -> Option<Instant> {
        if self.releases.is_empty() && self.commits.is_empty() { None } else { self.suspects.next_trial() }
    }

    fn batch_of(&mut self, releases: impl Fn(usize) -> bool, commits: impl Fn(usize) -> bool) -> Option<Batch> {
        let at_most = |limit: usize| if self.singly > 0 { 1 } else { limit };
        let batch = if (0..self.releases.len()).any(&releases) {
            let mut batch = pick(&mut self.releases, at_most(self.limits.releases), releases);
            for op in &mut batch {
                if op.holds.iter().any(|(hold, _)| self.doubtful.contains(hold)) {
                    op.certainty = Certainty::Unsure;
                }
            }
            Batch::Releases(batch)
        } else if (0..self.commits.len()).any(&commits) {
            let picked = pick(&mut self.commits, at_most(self.limits.commits), commits);
            let mut batch = Vec::with_capacity(picked.len());
            for waiting in picked {
                for hold in &waiting.op.holds {
                    self.asked.remove(&hold.id);
                }
                self.under_way.push((waiting.op.id, waiting.reply));
                batch.push(waiting.op);
            }
            Batch::Commits(batch)
        } else {
            return None;
        };
        self.singly = self.singly.saturating_sub(1);
        self.busy = true;
        Some(batch)
    }

    /// The store answered a batch of commits, one by one.
    pub(crate) fn committed(&mut self, batch: Vec<CommitOp>, answers: Vec<Answer>) -> Replies<R> {
        self.busy = false;
        self.suspects.acquit();
        for (op, answer) in batch.iter().zip(&answers) {
            let doubtful = op.holds.iter().any(|hold| self.doubtful.contains(&hold.id));
            // An earlier copy may arrive when the resource is free, and nobody would ever release it.
            match answer {
                Answer::Denied(_) | Answer::Invalid(_) if doubtful => {
                    self.releases.push_back(ReleaseOp { certainty: Certainty::Unsure, ..release_of(op) });
                }
                // There is a tombstone: no copy can take anything any more.
                Answer::Gone => self.doubtful.retain(|id| !op.holds.iter().any(|hold| hold.id == *id)),
                _ => {}
            }
        }
        std::mem::take(&mut self.under_way).into_iter().zip(answers).map(|((_, reply), answer)| (reply, Ok(answer))).collect()
    }

    /// The store has a batch of releases.
    pub(crate) fn released(&mut self, batch: &[ReleaseOp]) {
        self.busy = false;
        self.suspects.acquit();
        for (hold, _) in batch.iter().flat_map(|op| &op.holds) {
            self.doubtful.remove(hold);
        }
    }

    /// Somebody else has the row of a shard, and nothing was written: the rest of the lane goes on without it.
    pub(crate) fn blocked(&mut self, batch: Batch, now: Instant) -> Replies<R> {
        match &batch {
            Batch::Releases(ops) => self.suspects.accuse(ops.iter(), now),
            Batch::Commits(ops) => self.suspects.accuse(ops.iter(), now),
        }
        self.again(batch, false)
    }

    /// No answer: the same again, before everything else of its kind. Commits that were released meanwhile are not sent again.
    pub(crate) fn unknown(&mut self, batch: Batch) -> Replies<R> {
        self.again(batch, true)
    }

    /// `sent`: a copy of it may have arrived, or may still.
    fn again(&mut self, batch: Batch, sent: bool) -> Replies<R> {
        self.busy = false;
        match batch {
            Batch::Releases(ops) => {
                for op in ops.into_iter().rev() {
                    self.releases.push_front(op);
                }
                Vec::new()
            }
            // Fenced meanwhile: everybody has been answered.
            Batch::Commits(_) if self.under_way.is_empty() => Vec::new(),
            Batch::Commits(ops) => {
                if sent {
                    self.doubtful.extend(ops.iter().flat_map(|op| &op.holds).map(|hold| hold.id));
                }
                let ended: HashSet<HoldId> = self.releases.iter().flat_map(|op| &op.holds).map(|(hold, _)| *hold).collect();
                let mut replies = Vec::new();
                for (op, (_, reply)) in ops.into_iter().zip(std::mem::take(&mut self.under_way)).rev() {
                    if op.holds.iter().any(|hold| ended.contains(&hold.id)) {
                        self.releases.push_back(release_of(&op));
                        replies.push((reply, Err(NoAnswer::Cancelled)));
                    } else {
                        self.asked.extend(op.holds.iter().map(|hold| hold.id));
                        // Without holds it is not known whether an earlier copy was sent: better said too often.
                        let sent = sent || op.holds.is_empty() || op.holds.iter().any(|hold| self.doubtful.contains(&hold.id));
                        self.commits.push_front(Waiting { op, reply, sent });
                    }
                }
                replies
            }
        }
    }

    /// The store refused a batch for good. Of several, each is tried alone. One alone is given up; an end at first only as to its events,
    /// because whatever is wrong with those, the holds end.
    pub(crate) fn refused(&mut self, mut batch: Batch) -> Replies<R> {
        if let Batch::Releases(ops) = &mut batch
            && let [op] = ops.as_mut_slice()
            && !op.events.is_empty()
            && !op.holds.is_empty()
        {
            op.events.clear();
            return self.unknown(batch);
        }
        let alone = match &batch {
            Batch::Releases(ops) => ops.len() == 1,
            Batch::Commits(ops) => ops.len() == 1,
        };
        if alone {
            self.busy = false;
            return std::mem::take(&mut self.under_way).into_iter().map(|(_, reply)| (reply, Err(NoAnswer::Refused))).collect();
        }
        let count = match &batch {
            Batch::Releases(ops) => ops.len(),
            Batch::Commits(ops) => ops.len(),
        };
        let replies = self.unknown(batch);
        self.singly = count;
        replies
    }

    /// The node is fenced, as the batch under way may have learned: its holds are the sweep's by now. What was said at the ends of
    /// connections is not: the next incarnation writes it.
    pub(crate) fn fenced(&mut self, under_way: Option<Batch>) -> Replies<R> {
        self.busy = false;
        self.keep_events(under_way);
        self.releases.retain(|op| !op.events.is_empty());
        self.releases.iter_mut().for_each(|op| op.holds.clear());
        self.asked.clear();
        self.doubtful.clear();
        self.suspects.clear();
        self.singly = 0;
        let under_way = std::mem::take(&mut self.under_way).into_iter().map(|(_, reply)| reply);
        let waiting = std::mem::take(&mut self.commits).into_iter().map(|waiting| waiting.reply);
        under_way.chain(waiting).map(|reply| (reply, Err(NoAnswer::Fenced))).collect()
    }

    /// The last call of an incarnation that is fenced came back when there was a new one: what waits is that one's.
    pub(crate) fn outlived(&mut self, batch: Batch) -> Replies<R> {
        self.busy = false;
        self.suspects.on_trial = None;
        self.keep_events(Some(batch));
        std::mem::take(&mut self.under_way).into_iter().map(|(_, reply)| (reply, Err(NoAnswer::Fenced))).collect()
    }

    fn keep_events(&mut self, batch: Option<Batch>) {
        let Some(Batch::Releases(ops)) = batch else { return };
        for op in ops.into_iter().rev().filter(|op| !op.events.is_empty()) {
            self.releases.push_front(ReleaseOp { holds: Vec::new(), ..op });
        }
    }

    /// True if nothing waits and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        !self.busy && self.releases.is_empty() && self.commits.is_empty()
    }

    /// Ops that wait.
    pub(crate) fn len(&self) -> usize {
        self.releases.len() + self.commits.len()
    }
}

/// Takes the first `at_most` of those that may go, and leaves the others in their order.
fn pick<T>(queue: &mut VecDeque<T>, at_most: usize, goes: impl Fn(usize) -> bool) -> Vec<T> {
    let mut picked = Vec::with_capacity(at_most.min(queue.len()));
    let mut kept = VecDeque::new();
    let mut at = 0;
    while picked.len() < at_most
        && let Some(one) = queue.pop_front()
    {
        if goes(at) {
            picked.push(one)
        } else {
            kept.push_back(one)
        }
        at += 1;
    }
    while let Some(one) = kept.pop_back() {
        queue.push_front(one);
    }
    picked
}

/// The end of an outcome that its connection will never hear of.
fn release_of(op: &CommitOp) -> ReleaseOp {
    ReleaseOp {
        id: OpId::random(),
        socket_id: op.socket_id.clone(),
        app: op.app.clone(),
        holds: op.holds.iter().map(|hold| (hold.id, hold.resource.clone())).collect(),
        events: Vec::new(),
        cause: CloseCause::Released,
        ending: Ending::Clean,
        certainty: Certainty::Sure,
        detected_at: None,
    }
}

#[cfg(test)]
#[path = "lane_queue_tests.rs"]
mod tests;
