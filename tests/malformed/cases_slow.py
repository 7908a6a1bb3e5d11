"""Clients that keep the broker waiting: each must meet a deadline. These cases wait beside the others."""

from malformed.case import KEEP_ALIVE_TIMEOUT, SilentClose, opening, v5, v311
from malformed.wire import V5, V311, connect, publish, varint

PAUSE_SECONDS = 0.25


def silence(_connection):
    pass


def half_a_connect(connection):
    connection.send(connect(V5)[:11])


def endless_connect(connection):
    connection.trickle(b"\x10" + varint(60_000) + b"\x00\x04MQTT\x05\x02\x00\x3c" + b"\x80" * 1_000, PAUSE_SECONDS)


def endless_publish(version):
    def script(connection):
        connection.trickle(publish(version, payload=b"x" * 60_000)[:1_000], PAUSE_SECONDS)

    return script


def endless_length(connection):
    connection.send(b"\x30\xff")


CASES = [
    opening("nothing after the connection", V5, "MQTT-3.1.0-1", silence, slow=True),
    opening("half a CONNECT, then silence", V5, "MQTT-3.1.4-1", half_a_connect, slow=True),
    opening("a CONNECT that trickles without end", V5, "MQTT-3.1.4-1", endless_connect, 0x81, SilentClose(), slow=True),
    v311("silence beyond the keep-alive, 3.1.1", "MQTT-3.1.2-24", silence, keep_alive=1, slow=True),
    v5("silence beyond the keep-alive, 5.0", "MQTT-3.1.2-22", silence, KEEP_ALIVE_TIMEOUT, keep_alive=1, slow=True),
    # Bytes of a packet that never ends are no control packet.
    v311("a PUBLISH that trickles without end, 3.1.1", "MQTT-3.1.2-24", endless_publish(V311), keep_alive=1, slow=True),
    v5(
        "a PUBLISH that trickles without end, 5.0",
        "MQTT-3.1.2-22",
        endless_publish(V5),
        KEEP_ALIVE_TIMEOUT,
        keep_alive=1,
        slow=True,
    ),
    v5("half a fixed header, then silence", "MQTT-3.1.2-22", endless_length, KEEP_ALIVE_TIMEOUT, keep_alive=1, slow=True),
]
