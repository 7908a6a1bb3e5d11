"""The seccomp profile of `deploy/docker` allows what the broker does, as far as strace sees it."""

import json
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "target" / "release"
PROFILE = ROOT / "deploy" / "docker" / "seccomp.json"
END_MAX_SECONDS = 30


class Docker(unittest.TestCase):
    def test_the_profile_denies_what_it_does_not_name(self):
        profile = json.loads(PROFILE.read_text())
        self.assertEqual(profile["defaultAction"], "SCMP_ACT_ERRNO")
        self.assertEqual({group["action"] for group in profile["syscalls"]}, {"SCMP_ACT_ALLOW"})
        names = [name for group in profile["syscalls"] for name in group["names"]]
        self.assertEqual(len(names), len(set(names)), "no name stands twice")
        for forbidden in ("bpf", "keyctl", "mount", "ptrace", "reboot", "setns", "unshare", "userfaultfd"):
            self.assertNotIn(forbidden, names)

    @unittest.skipIf(shutil.which("strace") is None, "there is no strace")
    def test_the_profile_allows_what_the_broker_does(self):
        allowed = {name for group in json.loads(PROFILE.read_text())["syscalls"] for name in group["names"]}
        called = self.system_calls_of_a_broker()
        # What it is there for has been seen.
        self.assertLessEqual({"io_uring_setup", "io_uring_enter", "io_uring_register", "execve"}, called)
        self.assertEqual(called - allowed, set())

    def system_calls_of_a_broker(self):
        """From its start through QoS 2 messages that are logged, a reload and its counters to its end."""
        with tempfile.TemporaryDirectory() as directory, socket.create_server(("127.0.0.1", 0)) as admin:
            admin_address = "127.0.0.1:%d" % admin.getsockname()[1]
            admin.close()
            trace = pathlib.Path(directory) / "trace"
            traced = ["strace", "--follow-forks", "--quiet=all", f"--output={trace}"]
            flags = ["--listen=127.0.0.1:0", "--websocket-listen=127.0.0.1:0", f"--admin-listen={admin_address}"]
            command = [*traced, PROGRAMS / "oncemq", *flags, f"--data-dir={directory}/data"]
            broker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
            self.addCleanup(broker.stderr.close)
            self.addCleanup(broker.kill)
            port = next(found[1] for line in broker.stderr if (found := re.search(r"ready on 127\.0\.0\.1:(\d+)", line)))
            load = f"run --port={port} --publishers=2 --subscribers=2 --persistent --count=200"
            subprocess.run([PROGRAMS / "oncemq-loadgen", *load.split()], check=True, capture_output=True, timeout=120)
            child = int(pathlib.Path(f"/proc/{broker.pid}/task/{broker.pid}/children").read_text().split()[0])
            for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM):
                subprocess.run(["kill", f"-{number.value}", str(child)], check=True)
            broker.stderr.read()
            self.assertEqual(broker.wait(END_MAX_SECONDS), 0)
            return set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE))
