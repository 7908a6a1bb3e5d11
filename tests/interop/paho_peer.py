"""A paho-mqtt client that tests can break, resume and question."""

import dataclasses
import socket
import threading

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from interop.broker import PATIENCE_SECONDS, wait_until

PROTOCOL_VERSIONS = {"3.1.1": MQTTProtocolVersion.MQTTv311, "5.0": MQTTProtocolVersion.MQTTv5}
SESSION_EXPIRY_SECONDS = 3600


@dataclasses.dataclass
class Will:
    topic: str
    payload: str
    retain: bool = False


class PahoPeer:
    """One client id and its client-side session state, over as many connections as the test makes."""

    def __init__(self, broker, protocol, client_id, persistent=False, will=None):
        self.broker = broker
        self.protocol = protocol
        self.messages = []
        self.published = []
        self.disconnected = False
        self.was_told_to_leave = False
        self._persistent = persistent
        self._connack = threading.Event()
        self._session_present = None
        self._acknowledged = set()
        clean = {} if protocol == "5.0" else {"clean_session": not persistent}
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{client_id}-{protocol}",
            protocol=PROTOCOL_VERSIONS[protocol],
            reconnect_on_failure=False,
            **clean,
        )
        if will is not None:
            self.client.will_set(will.topic, will.payload, qos=2, retain=will.retain)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = lambda _client, _data, message: self.messages.append(message)
        self.client.on_subscribe = lambda _client, _data, mid, _codes, _properties: self._acknowledged.add(mid)
        self.client.on_unsubscribe = lambda _client, _data, mid, _codes, _properties: self._acknowledged.add(mid)

    def connect(self):
        """Connects for the first time; says whether the broker had a session."""
        options = {}
        if self.protocol == "5.0":
            options["clean_start"] = not self._persistent
            options["properties"] = Properties(PacketTypes.CONNECT)
            options["properties"].SessionExpiryInterval = SESSION_EXPIRY_SECONDS if self._persistent else 0
        self._connack.clear()
        self.client.connect(self.broker.host, self.broker.port, **options)
        return self._run()

    def reconnect(self):
        """Connects again with the same session; says whether the broker still had it."""
        self._connack.clear()
        self.client.reconnect()
        return self._run()

    def sever(self):
        """Breaks the connection where it stands, without a DISCONNECT."""
        connection = self.client.socket()
        if connection is not None:
            connection.shutdown(socket.SHUT_RDWR)
        # paho's thread ends at the end of the stream, since it may not reconnect by itself.
        self.client.loop_stop()

    def disconnect(self):
        self.client.disconnect()
        self.client.loop_stop()

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def subscribe(self, topic_filter, qos=2):
        _result, mid = self.client.subscribe(topic_filter, qos)
        wait_until(lambda: mid in self._acknowledged, f"the SUBACK of {topic_filter}")

    def unsubscribe(self, topic_filter):
        _result, mid = self.client.unsubscribe(topic_filter)
        wait_until(lambda: mid in self._acknowledged, f"the UNSUBACK of {topic_filter}")

    def publish(self, topic, payload, qos=2, retain=False):
        self.published.append(self.client.publish(topic, payload, qos, retain))

    def wait_until_completed(self):
        """Waits for the last acknowledgement of everything published."""
        wait_until(lambda: all(message.is_published() for message in self.published), self._what_is_incomplete)

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
            raise AssertionError(f"delivered {delivered()}, expected {expected}")

    def _run(self):
        self.client.loop_start()
        if not self._connack.wait(PATIENCE_SECONDS):
            raise AssertionError("no CONNACK")
        self.disconnected = False
        return self._session_present

    def _what_is_incomplete(self):
        numbers = [number for number, message in enumerate(self.published) if not message.is_published()]
        return f"completion of published messages {numbers}"

    def _on_connect(self, _client, _data, flags, reason, _properties):
        if reason.is_failure:
            raise AssertionError(f"refused: {reason}")
        self._session_present = flags.session_present
        self._connack.set()

    def _on_disconnect(self, _client, _data, flags, _reason, _properties):
        self.disconnected = True
        # The reason itself is no use: paho 2.1.0 reads it only from a DISCONNECT that has properties.
        self.was_told_to_leave = flags.is_disconnect_packet_from_server
