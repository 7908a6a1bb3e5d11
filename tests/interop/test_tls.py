"""TLS as `openssl` and mosquitto's clients speak it; test_libraries.py has that of the libraries."""

import subprocess
import unittest

from interop.broker import PATIENCE_SECONDS, PROTOCOLS, BrokerCase, matrix
from interop.certificates import certificates
from interop.test_mosquitto import VERSION_FLAG, Subscriber

# CONNECT of 3.1.1 with clean session, and the CONNACK that accepts it.
CONNECT = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01c"
CONNACK = b"\x20\x02\0\0"


class TlsCase(BrokerCase):
    @classmethod
    def setUpClass(cls):
        cls.certificates = certificates()
        super().setUpClass()

    def openssl(self, *arguments, port=None, content=CONNECT):
        """What `openssl s_client` says of a handshake, with what came out of it."""
        address = f"{self.broker.host}:{port or self.broker.tls_port}"
        authority = ["-CAfile", self.certificates.authority, "-verify_return_error"]
        command = ["openssl", "s_client", "-connect", address, *authority, *arguments]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            process.stdin.write(content)
            process.stdin.flush()
            said = b""
            # It does not tell the end of its input, so that the answer is waited for.
            while CONNACK not in said and (more := process.stdout.read1()):
                said += more
            return said
        finally:
            process.kill()
            process.communicate()


class Openssl(TlsCase):
    def test_both_versions_and_no_older_ones(self):
        for flag, version in (("-tls1_2", b"TLSv1.2"), ("-tls1_3", b"TLSv1.3")):
            said = self.openssl(flag)
            self.assertIn(CONNACK, said)
            self.assertIn(b"Verification: OK", said)
            self.assertIn(version, said)
        self.assertNotIn(CONNACK, self.openssl("-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"))

    def test_the_protocol_is_agreed_upon(self):
        self.assertIn(b"ALPN protocol: mqtt", self.openssl("-alpn", "x,mqtt"))
        self.assertIn(b"No ALPN negotiated", self.openssl())
        self.assertNotIn(CONNACK, self.openssl("-alpn", "h2"))

    def test_a_ticket_resumes(self):
        ticket = self.certificates.directory / "ticket"
        for flag in ("-tls1_2", "-tls1_3"):
            self.assertIn(CONNACK, self.openssl(flag, "-sess_out", ticket))
            said = self.openssl(flag, "-sess_in", ticket)
            self.assertIn(b"Reused, ", said)
            self.assertIn(CONNACK, said)


class MosquittoOverTls:
    """mosquitto's clients, which trust the authority."""

    identity = ()

    def command(self, tool, *arguments):
        address = ["-h", self.broker.host, "-p", str(self.broker.tls_port), "--cafile", self.certificates.authority]
        return [tool, *address, *self.identity, "-V", VERSION_FLAG[self.protocol], "-q", "2", *arguments]

    def show(self, name):
        certificate, key = self.certificates.pair(name)
        return ["--cert", certificate, "--key", key]

    def publish(self, *arguments):
        command = self.command("mosquitto_pub", *arguments)
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)


@matrix(protocol=PROTOCOLS)
class MosquittoClients(MosquittoOverTls):
    @classmethod
    def setUpClass(cls):
        cls.certificates = certificates()
        super().setUpClass()

    def test_messages_pass(self):
        with Subscriber(self.command("mosquitto_sub", "-t", self.name, "-C", "1")) as subscriber:
            done = self.publish("-t", self.name, "-m", "22.5")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(subscriber.lines(), ["22.5"])

    def test_a_client_that_trusts_another_authority_goes_away(self):
        stranger, _key = self.certificates.pair("stranger")
        done = self.publish("-t", self.name, "-m", "22.5", "--cafile", stranger)
        self.assertNotEqual(done.returncode, 0)


@matrix(protocol=PROTOCOLS)
class MosquittoWithCertificates(MosquittoOverTls):
    @classmethod
    def setUpClass(cls):
        cls.certificates = certificates()
        cls.flags = ["--tls-client-ca", cls.certificates.authority, "--tls-identity", "cn"]
        super().setUpClass()

    def test_a_certificate_is_an_account(self):
        self.identity = self.show("client")
        with Subscriber(self.command("mosquitto_sub", "-t", self.name, "-C", "1")) as subscriber:
            done = self.publish("-t", self.name, "-m", "22.5")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(subscriber.lines(), ["22.5"])

    def test_without_one_of_the_authority_nobody_comes_in(self):
        for identity in ([], self.show("foreign")):
            self.identity = identity
            self.assertNotEqual(self.publish("-t", self.name, "-m", "22.5").returncode, 0)


if __name__ == "__main__":
    unittest.main()
