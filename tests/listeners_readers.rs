//! What is in `clients/` to read the log with: programs in Python and PHP that do it by plain SQL, and a listener in Rust. Each keeps
//! `locked_by` in a table of orders; a trigger there writes down every change, so that nothing can be done twice unseen.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};

use crate::support::{
    APP, example,
    postgres::run,
    stored::{Stored, Taken, wait},
    until,
};

const ORDERS: i64 = 30;

/// A store, a table of orders beside it, and what is to be in there.
struct World {
    stored: Stored,
    url: String,
    expected: Vec<(i64, Option<String>, Option<i64>)>,
    events: i64,
}

impl World {
    fn new() -> World {
        let (stored, url) = Stored::postgres();
        let table = format!(
            "CREATE TABLE orders (id bigint PRIMARY KEY, locked_by text, lock_fence bigint);
             INSERT INTO orders SELECT generate_series(1, {ORDERS});
             CREATE TABLE change (number bigserial, id bigint, locked_by text, lock_fence bigint);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN INSERT INTO change (id, locked_by, lock_fence) VALUES (NEW.id, NEW.locked_by, NEW.lock_fence); RETURN NULL; END';
             CREATE TRIGGER note AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION note()"
        );
        wait(run(&url, table));
        World { stored, url, expected: (1..=ORDERS).map(|id| (id, None, None)).collect(), events: 0 }
    }

    fn lock(&mut self, order: i64, user: u32) -> Taken {
        let taken = self.stored.hold(APP.id, &format!("order:{order}"), user);
        self.expect(order, Some(format!("user:{user}")), taken.fence);
        taken
    }

    fn unlock(&mut self, order: i64, taken: &Taken) {
        self.stored.release(taken);
        self.expect(order, None, taken.fence);
    }

    fn expect(&mut self, order: i64, locked_by: Option<String>, fence: i64) {
        self.expected[order as usize - 1] = (order, locked_by, Some(fence));
        self.events += 1;
    }

    /// Some orders are locked, some locked and let go, some locked by the next.
    fn live_a_little(&mut self, round: u32) {
        for order in 1..=ORDERS {
            let taken = self.lock(order, round + 1);
            if (order + i64::from(round)) % 3 > 0 {
                self.unlock(order, &taken);
            } else {
                self.stored.release(&taken);
                self.events += 1;
                let next = self.lock(order, round + 2);
                self.unlock(order, &next);
            }
        }
        let last = self.lock(1, 99);
        self.unlock(1, &last);
    }

    fn orders(&self) -> Vec<(i64, Option<String>, Option<i64>)> {
        self.query("SELECT id, locked_by, lock_fence FROM orders ORDER BY id")
    }

    fn query<R>(&self, sql: &'static str) -> Vec<R>
    where
        R: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        wait(async {
            let mut connection = PgConnection::connect(&self.url).await.expect("the database answers");
            sqlx::query_as(sql).fetch_all(&mut connection).await.expect("rows")
        })
    }

    fn check(&self) {
        assert_eq!(self.orders(), self.expected);
        let [(changes,)] = self.query::<(i64,)>("SELECT count(*) FROM change")[..] else { panic!("one row") };
        assert_eq!(changes, self.events, "each entry had its effect once");
        let wrong: Vec<(i64,)> = self.query(
            "SELECT number FROM (SELECT *, lag(lock_fence) OVER (PARTITION BY id ORDER BY number) AS before FROM change) c
              WHERE lock_fence < before",
        );
        assert_eq!(wrong, [], "in order");
    }

    fn is_done(&self) -> bool {
        self.orders() == self.expected && self.query::<(i64,)>("SELECT count(*) FROM change")[0].0 >= self.events
    }
}

/// A program that reads.
struct Reader {
    program: &'static str,
    arguments: Vec<PathBuf>,
}

impl Reader {
    fn of(program: &'static str, file: &str) -> Reader {
        assert!(Path::new(program).exists(), "{program} is missing: see tests/run");
        Reader { program, arguments: vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(file)] }
    }

    fn command(&self, world: &World) -> Command {
        let mut command = Command::new(self.program);
        command.env("DATABASE_URL", &world.url).args(&self.arguments).stdin(Stdio::null());
        command
    }

    fn to_the_end(&self, world: &World) {
        let ended = self.command(world).arg("--once").output().expect("it starts");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
    }

    fn start(&self, world: &World) -> Running {
        Running(self.command(world).stdout(Stdio::null()).spawn().expect("it starts"))
    }
}

/// Killed, as with -9, when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn reads_what_there_is_and_goes_on(reader: &Reader) {
    let mut world = World::new();
    world.live_a_little(0);
    world.stored.emit(APP.id, "OrderLocked", "invoice:1", serde_json::json!({}));
    reader.to_the_end(&world);
    world.check();
    // A newer lock than those in the log has written there already.
    wait(run(&world.url, "UPDATE orders SET locked_by = 'user:0', lock_fence = 1000000 WHERE id = 7".to_owned()));
    world.live_a_little(1);
    reader.to_the_end(&world);
    assert_eq!(world.orders()[6], (7, Some("user:0".to_owned()), Some(1_000_000)), "the fence keeps old entries out");
    world.expected[6] = (7, Some("user:0".to_owned()), Some(1_000_000));
    assert_eq!(world.orders(), world.expected);
    let left: Vec<(i64,)> = world.query(
        "SELECT h.last_position - c.position FROM holdline.consumer c JOIN holdline.shard_head h USING (shard)
          WHERE c.owner IS NOT NULL OR h.last_position <> c.position",
    );
    assert_eq!(left, [], "all is read, and all claims are given back");
}

