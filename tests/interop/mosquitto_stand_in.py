#!/usr/bin/env python3
"""Debian's mosquitto behind this broker's command line.

For judging a test rather than the broker: `ONCEMQ_BIN=tests/interop/mosquitto_stand_in.py tests/run interop` runs the
same tests against another implementation. It understands the flags that the tests pass and ignores their values where
mosquitto has no such notion (shards, durability). Known to fail with mosquitto 2.0.11: the two tests of its own clients
that send many 5.0 messages, because that broker exceeds the Receive Maximum of 20 which mosquitto_sub announces; and
take-over in 5.0, where it sends no DISCONNECT 0x8E; and paho's publishers that resume in mid-exchange, whose
connection it ends when both hold a full window. It has no counters, so what asks for them fails too.
"""

import argparse
import os
import pathlib
import socket
import sys
import time

READY_ATTEMPTS = 500
READY_PAUSE_SECONDS = 0.02

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
    if os.fork() == 0:
        announce(host, int(port))
    else:
        # In this process, so that a signal from the test reaches mosquitto and nothing can be left behind.
        os.environ["PATH"] += ":/usr/sbin"
        os.execvp("mosquitto", ["mosquitto", "-c", configuration])


def announce(host, port):
    for _ in range(READY_ATTEMPTS):
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                print("stand-in: ready", file=sys.stderr, flush=True)
                return
        time.sleep(READY_PAUSE_SECONDS)


if __name__ == "__main__":
    main()
