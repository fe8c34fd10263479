//! What the store carries: acquires and releases per second over the lanes of one node, and the sweep of a dead one.
//!
//! `DATABASE_URL=postgres://… cargo bench --bench store`, on an empty database; without it, SQLite in a temporary directory.

#![expect(clippy::expect_used, reason = "a bench stops at the first failure")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use holdline::store::*;

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

fn node() -> NewNode {
    NewNode { name: "bench".to_owned(), boot: BootId::random(), ttl: Duration::from_secs(12), naming: Naming::Unique }
}

fn report(what: &str, count: usize, took: Duration) {
    println!("{what:<44} {count:>7} in {took:>9.1?} = {:>7.0}/s", count as f64 / took.as_secs_f64());
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

    let ops: Vec<_> = (0..20_000).map(op).collect();
    report("acquires, batches of 500", ops.len(), commit_all(&store, first, &ops).await);
    let took = over_lanes(&ops[..10_000], |lane, batch| {
        let store = Arc::clone(&store);
        async move {
            let ends: Vec<_> = batch.iter().map(end).collect();
            store.release(lane, first, &ends).await.expect("release");
        }
    })
    .await;
    report("releases, batches of 500", 10_000, took);

    let started = Instant::now();
    for n in 0..300 {
        store.commit(Lane(0), first, &[op(1_000_000 + n)]).await.expect("commit");
    }
    report("acquires one at a time, one lane", 300, started.elapsed());

    let more: Vec<_> = (30_000..120_000).map(op).collect();
    report("acquires beside 10,000 live holds and more", more.len(), commit_all(&store, first, &more).await);

    // The process is started anew: its former self's 100,300 holds are swept.
    let started = Instant::now();
    let second = store.register(&node()).await.expect("register");
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
    report("holds of a dead node swept, passes of 2,000", swept, started.elapsed());
    println!("longest pass {worst:.1?}; live locks left: {}", store.locks(&LockQuery::default()).await.expect("locks").len());
}
