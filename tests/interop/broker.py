"""Runs the broker under test as a child process, and generates test classes over its settings.

The broker is `$ONCEMQ_BIN` (default: the release build). It gets a free port and a data directory of its own, must
say `ready` before a test begins, and must exit with status 0 on SIGTERM: a test class in which it does not has failed,
whatever its clients saw. Nothing here speaks MQTT.
"""

import atexit
import collections
import itertools
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tests" / ".env"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"

# How long anything that must happen may take before the test gives up. It bounds a hang; nothing is judged by speed.
PATIENCE_SECONDS = 30

# What the broker must not hold once every client has left and ended its session.
HELD = ("connections", "sessions", "subscriptions", "messages", "inbound_inflight", "outbound_inflight", "queued")

PROTOCOLS = ("3.1.1", "5.0")
SHARD_COUNTS = (1, 2)


class Broker:
    """One broker process, from `ready` to exit status 0."""

    def __init__(self, shards, flags=(), durability="none", certificates=None):
        binary = pathlib.Path(os.environ.get("ONCEMQ_BIN", TARGET / "oncemq"))
        if not binary.exists():
            raise FileNotFoundError(f"{binary} is missing: `cargo build --release` first, or set ONCEMQ_BIN")
        self.shards = shards
        # What is spoken at `port`; tests that speak something else give their clients an address of their own.
        self.transport = "tcp"
        self.host = "127.0.0.1"
        self.port = free_port()
        self.web_socket_port = free_port()
        self.tls_port, self.web_socket_tls_port = free_port(), free_port()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="oncemq-test-"))
        self.log_path = self.directory / "log"
        command = [binary, "--listen", f"{self.host}:{self.port}", "--shards", str(shards)]
        command += ["--websocket-listen", f"{self.host}:{self.web_socket_port}"]
        if certificates is not None:
            command += ["--tls-listen", f"{self.host}:{self.tls_port}"]
            command += ["--websocket-tls-listen", f"{self.host}:{self.web_socket_tls_port}", *certificates.server_flags()]
        command += ["--durability", durability, "--data-dir", self.directory / "data", *flags]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        atexit.register(self._discard)
        self._wait_until_ready()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def is_running(self):
        return self.process.poll() is None

    def resident_bytes(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the broker has no resident memory: it is gone")

    def counters(self):
        """What the shards count, summed over them: each logs one line of `name=value` when asked by SIGUSR1."""
        before = len(self._counter_lines())
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: len(self._counter_lines()) >= before + self.shards, "the counters of every shard")
        sums = collections.Counter()
        for line in self._counter_lines()[before:]:
            sums.update({name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)})
        return dict(sums)

    def assert_nothing_is_left(self, *names):
        """Waits until the counters of these names are 0 on every shard: there is no leak."""
        wait_until(
            lambda: not any(self.counters()[name] for name in names),
            lambda: f"zero of {', '.join(names)}: {self.counters()}",
        )

    def stop(self):
        """Asks the broker to end; raises unless it does so cleanly."""
        try:
            if self.is_running():
                self.process.send_signal(signal.SIGTERM)
            status = self.process.wait(PATIENCE_SECONDS)
            if status != 0:
                raise AssertionError(f"the broker ended with status {status}; its log:\n{self.log()[-4000:]}")
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the broker ignored SIGTERM; its log:\n{self.log()[-4000:]}") from None
        finally:
            self._discard()

    def _counter_lines(self):
        # A line that is still being written ends in no newline.
        return [line for line in self.log().split("\n")[:-1] if " counters shard=" in line]

    def _wait_until_ready(self):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "ready" not in self.log():
            if not self.is_running() or time.monotonic() > deadline:
                log = self.log()
                self._discard()
                raise AssertionError(f"the broker never said `ready`; its log:\n{log[-4000:]}")
            time.sleep(0.01)

    def _discard(self):
        atexit.unregister(self._discard)
        if self.is_running():
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class BrokerCase(unittest.TestCase):
    """A test class with a broker of its own, shared by its tests: each test uses names that begin with `self.name`."""

    shards = 1
    protocol = "5.0"
    flags = ()
    certificates = None
    broker = None

    @classmethod
    def setUpClass(cls):
        cls.broker = Broker(cls.shards, cls.flags, certificates=cls.certificates)

    @classmethod
    def tearDownClass(cls):
        cls.broker.stop()

    def setUp(self):
        self.name = self._testMethodName.removeprefix("test_").replace("_", "-")


def matrix(**axes):
    """Turns a mix-in into one BrokerCase per combination of `axes`, each value becoming a class attribute."""

    def generate(mixin):
        module = sys.modules[mixin.__module__]
        for values in itertools.product(*axes.values()):
            attributes = dict(zip(axes, values), __module__=mixin.__module__, __doc__=mixin.__doc__)
            setting = "_".join(f"{axis}_{value}" for axis, value in zip(axes, values)).replace(".", "")
            name = f"{mixin.__name__}_{setting}"
            setattr(module, name, type(name, (mixin, BrokerCase), attributes))
        return mixin

    return generate


def wait_until(condition, what):
    """Polls `condition` until it holds; fails saying `what` never came."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"never happened: {what() if callable(what) else what}")
        time.sleep(0.005)
