"""MQTT 3.1.1 over a socket, as far as benches speak it themselves: what a client needs that does something unusual."""

import socket
import struct

import common

# The first bytes of packets.
CONNECT, PUBLISH, PUBACK, SUBSCRIBE, PINGREQ, DISCONNECT = 0x10, 0x30, 0x40, 0x82, 0xC0, 0xE0

# How many bytes the answers have.
CONNACK_BYTES, PUBACK_BYTES, SUBACK_BYTES, PINGRESP_BYTES = 4, 4, 5, 2


def connect(port, client_id, clean_session=True, receive_buffer_bytes=None):
    """A client that has its CONNACK."""
    client = socket.socket()
    client.settimeout(common.PATIENCE_SECONDS)
    if receive_buffer_bytes is not None:
        # Before the window is agreed on.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    client.connect(("127.0.0.1", port))
    flags = bytes([2 if clean_session else 0])
    client.sendall(packet(CONNECT, string(b"MQTT") + b"\x04" + flags + b"\x00\x00" + string(client_id)))
    receive(client, CONNACK_BYTES)
    return client


def subscribe(client, *filters, qos=0):
    """Subscribes, without waiting for SUBACK."""
    client.sendall(packet(SUBSCRIBE, b"\x00\x01" + b"".join(string(text) + bytes([qos]) for text in filters)))


def publish(topic, payload, qos=0, packet_id=0, retain=False):
    """PUBLISH as bytes."""
    numbered = struct.pack(">H", packet_id) if qos else b""
    return packet(PUBLISH | qos << 1 | retain, string(topic) + numbered + payload)


def receive(client, count):
    """Takes so many bytes."""
    return b"".join(pieces(client, count))


def skip(client, count):
    """Takes so many bytes, whatever they say."""
    for _ in pieces(client, count):
        pass


def pieces(client, count):
    while count:
        piece = client.recv(min(count, 1 << 20))
        if not piece:
            raise common.Failure(f"the broker has closed a connection, {count} bytes too early")
        count -= len(piece)
        yield piece


def packet(first_byte, body):
    length, rest = b"", len(body)
    while rest >= 128:
        length, rest = length + bytes([rest % 128 | 128]), rest // 128
    return bytes([first_byte]) + length + bytes([rest]) + body


def string(text):
    return struct.pack(">H", len(text)) + text
