"""aiomqtt, the asyncio client on top of paho-mqtt."""

import asyncio
import socket
import threading

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from interop import event_loop
from interop.broker import PATIENCE_SECONDS, wait_until
from interop.peer import SESSION_EXPIRY_SECONDS, Message, Peer

PROTOCOL_VERSIONS = {"3.1.1": aiomqtt.ProtocolVersion.V311, "5.0": aiomqtt.ProtocolVersion.V5}


class OverheardClient(aiomqtt.Client):
    """aiomqtt keeps to itself what CONNACK and DISCONNECT say: this listens to paho below it."""

    def __init__(self, peer, *arguments, **options):
        self._peer = peer
        super().__init__(*arguments, **options)

    def _on_connect(self, client, userdata, flags, reason_code, properties=None):
        super()._on_connect(client, userdata, flags, reason_code, properties)
        self._peer.connected(flags.session_present)

    def _on_disconnect(self, client, userdata, flags, reason_code, properties=None):
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        self._peer.ended(flags.is_disconnect_packet_from_server)

    def shut_down(self):
        self._client.socket().shutdown(socket.SHUT_RDWR)


class AiomqttPeer(Peer):
    """A client whose connections are `async with` blocks of one `aiomqtt.Client`."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._connack = threading.Event()
        self._session_present = None
        self._publishing = []
        self.client = event_loop.run(self._new_client())

    def connected(self, session_present):
        self._session_present = session_present
        self._connack.set()

    def ended(self, told_by_broker):
        self.was_told_to_leave = told_by_broker
        self.disconnected = True

    def connect(self):
        self._connack.clear()
        event_loop.run(self.client.__aenter__())
        # A later connection of the same client is entered before its CONNACK has come.
        if not self._connack.wait(PATIENCE_SECONDS):
            raise AssertionError("no CONNACK")
        self.disconnected = False
        event_loop.start(self._collect())
        return self._session_present

    def reconnect(self):
        return self.connect()

    def sever(self):
        self.client.shut_down()
        wait_until(lambda: self.disconnected, "the end of the connection")
        event_loop.run(self.client.__aexit__(None, None, None))

    def disconnect(self):
        if not self.disconnected:
            event_loop.run(self.client.__aexit__(None, None, None))

    def subscribe(self, topic_filter, qos=2):
        event_loop.run(self.client.subscribe(topic_filter, qos))

    def unsubscribe(self, topic_filter):
        event_loop.run(self.client.unsubscribe(topic_filter))

    def publish(self, topic, payload, qos=2, retain=False):
        publishing = self.client.publish(topic, payload, qos, retain, timeout=PATIENCE_SECONDS)
        self._publishing.append(event_loop.start(publishing))

    def wait_until_completed(self):
        for publishing in self._publishing:
            publishing.result(PATIENCE_SECONDS)
        self._publishing.clear()

    async def _new_client(self):
        # In a coroutine, because the client looks for the loop that it is made in.
        options = {}
        if self.protocol == "5.0":
            options["clean_start"] = not self.persistent
            options["properties"] = Properties(PacketTypes.CONNECT)
            options["properties"].SessionExpiryInterval = SESSION_EXPIRY_SECONDS if self.persistent else 0
        else:
            options["clean_session"] = not self.persistent
        if self.will is not None:
            options["will"] = aiomqtt.Will(self.will.topic, self.will.payload, qos=2, retain=self.will.retain)
        return OverheardClient(
            self,
            self.broker.host,
            self.broker.port,
            identifier=self.client_id,
            protocol=PROTOCOL_VERSIONS[self.protocol],
            **options,
        )

    async def _collect(self):
        try:
            async for message in self.client.messages:
                self.messages.append(Message(str(message.topic), message.payload, message.qos, message.retain))
        except aiomqtt.MqttError:
            # The connection has ended; what it had brought was handed out before.
            pass
