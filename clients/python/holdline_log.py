"""Follows Holdline's log by SQL: each entry takes effect exactly once, in order, however often the reader is killed in between.

Copy this file; it needs psycopg 3 for PostgreSQL and nothing for SQLite.

    from holdline_log import Entry, PostgresReader

    def handle(cursor, entry: Entry) -> None:
        if entry.type == "OrderLocked":
            cursor.execute("UPDATE orders SET locked_by = %s WHERE id = %s", (entry.principal, entry.resource.removeprefix("order:")))

    PostgresReader("postgres://…", "orders", handle).run()

What the handler writes with its cursor is committed together with the position that was read, or not at all. What it does elsewhere (a
mail, a request) may happen again: `entry.id` is the same then. The statements are explained in src/docs/listeners.md, "By plain SQL".
"""

from __future__ import annotations

import json
import logging
import os
import random
import select
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import DictRow

__all__ = ["Entry", "Gap", "PostgresReader", "SqliteReader"]

log = logging.getLogger("holdline")

BATCH = 200
"""Entries in one transaction, at most."""
ADVICE = 'see "When entries are missing" in clients/python/README.md'
FIRST_RETRY, LAST_RETRY = 0.2, 30.0
"""Seconds until a failed entry is tried again: doubling from the first to the last."""


class Gap(Exception):
    """Entries are missing that this reader has not read: they were deleted, or the log is another one."""


class _Lost(Exception):
    """Somebody else reads this shard now."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the log."""

    shard: int
    position: int
    kind: Literal["locked", "unlocked", "event"]
    type: str
    """OrderLocked, OrderUnlocked, or what a handler of yours has called it."""
    app: str
    resource: str
    principal: str | None
    socket_id: str | None
    fence: int | None
    """Of locks: rises with each."""
    cause: str | None
    """Why a lock ended."""
    after_grace: bool
    at: datetime
    payload: Any
    """The context of a lock, or what an event carries."""

    @property
    def id(self) -> str:
        """The same whenever this entry is handled again, and in X-Holdline-Event-Id."""
        return f"{self.shard}-{self.position}"


@dataclass(slots=True)
class _Shard:
    number: int
    position: int
    epoch: int = 0
    failures: int = 0
    not_before: float = 0.0
    batch: int = BATCH

    def failed(self) -> None:
        """If it was not one entry, then the next is: what comes before the one that fails is to be done."""
        if self.batch > 1:
            self.batch = 1
            return
        self.failures += 1
        wait = min(LAST_RETRY, FIRST_RETRY * 2 ** min(self.failures - 1, 20))
        self.not_before = time.monotonic() + wait * random.uniform(0.8, 1.0)

    def moved(self, position: int) -> None:
        self.position = position
        self.failures, self.not_before = 0, 0.0
        self.batch = min(BATCH, self.batch * 2)

    @property
    def waits(self) -> bool:
        return time.monotonic() < self.not_before


def _entry(shard: int, row: Mapping[str, Any]) -> Entry:
    fields = {name: row[name] for name in COLUMNS.split(", ")}
    fields["after_grace"] = bool(fields["after_grace"])
    # SQLite has neither times nor JSON.
    if isinstance(fields["at"], int):
        fields["at"] = datetime.fromtimestamp(fields["at"] / 1000, timezone.utc)
        fields["payload"] = json.loads(fields["payload"])
    return Entry(shard=shard, **fields)


def _gone(shard: int, first: int, last: int) -> Gap:
    return Gap(f"shard {shard}: the entries from {first} to {last} are not there any more; {ADVICE}")


def _check(shard: int, position: int, rows: list[Any]) -> None:
    """Positions have no holes."""
    for expected, row in enumerate(rows, position + 1):
        if row["position"] != expected:
            raise _gone(shard, expected, row["position"] - 1)


COLUMNS = "position, kind, type, app, resource, principal, socket_id, fence, cause, after_grace, at, payload"


