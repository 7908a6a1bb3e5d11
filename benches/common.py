"""What the benches share: brokers as child processes, the release build, the machine in words.

A bench is a script beside this file. It prints Markdown for README, or JSON, and its progress on standard error. It measures the
brokers side by side on this machine, because absolute figures move with the machine.
"""

import contextlib
import getpass
import json
import os
import pathlib
import platform
import re
import resource
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASE = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
ONCEMQ = RELEASE / "oncemq"
LOADGEN = RELEASE / "oncemq-loadgen"

# How long a broker may take to accept clients. It bounds a hang; nothing is judged by it.
PATIENCE_SECONDS = 120

# What the brokers may speak below MQTT, as the load generator names it.
TRANSPORTS = ("tcp", "tls", "ws", "wss")

# mosquitto at its best in these loads: no waiting for company in TCP, and nothing dropped because a queue is full.
MOSQUITTO_LIMITS = "set_tcp_nodelay true\nmax_queued_messages 0\nmax_inflight_messages 0\n"


class Failure(Exception):
    """The bench has no result; the text says why."""


def run(bench):
    """The entry of a bench: prints what it returns as lines of text; ends with status 1 if it failed."""
    try:
        print("\n".join(bench()))
    except Failure as reason:
        sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {reason}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """A broker process on a free port with a folder of its own, for the length of a `with`.

    `command(port, folder)` is its command line. `kill` and `start` may follow one another as often as wanted: the folder stays.
    """

    def __init__(self, name, command, cpu=None, parent=None):
        self.name, self.command, self.cpu, self.parent = name, command, cpu, parent
        self.port = free_port()
        self.process = None

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="oncemq-bench-", dir=self.parent)
        self.folder = pathlib.Path(self._folder.name)
        self.log = self.folder / "broker.log"
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
        self._folder.cleanup()

    def start(self, sign="port"):
        """Starts the process; returns the seconds until it accepts a connection, or until its log has `sign`."""
        pinning = [] if self.cpu is None else ["taskset", "-c", str(self.cpu)]
        command = [*pinning, *map(str, self.command(self.port, self.folder))]
        logged = self.log.stat().st_size if self.log.exists() else 0
        began = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while not (self._accepts() if sign == "port" else sign in self._log_from(logged)):
            if self.process.poll() is not None or time.monotonic() - began > PATIENCE_SECONDS:
                raise Failure(f"{self.name} does not accept clients:\n{self._log_from(logged)[-4000:]}")
            time.sleep(0.002)
        return time.monotonic() - began

    def kill(self):
        """SIGKILL; returns once the process is gone and its port is free."""
        self.process.kill()
        self.process.wait()
        # The kernel closes the sockets of an io_uring a little after the process.
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._port_is_free():
            if time.monotonic() > deadline:
                raise Failure(f"port {self.port} of {self.name} is still in use after its end")
            time.sleep(0.005)

    def status_bytes(self, field):
        """A field of /proc/PID/status that counts kB, such as VmRSS and VmHWM."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s*(\d+) kB", text, re.MULTILINE)[1]) * 1024

    def counters(self):
        """What the shards of OnceMQ and their logs count, one dictionary for each shard."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        # A broker may accept clients before it has said how many shards it has.
        while not (shards := len(re.findall(r"shard-\d+=", banner := self._log_from(0)))):
            if time.monotonic() > deadline:
                raise Failure(f"{self.name} does not say how many shards it has")
            time.sleep(0.01)
        kinds = ["counters"] if "durability: none" in banner else ["counters", "log"]
        logged = self.log.stat().st_size
        self.process.send_signal(signal.SIGUSR1)
        while time.monotonic() < deadline:
            # A line that is still being written ends in no newline.
            lines = self._log_from(logged).split("\n")[:-1]
            found = [re.search(rf" ({'|'.join(kinds)}) shard=(\d+) (.*)", line) for line in lines]
            found = [match for match in found if match]
            if len(found) >= shards * len(kinds):
                counted = [{} for _ in range(shards)]
                for match in found:
                    counted[int(match[2])].update(
                        {name: float(value) for name, value in re.findall(r"(\w+)=([\d.]+)\b", match[3])}
                    )
                return counted
            time.sleep(0.01)
        raise Failure(f"{self.name} does not say what it counts")

    def _log_from(self, offset):
        with open(self.log, "rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")

    def _accepts(self):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        return False

    def _port_is_free(self):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError:
                return False
            return True


def certificates():
    """An authority and a certificate for 127.0.0.1, made when first asked for: those of the interoperability tests."""
    if (tests := str(ROOT / "tests")) not in sys.path:
        sys.path.append(tests)
    from interop.certificates import certificates as made

    return made()


