"""Debian's mosquitto_pub and mosquitto_sub: what of the cases of cases.py can be said on their command lines."""

import queue
import subprocess
import threading
import unittest

from interop.broker import PATIENCE_SECONDS, PROTOCOLS, SHARD_COUNTS, matrix
from interop.cases import MEGABYTE

VERSION_FLAG = {"3.1": "mqttv31", "3.1.1": "mqttv311", "5.0": "mqttv5"}


@matrix(shards=SHARD_COUNTS, protocol=("3.1", *PROTOCOLS))
class MosquittoClients:
    # For the megabyte and its header.
    flags = ("--max-packet-bytes", "2MiB")

    def command(self, tool, *arguments, qos=2):
        address = ["-h", self.broker.host, "-p", str(self.broker.port)]
        return [tool, *address, "-V", VERSION_FLAG[self.protocol], "-q", str(qos), *arguments]

    def publish(self, *arguments, lines=None, qos=2):
        command = self.command("mosquitto_pub", *arguments, qos=qos)
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

    def test_payload_of_a_megabyte(self):
        payload = "x" * MEGABYTE
        with Subscriber(self.command("mosquitto_sub", "-t", self.name, "-C", "1")) as subscriber:
            self.publish("-t", self.name, "-s", lines=payload)
            self.assertEqual(subscriber.lines(), [payload])

    def test_lower_qos_of_publisher_and_subscription_wins(self):
        for granted in (0, 1, 2):
            arguments = ["-t", self.name, "-C", "3", "-F", "%p%q"]
            with Subscriber(self.command("mosquitto_sub", *arguments, qos=granted)) as subscriber:
                for qos in (0, 1, 2):
                    self.publish("-t", self.name, "-m", f"{qos}-", qos=qos)
                # A process per message: of the QoS 0 one, nothing says that the broker has it when the next is sent.
                self.assertEqual(sorted(subscriber.lines()), [f"{qos}-{min(granted, qos)}" for qos in (0, 1, 2)])

    def test_will_follows_a_broken_connection_only(self):
        with Subscriber(self.command("mosquitto_sub", "-t", f"{self.name}/#", "-C", "1")) as watcher:
            will = ["--will-topic", f"{self.name}/will", "--will-qos", "2", "-t", f"{self.name}/own"]
            self.collect(*will, "--will-payload", "never", "-E")
            with Subscriber(self.command("mosquitto_sub", *will, "--will-payload", "gone")) as rude:
                rude.kill()
            self.assertEqual(watcher.lines(), ["gone"])

    def test_unsubscribe_ends_delivery(self):
        session = ["-i", f"{self.name}-{self.protocol}", "-c"]
        if self.protocol == "5.0":
            session += ["-x", "3600"]
        self.assertEqual(self.collect(*session, "-t", f"{self.name}/#", "-t", f"{self.name}/b", "-E"), [])
        self.assertEqual(self.collect(*session, "-U", f"{self.name}/#", "-t", f"{self.name}/c", "-E"), [])
        for topic in ("a", "b", "c"):
            self.publish("-t", f"{self.name}/{topic}", "-m", topic)
        later = self.collect(*session, "-t", f"{self.name}/c", "-C", "2", "-W", str(PATIENCE_SECONDS))
        self.assertEqual(later, ["b", "c"])

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

    def test_shared_subscription_has_one_member_per_message(self):
        member = self.command("mosquitto_sub", "-t", f"$share/group/{self.name}/+", "-t", f"{self.name}-end")
        sent = [f"{self.name}-{number}" for number in range(20)]
        printed = queue.Queue()
        with Subscriber(member) as first, Subscriber(member) as second:
            for subscriber in (first, second):
                threading.Thread(target=subscriber.pass_on, args=(printed,)).start()
            self.publish("-t", f"{self.name}/x", "-l", lines="\n".join(sent))
            delivered = [printed.get(timeout=PATIENCE_SECONDS) for _message in sent]
            self.publish("-t", f"{self.name}-end", "-m", "end")
            delivered += [printed.get(timeout=PATIENCE_SECONDS) for _member in (first, second)]
        self.assertEqual(sorted(delivered), sorted([*sent, "end", "end"]))

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
        self.kill()
        self.process.stdout.close()

    def kill(self):
        """Ends it without a DISCONNECT: to other signals it answers with one."""
        self.process.kill()
        self.process.wait()

    def lines(self):
        """Every message printed until mosquitto_sub ends by itself (`-C`)."""
        printed = self.process.stdout.read().splitlines()
        if self.process.wait() != 0:
            raise AssertionError(f"mosquitto_sub ended with {self.process.returncode}; its last lines: {printed[-4:]}")
        return [line for line in printed if is_message(line)]

    def pass_on(self, messages):
        """Puts every message into the queue, until the process ends."""
        for line in self.process.stdout:
            if is_message(line):
                messages.put(line.rstrip("\n"))

    def take(self, count):
        """The next so many messages printed."""
        taken = []
        while len(taken) < count:
            line = self.process.stdout.readline()
            if not line:
                raise AssertionError(f"mosquitto_sub ended after {len(taken)} of {count}; its last lines: {taken[-4:]}")
            if is_message(line):
                taken.append(line.rstrip("\n"))
        return taken


def is_message(line):
    """Whether it is not one of those by which `-d` tells of packets."""
    return not line.startswith(("Client ", "Subscribed "))


if __name__ == "__main__":
    unittest.main()
