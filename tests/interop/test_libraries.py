"""The client libraries that run the cases of cases.py, each case in a process of its own."""

import atexit
import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest
from collections.abc import Callable

from interop.broker import PATIENCE_SECONDS, PROTOCOLS, ROOT, SHARD_COUNTS, TOOLS, matrix
from interop.cases import ClientCases
from interop.certificates import certificates
from interop.peer import AUTHORITY_VARIABLE

# A process waits for several things in turn, each as long as a test may.
PROCESS_SECONDS = 3 * PATIENCE_SECONDS
CASES_AT_ONCE = 4

CASES = [name.removeprefix("test_") for name in vars(ClientCases) if name.startswith("test_")]


@dataclasses.dataclass(frozen=True)
class Library:
    # The command that runs a case, when called; TRANSPORT HOST PORT PROTOCOL CASE follow, and the environment
    # names the authority that has signed the broker's certificate.
    command: Callable
    # Cases that ask for what the library does not do, with the reason.
    left_out: dict = dataclasses.field(default_factory=dict)
    transport: str = "tcp"


def python(environment, adapter):
    """The adapter in one of the virtual environments of tests/run."""
    return lambda: [TOOLS / environment / "bin" / "python", "-m", "interop.run_case", adapter]


def mqttjs():
    return ["node", pathlib.Path(__file__).with_name("mqttjs.cjs")]


@functools.cache
def paho_c():
    directory = pathlib.Path(tempfile.mkdtemp(prefix="oncemq-paho-c-"))
    atexit.register(shutil.rmtree, directory)
    source = pathlib.Path(__file__).with_name("paho_c.c")
    flags = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1"]
    compiler = ["cc", *flags, source, "-o", directory / "paho_c", "-lpaho-mqtt3c", "-lpthread"]
    subprocess.run(compiler, check=True, timeout=PROCESS_SECONDS)
    return [directory / "paho_c"]


AIOMQTT_RECONNECTS = (
    "aiomqtt 2.5.1, cut off while it writes, may go on to watch the closed socket: the next connection that gets the "
    "same file descriptor then reads nothing, not even the CONNACK"
)
LIBRARIES = {
    "paho-1": Library(python("python-paho1", "paho-1")),
    "paho-2": Library(python("python", "paho-2")),
    "paho-c": Library(
        paho_c,
        left_out={
            "subscriber_resumes_in_mid_exchange": "a client breaks off here by the death of its process, and with it "
            "dies what its application had been given",
        },
    ),
    "mqtt-js": Library(mqttjs),
    "aiomqtt": Library(
        python("python", "aiomqtt"),
        left_out={
            "subscriber_resumes_in_mid_exchange": AIOMQTT_RECONNECTS,
            "publisher_resumes_in_mid_exchange": AIOMQTT_RECONNECTS,
        },
    ),
    "gmqtt": Library(
        python("python", "gmqtt"),
        left_out={
            "subscriber_resumes_in_mid_exchange": "gmqtt 0.8.0 keeps no ids of what it has received: it hands a "
            "message out again when its PUBLISH is repeated",
        },
    ),
    # Not paho's C library: 1.3.11 keeps what it has received over WebSocket in one place for all its connections, and stands
    # still, with the answer due, as soon as two of them receive at the same time.
    "paho-2-ws": Library(python("python", "paho-2"), transport="ws"),
    "mqtt-js-ws": Library(mqttjs, transport="ws"),
    "paho-2-tls": Library(python("python", "paho-2"), transport="tls"),
    "mqtt-js-tls": Library(mqttjs, transport="tls"),
    "mqtt-js-wss": Library(mqttjs, transport="wss"),
}
# Over the others the shards see the same packets.
SHARD_COUNTS_OF = {"tcp": SHARD_COUNTS, "ws": SHARD_COUNTS[-1:], "tls": SHARD_COUNTS[-1:], "wss": SHARD_COUNTS[-1:]}


class LibraryCases:
    """One library. Its cases begin before the tests that ask for them, a few at once: they mostly wait."""

    # For the megabyte and its header.
    flags = ("--max-packet-bytes", "2MiB")

    @classmethod
    def setUpClass(cls):
        if cls.library.transport in ("tls", "wss"):
            cls.certificates = certificates()
        super().setUpClass()
        cls.command = cls.library.command()
        cls.executor = concurrent.futures.ThreadPoolExecutor(CASES_AT_ONCE)
        cls.outcomes = {case: cls.executor.submit(cls.run_case, case) for case in cls.cases}

    @classmethod
    def tearDownClass(cls):
        cls.executor.shutdown()
        super().tearDownClass()

    @classmethod
    def run_case(cls, case):
        """Runs it as a process in a directory of its own, for what the library may keep there."""
        transport = cls.library.transport
        broker = cls.broker
        ports = {"tcp": broker.port, "ws": broker.web_socket_port}
        ports |= {"tls": broker.tls_port, "wss": broker.web_socket_tls_port}
        command = [*cls.command, transport, broker.host, str(ports[transport]), cls.protocol, case]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
        if cls.certificates is not None:
            environment[AUTHORITY_VARIABLE] = str(cls.certificates.authority)
        with tempfile.TemporaryDirectory(prefix="oncemq-case-") as directory:
            return subprocess.run(
                command, cwd=directory, env=environment, capture_output=True, text=True, timeout=PROCESS_SECONDS
            )

    def check_case(self, case):
        outcome = self.outcomes[case].result()
        self.assertEqual(outcome.returncode, 0, outcome.stderr)


def add_tests(name, library):
    cases = [case for case in CASES if case not in library.left_out]
    tests = {f"test_{case}": lambda self, case=case: self.check_case(case) for case in cases}
    title = "".join(part.capitalize() for part in name.split("-"))
    attributes = {**tests, "cases": cases, "library": library, "__module__": __name__}
    matrix(shards=SHARD_COUNTS_OF[library.transport], protocol=PROTOCOLS)(type(title, (LibraryCases,), attributes))


for library_name, library in LIBRARIES.items():
    add_tests(library_name, library)

if __name__ == "__main__":
    unittest.main()
