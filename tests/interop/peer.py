"""What the tests ask of every Python client: an adapter per library derives from `Peer`.

A peer is one client id and the client's half of its session, over as many connections as the test makes. Its calls
block the test's thread, whatever the style of the library. Nothing here knows a library.
"""

import abc
import dataclasses

from interop.broker import wait_until

SESSION_EXPIRY_SECONDS = 3600

# Names the file with the authority that has signed the broker's certificate, where TLS is spoken.
AUTHORITY_VARIABLE = "ONCEMQ_TEST_AUTHORITY"


@dataclasses.dataclass
class Will:
    topic: str
    payload: str
    retain: bool = False


@dataclasses.dataclass
class Message:
    topic: str
    payload: bytes
    qos: int
    retain: bool


class Peer(abc.ABC):
    """A client that tests can break, resume and question."""

    # Whether the library says that the broker has sent a DISCONNECT.
    tells_of_disconnects = True

    def __init__(self, broker, protocol, client_id, persistent=False, will=None):
        self.broker = broker
        self.protocol = protocol
        self.client_id = f"{client_id}-{protocol}"
        self.persistent = persistent
        self.will = will
        self.messages = []
        # The connection has ended, by whose doing soever.
        self.disconnected = False
        # The broker has said so first, with a DISCONNECT.
        self.was_told_to_leave = False

    @abc.abstractmethod
    def connect(self):
        """Connects for the first time; says whether the broker had a session."""

    @abc.abstractmethod
    def reconnect(self):
        """Connects again with the same session; says whether the broker still had it."""

    @abc.abstractmethod
    def sever(self):
        """Breaks the connection where it stands, without a DISCONNECT."""

    @abc.abstractmethod
    def disconnect(self):
        """Ends the connection with a DISCONNECT; does nothing where it has ended already."""

    @abc.abstractmethod
    def subscribe(self, topic_filter, qos=2):
        """Subscribes, and waits for the SUBACK."""

    @abc.abstractmethod
    def unsubscribe(self, topic_filter):
        """Unsubscribes, and waits for the UNSUBACK."""

    @abc.abstractmethod
    def publish(self, topic, payload, qos=2, retain=False):
        """Begins to publish, and waits for nothing."""

    @abc.abstractmethod
    def wait_until_completed(self):
        """Waits for the last acknowledgement of everything published."""

    def payloads(self):
        return [message.payload.decode() for message in self.messages]

    def wait_for(self, expected):
        """Waits for as many messages as expected, and asserts that they are the expected ones in their order."""
        self._compare(expected, self.payloads)

    def wait_for_any_order(self, expected):
        """As `wait_for`, for a sorted list of messages of several publishers, whose mutual order is undefined."""
        self._compare(expected, lambda: sorted(self.payloads()))

    def _compare(self, expected, delivered):
        wait_until(
            lambda: len(self.messages) >= len(expected),
            lambda: f"message {len(self.messages)} of {len(expected)}",
        )
        if delivered() != expected:
            raise AssertionError(f"delivered {shortened(delivered())}, expected {shortened(expected)}")


def shortened(payloads):
    """Payloads as a failure shows them: one of a megabyte says nothing more."""
    return [payload if len(payload) <= 40 else f"{payload[:40]}… ({len(payload)} characters)" for payload in payloads]
