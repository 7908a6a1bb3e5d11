"""Debian's HAProxy in front of the broker under test."""

import atexit
import csv
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

from interop.broker import PATIENCE_SECONDS, ROOT, wait_until

# HAProxy from Debian lies where ordinary users have no path to.
PATH = f"{os.environ['PATH']}:/usr/sbin"

EXAMPLE = ROOT / "deploy" / "haproxy" / "haproxy.cfg"

SETTINGS = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
"""


class Haproxy:
    """One HAProxy, from accepting connections at these ports to its end; `sections` are its configuration."""

    def __init__(self, sections, ports, settings=SETTINGS):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="oncemq-test-haproxy-"))
        self._statistics = self.directory / "stats"
        configuration = self.directory / "haproxy.cfg"
        configuration.write_text(f"global\n    stats socket {self._statistics}\n{settings}\n{sections}\n")
        self.log_path = self.directory / "log"
        with open(self.log_path, "wb") as log:
            command = ["haproxy", "-db", "-f", configuration]
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "PATH": PATH}
            )
        atexit.register(self.stop)
        for port in ports:
            self._wait_until_ready(port)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def check_status(self, backend, server):
        """What came of the last health check of a server."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self._statistics))
            asking.sendall(b"show stat\n")
            answer = b"".join(iter(lambda: asking.recv(65_536), b"")).decode()
        for row in csv.DictReader(answer.removeprefix("# ").splitlines()):
            if (row["pxname"], row["svname"]) == (backend, server):
                return row["check_status"]
        raise AssertionError(f"{server} of {backend} is not there:\n{answer}")

    def wait_until_well(self, backend, server):
        """Waits for a health check that has passed, and not only begun."""
        wait_until(
            lambda: self.check_status(backend, server) in ("L6OK", "L7OK"),
            lambda: f"{server} is well: {self.check_status(backend, server)}; {self.log()}",
        )

    def stop(self):
        atexit.unregister(self.stop)
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _wait_until_ready(self, port):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"HAProxy does not run; its log:\n{self.log()}") from None
                time.sleep(0.01)


def example(files, replaced=()):
    """The text of the example in deploy/, with certificates from this directory and with other parts replaced."""
    text = EXAMPLE.read_text().replace("/etc/haproxy/oncemq/", f"{files}/").replace("/dev/log", "stdout format raw")
    for part, other in replaced:
        if part not in text:
            raise AssertionError(f"{part} is not in {EXAMPLE}")
        text = text.replace(part, other)
    return text


def write_certificates(certificates, directory):
    """What the example asks for: the server's certificate with its key, and the authority of the clients."""
    certificate, key = certificates.pair("server")
    (directory / "server.pem").write_text(certificate.read_text() + key.read_text())
    (directory / "devices.pem").write_text(certificates.authority.read_text())


def find_mistake(path):
    """What HAProxy finds wrong with a configuration; nothing if it is good."""
    checked = subprocess.run(
        ["haproxy", "-c", "-f", path],
        env={**os.environ, "PATH": PATH},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    return "" if checked.returncode == 0 else checked.stderr or "it says no why"
