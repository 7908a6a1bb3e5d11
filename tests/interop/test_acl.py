"""Who may do what: ACL files as mosquitto reads them, and what its clients and paho are told.

The first class asks mosquitto itself: with the same password and ACL file, clients get and reach the same topics there and here.
"""

import contextlib
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
import unittest

import paho.mqtt.client as paho

from interop.broker import PATIENCE_SECONDS, Broker, wait_until
from interop.mosquitto import Mosquitto
from interop.test_access import set_password
from malformed import wire

# The owner may do everything, and is judged by the others' success.
RULES = """
# who has no name
topic read news/#
topic deny news/secret/+
topic write in box/lid

user owner
topic readwrite #
topic $own/#

user margot
topic open/#
topic read $own/x
topic deny open/secret/#
topic deny clients/+/denied
topic write out/+/state

user moritz
topic read #
topic deny out/#

# everybody
pattern deny open/vault/#
pattern read clients/%c/#
pattern readwrite users/%u/in-%c
pattern write %c
"""

TOPICS = """
news/a news/secret/a news/secret/a/b in^box/lid open/a open open/secret/a open/vault/a out/a/state out/a/b/state other $own/x
$own/y clients/one/a clients/two/a clients/two/denied users/margot/in-one users/moritz/in-one users//in-one one two clients/a
"""
TOPICS = [topic.replace("^", " ").encode() for topic in TOPICS.split()]

# User and client id.
CLIENTS = [(None, "one"), (None, "+"), ("margot", "two"), ("margot", "one"), ("moritz", "one"), ("moritz", "#"), ("stranger", "one")]
FILTERS = [b"#", b"$own/#", b"open/+", b"clients/one/a"]


class AclCase(unittest.TestCase):
    """A directory with the files, and a broker for each test."""

    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="oncemq-test-acl-"))
        self.addCleanup(shutil.rmtree, self.directory)
        # mosquitto gives up root's rights before it reads them.
        self.directory.chmod(0o755)
        self.people, self.acl = self.directory / "people", self.directory / "acl"
        self.people.touch(mode=0o600)
        for user in ("owner", "margot", "moritz", "stranger"):
            set_password("mosquitto_passwd", self.people, user)
        self.people.chmod(0o644)
        self.acl.write_text(RULES)

    def start(self, *flags):
        files = ["--password-file", str(self.people), "--acl-file", str(self.acl)]
        broker = Broker(1, [*files, "--allow-anonymous", *flags])
        self.addCleanup(broker.stop)
        return broker

    def start_mosquitto(self):
        # With no limit at all, as the other tests have it, it ends the connection of who is refused a message.
        broker = Mosquitto(f"max_queued_messages 1000\npassword_file {self.people}\nacl_file {self.acl}\n")
        self.addCleanup(broker.stop)
        return broker


class Client:
    """A client that says each packet itself; what it got until it is asked."""

    def __init__(self, broker, version, user, client_id):
        self.version = version
        self.connection = wire.Connection(broker)
        credentials = {} if user is None else {"username": user.encode(), "password": user[::-1].encode()}
        self.connection.open_session(wire.connect(version, client_id.encode(), **credentials))

    def subscribe(self, topic_filter):
        self.connection.send(wire.subscribe(self.version, topic_filter))
        return wire.reason(self.version, self.answer(wire.SUBACK)[0])

    def publish(self, topic):
        self.connection.send(wire.publish(self.version, topic, qos=1, packet_id=1))
        return wire.reason(self.version, self.answer(wire.PUBACK)[0])

    def topics(self):
        """The topics of the messages that have come."""
        self.connection.send(wire.PINGREQ)
        topics = set()
        for _, body in self.answer(wire.PINGRESP)[1]:
            length = int.from_bytes(body[:2], "big")
            topics.add(body[2 : 2 + length])
        return topics

    def answer(self, kind):
        """The next packet of this kind, and the PUBLISH packets in front of it."""
        messages = []
        while True:
            frame = self.connection.read_frame()
            if frame[0] & 0xF0 == kind & 0xF0:
                return frame, messages
            messages.append(frame)

    def close(self):
        self.connection.socket.close()


def rights(broker, version):
    """What each client may read and write, found out by trying."""
    owner = Client(broker, version, "owner", "owner")
    for topic_filter in (b"#", b"$own/#"):
        owner.subscribe(topic_filter)
    found = {}
    for user, client_id in CLIENTS:
        client = Client(broker, version, user, client_id)
        for topic_filter in FILTERS:
            client.subscribe(topic_filter)
        for topic in TOPICS:
            owner.publish(topic)
        owner.topics()
        reads = client.topics()
        for topic in TOPICS:
            client.publish(topic)
        found[user, client_id] = (reads, owner.topics())
        client.close()
    owner.close()
    return found


@unittest.skipUnless(shutil.which("mosquitto"), "a comparison with mosquitto, which is not installed")
class AsMosquitto(AclCase):
    def test_clients_may_do_what_they_may_do_there(self):
        broker, mosquitto = self.start(), self.start_mosquitto()
        for version in (wire.V311, wire.V5):
            here, there = rights(broker, version), rights(mosquitto, version)
            for client in CLIENTS:
                self.assertEqual(here[client], there[client], (version, client))
            self.assertTrue(any(reads for reads, _ in here.values()) and any(writes for _, writes in here.values()))


