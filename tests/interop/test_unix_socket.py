"""mosquitto's clients on a Unix socket."""

import pathlib
import shutil
import subprocess
import tempfile
import unittest

from interop.broker import PATIENCE_SECONDS, PROTOCOLS, SHARD_COUNTS, matrix
from interop.test_mosquitto import VERSION_FLAG, Subscriber


@matrix(shards=SHARD_COUNTS, protocol=PROTOCOLS)
class MosquittoOnUnixSocket:
    @classmethod
    def setUpClass(cls):
        directory = pathlib.Path(tempfile.mkdtemp(prefix="oncemq-"))
        cls.addClassCleanup(shutil.rmtree, directory)
        cls.path = directory / "mqtt"
        cls.flags = ["--unix-listen", cls.path]
        super().setUpClass()

    def command(self, tool, *arguments):
        return [tool, *arguments, "-V", VERSION_FLAG[self.protocol], "-q", "2"]

    def test_messages_pass_between_the_socket_and_the_network(self):
        local, remote = ["--unix", self.path], ["-h", self.broker.host, "-p", str(self.broker.port)]
        sent = [f"{self.name}-{number}" for number in range(200)]
        for there, back in ((local, local), (local, remote), (remote, local)):
            subscriber = self.command("mosquitto_sub", *back, "-t", self.name, "-C", str(len(sent)))
            with Subscriber(subscriber) as subscriber:
                command = self.command("mosquitto_pub", *there, "-t", self.name, "-l")
                subprocess.run(command, input="\n".join(sent), text=True, check=True, timeout=PATIENCE_SECONDS)
                self.assertEqual(subscriber.lines(), sent)

    def test_the_socket_is_there(self):
        self.assertTrue(self.path.is_socket())


if __name__ == "__main__":
    unittest.main()
