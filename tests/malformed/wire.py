"""Packets as bytes, right or deliberately wrong, and a raw connection that sends and reads them.

The builders make a correct packet by default; every part that a test wants wrong can be given. They share no code
with the broker, so that an error in its codec cannot hide here. Protocol versions are the level bytes, 4 and 5.
"""

import itertools
import socket
import struct
import time

V311, V5 = 4, 5

CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 0x20, 0x30, 0x40, 0x50, 0x62, 0x70
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 0x82, 0x90, 0xA2, 0xB0
DISCONNECT, AUTH = 0xE0, 0xF0
PINGREQ = b"\xc0\x00"
PINGRESP = 0xD0

RECEIVE_MAXIMUM, MAXIMUM_PACKET_SIZE, TOPIC_ALIAS_MAXIMUM = 0x21, 0x27, 0x22

# Bounds a hang; the slowest legitimate answer is the broker's own deadline for CONNECT.
PATIENCE_SECONDS = 60

_client_numbers = itertools.count()


def varint(value):
    encoded = bytearray()
    while True:
        value, digit = divmod(value, 128)
        encoded.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(encoded)


def string(content):
    return struct.pack(">H", len(content)) + content


def packet(first_byte, body=b""):
    return bytes([first_byte]) + varint(len(body)) + body


def properties(version, block=b""):
    return b"" if version == V311 else varint(len(block)) + block


def will(topic=b"hostile/will", payload=b"will", block=b""):
    """A will for `connect`: topic, payload and property block, each as raw content."""
    return topic, payload, block


def connect(
    version,
    client_id=None,
    clean=True,
    flags=0,
    will=None,
    username=None,
    password=None,
    keep_alive=60,
    block=b"",
    name=b"MQTT",
    level=None,
    tail=b"",
):
    """A CONNECT; `flags` is added to the flags that follow from the other parts, `tail` to the end of the payload."""
    if client_id is None:
        client_id = f"hostile-{next(_client_numbers)}".encode()
    flags |= 0x02 if clean else 0
    payload = string(client_id)
    if will is not None:
        topic, message, will_block = will
        flags |= 0x04
        payload += properties(version, will_block) + string(topic) + string(message)
    if username is not None:
        flags |= 0x80
        payload += string(username)
    if password is not None:
        flags |= 0x40
        payload += string(password)
    level = version if level is None else level
    header = string(name) + bytes([level, flags]) + struct.pack(">H", keep_alive) + properties(version, block)
    return packet(0x10, header + payload + tail)


def publish(version, topic=b"hostile/topic", qos=0, packet_id=None, block=b"", payload=b"x", flags=0):
    body = string(topic)
    if packet_id is not None:
        body += struct.pack(">H", packet_id)
    return packet(PUBLISH | qos << 1 | flags, body + properties(version, block) + payload)


def acknowledge(first_byte, packet_id, tail=b""):
    return packet(first_byte, struct.pack(">H", packet_id) + tail)


def subscribe(version, topic_filter=b"hostile/filter", options=0, packet_id=1, block=b"", first_byte=SUBSCRIBE):
    body = struct.pack(">H", packet_id) + properties(version, block)
    return packet(first_byte, body + string(topic_filter) + bytes([options]))


def unsubscribe(version, topic_filter=b"hostile/filter", packet_id=1, block=b"", first_byte=UNSUBSCRIBE):
    body = struct.pack(">H", packet_id) + properties(version, block)
    return packet(first_byte, body + string(topic_filter))


def reason(version, frame):
    """The reason code of an acknowledgement, of the first filter of a SUBACK or UNSUBACK, or of a DISCONNECT."""
    first_byte, body = frame
    kind = first_byte & 0xF0
    if kind == CONNACK:
        return body[1]
    if kind == DISCONNECT:
        return body[0] if body else 0
    if kind in (SUBACK, UNSUBACK):
        start = 2 if version == V311 else 3 + body[2]
        return body[start] if len(body) > start else 0
    return body[2] if len(body) > 2 else 0


class Closed(Exception):
    """The broker ended the connection, in whatever way TCP has for it."""


class Connection:
    """One TCP connection, and the frames that arrive on it."""

    def __init__(self, broker):
        self.socket = socket.create_connection((broker.host, self.port_of(broker)), PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connack = None
        self._received = bytearray()

    @staticmethod
    def port_of(broker):
        return broker.port

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.socket.close()

    def open_session(self, connect_packet):
        """Sends a correct CONNECT and reads the CONNACK that accepts it."""
        self.send(connect_packet)
        frame = self.read_frame()
        assert frame[0] == CONNACK and frame[1][1] == 0, f"a correct CONNECT was refused: {describe(frame)}"
        self.connack = frame[1]

    def announced(self, identifier, default):
        """An integer property of the broker's 5.0 CONNACK."""
        sizes = {0x11: 4, 0x13: 2, RECEIVE_MAXIMUM: 2, TOPIC_ALIAS_MAXIMUM: 2, 0x24: 1, 0x25: 1, MAXIMUM_PACKET_SIZE: 4}
        sizes |= {0x28: 1, 0x29: 1, 0x2A: 1}
        at = 3
        while at < len(self.connack):
            found, at = self.connack[at], at + 1
            size = sizes.get(found)
            if size is None:
                size = 2 + struct.unpack_from(">H", self.connack, at)[0]
            elif found == identifier:
                return int.from_bytes(self.connack[at : at + size], "big")
            at += size
        return default

    def send(self, content):
        try:
            self.socket.sendall(self.enveloped(content))
        except OSError:
            # The broker may close in the middle of what it refuses; reading tells how.
            pass

    def enveloped(self, content):
        """What goes over the wire for these bytes of packets."""
        return content

    def trickle(self, content, pause_seconds):
        """Sends byte by byte until the broker closes, or all is sent."""
        for byte in content:
            try:
                self.socket.sendall(self.enveloped(bytes([byte])))
            except OSError:
                return
            self.socket.settimeout(pause_seconds)
            try:
                received = self.socket.recv(65_536)
            except TimeoutError:
                continue
            except OSError:
                return
            self.take_in(received)
            if not received:
                return

    def half_close(self):
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            # As in `send`: the broker was first.
            pass

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def read_frame(self):
        """The next frame, as its first byte and its body; raises Closed at the end."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (frame := self.take_frame()) is None:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                content = self.socket.recv(65_536)
            except TimeoutError:
                raise AssertionError("the broker neither answered nor closed") from None
            except OSError:
                raise Closed from None
            if not content:
                raise Closed
            self.take_in(content)
        return frame

    def take_frame(self):
        """A frame from what has arrived, or None."""
        length, shift = 0, 0
        for at in range(1, len(self._received)):
            length |= (self._received[at] & 0x7F) << shift
            shift += 7
            if self._received[at] < 0x80:
                end = at + 1 + length
                if len(self._received) < end:
                    return None
                frame = self._received[0], bytes(self._received[at + 1 : end])
                del self._received[:end]
                return frame
        return None

    def receive(self):
        """Adds what the socket holds, for callers that wait with `select` and then take frames."""
        content = self.socket.recv(65_536)
        if not content:
            raise Closed
        self.take_in(content)

    def take_in(self, content):
        """Adds what has arrived to the packets that are to be read."""
        self._received += content

    def await_frame(self, kind):
        """Reads until a frame of this kind, and returns its body."""
        while True:
            first_byte, body = self.read_frame()
            if first_byte & 0xF0 == kind & 0xF0:
                return body


def describe(frame):
    first_byte, body = frame
    return f"{first_byte:#04x} {body[:32].hex(' ')}"