class _Reader:
    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._woken, self._waker = socket.socketpair()

    def stop(self) -> None:
        """Makes `run` return when it has done what it is at: from a signal handler, or from another thread."""
        self._stopping.set()
        self._waker.send(b"!")


class PostgresReader(_Reader):
    """Reads the log in PostgreSQL, for a handler that writes to the same database.

    Any number of processes may run with the same name: each shard is read by one of them, and when one dies another takes its shards over
    after `lease` seconds. How far it is stands in holdline.consumer, so `holdline consumers list`, `skip`, `rewind` and `drop` know it, and
    nothing is deleted that it has not read.
    """

    _CREATE = """
        INSERT INTO holdline.consumer (name, shard, position)
        SELECT %(name)s, shard, CASE WHEN %(newest)s THEN last_position ELSE first_position - 1 END FROM holdline.shard_head
        ON CONFLICT (name, shard) DO NOTHING
    """
    # Shards that nobody else reads. A new epoch makes the claims of whoever read them before worthless. A lease further away than it is
    # long comes from a clock that was set back.
    _CLAIM = """
        UPDATE holdline.consumer c SET owner = %(owner)s, epoch = c.epoch + 1, lease_until = clock_timestamp() + %(lease)s
          FROM (SELECT shard FROM holdline.consumer
                 WHERE name = %(name)s AND (owner IS NULL OR owner = %(owner)s OR lease_until < clock_timestamp()
                       OR lease_until > clock_timestamp() + %(lease)s)
                 ORDER BY shard FOR UPDATE SKIP LOCKED) free
         WHERE c.name = %(name)s AND c.shard = free.shard
        RETURNING c.shard, c.position, c.epoch
    """
    _READ = f"SELECT {COLUMNS} FROM holdline.event WHERE shard = %(shard)s AND position > %(position)s ORDER BY position LIMIT %(batch)s"
    _PLACE = "name = %(name)s AND shard = %(shard)s AND epoch = %(epoch)s AND position = %(position)s"
    # No row: somebody else has the shard by now. Then nothing of this transaction may stay.
    _ACKNOWLEDGE = f"UPDATE holdline.consumer SET position = %(upto)s, attempts = 0, next_try = NULL, last_error = NULL WHERE {_PLACE}"
    _NOTE_FAILURE = f"UPDATE holdline.consumer SET attempts = attempts + 1, last_error = %(error)s WHERE {_PLACE}"
    _GIVE_UP = "UPDATE holdline.consumer SET owner = NULL, lease_until = NULL WHERE name = %(name)s AND owner = %(owner)s"

    def __init__(
        self,
        url: str,
        name: str,
        handle: Callable[[psycopg.Cursor[DictRow], Entry], None],
        *,
        start: Literal["oldest", "newest"] = "oldest",
        lease: float = 10.0,
        poll: float = 1.0,
    ) -> None:
        """`start`: where a name begins that nobody has used before. `poll`: seconds between looks, should a notification get lost."""
        super().__init__()
        self._url, self._handle, self._poll = url, handle, poll
        self._renew = lease / 3
        owner = f"{os.uname().nodename}-{os.getpid()}-{random.getrandbits(32):08x}"
        self._names = {"name": name, "owner": owner, "lease": timedelta(seconds=lease), "newest": start == "newest"}
        self._shards: dict[int, _Shard] = {}

    def run(self, *, once: bool = False) -> None:
        """Reads until `stop`; with `once`, to the end of the log. While the database is away it is waited for, unless `once`.

        Raises `Gap`. An entry whose handler raises is tried again, at growing intervals, and what follows it in its shard waits; with
        `once` the exception comes out here.
        """
        import psycopg

        while not self._stopping.is_set():
            try:
                return self._follow(once)
            except psycopg.OperationalError as error:
                if once:
                    raise
                log.warning("the database does not answer: %s", error)
                self._stopping.wait(1.0)

    def _follow(self, once: bool) -> None:
        import psycopg
        from psycopg.rows import dict_row

        with (
            psycopg.connect(self._url, autocommit=True, row_factory=dict_row) as connection,
            psycopg.connect(self._url, autocommit=True) as bell,
        ):
            connection.execute(self._CREATE, self._names)
            # A ring says "look", and may get lost. Between the two is no transaction pooler, or it never rings.
            bell.add_notify_handler(lambda _: None)
            bell.execute("LISTEN holdline")
            sources: list[Any] = [bell, self._woken]
            try:
                while not self._stopping.is_set():
                    self._claim(connection)
                    deadline = time.monotonic() + self._renew
                    while time.monotonic() < deadline and not self._stopping.is_set():
                        read = sum(self._read_shard(connection, shard, deadline, once) for shard in list(self._shards.values()))
                        if once and read == 0:
                            return
                        wait = 0.0 if read else min(self._poll, max(0.0, deadline - time.monotonic()))
                        if bell in select.select(sources, [], [], wait)[0]:
                            # Takes what has rung; raises when the server is gone.
                            bell.execute("SELECT 1")
            finally:
                if not connection.closed:
                    connection.execute(self._GIVE_UP, self._names)

    def _claim(self, connection: psycopg.Connection[DictRow]) -> None:
        rows = connection.execute(self._CLAIM, self._names).fetchall()
        before, self._shards = self._shards, {}
        for row in rows:
            shard = before.get(row["shard"])
            if shard is None or shard.position != row["position"]:
                shard = _Shard(row["shard"], row["position"])
            shard.epoch = row["epoch"]
            self._shards[shard.number] = shard

    def _read_shard(self, connection: psycopg.Connection[DictRow], shard: _Shard, deadline: float, once: bool) -> int:
        """Reads to the end, or until it is time to renew the claims; how many entries that were."""
        before = shard.position
        try:
            while time.monotonic() < deadline and not shard.waits and not self._stopping.is_set():
                if self._read_batch(connection, shard) == 0:
                    break
        except _Lost:
            self._shards.pop(shard.number, None)
        except Gap:
            raise
        except Exception as error:
            if connection.closed:
                raise
            alone = shard.batch == 1
            shard.failed()
            if alone:
                log.error("shard %s, position %s: %s: %s", shard.number, shard.position + 1, type(error).__name__, error)
                connection.execute(self._NOTE_FAILURE, {**self._place(shard), "error": f"{type(error).__name__}: {error}"[:1000]})
                if once:
                    raise
            return shard.position - before + 1
        return shard.position - before

    def _read_batch(self, connection: psycopg.Connection[DictRow], shard: _Shard) -> int:
        """One transaction; how many entries it took."""
        place = self._place(shard)
        with connection.transaction(), connection.cursor() as cursor:
            rows = cursor.execute(self._READ, {**place, "batch": shard.batch}).fetchall()
            _check(shard.number, shard.position, rows)
            for row in rows:
                if row["kind"] != "webhook":
                    self._handle(cursor, _entry(shard.number, row))
            if rows and cursor.execute(self._ACKNOWLEDGE, {**place, "upto": rows[-1]["position"]}).rowcount != 1:
                raise _Lost
        if rows:
            shard.moved(rows[-1]["position"])
        return len(rows)

    def _place(self, shard: _Shard) -> dict[str, Any]:
        return {**self._names, "shard": shard.number, "position": shard.position, "epoch": shard.epoch}


