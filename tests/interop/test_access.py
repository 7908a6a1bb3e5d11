"""Who may connect: files that mosquitto_passwd and `oncemq passwd` have made, mosquitto's clients with user name and password,
and SCRAM-SHA-256 by a client that shares no code with the broker.
"""

import base64
import contextlib
import hashlib
import hmac
import os
import pathlib
import pty
import re
import secrets
import shutil
import subprocess
import tempfile
import unittest

from interop.broker import PATIENCE_SECONDS, TARGET, Broker
from malformed import wire
from malformed.web_socket import WebSocketConnection

VERSIONS = {"mqttv311": (4, 5), "mqttv5": (0x86, 0x87)}
METHOD = b"SCRAM-SHA-256"
CONTINUE, AGAIN = 0x18, 0x19

# Each user's password is the name backwards; how it is kept.
USERS = {
    "margot": "mosquitto_passwd",
    "moritz": "mosquitto_passwd -H sha512",
    "astrid": "oncemq passwd",
    "sandra": "oncemq passwd --scram",
}


class AccessCase(unittest.TestCase):
    """A broker for each test, because failed attempts slow the next ones down."""

    # How clients come in that say each packet themselves.
    transport = wire.Connection

    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="oncemq-test-access-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.file = self.directory / "people"
        self.file.touch(mode=0o600)
        for user, command in USERS.items():
            set_password(command, self.file, user)
        self.broker = Broker(1, ["--password-file", str(self.file)])
        self.addCleanup(self.broker.stop)

    def publish(self, version, *credentials):
        command = ["mosquitto_pub", "-h", self.broker.host, "-p", str(self.broker.port), "-V", version, "-q", "1"]
        command += ["-t", "t", "-m", "x", *credentials]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)

    def connect(self, scram, *, user=None):
        """A connection on which the client has said its first words."""
        connection = self.transport(self.broker)
        self.addCleanup(connection.socket.close)
        block = b"\x15" + wire.string(METHOD) + b"\x16" + wire.string(scram.first())
        connection.send(wire.connect(wire.V5, username=user, block=block))
        return connection

    def auth(self, connection, reason, data):
        block = b"\x15" + wire.string(METHOD) + b"\x16" + wire.string(data)
        connection.send(wire.packet(wire.AUTH, bytes([reason]) + wire.properties(wire.V5, block)))

    def challenge(self, connection):
        """The data of the AUTH packet that comes next."""
        first_byte, body = connection.read_frame()
        self.assertEqual((first_byte, body[0]), (wire.AUTH, CONTINUE))
        return authentication_data(body[1:])

    def log_in(self, scram):
        connection = self.connect(scram)
        self.auth(connection, CONTINUE, scram.answer(self.challenge(connection)))
        first_byte, body = connection.read_frame()
        self.assertEqual((first_byte, body[:2]), (wire.CONNACK, b"\0\0"))
        scram.check(authentication_data(body[2:]))
        return connection


class Passwords(AccessCase):
    def test_who_knows_his_password_is_let_in(self):
        for version in VERSIONS:
            for user in USERS:
                done = self.publish(version, "-u", user, "-P", user[::-1])
                self.assertEqual(done.returncode, 0, (version, user, done.stderr))

    def test_everybody_else_is_refused(self):
        for version, (wrong, missing) in VERSIONS.items():
            for credentials, code in [
                (["-u", "margot", "-P", "wrong"], wrong),
                (["-u", "nobody", "-P", "wrong"], wrong),
                ([], missing),
            ]:
                done = self.publish(version, *credentials)
                self.assertEqual(done.returncode, code, (version, credentials, done.stderr))

    def test_the_file_is_read_again_on_request(self):
        set_password("oncemq passwd", self.file, "nadine")
        subprocess.run([oncemq(), "passwd", "-D", self.file, "margot"], check=True, timeout=PATIENCE_SECONDS)
        self.broker.process.send_signal(1)  # SIGHUP
        while "access: 4 accounts" not in self.broker.log().split("ready", 1)[1]:
            self.assertTrue(self.broker.is_running())
        self.assertEqual(self.publish("mqttv5", "-u", "nadine", "-P", "enidan").returncode, 0)
        self.assertEqual(self.publish("mqttv5", "-u", "margot", "-P", "togram").returncode, 0x86)


    def test_a_password_is_asked_for_twice_and_not_shown(self):
        for answers, status in [(("enidan", "enidan"), 0), (("enidan", "nadine"), 1)]:
            self.assertEqual(self.ask(["passwd", str(self.file), "nadine"], answers), status, answers)
        self.assertIn("nadine:$argon2id$", self.file.read_text())

    def ask(self, arguments, answers):
        """Runs `oncemq` at a terminal and answers its questions; its exit status."""
        process, terminal = pty.fork()
        if process == 0:
            os.execv(oncemq(), ["oncemq", *arguments])
        shown = b""
        for question, answer in zip((b"New password", b"The same again"), answers, strict=True):
            while not re.search(question + rb"[^:]*: ", shown):
                shown += os.read(terminal, 1024)
            os.write(terminal, answer.encode() + b"\n")
        with contextlib.suppress(OSError):  # how the end of a terminal is told
            while content := os.read(terminal, 1024):
                shown += content
        _, status = os.waitpid(process, 0)
        for answer in answers:
            self.assertNotIn(answer.encode(), shown.replace(b"for nadine", b""))
        os.close(terminal)
        return os.waitstatus_to_exitcode(status)