def oncemq(durability, *flags, transport="tcp"):
    """OnceMQ in this durability mode, with its log in the broker's folder."""

    def command(port, folder):
        listen = {"tcp": "--listen", "tls": "--tls-listen", "ws": "--websocket-listen", "wss": "--websocket-tls-listen"}[transport]
        listening = [listen, f"127.0.0.1:{port}"] if transport == "tcp" else ["--listen", "none", listen, f"127.0.0.1:{port}"]
        if transport in ("tls", "wss"):
            listening += certificates().server_flags()
        return [ONCEMQ, *listening, "--durability", durability, "--data-dir", folder / "data", "--log-level", "info", *flags]

    return command


def transport_flags(transport):
    """Those that bring the load generator to a broker that speaks this."""
    return ["--transport", transport, *(["--tls-ca", certificates().authority] if transport in ("tls", "wss") else [])]


def floor():
    """The packets of a broker without the broker: benches/floor."""
    program = bench_program("floor")
    return lambda port, folder: [program, "--listen", f"127.0.0.1:{port}"]


def mosquitto(settings, transport="tcp"):
    """Debian's mosquitto with these further lines in its configuration. `{folder}` stands for the broker's folder."""
    spoken, beside = "", ""
    if transport in ("ws", "wss"):
        # 2.0.11 ends at once if it has no listener but for WebSockets.
        spoken, beside = "protocol websockets\n", "listener 0 {folder}/beside\n"
    if transport in ("tls", "wss"):
        certificate, key = certificates().pair("server")
        spoken += f"certfile {certificate}\nkeyfile {key}\n"

    def command(port, folder):
        config = folder / "mosquitto.conf"
        listeners = f"{beside}listener {port} 127.0.0.1\n{spoken}"
        rest = f"allow_anonymous true\nuser {getpass.getuser()}\nlog_type error\n{MOSQUITTO_LIMITS}{settings}"
        config.write_text((listeners + rest).replace("{folder}", str(folder)))
        return ["mosquitto", "-c", config]

    return command


def loadgen(*arguments, void_is_fine=False, limit_seconds=600):
    """Runs the load generator; returns its report. A void run fails the bench, unless it may be."""
    command = [str(LOADGEN), *map(str, arguments), "--json", "--quiet"]
    # A session of its own, so that a broker that it has started ends with it, however it ends.
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        printed, complaints = process.communicate(timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        raise Failure(f"not done after {limit_seconds} s: {' '.join(command)}") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode not in ((0, 1) if void_is_fine else (0,)):
        raise Failure(f"the run is void:\n{' '.join(command)}\n{printed}{complaints}")
    return json.loads(printed)


def other(command_line):
    """Any other broker: its command line, in which `{port}` and `{folder}` stand for those that it gets."""

    def command(port, folder):
        return [word.replace("{port}", str(port)).replace("{folder}", str(folder)) for word in shlex.split(command_line)]

    return command


def allow_files(count):
    """Lets this process, and those that it starts, open so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise Failure(f"needs {count} open files, but the limit is {hard}; raise it, or ask for fewer clients")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def two_cpus():
    """The CPU of the broker (the last one allowed) and those of the load (all others)."""
    (cpu,), others = broker_cpus(1)
    return cpu, others


def broker_cpus(count):
    """So many CPUs for the broker (the last ones allowed) and those of the load: all others, or all if none is left."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < max(2, count):
        raise Failure(f"needs {max(2, count)} CPUs, {count} for the broker and another one for the load, but has {len(cpus)}")
    return cpus[-count:], cpus[:-count] or cpus


def on_cpus(cpus):
    """The flags that keep the load generator on these CPUs."""
    return ["--pin", ",".join(map(str, cpus)), "--threads", min(2, len(cpus))]


def add_common_flags(parser):
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    parser.add_argument("--no-build", action="store_true", help="measure the release build that is there")


def build(options):
    if not options.no_build:
        subprocess.run(["cargo", "build", "--release", "--workspace", "--quiet"], cwd=ROOT, check=True)


def bench_program(name):
    """The program of a bench that cargo builds, such as the build has left it, or else built now."""
    command = ["cargo", "bench", "--bench", name, "--no-run", "--quiet", "--message-format", "json"]
    told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    for message in map(json.loads, told.splitlines()):
        if message["reason"] == "compiler-artifact" and message["target"]["name"] == name and message["executable"]:
            return message["executable"]
    raise Failure(f"cargo does not say where the program of {name} is")


def say(text):
    print(text, file=sys.stderr, flush=True)


def mosquitto_version():
    return subprocess.run(["mosquitto", "-h"], capture_output=True, text=True).stdout.split("\n")[0]


def surroundings():
    """Commit, processor and kernel, for the line below a table."""
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return (f"commit {commit.stdout.strip() or 'unknown'}; {cpu_model()}, {os.cpu_count()} CPUs, "
            f"Linux {platform.release().split('-')[0]}")


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
