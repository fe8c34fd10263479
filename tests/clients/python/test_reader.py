"""clients/python: readers of the log of a real broker, on SQLite and on PostgreSQL, killed and starved and lied to."""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from contextlib import closing, contextmanager
from datetime import datetime, timezone

import psycopg

from broker import PATIENCE, Refused
from postgres import Postgres
from shops import CLIENTS, ORDERS, People, Pg, Sqlite, eventually

from holdline_log import Entry, Gap, SqliteReader


def setUpModule():
    Pg.server = Postgres()


def tearDownModule():
    Pg.server.stop()


class OrdersCases:
    """What both have to stand."""

    def setUp(self):
        self.shop = self.World()
        self.addCleanup(self.shop.broker.stop)
        self.people = People(self.shop.broker)
        self.addCleanup(self.people.subscriber.close)

    def program(self, *arguments, python=sys.executable):
        environment = {**os.environ, **self.shop.environment}
        return subprocess.Popen([python, CLIENTS / "orders_reader.py", *arguments], env=environment, stderr=subprocess.PIPE, text=True)

    def to_the_end(self):
        program = self.program("--once")
        _, said = program.communicate(timeout=4 * PATIENCE)
        self.assertEqual((program.returncode, said), (0, ""))

    @contextmanager
    def running(self, reader):
        failed = []

        def run():
            try:
                reader.run()
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield failed
        finally:
            reader.stop()
            thread.join(PATIENCE)
            self.assertFalse(thread.is_alive(), "stop ends it")

    def effects(self):
        """What was done to the orders, in order for each."""
        return [
            (f"order:{order}", fence, "locked" if by else "unlocked", by)
            for order, by, fence in self.shop.query("SELECT id, locked_by, lock_fence FROM change ORDER BY id, number")
        ]

    def expected(self):
        entries = [(resource, fence, kind, principal if kind == "locked" else None) for resource, fence, kind, principal in self.shop.log()]
        # In order for each resource; between resources there is none.
        return sorted(entries, key=lambda entry: int(entry[0].removeprefix("order:")))

    def settled(self, locks):
        """The unlocks of a connection that is open are there a moment later."""
        eventually("the log", lambda: len(self.shop.log()) == locks)

    def check(self):
        self.assertEqual(self.effects(), self.expected())

    def test_reads_what_there_is_and_goes_on(self):
        self.people.work(2)
        self.settled(ORDERS * 4 - ORDERS // 3)
        self.to_the_end()
        self.check()
        self.people.close(3)
        self.settled(ORDERS * 4 - ORDERS // 3 + 1)
        self.to_the_end()
        self.check()
        self.assertEqual(self.shop.query("SELECT locked_by FROM orders WHERE id IN (3, 6) ORDER BY id"), [(None,), ("user:1",)])

    def test_entries_have_the_documented_fields(self):
        fence = self.people.open(1, user="Zoë", desk="north")
        self.people.close(1)
        self.settled(2)
        seen = []
        self.shop.reader(lambda cursor, entry: seen.append(entry)).run(once=True)
        locked, unlocked = seen
        self.assertIsInstance(locked, Entry)
        self.assertEqual(
            (locked.kind, locked.type, locked.app, locked.resource, locked.principal, locked.fence, locked.cause),
            ("locked", "OrderLocked", "1001", "order:1", "user:Zoë", fence, None),
        )
        self.assertEqual(
            (unlocked.kind, unlocked.type, unlocked.fence, unlocked.cause, unlocked.after_grace),
            ("unlocked", "OrderUnlocked", fence, "unsubscribed", False),
        )
        self.assertEqual(
            (locked.payload, locked.socket_id), ({"order_id": "1", "user_id": "Zoë", "desk": "north"}, self.people.subscriber.socket_id)
        )
        self.assertLess(abs((datetime.now(timezone.utc) - locked.at).total_seconds()), 60)
        self.assertEqual(locked.id, f"{locked.shard}-{locked.position}")
        with self.assertRaises(AttributeError):
            locked.fence = 1

    def test_a_name_that_begins_with_the_newest(self):
        self.people.open(1)
        self.settled(1)
        seen = []
        reader = self.shop.reader(lambda cursor, entry: seen.append(entry.resource), start="newest")
        reader.run(once=True)
        self.people.open(2)
        self.settled(2)
        reader.run(once=True)
        self.shop.reader(lambda cursor, entry: seen.append(entry.resource), start="newest").run(once=True)
        self.assertEqual(seen, ["order:2"])

    def test_hears_of_news_at_once(self):
        seen = []
        # For PostgreSQL the look in any case is far away: what wakes it is the notification.
        poll = {"postgres": 60.0, "sqlite": 0.1}[self.shop.kind]
        options = {"lease": 600.0} if self.shop.kind == "postgres" else {}
        with self.running(self.shop.reader(lambda cursor, entry: seen.append(time.monotonic()), poll=poll, **options)):
            self.people.open(1)
            eventually("the first", lambda: seen)
            for number in range(2, 8):
                began = time.monotonic()
                self.people.open(number)
                eventually("the next", lambda: len(seen) == number)
                self.assertLess(seen[-1] - began, 20.0)

    def test_killed_again_and_again_and_nothing_is_done_twice_or_not_at_all(self):
        worker = threading.Thread(target=self.people.work, args=(12,))
        worker.start()
        number = 0
        while worker.is_alive() or number < 8:
            program = self.program()
            before = len(self.effects())
            # In the middle of its work, as far as there is any.
            try:
                eventually("some work", lambda: len(self.effects()) > before, within=0.2 + number % 5 * 0.1)
            except AssertionError:
                pass
            program.kill()
            program.communicate()
            number += 1
        worker.join()
        self.settled(ORDERS * 24 - ORDERS // 3)
        # Two at once; what the killed ones had claimed is free when their leases are over.
        both = [self.program(), self.program()]
        eventually("all of it", lambda: len(self.effects()) >= len(self.expected()), within=4 * PATIENCE)
        for program in both:
            program.kill()
            program.communicate()
        self.check()

    def test_a_stop_is_clean_and_gives_way_at_once(self):
        for order in (1, 2):
            program = self.program()
            self.people.open(order)
            eventually("it is done", lambda: len(self.effects()) == order)
            program.send_signal(signal.SIGTERM)
            _, said = program.communicate(timeout=2 * PATIENCE)
            self.assertEqual((program.returncode, said), (0, ""))
            # At once, and not when a lease is over.
            self.assertEqual(self.shop.claims(), [])

    def test_an_entry_that_fails_waits_with_what_follows_it_and_is_done_once_when_it_can_be(self):
        broken = threading.Event()
        broken.set()
        tries = []
        mark = self.shop.mark

        def handle(cursor, entry):
            order = int(entry.resource.removeprefix("order:"))
            cursor.execute(
                f"UPDATE orders SET locked_by = {mark}, lock_fence = {mark} WHERE id = {mark}",
                (entry.principal if entry.kind == "locked" else None, entry.fence, order),
            )
            if order == 5 and broken.is_set():
                # After its effect: which must not stay.
                tries.append(time.monotonic())
                raise ValueError("order 5 cannot be had")

        with self.assertLogs("holdline", "ERROR") as said, self.running(self.shop.reader(handle)):
            for order in range(1, 9):
                self.people.open(order)
            eventually("it is tried again", lambda: len(tries) > 5)
            done = {resource for resource, *_ in self.effects()}
            # All that came before it in the same transaction is done; what follows it in its shard is not.
            self.assertTrue({f"order:{order}" for order in range(1, 5)} <= done and "order:5" not in done, done)
            broken.clear()
            eventually("it is done", lambda: len(self.effects()) == 8)
            self.check()
        self.assertIn("ValueError: order 5 cannot be had", said.output[0])

    def test_with_once_what_fails_comes_out(self):
        self.people.open(1)
        self.settled(1)

        def handle(cursor, entry):
            raise KeyError("a bug")

        with self.assertLogs("holdline", "ERROR"), self.assertRaisesRegex(KeyError, "a bug"):
            self.shop.reader(handle).run(once=True)
        self.to_the_end()
        self.check()


class OnSqlite(OrdersCases, unittest.TestCase):
    World = Sqlite

    def test_two_readers_of_one_name_do_each_entry_once(self):
        seen = []
        handle = lambda cursor, entry: seen.append(entry.id)  # noqa: E731
        with self.running(self.shop.reader(handle)) as one, self.running(self.shop.reader(handle)) as other:
            self.people.work(3)
            self.settled(ORDERS * 6 - ORDERS // 3)
            eventually("all of it", lambda: len(seen) >= len(self.shop.log()))
        self.assertEqual((len(seen), len(set(seen)), one, other), (len(self.shop.log()), len(seen), [], []))

    def test_missing_entries_and_another_log_are_said_and_not_passed_over(self):
        self.people.work(1)
        self.settled(ORDERS * 2 - ORDERS // 3)
        self.to_the_end()
        handle = lambda cursor, entry: None  # noqa: E731
        with closing(sqlite3.connect(self.shop.file)) as orders, orders:
            orders.execute("UPDATE holdline_cursor SET position = position + 1000")
        with self.assertRaisesRegex(Gap, "it is another one; see .* clients/python/README.md"):
            self.shop.reader(handle, name="orders-python").run(once=True)
        # As retention does it.
        with closing(sqlite3.connect(self.shop.log_file, timeout=30)) as log, log:
            log.execute("DELETE FROM event WHERE position < 5")
            log.execute("UPDATE shard_head SET first_position = 5")
        with closing(sqlite3.connect(self.shop.file)) as orders, orders:
            orders.execute("UPDATE holdline_cursor SET position = 2")
        with self.assertRaisesRegex(Gap, "the entries from 3 to 4 are not there any more"):
            self.shop.reader(handle, name="orders-python").run(once=True)
        # Who is new begins with the oldest that is there.
        seen = []
        self.shop.reader(lambda cursor, entry: seen.append(entry.position), name="new").run(once=True)
        self.assertEqual(seen[0], 5)

    def test_a_log_that_is_not_there(self):
        with self.assertRaises(sqlite3.OperationalError):
            SqliteReader("/nowhere/holdline.sqlite", self.shop.file, "test", lambda cursor, entry: None).run(once=True)


class OnPostgres(OrdersCases, unittest.TestCase):
    World = Pg

    def test_the_command_line_knows_it_and_gives_its_claims_back(self):
        self.people.open(1)
        self.settled(1)
        self.to_the_end()
        left = self.shop.query(
            "SELECT count(*) FROM holdline.consumer c JOIN holdline.shard_head h USING (shard)"
            " WHERE name = 'orders-python' AND (owner IS NOT NULL OR position <> last_position)"
        )
        self.assertEqual(left, [(0,)])

    def test_claims_that_were_lost_write_nothing(self):
        """Somebody else has the shards before the transaction is over: as after a long pause of the process."""
        self.people.open(1)
        self.settled(1)
        seen = []

        def handle(cursor, entry):
            seen.append(entry.id)
            cursor.execute("UPDATE orders SET locked_by = 'somebody who was late' WHERE id = 1")
            if len(seen) == 1:
                self.shop.execute(
                    "UPDATE holdline.consumer SET epoch = epoch + 1, owner = 'another', lease_until = clock_timestamp() + interval '1 s'"
                )

        reader = self.shop.reader(handle, lease=1.0)
        with self.running(reader) as failed:
            eventually("it has noticed", lambda: len(seen) == 1)
            eventually("the other one is gone", lambda: len(seen) >= 2)
            eventually("it is done", lambda: self.effects())
        self.assertEqual((len(self.effects()), len(set(seen)), failed), (1, 1, []))

    def test_an_entry_that_fails_stops_its_shard_only_and_the_command_line_says_why(self):
        def handle(cursor, entry):
            if entry.resource == "order:5":
                raise ValueError("order 5 cannot be had")
            cursor.execute(
                "UPDATE orders SET locked_by = %s, lock_fence = %s WHERE id = %s",
                (entry.principal, entry.fence, int(entry.resource.removeprefix("order:"))),
            )

        with self.assertLogs("holdline", "ERROR"), self.running(self.shop.reader(handle)):
            for order in range(1, ORDERS + 1):
                self.people.open(order)
            stuck = self.shop.query("SELECT DISTINCT shard FROM holdline.event WHERE resource = 'order:5'")[0][0]
            self.settled(ORDERS)
            others = {
                resource
                for (resource,) in self.shop.query(f"SELECT resource FROM holdline.event WHERE shard <> {stuck} AND fence IS NOT NULL")
            }
            self.assertGreater(len(others), 5)
            eventually("they are done", lambda: others <= {resource for resource, *_ in self.effects()})
            reason = lambda: self.shop.query(f"SELECT attempts, last_error FROM holdline.consumer WHERE name = 'test' AND shard = {stuck}")[
                0
            ]  # noqa: E731
            eventually("it says why", lambda: reason()[1] == "ValueError: order 5 cannot be had" and reason()[0] > 1)
        self.assertNotIn("order:5", {resource for resource, *_ in self.effects()})

    def test_the_database_is_killed_and_comes_back(self):
        program = self.program()
        self.people.work(2)
        eventually("the first", lambda: self.effects())
        Pg.server.kill()
        Pg.server.launch()
        more = eventually("the broker writes again", lambda: self.again(), within=4 * PATIENCE)
        eventually("all of it", lambda: self.effects() == self.expected() and len(more), within=4 * PATIENCE)
        program.send_signal(signal.SIGTERM)
        _, said = program.communicate(timeout=2 * PATIENCE)
        self.assertEqual(program.returncode, 0)
        self.assertIn("the database does not answer", said)
        self.check()

    def again(self):
        """Another connection, when the broker has its database back."""
        try:
            with closing(People(self.shop.broker).subscriber) as subscriber:
                people = People.__new__(People)
                people.subscriber = subscriber
                people.open(2, user="after")
                people.close(2)
            return [entry for entry in self.shop.log() if entry[3] == "user:after"]
        except (Refused, TimeoutError, psycopg.OperationalError):
            return []


class Types(unittest.TestCase):
    def test_the_module_and_the_program_are_typed_strictly(self):
        with tempfile.TemporaryDirectory() as cache:
            checked = subprocess.run(
                [sys.executable, "-m", "mypy", "--strict", "--cache-dir", cache, *CLIENTS.glob("*.py")],
                capture_output=True,
                text=True,
                cwd=CLIENTS,
            )
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)


if __name__ == "__main__":
    unittest.main()
