#!/usr/bin/env python3
"""Reads Holdline's log straight from PostgreSQL and keeps locked_by in a table of orders.

    DATABASE_URL=postgres://… python3 orders_reader.py            until stopped
    DATABASE_URL=postgres://… python3 orders_reader.py --once     to the end of the log, then exit

    CREATE TABLE orders (id bigint PRIMARY KEY, …, locked_by text, lock_fence bigint);

Each order is written in the transaction that stores how far the log was read: kill this at any moment, and every lock and every
unlock still takes effect exactly once, in order. Any number of copies may run; they share the shards. Needs psycopg 3.
"""

import os
import select
import sys
import time

import psycopg
from psycopg.rows import dict_row

CONSUMER = "orders-python"
OWNER = f"{os.uname().nodename}-{os.getpid()}"
LEASE = "10 s"
RENEW_EVERY = 3.0
POLL_EVERY = 1.0
BATCH = 200

# One row per shard, once. A new reader begins with the oldest entry.
CREATE = """
INSERT INTO holdline.consumer (name, shard, position)
SELECT %(name)s, shard, first_position - 1 FROM holdline.shard_head
ON CONFLICT (name, shard) DO NOTHING
"""

# Shards that nobody else reads. A new epoch makes the claims of whoever read them before worthless. A lease further away than it is
# long comes from a clock that was set back.
CLAIM = """
UPDATE holdline.consumer c SET owner = %(owner)s, epoch = c.epoch + 1, lease_until = clock_timestamp() + %(lease)s::interval
  FROM (SELECT shard FROM holdline.consumer
         WHERE name = %(name)s AND (owner IS NULL OR owner = %(owner)s OR lease_until < clock_timestamp()
               OR lease_until > clock_timestamp() + %(lease)s::interval)
         ORDER BY shard FOR UPDATE SKIP LOCKED) free
 WHERE c.name = %(name)s AND c.shard = free.shard
RETURNING c.shard, c.position, c.epoch
"""

READ = """
SELECT position, type, resource, principal, fence FROM holdline.event
 WHERE shard = %(shard)s AND position > %(position)s ORDER BY position LIMIT %(batch)s
"""

# No row: somebody else has the shard by now. Then nothing of this transaction may stay.
ACKNOWLEDGE = """
UPDATE holdline.consumer SET position = %(upto)s, attempts = 0, next_try = NULL, last_error = NULL
 WHERE name = %(name)s AND shard = %(shard)s AND epoch = %(epoch)s AND position = %(position)s
"""

NOTE_FAILURE = """
UPDATE holdline.consumer SET attempts = attempts + 1, last_error = %(error)s
 WHERE name = %(name)s AND shard = %(shard)s AND epoch = %(epoch)s AND position = %(position)s
"""

GIVE_UP = "UPDATE holdline.consumer SET owner = NULL, lease_until = NULL WHERE name = %(name)s AND owner = %(owner)s"

# The fence keeps an old entry from touching what a newer lock has written.
LOCKED = "UPDATE orders SET locked_by = %(principal)s, lock_fence = %(fence)s WHERE id = %(order)s AND coalesce(lock_fence, 0) < %(fence)s"
UNLOCKED = "UPDATE orders SET locked_by = NULL WHERE id = %(order)s AND lock_fence = %(fence)s"

STATEMENTS = {"OrderLocked": LOCKED, "OrderUnlocked": UNLOCKED}


class Lost(Exception):
    """The shard is somebody else's."""


def apply(transaction, event):
    statement = STATEMENTS.get(event["type"])
    order = event["resource"].removeprefix("order:")
    if statement and order.isdecimal():
        transaction.execute(statement, {"principal": event["principal"], "fence": event["fence"], "order": int(order)})


def read_batch(connection, claim):
    """One transaction; how many entries it took."""
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        events = cursor.execute(READ, {**claim, "batch": BATCH}).fetchall()
        for expected, event in enumerate(events, claim["position"] + 1):
            if event["position"] != expected:
                # Positions have no holes: what is missing was deleted before this reader existed, or it was rewound too far.
                raise RuntimeError(f"shard {claim['shard']}: position {expected} is missing")
            apply(cursor, event)
        if events:
            upto = events[-1]["position"]
            if cursor.execute(ACKNOWLEDGE, {**claim, "name": CONSUMER, "upto": upto}).rowcount != 1:
                raise Lost
            claim["position"] = upto
    return len(events)


def read_shard(connection, claim, deadline):
    """Reads to the end, or until it is time to renew the claims."""
    before = claim["position"]
    try:
        while time.monotonic() < deadline and read_batch(connection, claim) == BATCH:
            pass
    except Lost:
        pass
    except (psycopg.errors.DataError, psycopg.errors.IntegrityError, RuntimeError) as error:
        # This reader lets a shard wait at what fails; `holdline consumers skip` takes an entry out of the way.
        print(f"shard {claim['shard']} after {claim['position']}: {error}", file=sys.stderr)
        connection.execute(NOTE_FAILURE, {**claim, "name": CONSUMER, "error": str(error)})
    return claim["position"] - before


def follow(url, once):
    with psycopg.connect(url, autocommit=True) as connection, psycopg.connect(url, autocommit=True) as bell:
        names = {"name": CONSUMER, "owner": OWNER, "lease": LEASE}
        connection.execute(CREATE, names)
        # A ring says "look". It may get lost, so there is a look every second in any case.
        bell.execute("LISTEN holdline")
        try:
            while True:
                deadline = time.monotonic() + RENEW_EVERY
                with connection.cursor(row_factory=dict_row) as cursor:
                    claims = cursor.execute(CLAIM, names).fetchall()
                while True:
                    read = sum(read_shard(connection, claim, deadline) for claim in claims)
                    if once and read == 0:
                        return
                    if time.monotonic() > deadline:
                        break
                    if read == 0 and select.select([bell], [], [], POLL_EVERY)[0]:
                        bell.execute("SELECT 1")
        finally:
            if not connection.closed:
                connection.execute(GIVE_UP, names)


def main():
    url, once = os.environ["DATABASE_URL"], "--once" in sys.argv[1:]
    while True:
        try:
            return follow(url, once)
        except psycopg.OperationalError as error:
            print(f"the database does not answer: {error}", file=sys.stderr)
            if once:
                sys.exit(1)
            time.sleep(1)
        except KeyboardInterrupt:
            return None


if __name__ == "__main__":
    main()