class SqliteReader(_Reader):
    """Reads the log in the broker's SQLite file, for a handler that writes to a database of your own, where holdline_cursor says how far.

    Run it on the broker's machine, as a user who may read its data directory. The broker does not know of it, and keeps entries for
    `store.retention`: whoever was away longer is told so by `Gap`.
    """

    _TABLE = """
        CREATE TABLE IF NOT EXISTS holdline_cursor
          (name TEXT NOT NULL, shard INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (name, shard))
    """
    _READ = f"SELECT {COLUMNS} FROM event WHERE shard = ? AND position > ? ORDER BY position LIMIT ?"

    def __init__(
        self,
        log_file: str | Path,
        database: str | Path,
        name: str,
        handle: Callable[[sqlite3.Cursor, Entry], None],
        *,
        start: Literal["oldest", "newest"] = "oldest",
        poll: float = 0.1,
    ) -> None:
        """`log_file` is holdline-data/holdline.sqlite. `poll`: seconds between looks at whether anything was written, which cost little."""
        super().__init__()
        self._log_file, self._database, self._name, self._handle = Path(log_file), database, name, handle
        self._newest, self._poll = start == "newest", poll
        self._shards: dict[int, _Shard] = {}

    def run(self, *, once: bool = False) -> None:
        """As `PostgresReader.run`. Raises sqlite3.OperationalError if a file is not there, or is no database."""
        with (
            closing(sqlite3.connect(f"{self._log_file.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as source,
            closing(sqlite3.connect(self._database, isolation_level=None, timeout=30.0)) as target,
        ):
            source.row_factory = sqlite3.Row
            target.execute(self._TABLE)
            file, seen = self._log_file.stat().st_ino, None
            while not self._stopping.is_set():
                if self._log_file.stat().st_ino != file:
                    raise Gap(f"{self._log_file} is another file now; {ADVICE}")
                version = source.execute("PRAGMA data_version").fetchone()[0]
                read = 0
                if version != seen or any(shard.failures for shard in self._shards.values()):
                    heads = source.execute("SELECT shard, last_position FROM shard_head").fetchall()
                    read = sum(self._read_shard(source, target, head["shard"], head["last_position"], once) for head in heads)
                    seen = version if read == 0 else None
                if read == 0:
                    if once:
                        return
                    self._stopping.wait(self._poll)

    def _read_shard(self, source: sqlite3.Connection, target: sqlite3.Connection, number: int, last: int, once: bool) -> int:
        shard = self._shards.setdefault(number, _Shard(number, -1))
        # No transaction while there is nothing to do.
        if shard.waits or shard.position == last:
            return 0
        alone = shard.batch == 1
        try:
            return self._read_batch(source, target, shard)
        except Gap:
            raise
        except Exception as error:
            shard.failed()
            if alone:
                log.error("shard %s, position %s: %s: %s", shard.number, shard.position + 1, type(error).__name__, error)
                if once:
                    raise
            return 1

    def _read_batch(self, source: sqlite3.Connection, target: sqlite3.Connection, shard: _Shard) -> int:
        """One transaction of the target; how many entries it took."""
        cursor = target.cursor()
        # Whoever else writes waits from here on; so there is one reader at a time, and no claim is needed.
        cursor.execute("BEGIN IMMEDIATE")
        try:
            # Read after the cursor is safe from others: they cannot have gone beyond it.
            head = source.execute("SELECT first_position, last_position FROM shard_head WHERE shard = ?", (shard.number,)).fetchone()
            position = self._position(cursor, shard.number, head["first_position"], head["last_position"])
            rows = source.execute(self._READ, (shard.number, position, shard.batch)).fetchall()
            _check(shard.number, position, rows)
            shard.position = position
            for row in rows:
                if row["kind"] != "webhook":
                    self._handle(cursor, _entry(shard.number, row))
            upto = rows[-1]["position"] if rows else position
            cursor.execute("UPDATE holdline_cursor SET position = ? WHERE name = ? AND shard = ?", (upto, self._name, shard.number))
            cursor.execute("COMMIT")
        finally:
            if target.in_transaction:
                target.rollback()
        shard.moved(upto)
        return len(rows)

    def _position(self, cursor: sqlite3.Cursor, shard: int, first: int, last: int) -> int:
        begin = last if self._newest else first - 1
        cursor.execute("INSERT INTO holdline_cursor VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (self._name, shard, begin))
        row = cursor.execute("SELECT position FROM holdline_cursor WHERE name = ? AND shard = ?", (self._name, shard)).fetchone()
        position = int(row[0])
        if position < first - 1:
            raise _gone(shard, position + 1, first - 1)
        if position > last:
            raise Gap(f"shard {shard}: {position} was read, but this log ends at {last}: it is another one; {ADVICE}")
        return position
