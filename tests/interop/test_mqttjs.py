"""MQTT.js, the Node.js client: one test per scenario of mqttjs.cjs."""

import os
import pathlib
import re
import subprocess
import unittest

from interop.broker import PATIENCE_SECONDS, PROTOCOLS, SHARD_COUNTS, TOOLS, matrix

SCRIPT = pathlib.Path(__file__).with_name("mqttjs.cjs")


def node(*arguments):
    environment = {**os.environ, "NODE_PATH": str(TOOLS / "node_modules")}
    return subprocess.run(
        ["node", SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )


class MqttJs:
    def run_scenario(self, scenario):
        name = f"{scenario}-{self.protocol}"
        done = node(str(self.broker.port), self.protocol, scenario, name)
        self.assertEqual(done.returncode, 0, done.stderr)


def add_scenarios():
    listed = node("-", "-", "--list")
    if listed.returncode != 0:
        raise ImportError(f"MQTT.js does not run (tests/run setup installs it): {listed.stderr}")
    for scenario in listed.stdout.split():
        words = re.sub(r"[A-Z]", lambda letter: "_" + letter[0].lower(), scenario)
        setattr(MqttJs, f"test_{words}", lambda self, scenario=scenario: self.run_scenario(scenario))


add_scenarios()
matrix(shards=SHARD_COUNTS, protocol=PROTOCOLS)(MqttJs)

if __name__ == "__main__":
    unittest.main()