fn hears_of_news_while_it_runs(reader: &Reader) {
    let mut world = World::new();
    let _running = reader.start(&world);
    let taken = world.lock(1, 1);
    until("it is there", || world.is_done());
    let began = Instant::now();
    world.unlock(1, &taken);
    until("the end, too", || world.is_done());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    world.check();
}

fn is_killed_again_and_again_and_nothing_is_done_twice_or_not_at_all(reader: &Reader) {
    let mut world = World::new();
    for round in 0..12 {
        let running = reader.start(&world);
        world.live_a_little(round);
        std::thread::sleep(Duration::from_millis(u64::from(round) * 37 % 250));
        drop(running);
    }
    // Two more at once; what the killed ones had claimed is free when their leases are over.
    let both = [reader.start(&world), reader.start(&world)];
    world.live_a_little(13);
    let deadline = Instant::now() + Duration::from_secs(80);
    while !world.is_done() {
        assert!(Instant::now() < deadline, "it does not come to its end: {:?}", world.orders());
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(both);
    world.check();
}

/// One test per program of each case.
macro_rules! over_readers {
    ($($language:ident: $reader:expr,)+) => {
        $(mod $language {
            #[test] fn reads_what_there_is_and_goes_on() { super::reads_what_there_is_and_goes_on(&$reader) }
            #[test] fn hears_of_news_while_it_runs() { super::hears_of_news_while_it_runs(&$reader) }
            #[test] fn is_killed_again_and_again_and_nothing_is_done_twice_or_not_at_all() {
                super::is_killed_again_and_again_and_nothing_is_done_twice_or_not_at_all(&$reader)
            }
        })+
    };
}

over_readers! {
    python: super::Reader::of("/usr/bin/python3", "python/orders_reader.py"),
    php: super::Reader::of("/usr/bin/php", "php/orders_reader.php"),
}

/// An entry that cannot be applied keeps its shard waiting, and nothing else: neither what stands before it nor the other shards.
#[test]
fn what_stands_before_an_entry_that_fails_takes_effect_in_php_too() {
    let reader = Reader::of("/usr/bin/php", "php/orders_reader.php");
    let mut world = World::new();
    world.live_a_little(0);
    // The one with the most before it in its shard.
    let first =
        world.query::<(String, i64)>("SELECT resource, min(position) FROM holdline.event GROUP BY resource ORDER BY 2 DESC LIMIT 1");
    let [(resource, position)] = &first[..] else { panic!("one row") };
    assert!(*position > 1, "something is before it");
    let order = resource.strip_prefix("order:").expect("an order");
    let refuse = format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
           'BEGIN RAISE EXCEPTION ''not this one'' USING ERRCODE = ''check_violation''; END';
         CREATE TRIGGER refuse BEFORE UPDATE ON orders FOR EACH ROW WHEN (NEW.id = {order}) EXECUTE FUNCTION refuse()"
    );
    wait(run(&world.url, refuse));
    let ended = reader.command(&world).arg("--once").output().expect("it starts");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success() && said.contains("not this one"), "{said}");
    let waits: Vec<(i64, String)> = world.query(
        "SELECT e.position, e.resource FROM holdline.consumer c
           JOIN holdline.event e ON e.shard = c.shard AND e.position = c.position + 1",
    );
    assert_eq!(waits, [(*position, resource.clone())], "it waits at the entry itself");
    wait(run(&world.url, "DROP TRIGGER refuse ON orders".to_owned()));
    reader.to_the_end(&world);
    world.check();
}

/// Handlers may emit events of any name, also of one that is an order's.
#[test]
fn an_event_that_only_has_the_name_of_a_lock_stops_no_reader() {
    for (program, file) in [("/usr/bin/python3", "python/orders_reader.py"), ("/usr/bin/php", "php/orders_reader.php")] {
        let mut world = World::new();
        for name in ["OrderLocked", "OrderUnlocked"] {
            world.stored.emit(APP.id, name, "order:2", serde_json::json!({}));
        }
        world.live_a_little(0);
        Reader::of(program, file).to_the_end(&world);
        world.check();
    }
}

/// The example is a broker with a listener, so it also sees what the other node of `Stored` writes.
#[test]
fn the_rust_listener_does_it_in_the_broker() {
    let mut world = World::new();
    let place = tempfile::tempdir().expect("a directory");
    let start = |url: &str| {
        let mut command = example("orders_listener");
        command.env("DATABASE_URL", url).env("HOLDLINE_SERVER__PORT", "0").current_dir(place.path());
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the example starts"))
    };
    let mut running = start(&world.url);
    for round in 0..6 {
        world.live_a_little(round);
        drop(running);
        std::thread::sleep(Duration::from_millis(50));
        running = start(&world.url);
        std::thread::sleep(Duration::from_millis(u64::from(round) * 200));
    }
    until("all is done", || {
        assert!(running.0.try_wait().expect("wait works").is_none(), "the example runs on");
        world.is_done()
    });
    drop(running);
    world.check();
}
