"""`chaos --kill-every`: the broker is killed with SIGKILL and started again under load; nothing may be lost or come twice."""

import json
import os
import pathlib
import shlex
import subprocess
import tempfile
import unittest

from interop.broker import TARGET, free_port
from interop.certificates import certificates

LIMIT_SECONDS = 60

# Every pair of values of two settings occurs among the first four, and every transport with both versions.
SETTINGS = (
    ("sync", 1, "5.0", "tcp"),
    ("sync", 2, "3.1.1", "tcp"),
    ("write", 1, "3.1.1", "tcp"),
    ("write", 2, "5.0", "tcp"),
    ("sync", 2, "5.0", "tls"),
    ("write", 1, "3.1.1", "tls"),
    ("write", 2, "5.0", "wss"),
    ("sync", 1, "3.1.1", "wss"),
    ("sync", 1, "5.0", "ws"),
    ("write", 2, "3.1.1", "ws"),
)
LISTEN = {"tcp": "--listen", "tls": "--tls-listen", "ws": "--websocket-listen", "wss": "--websocket-tls-listen"}


class Kills(unittest.TestCase):
    def test_chaos_balances_over_kills_and_drops(self):
        for durability, shards, protocol, transport in SETTINGS:
            with self.subTest(durability=durability, shards=shards, protocol=protocol, transport=transport):
                with tempfile.TemporaryDirectory(prefix="oncemq-test-") as directory:
                    self.kill(durability, shards, protocol, transport, directory)

    def kill(self, durability, shards, protocol, transport, directory):
        binary = os.environ.get("ONCEMQ_BIN", TARGET / "oncemq")
        port = free_port()
        log = pathlib.Path(directory, "log")
        broker = [binary, *(() if transport == "tcp" else ("--listen", "none")), LISTEN[transport], f"127.0.0.1:{port}"]
        broker += ["--shards", shards, "--durability", durability, "--data-dir", f"{directory}/data"]
        chaos = [TARGET / "oncemq-loadgen", "chaos", "--port", port, "--protocol", protocol, "--quiet", "--json"]
        chaos += ["--transport", transport]
        if transport in ("tls", "wss"):
            broker += certificates().server_flags()
            chaos += ["--tls-ca", certificates().authority]
        chaos += ["--broker", shlex.join(map(str, broker)), "--broker-log", log, "--kill-every", "300ms"]
        chaos += ["--pairs", 6, "--duration", "4s" if transport == "tcp" else "3s", "--seed", 1]
        done = subprocess.run(
            [str(word) for word in chaos], capture_output=True, text=True, timeout=LIMIT_SECONDS
        )
        told = done.stdout + done.stderr
        self.assertEqual(done.returncode, 0, told + log.read_text(errors="replace")[-4000:])
        report = json.loads(done.stdout)
        self.assertEqual((report["transport"], report["tls"] is not None), (transport, transport in ("tls", "wss")))
        self.assertGreater(report["crashes"]["kills"], 0, told)


if __name__ == "__main__":
    unittest.main()
