//! What the store carries: acquires and releases per second over the lanes of one node, and the sweep of a dead one.
//!
//! `DATABASE_URL=postgres://… cargo bench --bench store`, on an empty database; without it, SQLite in a temporary directory.
//! A word after `--` picks the parts whose name contains it.

#![expect(clippy::expect_used, reason = "a bench stops at the first failure")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use holdline::store::*;
use tokio::sync::{mpsc, oneshot};

const BATCH: usize = 500;

fn op(n: usize) -> CommitOp {
    let hold = NewHold {
        id: HoldId::random(),
        resource: format!("order:{n}"),
        principal: format!("user:{n}"),
        mode: Mode::Exclusive,
        if_taken: IfTaken::Deny,
        topic: "Order".to_owned(),
        context: serde_json::json!({ "order_id": n.to_string(), "user_id": n }),
        grace: Duration::ZERO,
    };
    CommitOp { id: OpId::random(), socket_id: format!("{n}.{n}"), app: "app".to_owned(), holds: vec![hold], events: Vec::new() }
}

fn end(op: &CommitOp) -> ReleaseOp {
    ReleaseOp {
        id: OpId::random(),
        socket_id: op.socket_id.clone(),
        app: op.app.clone(),
        holds: op.holds.iter().map(|hold| (hold.id, hold.resource.clone())).collect(),
        events: Vec::new(),
        cause: CloseCause::Gone,
        ending: Ending::Unclean,
        certainty: Certainty::Sure,
        detected_at: None,
    }
}

type Store = Arc<dyn LifecycleStore>;

/// Runs `work` over all ops, in batches, on all lanes at once.
async fn over_lanes<F>(ops: &[CommitOp], work: impl Fn(Lane, Vec<CommitOp>) -> F) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    let started = Instant::now();
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..Lane::COUNT {
        let batches: Vec<_> = ops
            .chunks(BATCH)
            .skip(usize::from(lane))
            .step_by(usize::from(Lane::COUNT))
            .map(|batch| work(Lane(lane), batch.to_vec()))
            .collect();
        lanes.spawn(async move {
            for batch in batches {
                batch.await;
            }
        });
    }
    lanes.join_all().await;
    started.elapsed()
}

async fn commit_all(store: &Store, node: Incarnation, ops: &[CommitOp]) -> Duration {
    over_lanes(ops, |lane, batch| {
        let store = Arc::clone(store);
        async move {
            let answers = store.commit(lane, node, &batch).await.expect("commit");
            assert!(answers.iter().all(|answer| matches!(answer, Answer::Committed(_))));
        }
    })
    .await
}

/// A node's lanes as the broker has them: what comes while a call is under way makes the next one.
#[derive(Clone)]
struct Lanes(Vec<mpsc::UnboundedSender<Work>>);

enum Work {
    Commit(CommitOp, oneshot::Sender<Answer>),
    Release(ReleaseOp, oneshot::Sender<()>),
}

impl Lanes {
    fn start(store: &Store, node: Incarnation) -> Self {
        let lane = |lane| {
            let (sender, receiver) = mpsc::unbounded_channel();
            tokio::spawn(write(Arc::clone(store), node, Lane(lane), receiver));
            sender
        };
        Self((0..Lane::COUNT).map(lane).collect())
    }

    fn send(&self, socket_id: &str, work: Work) {
        self.0[usize::from(Lane::of_socket(socket_id).0)].send(work).map_err(drop).expect("the lane lives");
    }

    async fn commit(&self, op: CommitOp) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.send(&op.socket_id.clone(), Work::Commit(op, reply));
        answer.await.expect("an answer")
    }

    async fn release(&self, op: ReleaseOp) {
        let (reply, done) = oneshot::channel();
        self.send(&op.socket_id.clone(), Work::Release(op, reply));
        done.await.expect("an answer");
    }
}

