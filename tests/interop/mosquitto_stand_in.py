#!/usr/bin/env python3
"""Debian's mosquitto behind this broker's command line.

For judging a test rather than the broker: `ONCEMQ_BIN=tests/interop/mosquitto_stand_in.py tests/run interop` runs the
same tests against another implementation. It understands the flags that the tests pass and ignores their values where
mosquitto has no such notion (shards, durability). Known to fail with mosquitto 2.0.11: the two tests of its own clients
that send many 5.0 messages, because that broker exceeds the Receive Maximum of 20 which mosquitto_sub announces; and
take-over in 5.0, where it sends no DISCONNECT 0x8E. It has no counters, so what asks for them fails too.
"""

import argparse
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("--data-dir", required=True, type=pathlib.Path)
    arguments, _ignored = parser.parse_known_args()
    host, port = arguments.listen.rsplit(":", 1)
    arguments.data_dir.mkdir(parents=True, exist_ok=True)
    configuration = arguments.data_dir / "mosquitto.conf"
    user = "user root\n" if os.geteuid() == 0 else ""
    configuration.write_text(
        f"listener {port} {host}\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n{user}"
    )
    path = os.environ["PATH"] + ":/usr/sbin"
    mosquitto = subprocess.Popen(["mosquitto", "-c", configuration], env={**os.environ, "PATH": path})
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: mosquitto.send_signal(received))
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    while mosquitto.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                print("stand-in: ready", file=sys.stderr, flush=True)
                break
        time.sleep(0.02)
    return mosquitto.wait()


if __name__ == "__main__":
    sys.exit(main())
