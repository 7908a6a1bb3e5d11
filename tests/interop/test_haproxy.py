"""HAProxy in front of the broker, as mosquitto's clients see it; and the example of deploy/."""

import json
import pathlib
import shutil
import socket
import subprocess
import tempfile
import unittest
import urllib.request

from interop.broker import PATIENCE_SECONDS, PROTOCOLS, Broker, BrokerCase, free_port, matrix
from interop.certificates import certificates
from interop.haproxy import Haproxy, example, find_mistake, write_certificates
from interop.test_mosquitto import VERSION_FLAG, Subscriber
from interop.test_tls import CONNACK, CONNECT

PROXIED = ("--proxy-protocol", "on", "--proxy-from", "127.0.0.1")

# A health check that goes as far as CONNACK, behind the header of the proxy itself.
CHECKED = """
backend checked
    option tcp-check
    tcp-check send-binary 101100044d5154540402003c0005636865636b
    tcp-check expect binary 20020000
    server broker {plain} {send} check inter 100ms
"""

TERMINATED = """
listen terminated
    bind 127.0.0.1:{{port}} ssl crt {files}/server.pem ca-file {files}/devices.pem verify optional
    server broker {{plain}} send-proxy-v2-ssl-cn
"""


class ProxyCase:
    """A broker behind HAProxy: `sections` of its configuration by name, each with a port of its own."""

    sections = {}
    # How the health check of a further section speaks to the broker, if there is one.
    check_by = ""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.addClassCleanup(super().tearDownClass)
        plain, secured = (f"{cls.broker.host}:{port}" for port in (cls.broker.port, cls.broker.tls_port))
        cls.ports = {name: free_port() for name in cls.sections}
        parts = {name: text.format(port=cls.ports[name], plain=plain, secured=secured) for name, text in cls.sections.items()}
        checks = CHECKED.format(plain=plain, send=cls.check_by) if cls.check_by else ""
        cls.haproxy = Haproxy("\n".join(parts.values()) + checks, cls.ports.values())
        cls.addClassCleanup(cls.haproxy.stop)

    @classmethod
    def tearDownClass(cls):
        # By the cleanups, HAProxy first.
        pass

    def command(self, tool, by, *arguments):
        address = ["-h", self.broker.host, "-p", str(self.ports[by])]
        return [tool, *address, "-V", VERSION_FLAG[self.protocol], "-q", "2", *arguments]

    def publish(self, by, *arguments, lines=None):
        command = self.command("mosquitto_pub", by, *arguments)
        return subprocess.run(command, input=lines, capture_output=True, text=True, timeout=PATIENCE_SECONDS)

    def assert_messages_pass(self, there, back, there_arguments=(), back_arguments=()):
        sent = [f"{self.name}-{number}" for number in range(200)]
        subscriber = self.command("mosquitto_sub", back, *back_arguments, "-t", self.name, "-C", str(len(sent)))
        with Subscriber(subscriber) as subscriber:
            done = self.publish(there, *there_arguments, "-t", self.name, "-l", lines="\n".join(sent))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(subscriber.lines(), sent)


@matrix(protocol=PROTOCOLS)
class BothHeaders(ProxyCase):
    """Versions 1 and 2 in front of plain MQTT, and of TLS that passes through."""

    flags = PROXIED
    check_by = "send-proxy-v2"
    sections = {
        "v1": "listen v1\n    bind 127.0.0.1:{port}\n    server broker {plain} send-proxy",
        "v2": "listen v2\n    bind 127.0.0.1:{port}\n    server broker {plain} send-proxy-v2 proxy-v2-options crc32c,unique-id",
        "passing": "listen passing\n    bind 127.0.0.1:{port}\n    server broker {secured} send-proxy-v2",
        "silent": "listen silent\n    bind 127.0.0.1:{port}\n    server broker {plain}",
    }

    @classmethod
    def setUpClass(cls):
        cls.certificates = certificates()
        super().setUpClass()

    def test_messages_pass_behind_both_versions(self):
        self.assert_messages_pass("v1", "v2")
        self.assert_messages_pass("v2", "v1")

    def test_tls_passes_through(self):
        trust = ["--cafile", self.certificates.authority]
        self.assert_messages_pass("passing", "passing", trust, trust)
        self.assert_messages_pass("passing", "v1", trust)

    def test_without_a_header_nobody_is_served(self):
        self.assertNotEqual(self.publish("silent", "-t", self.name, "-m", "22.5").returncode, 0)

    def test_the_proxy_itself_is_served_as_who_is_on_its_machine(self):
        self.haproxy.wait_until_well("checked", "broker")


