"""The client libraries that run the cases of cases.py, each case in a process of its own."""

import dataclasses
import subprocess
import unittest

from interop.broker import PATIENCE_SECONDS, PROTOCOLS, ROOT, SHARD_COUNTS, TOOLS, matrix
from interop.cases import ClientCases

# A process waits for several things in turn, each as long as a test may.
PROCESS_SECONDS = 3 * PATIENCE_SECONDS


@dataclasses.dataclass(frozen=True)
class Library:
    # Below tests/.env, where tests/run has put it.
    python: str
    # Cases that ask for what the library does not do, with the reason.
    left_out: dict = dataclasses.field(default_factory=dict)


AIOMQTT_RECONNECTS = (
    "aiomqtt 2.5.1, cut off while it writes, may go on to watch the closed socket: the next connection that gets the same "
    "file descriptor then reads nothing, not even the CONNACK"
)
LIBRARIES = {
    "paho-1": Library("python-paho1"),
    "paho-2": Library("python"),
    "aiomqtt": Library(
        "python",
        left_out={
            "test_subscriber_resumes_in_mid_exchange": AIOMQTT_RECONNECTS,
            "test_publisher_resumes_in_mid_exchange": AIOMQTT_RECONNECTS,
        },
    ),
    "gmqtt": Library(
        "python",
        left_out={
            "test_subscriber_resumes_in_mid_exchange": "gmqtt 0.8.0 keeps no ids of what it has received: it hands a "
            "message out again when its PUBLISH is repeated",
        },
    ),
}
CASES = [name for name in vars(ClientCases) if name.startswith("test_")]


class LibraryCases:
    """One library, by the name that `run_case.py` knows it by."""

    # For the megabyte and its header.
    flags = ("--max-packet-bytes", "2MiB")

    def run_case(self, case):
        python = TOOLS / LIBRARIES[self.library].python / "bin" / "python"
        address = [self.broker.host, str(self.broker.port)]
        done = subprocess.run(
            [python, "-m", "interop.run_case", self.library, *address, self.protocol, case],
            cwd=ROOT / "tests",
            capture_output=True,
            text=True,
            timeout=PROCESS_SECONDS,
        )
        self.assertEqual(done.returncode, 0, done.stderr)


def add_tests(name, library):
    tests = {case: lambda self, case=case: self.run_case(case) for case in CASES if case not in library.left_out}
    title = "".join(part.capitalize() for part in name.split("-"))
    mixin = type(title, (LibraryCases,), {**tests, "library": name, "__module__": __name__})
    matrix(shards=SHARD_COUNTS, protocol=PROTOCOLS)(mixin)


for library_name, library in LIBRARIES.items():
    add_tests(library_name, library)

if __name__ == "__main__":
    unittest.main()