class Scram(AccessCase):
    def test_a_client_authenticates_and_does_so_again(self):
        scram = Client("sandra", "ardnas")
        with self.log_in(scram) as connection:
            for _ in range(2):
                scram.begin()
                self.auth(connection, AGAIN, scram.first())
                challenge = self.challenge(connection)
                connection.send(wire.PINGREQ)
                self.assertEqual(connection.read_frame()[0], wire.PINGRESP)
                self.auth(connection, CONTINUE, scram.answer(challenge))
                first_byte, body = connection.read_frame()
                self.assertEqual((first_byte, body[0]), (wire.AUTH, 0))
                scram.check(authentication_data(body[1:]))

    def test_a_client_that_can_not_do_so_again_is_sent_away(self):
        for user, password in [("sandra", "wrong"), ("astrid", "dirtsa")]:
            with self.log_in(Client("sandra", "ardnas")) as connection:
                scram = Client(user, password)
                self.auth(connection, AGAIN, scram.first())
                if user == "sandra":
                    self.auth(connection, CONTINUE, scram.answer(self.challenge(connection)))
                frame = connection.read_frame()
                self.assertEqual((frame[0], wire.reason(wire.V5, frame)), (wire.DISCONNECT, 0x87))

    def test_nobody_learns_who_exists(self):
        refusals, challenges = set(), {}
        for user in ("sandra", "astrid", "nobody"):
            for _ in range(2):
                scram = Client(user, "wrong")
                connection = self.connect(scram)
                challenge = self.challenge(connection)
                nonce, salt, iterations = challenge.split(b",")
                challenges.setdefault(user, set()).add((len(nonce), salt, iterations))
                self.auth(connection, CONTINUE, scram.answer(challenge))
                refusals.add(connection.read_frame())
                self.assertRaises(wire.Closed, connection.read_frame)
        # The same words for all, and for each the same salt every time.
        self.assertEqual([len(refusals), *map(len, challenges.values())], [1, 1, 1, 1])
        shapes = {(nonce, len(salt), iterations) for ((nonce, salt, iterations),) in challenges.values()}
        self.assertEqual(len(shapes), 1, challenges)
        self.assertEqual(refusals.pop()[1][1], 0x86)

    def test_the_user_of_connect_is_the_one_of_the_exchange(self):
        self.challenge(self.connect(Client("sandra", "ardnas"), user=b"sandra"))
        frame = self.connect(Client("sandra", "ardnas"), user=b"astrid").read_frame()
        self.assertEqual((frame[0], frame[1][1]), (wire.CONNACK, 0x87))

    def test_nothing_but_an_answer_follows_a_challenge(self):
        for content, code in [(wire.PINGREQ, 0x82), (wire.packet(wire.AUTH, b"\x19\0"), 0x82)]:
            connection = self.connect(Client("sandra", "ardnas"))
            self.challenge(connection)
            connection.send(content)
            frame = connection.read_frame()
            self.assertEqual((frame[0], frame[1][1]), (wire.CONNACK, code))
            self.assertRaises(wire.Closed, connection.read_frame)


class ScramOverWebSocket(Scram):
    transport = WebSocketConnection


class Client:
    """The client's side of RFC 5802 and RFC 7677."""

    def __init__(self, user, password):
        self.user, self.password = user, password
        self.begin()

    def begin(self):
        self.bare = f"n={self.user},r={secrets.token_hex(8)}".encode()

    def first(self):
        return b"n,," + self.bare

    def answer(self, challenge):
        nonce, salt, iterations = (attribute[2:] for attribute in challenge.split(b","))
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(salt), int(iterations))
        without_proof = b"c=biws,r=" + nonce
        signed = b",".join([self.bare, challenge, without_proof])
        client_key = mac(salted, b"Client Key")
        signature = mac(hashlib.sha256(client_key).digest(), signed)
        proof = bytes(key ^ signed_by for key, signed_by in zip(client_key, signature, strict=True))
        self.expected = b"v=" + base64.b64encode(mac(mac(salted, b"Server Key"), signed))
        return without_proof + b",p=" + base64.b64encode(proof)

    def check(self, server_final):
        assert server_final == self.expected, "the server does not know the account"


def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def authentication_data(block):
    """The Authentication Data in what ends with it, or has it behind the method."""
    at = block.index(b"\x15" + wire.string(METHOD)) + 3 + len(METHOD)
    assert block[at] == 0x16, block
    length = int.from_bytes(block[at + 1 : at + 3], "big")
    return block[at + 3 : at + 3 + length]


def oncemq():
    return os.environ.get("ONCEMQ_BIN", TARGET / "oncemq")


def set_password(command, file, user):
    """Sets the password of a user, with one of the commands above."""
    tool, *flags = command.split()
    if tool == "oncemq":
        arguments = [oncemq(), *flags, file, user]
        subprocess.run(arguments, input=user[::-1] + "\n", text=True, check=True, timeout=PATIENCE_SECONDS)
    else:
        subprocess.run([tool, *flags, "-b", file, user, user[::-1]], check=True, timeout=PATIENCE_SECONDS)
