"""Each command of the load generator, small: its ledger must balance, which its exit status says."""

import json
import subprocess
import unittest

from interop.broker import HELD, PROTOCOLS, SHARD_COUNTS, TARGET, matrix

LIMIT_SECONDS = 60
SHAPES = {"pairs": (8, 8), "fan-in": (12, 3), "fan-out": (1, 20), "mesh": (4, 4)}
COUNT = 200


@matrix(shards=SHARD_COUNTS, protocol=PROTOCOLS)
class LoadGenerator:
    def tearDown(self):
        self.broker.assert_nothing_is_left(*HELD, "pending_subscribes", "waiting_letters")

    def generate(self, command, *arguments):
        """Runs one command; returns its report."""
        binary = TARGET / "oncemq-loadgen"
        target = ["--port", str(self.broker.port), "--protocol", self.protocol, "--quiet", "--json"]
        done = subprocess.run(
            [binary, command, *target, *(str(argument) for argument in arguments)],
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout)

    def test_run_balances_in_every_shape(self):
        for shape, (publishers, subscribers) in SHAPES.items():
            for qos in (1, 2):
                with self.subTest(shape=shape, qos=qos):
                    clients = ("--shape", shape, "--publishers", publishers, "--subscribers", subscribers)
                    self.generate("run", *clients, "--qos", qos, "--count", COUNT)

    def test_run_with_an_open_loop_and_one_message_at_a_time(self):
        self.generate("run", "--window", 1, "--rate", 2_000, "--warm-up", "200ms", "--duration", "1s")

    def test_persistent_sessions_end_with_the_run(self):
        self.generate("run", "--persistent", "--publishers", 20, "--subscribers", 20, "--count", COUNT)

    def test_a_backlog_is_collected_as_it_was_left(self):
        for qos in (1, 2):
            with self.subTest(qos=qos):
                backlog = ("--publishers", 4, "--subscribers", 2, "--count", COUNT, "--qos", qos)
                filled = self.generate("fill", *backlog)
                collected = self.generate("collect", *backlog)
                self.assertEqual(filled["messages"], 4 * COUNT)
                self.assertEqual(collected["messages"], 4 * COUNT)

    def test_chaos_balances(self):
        self.generate("chaos", "--pairs", 10, "--duration", "5s", "--seed", 1)

    def test_connect_holds_its_clients(self):
        self.generate("connect", "--clients", 300, "--hold", "200ms", "--broker-pid", self.broker.process.pid)


if __name__ == "__main__":
    unittest.main()
