"""Every case over WebSocket, too, and what is hostile about frames and requests, with a healthy pair beside it."""

import random
import unittest

from interop.broker import matrix
from malformed.case import observe
from malformed.healthy import HealthyPair
from malformed.test_malformed import CASES, mutate
from malformed.web_socket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FINAL,
    PING,
    REQUEST,
    TEXT,
    RawWebSocket,
    WebSocketConnection,
    frame,
)
from malformed.wire import PINGREQ, PINGRESP, V5, V311, connect

MUTATIONS = 400
MUTATION_SEED = 2
PROTOCOL_ERROR, UNSUPPORTED_DATA, NOT_UTF8 = 1002, 1003, 1007

# The code that is heard in the close frame, by what was sent in a session.
FRAMES = {
    "a text": (UNSUPPORTED_DATA, frame(FINAL | TEXT, b"text")),
    "no mask": (PROTOCOL_ERROR, frame(FINAL | BINARY, PINGREQ, mask=b"")),
    "reserved bits": (PROTOCOL_ERROR, frame(0xF0 | BINARY, PINGREQ)),
    "a reserved kind of data": (PROTOCOL_ERROR, frame(FINAL | 0x7, PINGREQ)),
    "a reserved kind of control": (PROTOCOL_ERROR, frame(FINAL | 0xB)),
    "a continuation of nothing": (PROTOCOL_ERROR, frame(FINAL | CONTINUATION, PINGREQ)),
    "a message in a message": (PROTOCOL_ERROR, frame(BINARY, PINGREQ) + frame(FINAL | BINARY, PINGREQ)),
    "a fragmented ping": (PROTOCOL_ERROR, frame(PING)),
    "a ping that is too long": (PROTOCOL_ERROR, frame(FINAL | PING, bytes(126))),
    "a length of 64 bits": (PROTOCOL_ERROR, frame(FINAL | BINARY, length=1 << 63)),
    "half a close code": (PROTOCOL_ERROR, frame(FINAL | CLOSE, b"\x03")),
    "a close code that is never sent": (PROTOCOL_ERROR, frame(FINAL | CLOSE, b"\x03\xee")),
    "a close reason that is not UTF-8": (NOT_UTF8, frame(FINAL | CLOSE, b"\x03\xe8\xff")),
    "a close frame": (1001, frame(FINAL | CLOSE, b"\x03\xe9bye")),
    "a close frame without a code": (0, frame(FINAL | CLOSE)),
}


class MalformedWebSocket:
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.pair = HealthyPair(cls.broker, V5)

    @classmethod
    def tearDownClass(cls):
        try:
            cls.pair.finish()
            cls.broker.assert_nothing_is_left("connections", "pending_subscribes", "waiting_letters", "open_sockets")
        finally:
            super().tearDownClass()

    def tearDown(self):
        self.assertTrue(self.broker.is_running(), "the broker ended")
        self.pair.assert_goes_on()

    def test_every_case_in_frames(self):
        """[MQTT-6.0.0-2]: a packet is as wrong in frames as it is elsewhere, and is answered as there."""
        for case in CASES:
            # Deadlines are the same on either way in.
            if not case.slow:
                with self.subTest(case.name):
                    case.run(self.broker, WebSocketConnection)

    def test_hostile_frames(self):
        """[MQTT-6.0.0-1]"""
        for name, (code, hostile) in FRAMES.items():
            for version in (V311, V5):
                with self.subTest(name, version=version), WebSocketConnection(self.broker) as connection:
                    connection.open_session(connect(version))
                    connection.send_frames(hostile + frame(FINAL | BINARY, PINGREQ))
                    self.assertEqual(connection.read_to_close(), code)

    def test_an_endless_frame_of_many_packets(self):
        """A length that no memory holds is legal: what is in the frame counts as it comes."""
        with WebSocketConnection(self.broker) as connection:
            connection.open_session(connect(V311))
            connection.send_frames(frame(FINAL | BINARY, PINGREQ * 1000, length=(1 << 63) - 1))
            for _ in range(1000):
                self.assertEqual(connection.read_frame()[0], PINGRESP)

    def test_mutations_of_correct_frames(self):
        """Whatever comes of them hurts nobody else."""
        rng = random.Random(MUTATION_SEED)
        for _ in range(MUTATIONS):
            version = rng.choice((V311, V5))
            with WebSocketConnection(self.broker) as connection:
                opening = connection.enveloped(connect(version))
                session = connection.enveloped(PINGREQ) + connection.enveloped(rng.randbytes(rng.randrange(40)))
                if rng.random() < 0.5:
                    connection.send_frames(opening + mutate(rng, session))
                else:
                    connection.send_frames(mutate(rng, opening + session))
                connection.half_close()
                observe(connection, version)

    def test_mutations_of_the_request(self):
        """A request that is not granted is answered with a status, or not at all."""
        rng = random.Random(MUTATION_SEED)
        for _ in range(MUTATIONS):
            with RawWebSocket(self.broker) as connection:
                connection.send(mutate(rng, REQUEST))
                connection.half_close()
                answer = bytearray()
                try:
                    while content := connection.socket.recv(65_536):
                        answer += content
                except OSError:
                    # Reset, where the broker had not read all.
                    pass
                self.assertRegex(bytes(answer), rb"\A(HTTP/1\.1 [14]\d\d |\Z)")


matrix(shards=(2,))(MalformedWebSocket)

if __name__ == "__main__":
    unittest.main()
