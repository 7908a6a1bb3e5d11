"""Two OnceMQ brokers and a mosquitto in a chain, over links that are cut again and again: nothing is lost or comes twice.

Longer than in a test run: `python3 -m smoke.test_bridge_chain SECONDS [SEED]` in tests/. There mosquitto, which sends all that it
holds again after each cut and gives packet ids out twice beyond 65,535 waiting messages, gets no more than it keeps up with.

mosquitto 2.0.11 publishes a message again whose PUBREL it has sent [MQTT-4.3.3-1] where a second cut comes while it is still sending
its PUBRELs again after a first one. Whoever has answered that PUBREL can't know the message: it is a new one to him, as the standard
has it. mosquitto's own log shows each, so that many may come twice from its side and not one more.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import unittest

from interop.broker import TARGET, Broker
from interop.mosquitto import Mosquitto
from interop.proxy import Proxy

LIMIT_SECONDS = 120
SECONDS = 5

# Mean time between two cuts of a link. A bridge waits up to a second before it opens the connection again.
CUT_EVERY_SECONDS = 1.0

# Messages a second in each direction with a mosquitto at the far end, which keeps its pile, and the time to work it off, small.
# `UNBOUNDED=1` in the environment runs it as fast as it goes.
MOSQUITTO_RATE = None if os.environ.get("UNBOUNDED") else 200


class Chain:
    """near <-> middle <-> far, the first two OnceMQ and the last mosquitto or, with `far_is_oncemq`, OnceMQ too."""

    def __init__(self, protocol, far_is_oncemq=False, seed=1):
        self.far = Broker(2, durability="write") if far_is_oncemq else Mosquitto()
        self.far_link = Proxy(self.far.port, CUT_EVERY_SECONDS, seed)
        self.middle = self.start_bridged(self.far_link, protocol)
        self.near_link = Proxy(self.middle.port, CUT_EVERY_SECONDS, seed + 1)
        self.near = self.start_bridged(self.near_link, protocol)

    @staticmethod
    def start_bridged(link, protocol):
        flags = ["--bridge", f"next=127.0.0.1:{link.port},protocol={protocol},client-id=bridge-{link.port}"]
        return Broker(2, [*flags, "--bridge-topic", "next=chain/#,both"], durability="write")

    def published_after_pubrel(self):
        """How many messages a mosquitto at the far end has published again that it had to send PUBREL for."""
        return self.far.published_after_pubrel("bridge-") if isinstance(self.far, Mosquitto) else 0

    def stop(self):
        for part in (self.near, self.near_link, self.middle, self.far_link, self.far):
            part.stop()

    def logs(self):
        return "".join(broker.log()[-3000:] for broker in (self.near, self.middle, self.far))


def start_chaos(name, publish_port, subscribe_port, seconds, drop_rate, rate):
    chaos = [TARGET / "oncemq-loadgen", "chaos", "--port", publish_port, "--subscribe-port", subscribe_port]
    chaos += ["--client-id-prefix", f"{name}-", "--topic-prefix", f"chain/{name}", "--pairs", 4, "--window", 4]
    # The longest wait of a bridge is a minute.
    chaos += ["--drop-rate", drop_rate, "--duration", f"{seconds}s", "--drain-timeout", "70s", "--threads", 1, "--quiet", "--json"]
    if rate is not None:
        chaos += ["--rate", rate]
    return subprocess.Popen([str(word) for word in chaos], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def balances(report, forgiven):
    """Whether no message was lost and none came twice but those that their sender has published anew."""
    ledger = report["ledger"]
    return report["verdict"] == "balanced" or (ledger["lost"] == 0 and 0 < ledger["duplicated"] <= forgiven)


def run(seconds, protocol, far_is_oncemq, seed=1, rate=None):
    """Sends messages both ways through the chain; returns both reports and the cuts, and says if something is wrong."""
    chain = Chain(protocol, far_is_oncemq, seed)
    # mosquitto 2.0.11 loses count of its own clients when these are dropped; the links are what is tested.
    drop_rate = 30 if far_is_oncemq else 0
    try:
        ends = (chain.near.port, chain.far.port)
        runs = [
            start_chaos("there", *ends, seconds, drop_rate, rate),
            start_chaos("back", *reversed(ends), seconds, drop_rate, rate),
        ]
        # While messages are published the links are bad; then what has piled up may go. mosquitto sends all of its pile again
        # after each cut, and would hardly come to an end of it.
        time.sleep(seconds)
        chain.near_link.heal()
        chain.far_link.heal()
        told = [chaos.communicate(timeout=seconds + LIMIT_SECONDS) for chaos in runs]
        reports = [json.loads(output) for output, _ in told if output]
        if len(reports) != len(runs) or not all(map(balances, reports, (0, chain.published_after_pubrel()))):
            raise AssertionError("\n".join(output + errors for output, errors in told) + chain.logs())
        return reports, chain.near_link.cuts + chain.far_link.cuts
    finally:
        chain.stop()


class BridgeChain(unittest.TestCase):
    @unittest.skipUnless(shutil.which("mosquitto"), "the end of the chain is mosquitto, which is not installed")
    def test_ledger_balances_to_mosquitto_and_back(self):
        for protocol in ("5.0", "3.1.1"):
            with self.subTest(protocol=protocol):
                _, cuts = run(SECONDS, protocol, far_is_oncemq=False, rate=MOSQUITTO_RATE)
                self.assertGreater(cuts, 0)

    def test_ledger_balances_with_clients_dropped_too(self):
        _, cuts = run(SECONDS, "5.0", far_is_oncemq=True)
        self.assertGreater(cuts, 0)


if __name__ == "__main__":
    SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    for FAR_IS_ONCEMQ in (False, True):
        for PROTOCOL in ("5.0", "3.1.1"):
            RATE = None if FAR_IS_ONCEMQ else MOSQUITTO_RATE
            REPORTS, CUTS = run(int(sys.argv[1]), PROTOCOL, FAR_IS_ONCEMQ, SEED, RATE)
            print(f"{PROTOCOL}, far end {'OnceMQ' if FAR_IS_ONCEMQ else 'mosquitto'}, {CUTS} cuts:")
            for REPORT in REPORTS:
                print(json.dumps(REPORT))
