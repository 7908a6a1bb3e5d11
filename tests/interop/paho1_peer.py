"""paho-mqtt 1.x, as much software has it still: the same client as in 2.x under other callbacks."""

import paho.mqtt.client as paho

from interop.paho_peer import PahoPeer


class Paho1Peer(PahoPeer):
    """A client of paho 1.x; its callbacks have the properties of 5.0 as a further argument."""

    # paho 1.6.1 reads nothing from a DISCONNECT that has no properties, and waits for the end of the stream.
    tells_of_disconnects = False

    def new_client(self, **options):
        client = paho.Client(**options)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = lambda _client, _data, mid, *_rest: self.acknowledged(mid)
        client.on_unsubscribe = lambda _client, _data, mid, *_rest: self.acknowledged(mid)
        return client

    def _on_connect(self, _client, _data, flags, reason, _properties=None):
        if reason != 0:
            raise AssertionError(f"refused: {reason}")
        self.connected(bool(flags["session present"]))

    def _on_disconnect(self, _client, _data, _reason, _properties=None):
        self.disconnected = True