async fn write(store: Store, node: Incarnation, lane: Lane, mut queue: mpsc::UnboundedReceiver<Work>) {
    let mut work = Vec::new();
    while queue.recv_many(&mut work, 500).await > 0 {
        let (mut commits, mut releases) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for work in work.drain(..) {
            match work {
                Work::Commit(op, reply) => {
                    commits.0.push(op);
                    commits.1.push(reply);
                }
                Work::Release(op, reply) => {
                    releases.0.push(op);
                    releases.1.push(reply);
                }
            }
        }
        if !releases.0.is_empty() {
            store.release(lane, node, &releases.0).await.expect("release");
            releases.1.into_iter().for_each(|reply| {
                let _ = reply.send(());
            });
        }
        if !commits.0.is_empty() {
            let answers = store.commit(lane, node, &commits.0).await.expect("commit");
            commits.1.into_iter().zip(answers).for_each(|(reply, answer)| drop(reply.send(answer)));
        }
    }
}

/// What one connection does again and again: `(client, round)` to how many acquires it made.
#[derive(Clone, Copy)]
enum Load {
    /// A resource of its own, taken and left.
    Fresh,
    /// The same, and both write an event.
    Events,
    /// Somebody else has it, most of the time.
    Contended,
    /// Most is fresh; some have events, come back within the grace, have two tabs, or are refused.
    Mixed,
}

impl Load {
    async fn round(self, lanes: &Lanes, client: usize, round: usize, times: &mut Vec<Duration>) {
        let part = match (self, round % 10) {
            (Self::Fresh, _) => 0,
            (Self::Events, _) => 6,
            (Self::Contended, _) => 9,
            (Self::Mixed, part) => part,
        };
        let resource = match part {
            9 => format!("hot:{}", (client + round) % 20),
            _ => format!("order:{client}-{round}"),
        };
        let mut first = op(client);
        first.holds[0].resource = resource;
        let mut acquire = async |op: &CommitOp| {
            let began = Instant::now();
            let answer = lanes.commit(op.clone()).await;
            times.push(began.elapsed());
            matches!(answer, Answer::Committed(_))
        };
        let again = |op: &CommitOp| {
            let mut again = op.clone();
            (again.id, again.holds[0].id) = (OpId::random(), HoldId::random());
            again
        };
        let key = first.holds[0].resource.clone();
        let event = |name: &str| NewEvent {
            kind: EventKind::Event,
            event_type: name.to_owned(),
            key: key.clone(),
            principal: None,
            payload: serde_json::json!({ "name": name }),
        };
        match part {
            6 => {
                first.events.push(event("Opened"));
                assert!(acquire(&first).await);
                lanes.release(ReleaseOp { events: vec![event("Closed")], ..end(&first) }).await;
            }
            7 => {
                first.holds[0].grace = Duration::from_secs(60);
                assert!(acquire(&first).await);
                lanes.release(end(&first)).await;
                let back = again(&first);
                assert!(acquire(&back).await);
                lanes.release(ReleaseOp { ending: Ending::Clean, ..end(&back) }).await;
            }
            8 => {
                let second = again(&first);
                assert!(acquire(&first).await);
                assert!(acquire(&second).await);
                lanes.release(end(&first)).await;
                lanes.release(end(&second)).await;
            }
            _ => {
                if acquire(&first).await {
                    lanes.release(end(&first)).await;
                } else {
                    assert_eq!(part, 9);
                }
            }
        }
    }

    /// `clients` at once, each with so many rounds.
    async fn run(self, what: &str, store: &Store, node: Incarnation, clients: usize, rounds: usize) {
        let lanes = Lanes::start(store, node);
        let (started, cpu) = (Instant::now(), Cpu::now());
        let mut all = tokio::task::JoinSet::new();
        for client in 0..clients {
            let lanes = lanes.clone();
            all.spawn(async move {
                let mut times = Vec::new();
                for round in 0..rounds {
                    self.round(&lanes, client, round, &mut times).await;
                }
                times
            });
        }
        let mut times = all.join_all().await.concat();
        let took = started.elapsed();
        times.sort();
        report(what, times.len(), took, cpu);
        let at = |share: f64| times[(times.len() as f64 * share) as usize];
        println!("{:<44} p50 {:.1?}, p99 {:.1?}", "", at(0.5), at(0.99));
    }
}

