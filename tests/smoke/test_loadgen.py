"""Each command of the load generator, small: its ledger must balance, which its exit status says."""

import concurrent.futures
import itertools
import json
import pathlib
import subprocess
import tempfile
import time
import unittest

from interop.broker import HELD, PROTOCOLS, SHARD_COUNTS, TARGET, matrix
from interop.certificates import certificates

LIMIT_SECONDS = 60
SHAPES = {"pairs": (8, 8), "fan-in": (12, 3), "fan-out": (1, 20), "mesh": (4, 4)}
COUNT = 200


class Generating:
    def tearDown(self):
        self.broker.assert_nothing_is_left(*HELD, "pending_subscribes", "waiting_letters")

    def target(self):
        """The flags that say where the broker is."""
        return {"--port": self.broker.port}

    def generate(self, command, *arguments):
        """Runs one command; returns its report."""
        done = self.run_loadgen(command, self.target(), *arguments)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout)

    def run_loadgen(self, command, target, *arguments):
        words = [command, *itertools.chain(*target.items()), "--protocol", self.protocol, "--quiet", "--json", *arguments]
        return subprocess.run(
            [TARGET / "oncemq-loadgen", *map(str, words)], capture_output=True, text=True, timeout=LIMIT_SECONDS
        )


@matrix(shards=SHARD_COUNTS, protocol=PROTOCOLS)
class LoadGenerator(Generating):
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

    def test_chaos_at_a_rate_publishes_no_more(self):
        report = self.generate("chaos", "--pairs", 4, "--duration", "3s", "--rate", 100, "--seed", 1)
        self.assertLessEqual(report["ledger"]["expected"], 400)

    def test_two_generators_start_together_and_their_reports_compare(self):
        # Time to connect the clients of both.
        start = ("--start-at", int(time.time()) + 5, "--warm-up", "0s", "--duration", "1s")
        with concurrent.futures.ThreadPoolExecutor() as pool:
            reports = list(pool.map(lambda window: self.generate("run", *start, "--window", window), (1, 10)))
        with tempfile.TemporaryDirectory() as directory:
            paths = [pathlib.Path(directory, f"{number}.json") for number in range(2)]
            for path, report in zip(paths, reports):
                path.write_text(json.dumps(report))
            compared = subprocess.run(
                [TARGET / "oncemq-loadgen", "compare", *paths], capture_output=True, text=True, check=True
            )
        self.assertRegex(compared.stdout, r"(?m)^window +1 +10 +x10\.000$")

    def test_connect_holds_its_clients(self):
        self.generate("connect", "--clients", 300, "--hold", "200ms", "--broker-pid", self.broker.process.pid)


@matrix(protocol=PROTOCOLS)
class LoadGeneratorOverTls(Generating):
    """Every command over everything that may lie between the socket and MQTT; clients show certificates."""

    shards = 2

    @classmethod
    def setUpClass(cls):
        cls.certificates = certificates()
        cls.flags = ("--tls-client-ca", cls.certificates.authority)
        super().setUpClass()

    def target(self):
        broker = self.broker
        certificate, key = self.certificates.pair("client")
        tls = {"--tls-ca": self.certificates.authority, "--tls-certificate": certificate, "--tls-key": key}
        return {
            "tls": {"--url": f"mqtts://127.0.0.1:{broker.tls_port}", **tls},
            "ws": {"--url": f"ws://127.0.0.1:{broker.web_socket_port}/mqtt"},
            "wss": {"--transport": "wss", "--host": "localhost", "--port": broker.web_socket_tls_port, **tls},
        }[self.transport]

    def each_transport(self):
        for self.transport in ("tls", "ws", "wss"):
            with self.subTest(transport=self.transport):
                yield self.transport

    def test_run_balances(self):
        for transport in self.each_transport():
            report = self.generate("run", "--count", COUNT, "--payload-bytes", 20_000, "--window", 50)
            self.assertEqual(report["transport"], transport)
            if transport != "ws":
                self.assertRegex(report["tls"], "^TLS 1.3, ")

    def test_chaos_balances(self):
        for _transport in self.each_transport():
            report = self.generate("chaos", "--pairs", 10, "--duration", "3s", "--seed", 1)
            self.assertGreater(report["takeovers"], 0)

    def test_a_backlog_is_collected_as_it_was_left(self):
        for _transport in self.each_transport():
            backlog = ("--publishers", 4, "--subscribers", 2, "--count", COUNT)
            self.generate("fill", *backlog)
            self.assertEqual(self.generate("collect", *backlog)["messages"], 4 * COUNT)

    def test_connect_holds_its_clients(self):
        for _transport in self.each_transport():
            self.generate("connect", "--clients", 300, "--hold", "200ms")

    def test_who_may_not_come_in_is_told_why(self):
        stranger, _key = self.certificates.pair("stranger")
        certificate, key = self.certificates.pair("foreign")
        for self.transport, flags, part in (
            ("tls", {"--tls-ca": stranger}, "invalid peer certificate: UnknownIssuer"),
            ("tls", {"--tls-server-name": "other.example"}, "invalid peer certificate: certificate not valid for name"),
            ("wss", {"--tls-certificate": certificate, "--tls-key": key}, "UnknownCA"),
            ("ws", {"--url": f"ws://127.0.0.1:{self.broker.web_socket_port}/elsewhere"}, "404 Not Found"),
        ):
            with self.subTest(transport=self.transport, flags=flags):
                done = self.run_loadgen("connect", {**self.target(), **flags}, "--clients", 1)
                self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
                self.assertIn(part, done.stderr)


if __name__ == "__main__":
    unittest.main()
