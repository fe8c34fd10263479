"""Shops whose orders are locked by a real broker, on SQLite and on PostgreSQL, and the people who open and close them."""

import hashlib
import hmac
import json
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import psycopg

from broker import PATIENCE, Broker, Subscriber
from postgres import Postgres

CLIENTS = Path(__file__).parents[3] / "clients/python"
sys.path.insert(0, str(CLIENTS))

from holdline_log import PostgresReader, SqliteReader  # noqa: E402

RULE = """
[[apps.holds]]
channel = "private-order.{order_id}"
resource = "order:{order_id}"
event = "Order"
context = { desk = "{channel_data.desk}" }
"""
ORDERS = 20
# Every change of an order is written down, so that nothing can be done twice unseen.
SCHEMA = f"""
CREATE TABLE orders (id bigint PRIMARY KEY, locked_by text, lock_fence bigint);
INSERT INTO orders (id) WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < {ORDERS}) SELECT id FROM n;
"""
NOTES = {
    "postgres": """
        CREATE TABLE change (number bigserial, id bigint, locked_by text, lock_fence bigint);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN INSERT INTO change (id, locked_by, lock_fence) VALUES (NEW.id, NEW.locked_by, NEW.lock_fence); RETURN NULL; END';
        CREATE TRIGGER note AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION note();
    """,
    "sqlite": """
        CREATE TABLE change (number INTEGER PRIMARY KEY, id bigint, locked_by text, lock_fence bigint);
        CREATE TRIGGER note AFTER UPDATE ON orders BEGIN
          INSERT INTO change (id, locked_by, lock_fence) VALUES (NEW.id, NEW.locked_by, NEW.lock_fence); END;
    """,
}


def eventually(what, probe, within=2.0 * PATIENCE):
    deadline = time.monotonic() + within
    while not (value := probe()):
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.01)
    return value


class People:
    """A connection that opens and closes orders."""

    def __init__(self, broker):
        self.subscriber = Subscriber(broker)

    def open(self, order, user="7", **more):
        channel, data = f"private-order.{order}", json.dumps({"user_id": user, **more})
        text = f"{self.subscriber.socket_id}:{channel}:{data}"
        signature = hmac.new(b"app-secret", text.encode(), hashlib.sha256).hexdigest()
        self.subscriber.subscribe(channel, auth=f"app-key:{signature}", channel_data=data)
        return json.loads(self.subscriber.frame("holdline:locked")["data"])["fence"]

    def close(self, order):
        self.subscriber.send("pusher:unsubscribe", {"channel": f"private-order.{order}"})

    def work(self, rounds):
        """Opens and closes orders; the last round leaves some open."""
        for number in range(rounds):
            for order in range(1, ORDERS + 1):
                self.open(order, user=str(number))
                if number < rounds - 1 or order % 3:
                    self.close(order)


class Sqlite:
    kind = "sqlite"
    mark = "?"

    def __init__(self):
        self.broker = Broker(rules=RULE)
        self.directory = tempfile.mkdtemp(prefix="holdline-orders-")
        self.log_file = f"{self.broker.directory}/holdline-data/holdline.sqlite"
        self.file = f"{self.directory}/orders.sqlite"
        with closing(sqlite3.connect(self.file)) as connection:
            connection.executescript("PRAGMA journal_mode = WAL;" + SCHEMA + NOTES[self.kind])
        self.environment = {"DATABASE_URL": f"sqlite:{self.file}", "HOLDLINE_LOG": self.log_file}

    def reader(self, handle, **options):
        return SqliteReader(self.log_file, self.file, options.pop("name", "test"), handle, **options)

    def query(self, sql):
        with closing(sqlite3.connect(self.file, timeout=30)) as connection:
            return connection.execute(sql).fetchall()

    def claims(self):
        """There are none: a transaction keeps others away."""
        return []

    def log(self):
        """What the broker wrote, of locks, in order for each resource."""
        with closing(sqlite3.connect(self.log_file)) as connection:
            return connection.execute(
                "SELECT resource, fence, kind, principal FROM event WHERE fence IS NOT NULL ORDER BY shard, position"
            ).fetchall()

    def execute(self, sql):
        with closing(sqlite3.connect(self.file, timeout=30)) as connection, connection:
            connection.execute(sql)


class Pg:
    server: Postgres
    kind = "postgres"
    mark = "%s"
    number = 0

    def __init__(self):
        Pg.number += 1
        self.url = Pg.server.database(f"orders_{Pg.number}")
        self.broker = Broker(f'[store]\nurl = "{self.url}"\n', RULE)
        with psycopg.connect(self.url) as connection:
            connection.execute(SCHEMA + NOTES[self.kind])
        self.environment = {"DATABASE_URL": self.url}

    def reader(self, handle, **options):
        return PostgresReader(self.url, options.pop("name", "test"), handle, **options)

    def query(self, sql):
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql).fetchall()

    def claims(self):
        """Of readers that are there, or were a moment ago."""
        return self.query("SELECT name, shard FROM holdline.consumer WHERE owner IS NOT NULL AND name = 'orders-python'")

    def log(self):
        return self.query("SELECT resource, fence, kind, principal FROM holdline.event WHERE fence IS NOT NULL ORDER BY shard, position")

    def execute(self, sql):
        with psycopg.connect(self.url) as connection:
            connection.execute(sql)
