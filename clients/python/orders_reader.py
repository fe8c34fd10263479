#!/usr/bin/env python3
"""Keeps locked_by in a table of orders, by reading Holdline's log.

    DATABASE_URL=postgres://… python3 orders_reader.py                                   PostgreSQL, where the log is, too
    DATABASE_URL=sqlite:shop.sqlite HOLDLINE_LOG=holdline-data/holdline.sqlite \\
        python3 orders_reader.py                                                         SQLite: the log is a file of the broker
    … --once                                                                             to the end of the log, then exit

    CREATE TABLE orders (id bigint PRIMARY KEY, …, locked_by text, lock_fence bigint);

Kill it at any moment: every lock and every unlock still takes effect exactly once, in order. Any number of copies may run.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Any

from holdline_log import Entry, PostgresReader, SqliteReader

NAME = "orders-python"

# The fence keeps an old entry from touching what a newer lock has written.
LOCKED = "UPDATE orders SET locked_by = ?, lock_fence = ? WHERE id = ? AND coalesce(lock_fence, 0) < ?"
UNLOCKED = "UPDATE orders SET locked_by = NULL WHERE id = ? AND lock_fence = ?"


def apply(cursor: Any, entry: Entry, mark: str) -> None:
    order = entry.resource.removeprefix("order:")
    if not (entry.resource.startswith("order:") and order.isdecimal()):
        return
    # By kind, and not by the name alone: handlers may emit events of any name.
    if entry.kind == "locked" and entry.type == "OrderLocked":
        cursor.execute(LOCKED.replace("?", mark), (entry.principal, entry.fence, int(order), entry.fence))
    elif entry.kind == "unlocked" and entry.type == "OrderUnlocked":
        cursor.execute(UNLOCKED.replace("?", mark), (int(order), entry.fence))


def reader(url: str) -> PostgresReader | SqliteReader:
    if url.startswith("sqlite:"):
        return SqliteReader(os.environ["HOLDLINE_LOG"], url.removeprefix("sqlite:"), NAME, lambda cursor, entry: apply(cursor, entry, "?"))
    return PostgresReader(url, NAME, lambda cursor, entry: apply(cursor, entry, "%s"))


def main() -> None:
    logging.basicConfig(format="%(message)s")
    orders = reader(os.environ["DATABASE_URL"])
    # The shards are given back at once, and not when the lease is over.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: orders.stop())
    orders.run(once="--once" in sys.argv[1:])


if __name__ == "__main__":
    main()
