"""gmqtt, an asyncio client with a protocol implementation of its own."""

import gmqtt
from gmqtt.mqtt.constants import MQTTv50, MQTTv311
from gmqtt.storage import PersistentStorage

from interop import event_loop
from interop.broker import PATIENCE_SECONDS, wait_until
from interop.peer import SESSION_EXPIRY_SECONDS, Message, Peer

PROTOCOL_VERSIONS = {"3.1.1": MQTTv311, "5.0": MQTTv50}


class GmqttPeer(Peer):
    """A client that would reconnect by itself, and does not get round to it."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        # What was published and is not complete.
        self._incomplete = PersistentStorage()
        self._session_present = None
        self._acknowledged = set()
        self.client = event_loop.run(self._new_client())

    def connect(self):
        version = PROTOCOL_VERSIONS[self.protocol]
        event_loop.run(self.client.connect(self.broker.host, self.broker.port, version=version))
        self.disconnected = False
        return self._session_present

    def reconnect(self):
        return self.connect()

    def sever(self):
        event_loop.run(self._abort())

    def disconnect(self):
        if not self.disconnected:
            event_loop.run(self.client.disconnect())

    def subscribe(self, topic_filter, qos=2):
        mid = event_loop.run(self._call(self.client.subscribe, topic_filter, qos))
        wait_until(lambda: mid in self._acknowledged, f"the SUBACK of {topic_filter}")

    def unsubscribe(self, topic_filter):
        mid = event_loop.run(self._call(self.client.unsubscribe, topic_filter))
        wait_until(lambda: mid in self._acknowledged, f"the UNSUBACK of {topic_filter}")

    def publish(self, topic, payload, qos=2, retain=False):
        event_loop.run(self._call(self.client.publish, topic, payload, qos, retain))

    def wait_until_completed(self):
        wait_until(
            lambda: self._incomplete.is_empty,
            lambda: f"completion of packet ids {[mid for mid, _packet in self._incomplete.get_all()]}",
        )

    async def _new_client(self):
        will = self.will and gmqtt.Message(self.will.topic, self.will.payload, qos=2, retain=self.will.retain)
        properties = {}
        if self.protocol == "5.0":
            properties["session_expiry_interval"] = SESSION_EXPIRY_SECONDS if self.persistent else 0
        client = gmqtt.Client(
            self.client_id,
            clean_session=not self.persistent,
            will_message=will,
            persistent_storage=self._incomplete,
            **properties,
        )
        # Longer than a test lasts.
        client.reconnect_delay = 2 * PATIENCE_SECONDS
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = lambda _client, mid, _qos, _properties: self._acknowledged.add(mid)
        client.on_unsubscribe = lambda _client, mid, _qos: self._acknowledged.add(mid)
        return client

    async def _abort(self):
        self.client._connection._transport.abort()
        # Sends nothing any more: it keeps the client from making the next connection itself.
        await self.client.disconnect()

    async def _call(self, function, *arguments):
        # On the loop's thread, because the client is not safe to be called from others.
        return function(*arguments)

    def _on_connect(self, _client, session_present, _reason, _properties):
        self._session_present = bool(session_present)

    def _on_disconnect(self, _client, packet):
        # Without bytes, it is gmqtt that says so at the end of the stream.
        self.was_told_to_leave = self.was_told_to_leave or len(packet) > 0
        self.disconnected = True

    def _on_message(self, _client, topic, payload, qos, properties):
        self.messages.append(Message(topic, payload, qos, bool(properties["retain"])))
