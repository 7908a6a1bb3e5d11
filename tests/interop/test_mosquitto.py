"""Debian's mosquitto_pub and mosquitto_sub."""

import subprocess
import threading
import unittest

from interop.broker import PATIENCE_SECONDS, PROTOCOLS, SHARD_COUNTS, matrix

VERSION_FLAG = {"3.1": "mqttv31", "3.1.1": "mqttv311", "5.0": "mqttv5"}


@matrix(shards=SHARD_COUNTS, protocol=("3.1", *PROTOCOLS))
class MosquittoClients:
    def command(self, tool, *arguments):
        address = ["-h", self.broker.host, "-p", str(self.broker.port)]
        return [tool, *address, "-V", VERSION_FLAG[self.protocol], "-q", "2", *arguments]

    def publish(self, *arguments, lines=None):
        command = self.command("mosquitto_pub", *arguments)
        subprocess.run(command, input=lines, text=True, check=True, timeout=PATIENCE_SECONDS)

    def collect(self, *arguments):
        command = self.command("mosquitto_sub", *arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS)
        return done.stdout.splitlines()

    def test_sensor_example_of_the_readme(self):
        with Subscriber(self.command("mosquitto_sub", "-t", "sensors/temperature/+", "-v", "-C", "1")) as dashboard:
            self.publish("-t", "sensors/temperature/livingroom", "-m", "22.5")
            self.assertEqual(dashboard.lines(), ["sensors/temperature/livingroom 22.5"])

    def test_one_publisher_keeps_its_order(self):
        sent = [f"{self.name}-{number}" for number in range(500)]
        with Subscriber(self.command("mosquitto_sub", "-t", f"{self.name}/#", "-C", str(len(sent)))) as subscriber:
            self.publish("-t", f"{self.name}/a/b", "-l", lines="\n".join(sent))
            self.assertEqual(subscriber.lines(), sent)

    def test_payload_larger_than_a_receive_buffer(self):
        payload = "x" * 200_000
        with Subscriber(self.command("mosquitto_sub", "-t", self.name, "-C", "1")) as subscriber:
            self.publish("-t", self.name, "-s", lines=payload)
            self.assertEqual(subscriber.lines(), [payload])

    def test_session_queues_while_its_client_is_away(self):
        session = ["-i", f"{self.name}-{self.protocol}", "-c", "-t", self.name]
        if self.protocol == "5.0":
            session += ["-x", "3600"]
        self.assertEqual(self.collect(*session, "-E"), [])
        sent = [f"{self.name}-{number}" for number in range(50)]
        self.publish("-t", self.name, "-l", lines="\n".join(sent))
        self.assertEqual(self.collect(*session, "-C", str(len(sent)), "-W", str(PATIENCE_SECONDS)), sent)

    def test_retained_message_is_set_and_cleared(self):
        self.publish("-t", f"{self.name}/state", "-m", "on", "-r")
        self.assertEqual(self.collect("-t", f"{self.name}/+", "-C", "1", "-F", "%t %p %r"), [f"{self.name}/state on 1"])
        self.publish("-t", f"{self.name}/state", "-n", "-r")
        self.publish("-t", f"{self.name}/other", "-m", "marker", "-r")
        self.assertEqual(self.collect("-t", f"{self.name}/+", "-C", "1"), ["marker"])

    def test_the_broker_says_how_it_is(self):
        topics = ["version", "uptime", "clients/connected", "clients/total", "messages/received", "bytes/sent"]
        topics += ["subscriptions/count", "retained messages/count", "publish/messages/dropped"]
        topics += [f"load/messages/received/{window}" for window in ("1min", "5min", "15min")]
        filters = [part for topic in topics for part in ("-t", f"$SYS/broker/{topic}")]
        said = dict(line.split("|") for line in self.collect(*filters, "-C", str(len(topics)), "-F", "%t|%p"))
        self.assertEqual(sorted(said), sorted(f"$SYS/broker/{topic}" for topic in topics))
        self.assertRegex(said["$SYS/broker/version"], r"^oncemq version \d")
        self.assertRegex(said["$SYS/broker/uptime"], r"^\d+ seconds$")


class Subscriber:
    """A mosquitto_sub that has its SUBACK when the `with` block begins."""

    def __init__(self, command):
        # `-d` tells of the SUBACK, and without stdbuf it would tell a pipe only at the end.
        self.process = subprocess.Popen(["stdbuf", "-oL", *command, "-d"], stdout=subprocess.PIPE, text=True)
        self.watchdog = threading.Timer(PATIENCE_SECONDS, self.process.kill)
        self.watchdog.start()

    def __enter__(self):
        for line in self.process.stdout:
            if line.startswith("Subscribed "):
                return self
        self.__exit__()
        raise AssertionError("mosquitto_sub got no SUBACK")

    def __exit__(self, *_exception):
        self.watchdog.cancel()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def lines(self):
        """Every message printed until mosquitto_sub ends by itself (`-C`)."""
        printed = self.process.stdout.read().splitlines()
        if self.process.wait() != 0:
            raise AssertionError(f"mosquitto_sub ended with {self.process.returncode}; its last lines: {printed[-4:]}")
        return [line for line in printed if not line.startswith(("Client ", "Subscribed "))]


if __name__ == "__main__":
    unittest.main()
