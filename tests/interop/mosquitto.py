"""Debian's mosquitto as another broker, beside the one under test."""

import atexit
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time

from interop.broker import PATIENCE_SECONDS, free_port

# Nothing is dropped because a queue is full, so that what is lost was lost by something else.
SETTINGS = """
allow_anonymous true
max_queued_messages 0
max_inflight_messages 100
set_tcp_nodelay true
"""


class Mosquitto:
    """One mosquitto, from accepting connections to its end; `settings` are lines of its configuration."""

    def __init__(self, settings=""):
        self.host = "127.0.0.1"
        self.port = free_port()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="oncemq-test-mosquitto-"))
        configuration = self.directory / "mosquitto.conf"
        user = "user root\n" if os.geteuid() == 0 else ""
        configuration.write_text(f"{user}listener {self.port} {self.host}\n{SETTINGS}\n{settings}\n")
        self.log_path = self.directory / "log"
        with open(self.log_path, "wb") as log:
            command = ["mosquitto", "-v", "-c", str(configuration)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        atexit.register(self.stop)
        self._wait_until_ready()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def published_after_pubrel(self, client_id_prefix):
        """How many PUBLISH packets to these clients had a packet id whose PUBREL was sent and whose PUBCOMP had not come.

        It is for the sender of a message to keep them at 0 [MQTT-4.3.3-1].
        """
        packet = re.compile(rf"(Sending PUBLISH|Sending PUBREL|Received PUBCOMP) (?:to|from) {client_id_prefix}\S+ .*?(?:m|Mid: )(\d+)[,)]")
        released = set()
        count = 0
        for kind, packet_id in packet.findall(self.log()):
            match kind:
                case "Sending PUBREL":
                    released.add(packet_id)
                case "Received PUBCOMP":
                    released.discard(packet_id)
                case "Sending PUBLISH" if packet_id in released:
                    released.discard(packet_id)
                    count += 1
        return count

    def stop(self):
        atexit.unregister(self.stop)
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _wait_until_ready(self):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return socket.create_connection((self.host, self.port)).close()
            except ConnectionRefusedError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"mosquitto does not run; its log:\n{self.log()}") from None
                time.sleep(0.01)