class Told(AclCase):
    """What clients are told, by version."""

    def test_codes(self):
        broker = self.start()
        for version, in_suback, in_puback, in_connack in [(wire.V311, 0x80, 0, 5), (wire.V5, 0x87, 0x87, 0x87)]:
            client = Client(broker, version, "margot", "two")
            self.assertEqual([client.subscribe(topic) for topic in (b"open/#", b"#", b"open/secret/+")], [0, 0, in_suback])
            self.assertEqual([client.publish(topic) for topic in (b"open/a", b"out/a/state", b"out/a")], [0, 0, in_puback])
            client.close()
            for topic, code in [(b"out/a/state", 0), (b"out/a", in_connack)]:
                with wire.Connection(broker) as connection:
                    connection.send(wire.connect(version, username=b"margot", password=b"togram", will=wire.will(topic)))
                    self.assertEqual(connection.read_frame()[1][1], code, (version, topic))

    def test_mosquitto_clients(self):
        broker = self.start()
        common = ["-h", broker.host, "-p", str(broker.port), "-u", "margot", "-P", "togram", "-q", "2"]
        for version in ("mqttv311", "mqttv5"):
            command = ["mosquitto_sub", *common, "-V", version, "-t"]
            done = subprocess.run([*command, "other"], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
            self.assertIn("denied", done.stdout + done.stderr, version)
            with subprocess.Popen(["stdbuf", "-oL", *command, "#", "-C", "1", "-d"], stdout=subprocess.PIPE, text=True) as listener:
                while "received SUBACK" not in (line := listener.stdout.readline()):
                    self.assertTrue(line, "it ends too soon")
                for topic in ("out/a/state", "out/a", "open/a"):
                    publish = ["mosquitto_pub", *common, "-V", version, "-t", topic, "-m", f"to {topic}"]
                    done = subprocess.run(publish, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
                    is_told = version == "mqttv5" and topic == "out/a"
                    self.assertEqual("Not authorized" in done.stdout + done.stderr, is_told, (version, topic, done.stderr))
                # What it may not read has come before, and not to it.
                said = listener.stdout.read()
                self.assertEqual(re.findall("^to .*$", said, re.MULTILINE), ["to open/a"], version)

    def test_paho(self):
        broker = self.start()
        for version, refused in [(paho.MQTTv311, "Unspecified error"), (paho.MQTTv5, "Not authorized")]:
            with self.paho(broker, version) as (client, codes):
                for topic in ("open/#", "open/secret/#"):
                    client.subscribe(topic, qos=2)
                wait_until(lambda: len(codes["subscribe"]) == 2, "two SUBACKs")
                self.assertEqual(codes["subscribe"], ["Granted QoS 2", refused])
                for topic in ("open/a", "other"):
                    client.publish(topic, "x", qos=1)
                wait_until(lambda: len(codes["publish"]) == 2, "two acknowledgements")
                refusals = [code for code in codes["publish"] if code != "Success"]
                self.assertEqual(refusals, ["Not authorized"] if version == paho.MQTTv5 else [])
                wait_until(lambda: codes["message"] == ["open/a"], "its own message")

    @contextlib.contextmanager
    def paho(self, broker, version):
        """A client of margot's, and the codes that it gets."""
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="two", protocol=version)
        client.username_pw_set("margot", "togram")
        codes, connected = {"subscribe": [], "publish": [], "message": []}, threading.Event()
        client.on_connect = lambda *_arguments: connected.set()
        client.on_subscribe = lambda _c, _d, _mid, reasons, _p: codes["subscribe"].extend(str(code) for code in reasons)
        client.on_publish = lambda _c, _d, _mid, reason, _p: codes["publish"].append(str(reason))
        client.on_message = lambda _c, _d, message: codes["message"].append(message.topic)
        client.connect(broker.host, broker.port)
        client.loop_start()
        self.assertTrue(connected.wait(PATIENCE_SECONDS))
        try:
            yield client, codes
        finally:
            client.disconnect()
            client.loop_stop()


class Reloaded(AclCase):
    def test_new_rules_hold_for_who_is_connected(self):
        broker = self.start()
        for version in (wire.V311, wire.V5):
            self.acl.write_text(RULES)
            self.reload(broker, "acl: 16 rules")
            owner, client = Client(broker, version, "owner", "owner"), Client(broker, version, "margot", "two")
            client.subscribe(b"open/+")
            for rules, count, expected in [(RULES, 16, {b"open/a"}), ("user owner\ntopic #\n", 1, set())]:
                self.acl.write_text(rules)
                self.reload(broker, f"acl: {count} rules")
                owner.publish(b"open/a")
                self.assertEqual(client.topics(), expected)
            # A file with an error changes nothing.
            self.acl.write_text("topic read #\ntopic all of it\n")
            self.reload(broker, "acl: line 2: the access is read, write, readwrite or deny")
            self.assertEqual(client.subscribe(b"open/a"), 0x80 if version == wire.V311 else 0x87)
            owner.close()
            client.close()

    def reload(self, broker, expected):
        before = broker.log().count(expected)
        broker.process.send_signal(1)  # SIGHUP
        wait_until(lambda: broker.log().count(expected) > before, expected)
        # It is the shards' by the time that they answer.
        broker.counters()


class ClientIds(AclCase):
    def test_a_client_id_is_its_users(self):
        for rule, admitted in [("any", "abcd"), ("user", "a"), ("user-prefix", "ab")]:
            broker = self.start("--client-id-rule", rule)
            for version, refusal in [(wire.V311, 2), (wire.V5, 0x85)]:
                for name, (user, client_id) in {
                    "a": ("margot", b"margot"),
                    "b": ("margot", b"margot/7"),
                    "c": ("margot", b"moritz"),
                    "d": (None, b"margot"),
                }.items():
                    credentials = {} if user is None else {"username": user.encode(), "password": user[::-1].encode()}
                    with wire.Connection(broker) as connection:
                        connection.send(wire.connect(version, client_id, **credentials))
                        code = connection.read_frame()[1][1]
                        self.assertEqual(code, 0 if name in admitted else refusal, (rule, version, client_id))
