"""Every case against the broker, with a healthy pair of each version beside it."""

import concurrent.futures
import contextlib
import random
import re
import unittest

from interop.broker import SHARD_COUNTS, matrix
from malformed import (
    cases_connect,
    cases_exchange,
    cases_framing,
    cases_properties,
    cases_publish,
    cases_slow,
    cases_subscribe,
)
from malformed.case import observe
from malformed.healthy import HealthyPair
from malformed.wire import MAXIMUM_PACKET_SIZE, PINGREQ, V5, V311, Connection, connect, string, varint

TABLES = (
    cases_framing,
    cases_connect,
    cases_publish,
    cases_properties,
    cases_subscribe,
    cases_exchange,
    cases_slow,
)
CASES = [case for table in TABLES for case in table.CASES]
DECLARING_CLIENTS = 100
MUTATIONS = 400
MUTATION_SEED = 1


class Malformed:
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.pairs = [HealthyPair(cls.broker, version) for version in (V311, V5)]
        # What waits for one of the broker's deadlines waits beside the other cases.
        slow = [case for case in CASES if case.slow]
        cls.executor = concurrent.futures.ThreadPoolExecutor(len(slow))
        cls.waiting = {case.name: cls.executor.submit(case.run, cls.broker) for case in slow}

    @classmethod
    def tearDownClass(cls):
        cls.executor.shutdown()
        try:
            for pair in cls.pairs:
                pair.finish()
            # Sessions and their subscriptions may stay: some mutations make persistent ones.
            cls.broker.assert_nothing_is_left("connections", "pending_subscribes", "waiting_letters", "open_sockets")
        finally:
            super().tearDownClass()

    def tearDown(self):
        self.assertTrue(self.broker.is_running(), "the broker ended")
        for pair in self.pairs:
            pair.assert_goes_on()

    def run_case(self, case):
        if case.slow:
            self.waiting[case.name].result()
        else:
            case.run(self.broker)

    def test_mutations_of_correct_packets(self):
        """Correct packets with a few bytes changed, removed or added: any outcome is right that hurts nobody else."""
        rng = random.Random(MUTATION_SEED)
        correct = [case.hostile for case in CASES if isinstance(case.hostile, bytes) and len(case.hostile) < 1000]
        for _ in range(MUTATIONS):
            version = rng.choice((V311, V5))
            with Connection(self.broker) as connection:
                if rng.random() < 0.8:
                    connection.open_session(connect(version))
                connection.send(mutate(rng, rng.choice(correct)) + PINGREQ)
                connection.half_close()
                observe(connection, version)

    def test_declared_lengths_hold_no_memory(self):
        """Many clients that each declare a large packet and never send it."""
        before = self.broker.resident_bytes()
        with contextlib.ExitStack() as connections:
            for _ in range(DECLARING_CLIENTS):
                connection = connections.enter_context(Connection(self.broker))
                connection.open_session(connect(V5))
                declared = connection.announced(MAXIMUM_PACKET_SIZE, 1 << 20) - 10
                connection.send(b"\x30" + varint(declared) + string(b"topic"))
                unfinished = connections.enter_context(Connection(self.broker))
                unfinished.send(b"\x10" + varint(declared) + string(b"MQTT"))
            for pair in self.pairs:
                pair.assert_goes_on()
            grown = self.broker.resident_bytes() - before
        self.assertLess(grown, DECLARING_CLIENTS * declared // 4, "memory follows the declared lengths")


def mutate(rng, content):
    mutated = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(mutated) + 1)
        action = rng.randrange(3)
        if action == 0:
            mutated[at:at] = rng.randbytes(rng.randint(1, 3))
        elif action == 1:
            del mutated[at : at + rng.randint(1, 3)]
        elif at < len(mutated):
            mutated[at] ^= 1 << rng.randrange(8)
    return bytes(mutated)


def add_cases():
    for case in CASES:
        name = "test_" + re.sub(r"[^a-z0-9]+", "_", case.name.lower())
        if hasattr(Malformed, name):
            raise ValueError(f"two cases are named {name}")
        setattr(Malformed, name, lambda self, case=case: self.run_case(case))


add_cases()
matrix(shards=SHARD_COUNTS)(Malformed)

if __name__ == "__main__":
    unittest.main()
