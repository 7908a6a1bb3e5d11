"""Bridges between OnceMQ and Debian's mosquitto, opened by either of them."""

import shutil
import subprocess
import unittest

from interop.broker import PATIENCE_SECONDS, Broker, free_port, wait_until
from interop.mosquitto import Mosquitto
from interop.test_mosquitto import Subscriber

MESSAGES = 100

MOSQUITTO_VERSION = {"3.1.1": "mqttv311", "5.0": "mqttv50"}


def publish(port, topic, lines):
    command = ["mosquitto_pub", "-p", str(port), "-q", "2", "-t", topic, "-l"]
    subprocess.run(command, input="\n".join(lines), text=True, check=True, timeout=PATIENCE_SECONDS)


def listen(port):
    return Subscriber(["mosquitto_sub", "-p", str(port), "-q", "2", "-t", "#", "-v"])


@unittest.skipUnless(shutil.which("mosquitto"), "bridges to mosquitto, which is not installed")
class Bridges(unittest.TestCase):
    def start_pair(self, opened_by, protocol):
        """OnceMQ and a mosquitto with a bridge: `up/#` goes from OnceMQ to `far/` there, `down/#` comes from `hub/` there, and
        `both/#` goes both ways."""
        if opened_by == "mosquitto":
            oncemq = Broker(2)
            self.addCleanup(oncemq.stop)
            mosquitto = Mosquitto(
                f"connection hub\naddress 127.0.0.1:{oncemq.port}\nbridge_protocol_version {MOSQUITTO_VERSION[protocol]}\n"
                "cleansession false\nrestart_timeout 1\nnotifications false\n"
                "topic # out 2 hub/ down/\ntopic # in 2 far/ up/\ntopic both/# both 2\n"
            )
            self.addCleanup(mosquitto.stop)
            wait_until(lambda: oncemq.counters()["subscriptions"] == 2, "the bridge")
            return oncemq, mosquitto
        mosquitto = Mosquitto()
        self.addCleanup(mosquitto.stop)
        bridge = f"hub=127.0.0.1:{mosquitto.port},protocol={protocol}"
        topics = ["hub=#,out,local=up/,remote=far/", "hub=#,in,local=down/,remote=hub/", "hub=both/#,both"]
        flags = ["--bridge", bridge, *(word for topic in topics for word in ("--bridge-topic", topic))]
        oncemq = Broker(2, flags)
        self.addCleanup(oncemq.stop)
        wait_until(lambda: "Sending SUBACK to" in mosquitto.log(), "the bridge")
        return oncemq, mosquitto

    def test_messages_go_both_ways_once_and_in_order(self):
        for opened_by in ("OnceMQ", "mosquitto"):
            for protocol in ("3.1.1", "5.0"):
                with self.subTest(opened_by=opened_by, protocol=protocol):
                    self.exchange(*self.start_pair(opened_by, protocol))

    def exchange(self, oncemq, mosquitto):
        here, there = listen(oncemq.port), listen(mosquitto.port)
        with here, there:
            self.exchange_between(oncemq, here, mosquitto, there)

    def exchange_between(self, oncemq, here, mosquitto, there):
        numbers = [str(number) for number in range(MESSAGES)]
        for broker, topic in ((oncemq, "up/a"), (mosquitto, "hub/b"), (oncemq, "both/c"), (mosquitto, "both/d")):
            publish(broker.port, topic, numbers)
        expected_here = {"up/a": numbers, "down/b": numbers, "both/c": numbers, "both/d": numbers}
        expected_there = {"far/a": numbers, "hub/b": numbers, "both/c": numbers, "both/d": numbers}
        for listener, expected in ((here, expected_here), (there, expected_there)):
            taken = {}
            for line in listener.take(4 * MESSAGES):
                topic, payload = line.split(" ")
                taken.setdefault(topic, []).append(payload)
            self.assertEqual(taken, expected)
        # Whatever came back would be there by now: it would have come before these.
        for broker, local in ((oncemq, "up/end"), (mosquitto, "hub/end")):
            publish(broker.port, local, ["last"])
        self.assertEqual(sorted(here.take(2)), ["down/end last", "up/end last"])
        self.assertEqual(sorted(there.take(2)), ["far/end last", "hub/end last"])

    def test_messages_wait_for_a_broker_that_is_not_there_yet(self):
        port = free_port()
        flags = ["--bridge", f"hub=127.0.0.1:{port}", "--bridge-topic", "hub=#,out"]
        oncemq = Broker(2, flags)
        self.addCleanup(oncemq.stop)
        sent = [str(number) for number in range(MESSAGES)]
        publish(oncemq.port, "a/b", sent)
        self.assertEqual(oncemq.counters()["queued"], MESSAGES)
        late = Broker(2, ["--listen", f"127.0.0.1:{port}"])
        self.addCleanup(late.stop)
        wait_until(lambda: late.counters()["publishes_received"] >= MESSAGES, "the messages")
        self.assertEqual(oncemq.counters()["queued"], 0)


if __name__ == "__main__":
    unittest.main()
