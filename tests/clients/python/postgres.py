"""A PostgreSQL server of our own, that can be killed."""

import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psycopg


def free_port():
    """One that nobody listens on, below those that connections are given by chance."""
    while True:
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
            return free.getsockname()[1]


class Postgres:
    def __init__(self):
        self.bin = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))[-1].parent
        self.directory = tempfile.mkdtemp(prefix="holdline-pg-")
        # It does not run as root.
        self.owner = {}
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            self.owner = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.directory, user.pw_uid, user.pw_gid)
        data = f"{self.directory}/data"
        options = ["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "-D", data]
        subprocess.run([self.bin / "initdb", *options], check=True, cwd=self.directory, stdout=subprocess.DEVNULL, **self.owner)
        self.port = free_port()
        self.arguments = [self.bin / "postgres", "-D", data, "-k", self.directory, "-p", str(self.port)]
        self.arguments += [
            part for setting in ("fsync=off", "listen_addresses=127.0.0.1", "log_min_messages=panic") for part in ("-c", setting)
        ]
        self.launch()

    def launch(self):
        self.server = subprocess.Popen(self.arguments, cwd=self.directory, stderr=subprocess.DEVNULL, **self.owner)
        deadline = time.monotonic() + 120
        while True:
            try:
                return psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "PostgreSQL does not start"
                time.sleep(0.1)

    def url(self, database):
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def database(self, name):
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def kill(self):
        """As a crash: every connection breaks."""
        self.server.send_signal(3)
        self.server.wait(60)

    def stop(self):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
