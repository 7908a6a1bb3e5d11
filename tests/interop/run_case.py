"""Runs one case with one Python library: python -m interop.run_case LIBRARY tcp|tls|ws HOST PORT PROTOCOL CASE

The process ends with status 0 when the case held, and says on standard error what failed otherwise. It is a process of
its own because paho 1.x and 2.x can't be installed side by side.
"""

import collections
import importlib
import logging
import sys
import unittest

from interop.cases import ClientCases

# Module and class of each library's adapter.
ADAPTERS = {
    "aiomqtt": ("interop.aiomqtt_peer", "AiomqttPeer"),
    "gmqtt": ("interop.gmqtt_peer", "GmqttPeer"),
    "paho-1": ("interop.paho1_peer", "Paho1Peer"),
    "paho-2": ("interop.paho_peer", "PahoPeer"),
}

Address = collections.namedtuple("Address", "transport host port")


def main():
    library, transport, host, port, protocol, case = sys.argv[1:]
    # What the libraries have to say about broken connections is what the cases are about.
    logging.disable(logging.CRITICAL)
    module, name = ADAPTERS[library]
    attributes = {
        "peer_class": getattr(importlib.import_module(module), name),
        "broker": Address(transport, host, int(port)),
        "protocol": protocol,
        "name": case,
    }
    test = type("Case", (ClientCases, unittest.TestCase), attributes)(f"test_{case}")
    outcome = unittest.TextTestRunner(verbosity=0).run(test)
    return 0 if outcome.testsRun == 1 and outcome.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