fn node() -> NewNode {
    NewNode { name: "bench".to_owned(), boot: BootId::random(), ttl: Duration::from_secs(12), naming: Naming::Unique }
}

/// `cpu` is what this process used, the embedded database included: it says more than the time on a machine that does other work.
fn report(what: &str, count: usize, took: Duration, cpu: Cpu) {
    println!("{what:<44} {count:>7} in {took:>9.1?} = {:>7.0}/s   {} of cpu", count as f64 / took.as_secs_f64(), cpu.used());
}

/// User and system time of this process so far, in ticks of 10 ms; zero where there is no `/proc`.
struct Cpu(u64);

impl Cpu {
    fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        Self(fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum())
    }

    fn used(self) -> String {
        format!("{:.1?}", Duration::from_millis((Self::now().0 - self.0) * 10))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let store: Store = match std::env::var("DATABASE_URL") {
        Ok(url) => Arc::new(PostgresStore::connect(PostgresOptions::new(url)).await.expect("connect")),
        Err(_) => {
            let directory = DataDirectory::open(place.path()).expect("the directory");
            Arc::new(SqliteStore::open(directory, Migrations::Apply, StoreLimits::default()).await.expect("open"))
        }
    };
    let first = store.register(&node()).await.expect("register");

    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    for (what, load, clients, rounds) in [
        ("acquired and released, 400 clients", Load::Fresh, 400, 50),
        ("the same with an event each way", Load::Events, 400, 25),
        ("contended, 400 clients for 20 resources", Load::Contended, 400, 50),
        ("mixed, 400 clients", Load::Mixed, 400, 50),
        ("mixed, 16 clients", Load::Mixed, 16, 100),
    ] {
        if what.contains(&wanted) {
            load.run(what, &store, first, clients, rounds).await;
        }
    }
    if "batches and sweep".contains(&wanted) {
        batches_and_sweep(&store, first).await;
    }
}

async fn batches_and_sweep(store: &Store, first: Incarnation) {
    let ops: Vec<_> = (0..20_000).map(op).collect();
    let cpu = Cpu::now();
    report("acquires, batches of 500", ops.len(), commit_all(store, first, &ops).await, cpu);
    let cpu = Cpu::now();
    let took = over_lanes(&ops[..10_000], |lane, batch| {
        let store = Arc::clone(store);
        async move {
            let ends: Vec<_> = batch.iter().map(end).collect();
            store.release(lane, first, &ends).await.expect("release");
        }
    })
    .await;
    report("releases, batches of 500", 10_000, took, cpu);

    let (started, cpu) = (Instant::now(), Cpu::now());
    for n in 0..300 {
        store.commit(Lane(0), first, &[op(1_000_000 + n)]).await.expect("commit");
    }
    report("acquires one at a time, one lane", 300, started.elapsed(), cpu);

    let more: Vec<_> = (30_000..120_000).map(op).collect();
    let cpu = Cpu::now();
    report("acquires beside 10,000 live holds and more", more.len(), commit_all(store, first, &more).await, cpu);

    // The process is started anew: its former self's 100,300 holds are swept, in the embedded store as it registers.
    let (started, cpu, all) = (Instant::now(), Cpu::now(), 100_300);
    let second = store.register(&node()).await.expect("register");
    if store.shards() == 1 {
        report("holds of the former process swept at boot", all, started.elapsed(), cpu);
        return;
    }
    let (mut swept, mut worst) = (0, Duration::ZERO);
    loop {
        let shards = store.due_shards().await.expect("due shards");
        if shards.is_empty() {
            break;
        }
        for shard in shards {
            loop {
                let pass = Instant::now();
                let Swept::Done(done) = store.sweep(second, shard, 2000).await.expect("sweep") else { break };
                worst = worst.max(pass.elapsed());
                swept += done as usize;
                if done < 2000 {
                    break;
                }
            }
        }
    }
    store.finish_dead(second).await.expect("finish");
    report("holds of a dead node swept, passes of 2,000", swept, started.elapsed(), cpu);
    assert_eq!(swept, all);
    println!("longest pass {worst:.1?}; live locks left: {}", store.locks(&LockQuery::default()).await.expect("locks").len());
}
