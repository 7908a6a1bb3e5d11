"""A raw connection over WebSocket: packets in masked frames, cut anyhow, and whatever a test sends in their place."""

import random
import struct

from malformed.wire import Closed, Connection

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FINAL = 0x80
CUT_SEED = 1

REQUEST = (
    b"GET /mqtt HTTP/1.1\r\nHost: broker.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
)


def frame(first_byte, payload=b"", mask=b"\x5a\x00\xff\x21", length=None):
    """A frame of a client; without `mask` it is not masked, and `length` may be another than the payload's."""
    length = len(payload) if length is None else length
    mask_bit = 0x80 if mask else 0
    if length < 126:
        header = bytes([first_byte, mask_bit | length])
    elif length < 1 << 16:
        header = struct.pack(">BBH", first_byte, mask_bit | 126, length)
    else:
        header = struct.pack(">BBQ", first_byte, mask_bit | 127, length)
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if mask else payload
    return header + mask + masked


class RawWebSocket(Connection):
    """A connection to where WebSockets are served, without one as yet: all that is sent goes over the wire as it is."""

    @staticmethod
    def port_of(broker):
        return broker.web_socket_port


class WebSocketConnection(RawWebSocket):
    """One WebSocket, and the packets that arrive on it."""

    def __init__(self, broker):
        super().__init__(broker)
        self.close_code = None
        self._wire = bytearray()
        self._random = random.Random(CUT_SEED)
        self.socket.sendall(REQUEST)
        while b"\r\n\r\n" not in self._wire:
            content = self.socket.recv(65_536)
            assert content, "the request for a WebSocket was not granted"
            self._wire += content
        head, _, rest = bytes(self._wire).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        self._wire = bytearray(rest)

    def enveloped(self, content):
        """The bytes in one message of several frames, now and then with a ping between them."""
        frames = bytearray()
        opcode, rest = BINARY, content
        while self._random.random() < 0.5:
            at = self._random.randrange(len(rest) + 1)
            frames += frame(opcode, rest[:at])
            opcode, rest = CONTINUATION, rest[at:]
            if self._random.random() < 0.2:
                frames += frame(FINAL | PING, b"between")
        return bytes(frames + frame(FINAL | opcode, rest))

    def send_frames(self, frames):
        """Sends them as they are."""
        try:
            self.socket.sendall(frames)
        except OSError:
            # The broker may close in the middle of what it refuses; reading tells how.
            pass

    def take_in(self, content):
        self._wire += content
        while (found := self._take_wire_frame()) is not None:
            first_byte, payload = found
            assert self.close_code is None, "a frame behind the close frame"
            if first_byte == FINAL | BINARY:
                super().take_in(payload)
            elif first_byte == FINAL | CLOSE:
                self.close_code = struct.unpack_from(">H", payload)[0] if payload else 0
            else:
                assert first_byte == FINAL | PONG, f"a frame with {first_byte:#04x}"

    def _take_wire_frame(self):
        if len(self._wire) < 2:
            return None
        assert self._wire[1] < 0x80, "a masked frame of the broker"
        extended = {126: ">H", 127: ">Q"}.get(self._wire[1], "")
        start = 2 + struct.calcsize(extended)
        if len(self._wire) < start:
            return None
        length = struct.unpack_from(extended, self._wire, 2)[0] if extended else self._wire[1]
        if len(self._wire) < start + length:
            return None
        found = self._wire[0], bytes(self._wire[start : start + length])
        del self._wire[: start + length]
        return found

    def read_to_close(self):
        """The code of the close frame that ends it, 0 for one without, None if there is none."""
        try:
            while True:
                self.read_frame()
        except Closed:
            return self.close_code