class Addresses(ProxyCase, BrokerCase):
    """What the operator sees of who is behind HAProxy."""

    admin_port = free_port()
    flags = (*PROXIED, "--admin-listen", f"127.0.0.1:{admin_port}")
    sections = {
        "v1": BothHeaders.sections["v1"],
        "v2": BothHeaders.sections["v2"],
    }

    def test_the_address_is_the_clients(self):
        for by, port in self.ports.items():
            with socket.create_connection((self.broker.host, port), PATIENCE_SECONDS) as client:
                client.sendall(CONNECT)
                self.assertEqual(client.recv(4), CONNACK, by)
                address, own_port = client.getsockname()
                url = f"http://127.0.0.1:{self.admin_port}/api/v1/clients/c"
                with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
                    self.assertEqual(json.load(answer)["connection"]["address"], f"{address}:{own_port}", by)


@matrix(protocol=PROTOCOLS)
class CertificatesOfClients(ProxyCase):
    """TLS ends at HAProxy, which says whose certificate it has verified."""

    # Nobody has a password.
    flags = (*PROXIED, "--proxy-identity", "cn", "--client-id-rule", "user-prefix", "--password-file", "/dev/null")

    @classmethod
    def setUpClass(cls):
        cls.certificates = certificates()
        files = pathlib.Path(tempfile.mkdtemp(prefix="oncemq-test-haproxy-"))
        cls.addClassCleanup(shutil.rmtree, files)
        write_certificates(cls.certificates, files)
        cls.sections = {"terminated": TERMINATED.format(files=files), "v2": BothHeaders.sections["v2"]}
        super().setUpClass()

    def identify(self, client_id, name=None):
        shown = () if name is None else self.certificates.pair(name)
        flags = [word for pair in zip(("--cert", "--key"), shown) for word in pair]
        return ["--cafile", self.certificates.authority, *flags, "-i", client_id]

    def test_a_certificate_is_an_account(self):
        there, back = (self.identify(client_id, "client") for client_id in ("client-1", "client-2"))
        self.assert_messages_pass("terminated", "terminated", there, back)

    def test_nobody_has_another_name_than_in_the_certificate(self):
        done = self.publish("terminated", *self.identify("other", "client"), "-t", self.name, "-m", "22.5")
        self.assertNotEqual(done.returncode, 0)

    def test_without_a_certificate_nobody_comes_in(self):
        for by, arguments in (("terminated", self.identify("client-1")), ("v2", ["-i", "client-1"])):
            done = self.publish(by, *arguments, "-t", self.name, "-m", "22.5")
            self.assertNotEqual(done.returncode, 0, by)


class Example(unittest.TestCase):
    """The configuration of deploy/haproxy."""

    @classmethod
    def setUpClass(cls):
        cls.files = pathlib.Path(tempfile.mkdtemp(prefix="oncemq-test-haproxy-"))
        cls.addClassCleanup(shutil.rmtree, cls.files)
        cls.certificates = certificates()
        write_certificates(cls.certificates, cls.files)

    def test_haproxy_takes_it(self):
        path = self.files / "haproxy.cfg"
        path.write_text(example(self.files))
        self.assertEqual(find_mistake(path), "")

    def test_a_client_id_stays_at_its_broker(self):
        flags = [*PROXIED, "--proxy-identity", "cn"]
        admin_ports, brokers = [free_port(), free_port()], []
        for port in admin_ports:
            brokers.append(Broker(1, [*flags, "--admin-listen", f"127.0.0.1:{port}"]))
            self.addCleanup(brokers[-1].stop)
        secured = free_port()
        nodes = [
            (f"server node{number} 192.0.2.1{number}:1883", f"server node{number} 127.0.0.1:{broker.port} port {port}")
            for number, broker, port in zip((1, 2), brokers, admin_ports)
        ]
        binds = [("bind :1883", f"bind 127.0.0.1:{free_port()}"), ("bind :8883", f"bind 127.0.0.1:{secured}")]
        text = example(self.files, [*nodes, *binds, ("inter 2s", "inter 100ms"), ("maxconn 100000", "maxconn 100")])
        haproxy = Haproxy(text, [secured], settings="")
        self.addCleanup(haproxy.stop)
        for number in (1, 2):
            haproxy.wait_until_well("oncemq", f"node{number}")
        # A session that stays shows where its client has been; at its second visit it finds that again.
        homes = set()
        for number in range(20):
            client_id = f"device-{number}"
            before = [broker.counters()["sessions"] for broker in brokers]
            self.subscribe(secured, client_id)
            after = [broker.counters()["sessions"] for broker in brokers]
            homes.add(tuple(late - early for early, late in zip(before, after)))
            self.subscribe(secured, client_id)
            self.assertEqual([broker.counters()["sessions"] for broker in brokers], after, client_id)
        self.assertEqual(homes, {(1, 0), (0, 1)})

    def subscribe(self, port, client_id):
        session = ["-i", client_id, "-c", "-q", "2", "-t", f"to/{client_id}", "-E"]
        subprocess.run(["mosquitto_sub", *self.reach(port), *session], check=True, timeout=PATIENCE_SECONDS)

    def reach(self, port):
        certificate, key = self.certificates.pair("client")
        trust = ["--cafile", self.certificates.authority, "--cert", certificate, "--key", key]
        return ["-h", "127.0.0.1", "-p", str(port), *trust]


if __name__ == "__main__":
    unittest.main()
