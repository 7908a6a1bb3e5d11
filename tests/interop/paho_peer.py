"""paho-mqtt with its 2.x callbacks."""

import os
import socket
import threading

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from interop.broker import PATIENCE_SECONDS, wait_until
from interop.peer import AUTHORITY_VARIABLE, SESSION_EXPIRY_SECONDS, Peer

PROTOCOL_VERSIONS = {"3.1.1": paho.MQTTv311, "5.0": paho.MQTTv5}
TRANSPORTS = {"tcp": "tcp", "tls": "tcp", "ws": "websockets"}


class PahoPeer(Peer):
    """A client whose network thread is paho's own."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.published = []
        self._connack = threading.Event()
        self._session_present = None
        self._acknowledged = set()
        clean = {} if self.protocol == "5.0" else {"clean_session": not self.persistent}
        self.client = self.new_client(
            client_id=self.client_id,
            protocol=PROTOCOL_VERSIONS[self.protocol],
            transport=TRANSPORTS[self.broker.transport],
            reconnect_on_failure=False,
            **clean,
        )
        if self.broker.transport == "tls":
            self.client.tls_set(os.environ[AUTHORITY_VARIABLE])
        if self.will is not None:
            self.client.will_set(self.will.topic, self.will.payload, qos=2, retain=self.will.retain)
        self.client.on_message = lambda _client, _data, message: self.messages.append(message)

    def new_client(self, **options):
        """The library's client, with its callbacks: what changed from paho 1.x to 2.x."""
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, **options)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = lambda _client, _data, mid, _codes, _properties: self.acknowledged(mid)
        client.on_unsubscribe = lambda _client, _data, mid, _codes, _properties: self.acknowledged(mid)
        return client

    def connected(self, session_present):
        self._session_present = session_present
        self._connack.set()

    def acknowledged(self, mid):
        self._acknowledged.add(mid)

    def connect(self):
        options = {}
        if self.protocol == "5.0":
            options["clean_start"] = not self.persistent
            options["properties"] = Properties(PacketTypes.CONNECT)
            options["properties"].SessionExpiryInterval = SESSION_EXPIRY_SECONDS if self.persistent else 0
        self._connack.clear()
        self.client.connect(self.broker.host, self.broker.port, **options)
        return self._run()

    def reconnect(self):
        self._connack.clear()
        self.client.reconnect()
        return self._run()

    def sever(self):
        connection = self.client.socket()
        if connection is not None:
            # A WebSocket has one below it.
            getattr(connection, "_socket", connection).shutdown(socket.SHUT_RDWR)
        # paho's thread ends at the end of the stream, since it may not reconnect by itself.
        self.client.loop_stop()

    def disconnect(self):
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
        wait_until(lambda: all(message.is_published() for message in self.published), self._what_is_incomplete)

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
        self.connected(flags.session_present)

    def _on_disconnect(self, _client, _data, flags, _reason, _properties):
        self.disconnected = True
        # The reason itself is no use: paho 2.1.0 reads it only from a DISCONNECT that has properties.
        self.was_told_to_leave = flags.is_disconnect_packet_from_server
