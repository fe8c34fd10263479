"""The real binary on a free port, and a subscriber that shows every frame."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

BINARY = os.environ.get("HOLDLINE_BIN") or str(Path(__file__).parents[3] / "target/debug/holdline")

STOP = 25
"""Seconds for a stop: fewer than the broker's own limit, which ends one that hangs."""

PATIENCE = 30
"""Seconds in which what must come has come, on a busy machine, too: only a failure ever takes so long."""

CONFIG = """
[drain]
spread = "100ms"

[[apps]]
id = "1001"
key = "app-key"
secret = "app-secret"
client_events = true

[[apps]]
id = "1002"
key = "other-key"
secret = "other-secret"

[[apps]]
id = "1003"
key = "disabled-key"
secret = "disabled-secret"
enabled = false
"""


class Broker:
    def __init__(self, more="", rules=""):
        """`more` is configuration of its own; `rules` are the first application's."""
        self.directory = tempfile.mkdtemp(prefix="holdline-")
        config = Path(self.directory) / "holdline.toml"
        config.write_text(more + CONFIG.replace("client_events = true\n", f"client_events = true\n{rules}", 1))
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.process = subprocess.Popen(
            [BINARY, "--config", str(config), "--port", "0"], cwd=self.directory, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.lines = []
        self.listening = threading.Event()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if not self.listening.wait(2 * PATIENCE) or self.port is None:
            self.process.kill()
            raise AssertionError("the broker does not listen:\n" + "".join(self.lines))

    def _read(self):
        self.port = None
        for line in self.process.stderr:
            self.lines.append(line)
            listening = re.match(r"Listening on \S+:(\d+)$", json.loads(line)["message"])
            if listening:
                self.port = int(listening[1])
                self.listening.set()
        self.listening.set()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=STOP)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.reader.join(5)
            self.process.stderr.close()
            shutil.rmtree(self.directory, ignore_errors=True)
        log = "".join(self.lines)
        assert "panicked" not in log, log
        assert code == 0, f"exit code {code}\n{log}"


class Refused(Exception):
    """A subscription that the broker has refused."""


class Subscriber:
    """One connection; `frames` is whatever came and was not asked for yet. Leaving waits `patience` seconds for the broker to end it."""

    def __init__(self, broker, key="app-key", patience=0.2, tls=None):
        url = f"{'wss' if tls else 'ws'}://127.0.0.1:{broker.port}/app/{key}?protocol=7&client=python&version=1"
        self.opened = ExitStack()
        self.socket = self.opened.enter_context(connect(url, ssl=tls, compression=None, proxy=None, close_timeout=patience))
        self.frames = []
        self.socket_id = json.loads(self.frame("pusher:connection_established")["data"])["socket_id"]

    def send(self, event, data):
        self.socket.send(json.dumps({"event": event, "data": data}))

    def frame(self, event, unless=None, within=PATIENCE):
        """The next frame of this name; it and all before it are taken away."""
        deadline = time.monotonic() + within
        while True:
            for index, frame in enumerate(self.frames):
                if frame["event"] == event:
                    del self.frames[: index + 1]
                    return frame
                if unless and frame["event"] == unless:
                    raise Refused(frame["data"])
            self.frames.append(json.loads(self.socket.recv(timeout=max(0.0, deadline - time.monotonic()))))

    def drained(self):
        """All frames up to the answer to a ping: whatever the broker sent before is among them."""
        self.send("pusher:ping", {})
        taken = []
        while True:
            frame = self.frames.pop(0) if self.frames else json.loads(self.socket.recv(timeout=PATIENCE))
            if frame["event"] == "pusher:pong":
                return taken
            taken.append(frame)

    def subscribe(self, channel, **authorisation):
        self.send("pusher:subscribe", {**authorisation, "channel": channel})
        return self.frame("pusher_internal:subscription_succeeded", unless="pusher:subscription_error")

    def closed(self):
        """Reads to the end and gives back code and reason of the close."""
        try:
            while True:
                self.frames.append(json.loads(self.socket.recv(timeout=PATIENCE)))
        except ConnectionClosed as end:
            return end.rcvd.code, end.rcvd.reason

    def close(self):
        self.opened.close()
