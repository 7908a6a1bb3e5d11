"""`chaos --kill-every`: the broker is killed with SIGKILL and started again under load; nothing may be lost or come twice."""

import json
import os
import pathlib
import shlex
import subprocess
import tempfile
import unittest

from interop.broker import TARGET, free_port

LIMIT_SECONDS = 60

# Every pair of values of two settings occurs.
SETTINGS = (
    ("sync", 1, "5.0"),
    ("sync", 2, "3.1.1"),
    ("write", 1, "3.1.1"),
    ("write", 2, "5.0"),
)


class Kills(unittest.TestCase):
    def test_chaos_balances_over_kills_and_drops(self):
        for durability, shards, protocol in SETTINGS:
            with self.subTest(durability=durability, shards=shards, protocol=protocol):
                with tempfile.TemporaryDirectory(prefix="oncemq-test-") as directory:
                    self.kill(durability, shards, protocol, directory)

    def kill(self, durability, shards, protocol, directory):
        binary = os.environ.get("ONCEMQ_BIN", TARGET / "oncemq")
        port = free_port()
        log = pathlib.Path(directory, "log")
        broker = [binary, "--listen", f"127.0.0.1:{port}", "--shards", shards]
        broker += ["--durability", durability, "--data-dir", f"{directory}/data"]
        chaos = [TARGET / "oncemq-loadgen", "chaos", "--port", port, "--protocol", protocol, "--quiet", "--json"]
        chaos += ["--broker", shlex.join(map(str, broker)), "--broker-log", log, "--kill-every", "300ms"]
        chaos += ["--pairs", 6, "--duration", "4s", "--seed", 1]
        done = subprocess.run(
            [str(word) for word in chaos], capture_output=True, text=True, timeout=LIMIT_SECONDS
        )
        told = done.stdout + done.stderr
        self.assertEqual(done.returncode, 0, told + log.read_text(errors="replace")[-4000:])
        self.assertGreater(json.loads(done.stdout)["crashes"]["kills"], 0, told)


if __name__ == "__main__":
    unittest.main()
