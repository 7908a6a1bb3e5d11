"""One mosquitto.conf for both brokers: mosquitto reads it as it is, OnceMQ converted, and the same clients are served and refused.

It has accounts, TLS and two listeners, of which the second one asks for TLS, and rules once OnceMQ has a key for them.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import unittest

from interop.broker import PATIENCE_SECONDS, TARGET, free_port, wait_until
from interop.certificates import certificates
from interop.test_mosquitto import Subscriber

USERS = {"margot": "togram", "moritz": "ztirom"}
VERSIONS = ("mqttv311", "mqttv5")
RULES = "user margot\ntopic readwrite shared/#\n\nuser moritz\ntopic readwrite shared/#\n"

CONFIGURATION = """
# As a distribution lays it out, with what it has to say about the machine.
{user}pid_file {directory}/pid
persistence false
log_dest stderr
log_type all

allow_anonymous false
password_file {directory}/people
{rules}max_inflight_messages 30
max_queued_messages 500
sys_interval 5

listener {port} 127.0.0.1

listener {tls_port} 127.0.0.1
certfile {certificate}
keyfile {key}
tls_version tlsv1.2
max_connections 100
"""


def oncemq():
    return os.environ.get("ONCEMQ_BIN", TARGET / "oncemq")


@unittest.skipUnless(shutil.which("mosquitto"), "mosquitto is not installed")
class SameFile(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="oncemq-test-conversion-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.certificates = certificates()
        certificate, key = self.certificates.pair("server")
        people = self.directory / "people"
        people.touch(mode=0o600)
        for user, password in USERS.items():
            subprocess.run(["mosquitto_passwd", "-b", people, user, password], check=True, timeout=PATIENCE_SECONDS)
        keys = subprocess.run([oncemq(), "config", "defaults"], capture_output=True, text=True, check=True).stdout
        self.has_rules = "\n#acl-file = " in keys
        (self.directory / "rules").write_text(RULES)
        self.port, self.tls_port = free_port(), free_port()
        self.mosquitto_conf = self.directory / "mosquitto.conf"
        self.mosquitto_conf.write_text(
            CONFIGURATION.format(
                directory=self.directory,
                user="user root\n" if os.geteuid() == 0 else "",
                rules=f"acl_file {self.directory}/rules\n" if self.has_rules else "",
                port=self.port,
                tls_port=self.tls_port,
                certificate=certificate,
                key=key,
            )
        )

    def test_the_same_clients_are_served_and_refused(self):
        seen = {}
        for name, command in {"mosquitto": self.mosquitto(), "oncemq": self.converted()}.items():
            process, log = self.start(name, command)
            try:
                seen[name] = self.outcomes()
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE_SECONDS)
            for version in VERSIONS:
                for way in ("plain", "tls"):
                    served = [who for (*what, who), got in seen[name].items() if what == [version, way] and got is True]
                    self.assertEqual(served, ["margot", "moritz"], (name, log.read_text(errors="replace")[-4000:]))
                    self.assertEqual(seen[name][version, way, "received"], ["shared/a x"])
        self.assertEqual(seen["oncemq"], seen["mosquitto"])

    def mosquitto(self):
        return ["mosquitto", "-c", self.mosquitto_conf]

    def converted(self):
        """OnceMQ with what it makes of that file, and nothing else but a data directory it has no use for."""
        made = subprocess.run(
            [oncemq(), "config", "from-mosquitto", self.mosquitto_conf],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        self.assertEqual(made.returncode, 0, made.stdout + made.stderr)
        file = self.directory / "oncemq.toml"
        file.write_text(made.stdout)
        checked = subprocess.run([oncemq(), "config", "check", "--config", file], capture_output=True, text=True)
        self.assertEqual((checked.returncode, checked.stdout), (0, "ok\n"), made.stdout + checked.stderr)
        return [oncemq(), "--config", file]

    def start(self, name, command):
        log = self.directory / f"{name}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.directory
            )
        self.addCleanup(process.kill)
        is_ready = {"mosquitto": " running", "oncemq": "ready on "}[name]
        wait_until(
            lambda: is_ready in log.read_text(errors="replace") or process.poll() is not None,
            lambda: log.read_text(errors="replace"),
        )
        return process, log

    def outcomes(self):
        """Who got what, by all ways in."""
        tls = ["-p", str(self.tls_port), "--cafile", self.certificates.authority]
        ways = {"plain": ["-p", str(self.port)], "tls": tls, "plain at the port of tls": ["-p", str(self.tls_port)]}
        people = {
            "margot": ["-u", "margot", "-P", "togram"],
            "moritz": ["-u", "moritz", "-P", "ztirom"],
            "wrong password": ["-u", "margot", "-P", "ztirom"],
            "unknown user": ["-u", "nobody", "-P", "togram"],
            "no user": [],
        }
        outcomes = {}
        for version in VERSIONS:
            for way, address in ways.items():
                for who, credentials in people.items():
                    client = ["-h", "127.0.0.1", "-V", version, "-q", "2", *address, *credentials]
                    outcomes[version, way, who] = self.publish(client, "shared/a")
            for way in ("plain", "tls"):
                client = ["-h", "127.0.0.1", "-V", version, "-q", "2", *ways[way], *people["margot"]]
                outcomes[version, way, "received"] = self.receive(client)
        return outcomes

    def publish(self, client, topic):
        """Whether it was served; the two brokers have different words for who is refused."""
        command = ["mosquitto_pub", *client, "-t", topic, "-m", "x"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        return done.returncode == 0

    def receive(self, client):
        """What a subscriber gets of two topics, one of which is not shared."""
        topics = ["-t", "shared/#", "-t", "other/#"] if self.has_rules else ["-t", "shared/#"]
        with Subscriber(["mosquitto_sub", *client, *topics, "-v", "-C", "1"]) as subscriber:
            if self.has_rules:
                self.publish(client, "other/a")
            self.publish(client, "shared/a")
            return subscriber.lines()


if __name__ == "__main__":
    unittest.main()
