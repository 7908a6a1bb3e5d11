"""The dashboard, looked at in headless Chromium beside real clients."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import unittest

from interop.broker import PATIENCE_SECONDS, TARGET, Broker, free_port

TOKEN = "a-token-that-only-this-test-has"

# A case waits for several things in turn, each as long as a test may, and for the browser.
CASE_SECONDS = 4 * PATIENCE_SECONDS


@unittest.skipUnless(shutil.which("chromium"), "there is no Chromium but Debian's that runs anywhere")
class Dashboard(unittest.TestCase):
    def start(self, *flags):
        """A broker with an admin listener; the address of its page."""
        port = free_port()
        self.broker = Broker(2, ("--admin-listen", f"127.0.0.1:{port}", *flags), durability="write")
        self.addCleanup(self.stop)
        return f"http://127.0.0.1:{port}/"

    def stop(self):
        if self.broker is not None:
            self.broker.stop()

    def browse(self, url, case, *arguments, do=None):
        """Runs a case; whenever it says something, `do` is done and the line that it returns is the answer."""
        command = ["node", pathlib.Path(__file__).with_name("browser.cjs"), url, case, *arguments]
        pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
        environment = {**os.environ, "ONCEMQ_CHROMIUM": shutil.which("chromium")}
        process = subprocess.Popen(command, env=environment, text=True, **pipes)
        with process, contextlib.ExitStack() as ended:
            ended.callback(process.kill)
            if do is not None and process.stdout.readline():
                process.stdin.write(f"{do()}\n")
                process.stdin.flush()
            _, complaints = process.communicate(timeout=CASE_SECONDS)
        self.assertEqual(process.returncode, 0, complaints)

    def generate(self, *arguments):
        """A load generator in the background, ended with the test."""
        command = [TARGET / "oncemq-loadgen", *arguments, "--port", str(self.broker.port), "--quiet"]
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

    def test_a_running_load_is_seen(self):
        url = self.start()

        def load():
            clients = ("--publishers", 20, "--subscribers", 20, "--persistent")
            self.generate("run", *clients, "--qos", 2, "--rate", 2_000, "--duration", "60s")
            # It connects and subscribes before it publishes.
            messages = "publishes_received"
            deadline = time.monotonic() + PATIENCE_SECONDS
            while self.broker.counters()[messages] == 0:
                self.assertLess(time.monotonic(), deadline)
            return int(time.time() * 1000)

        self.browse(url, "running_load", do=load)

    def test_clients_are_found_looked_at_and_disconnected(self):
        url = self.start()
        for number in range(9):
            client = Client(self.broker, f"room {number % 3}/{number}")
            self.addCleanup(client.close)
            # Markup is text.
            client.subscribe("rooms/<b>1</b>/+")
        self.browse(url, "search_and_detail")

    def test_the_token_is_asked_for_once_and_a_wrong_one_is_told(self):
        directory = tempfile.TemporaryDirectory(prefix="oncemq-dashboard-")
        self.addCleanup(directory.cleanup)
        file = pathlib.Path(directory.name) / "token"
        file.write_text(f"{TOKEN}\n")
        url = self.start("--admin-token-file", str(file))
        self.browse(url, "token", TOKEN)

    def test_the_end_of_the_broker_is_told(self):
        url = self.start()

        def end():
            self.broker.stop()
            self.broker = None
            return "ended"

        self.browse(url, "broker_ends", do=end)


class Client:
    """A 3.1.1 client with a clean session, in raw packets."""

    def __init__(self, broker, client_id):
        self.socket = socket.create_connection((broker.host, broker.port), PATIENCE_SECONDS)
        body = b"\0\4MQTT\4\2\0\0" + _string(client_id)
        self._exchange(b"\x10" + bytes([len(body)]) + body, 4)

    def subscribe(self, topic_filter):
        body = b"\0\1" + _string(topic_filter) + b"\2"
        self._exchange(b"\x82" + bytes([len(body)]) + body, 5)

    def close(self):
        self.socket.close()

    def _exchange(self, packet, answer_bytes):
        self.socket.sendall(packet)
        while answer_bytes > 0:
            answer_bytes -= len(self.socket.recv(answer_bytes))


def _string(text):
    data = text.encode()
    return len(data).to_bytes(2, "big") + data
