"""The fixed header, the remaining length, and packets that do not fit in it."""

from malformed.case import (
    EITHER_ERROR,
    MALFORMED,
    PACKET_TOO_LARGE,
    Alive,
    SilentClose,
    Unseen,
    both,
    opening,
    openings,
    v5,
    v311,
)
from malformed.wire import (
    CONNACK,
    MAXIMUM_PACKET_SIZE,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    V5,
    V311,
    acknowledge,
    connect,
    packet,
    publish,
    string,
    subscribe,
    unsubscribe,
    varint,
)

FLAGS = ("MQTT-2.2.2-2", "MQTT-2.1.3-1")
LENGTH = ("3.1.1 section 2.2.3", "5.0 section 2.1.4")
LARGEST_LENGTH = 268_435_455


def over_the_announced_size(connection):
    """A PUBLISH whose header declares one byte more than the broker takes; nothing follows the header."""
    size = connection.announced(MAXIMUM_PACKET_SIZE, LARGEST_LENGTH)
    connection.send(b"\x30" + varint(min(size + 1, LARGEST_LENGTH)))


def byte_by_byte(version):
    def script(connection):
        connection.trickle(connect(version) + subscribe(version) + PINGREQ, pause_seconds=0.001)

    return script


def answered_after_half_close(version):
    def script(connection):
        connection.send(connect(version) + subscribe(version) + PINGREQ)
        connection.half_close()

    return script


def left_in_the_middle(content, how):
    def script(connection):
        connection.send(content)
        how(connection)

    return script


def half_close(connection):
    connection.half_close()


def reset(connection):
    connection.reset()


CASES = [
    # Reserved flags [MQTT-2.1.3-1].
    *both("PUBACK with flags", FLAGS, lambda _: acknowledge(PUBACK | 1, 1), MALFORMED),
    *both("PUBREC with flags", FLAGS, lambda _: acknowledge(PUBREC | 2, 1), MALFORMED),
    *both("PUBREL with flags 0", ("MQTT-3.6.1-1", "MQTT-3.6.1-1"), lambda _: acknowledge(0x60, 1), MALFORMED),
    *both("PUBREL with flags 3", ("MQTT-3.6.1-1", "MQTT-3.6.1-1"), lambda _: acknowledge(0x63, 1), MALFORMED),
    *both("PUBCOMP with flags", FLAGS, lambda _: acknowledge(PUBCOMP | 8, 1), MALFORMED),
    *both(
        "SUBSCRIBE with flags 0",
        ("MQTT-3.8.1-1", "MQTT-3.8.1-1"),
        lambda version: subscribe(version, first_byte=0x80),
        MALFORMED,
    ),
    *both(
        "UNSUBSCRIBE with flags 0",
        ("MQTT-3.10.1-1", "MQTT-3.10.1-1"),
        lambda version: unsubscribe(version, first_byte=0xA0),
        MALFORMED,
    ),
    *both("PINGREQ with flags", FLAGS, lambda _: b"\xc1\x00", MALFORMED),
    *both("DISCONNECT with flags", ("MQTT-3.14.1-1", "MQTT-3.14.1-1"), lambda _: b"\xe1\x00", MALFORMED),
    v5("AUTH with flags", "MQTT-3.15.1-1", b"\xf1\x00", MALFORMED),
    *openings(
        "CONNECT with flags in the fixed header",
        FLAGS,
        lambda version: b"\x11" + connect(version)[1:],
        MALFORMED,
        SilentClose(),
    ),
    *both("packet type 0", FLAGS, lambda _: b"\x00\x00", *EITHER_ERROR),
    v311("packet type 15, 3.1.1", "3.1.1 section 2.2.1", b"\xf0\x00"),
    # Remaining length.
    *both("remaining length of five bytes", LENGTH, lambda _: b"\x30\xff\xff\xff\xff\x01", MALFORMED),
    *both("remaining length that never ends", LENGTH, lambda _: b"\xc0" + b"\xff" * 64, MALFORMED),
    v5("remaining length longer than it need be, 5.0", "MQTT-1.5.5-1", b"\xc0\x80\x00", MALFORMED),
    # 3.1.1 asks for no shortest form: both are right.
    v311(
        "remaining length longer than it need be, 3.1.1",
        "3.1.1 section 2.2.3",
        b"\xc0\x80\x00",
        SilentClose(),
        Alive(),
    ),
    v5("packet over the announced maximum", "MQTT-3.2.2-15", over_the_announced_size, PACKET_TOO_LARGE),
    *both(
        "largest remaining length there is",
        ("3.1.1 section 2.2.3", "MQTT-3.2.2-15"),
        lambda _: b"\x30" + varint(LARGEST_LENGTH),
        PACKET_TOO_LARGE,
    ),
    opening(
        "largest remaining length before CONNECT",
        V5,
        "5.0 section 2.1.4",
        b"\x10" + varint(LARGEST_LENGTH),
        PACKET_TOO_LARGE,
        SilentClose(),
    ),
    opening("remaining length of five bytes before CONNECT", V5, "5.0 section 1.5.5", b"\x10\xff\xff\xff\xff\x01"),
    *both("PINGREQ with a body", LENGTH, lambda _: packet(0xC0, b"\x00"), MALFORMED),
    *both("PUBLISH without a topic", LENGTH, lambda _: packet(0x30), MALFORMED),
    *both("PUBLISH with half a topic length", LENGTH, lambda _: packet(0x30, b"\x00"), MALFORMED),
    *both("PUBLISH with a topic beyond its end", LENGTH, lambda _: packet(0x30, b"\x00\x10abc"), MALFORMED),
    *both(
        "PUBLISH that ends within its packet id", LENGTH, lambda _: packet(0x34, string(b"topic") + b"\x00"), MALFORMED
    ),
    *both("PUBACK without a packet id", LENGTH, lambda _: packet(PUBACK), MALFORMED),
    *both("PUBREC with half a packet id", LENGTH, lambda _: packet(PUBREC, b"\x01"), MALFORMED),
    *both("PUBREL without a packet id", LENGTH, lambda _: packet(PUBREL), MALFORMED),
    *both("PUBCOMP with half a packet id", LENGTH, lambda _: packet(PUBCOMP, b"\x01"), MALFORMED),
    v311("PUBACK longer than two bytes, 3.1.1", "3.1.1 section 3.4.1", acknowledge(PUBACK, 1, b"\x00")),
    v311("PUBREL longer than two bytes, 3.1.1", "3.1.1 section 3.6.1", acknowledge(PUBREL, 1, b"\x00")),
    *both("SUBSCRIBE without a packet id", LENGTH, lambda _: packet(SUBSCRIBE), MALFORMED),
    *both(
        "SUBSCRIBE with a filter beyond its end",
        LENGTH,
        lambda version: packet(SUBSCRIBE, b"\x00\x01" + (b"" if version == V311 else b"\x00") + b"\x00\x09abc"),
        MALFORMED,
    ),
    *both(
        "SUBSCRIBE whose last filter lacks its options",
        LENGTH,
        lambda version: packet(SUBSCRIBE, b"\x00\x01" + (b"" if version == V311 else b"\x00") + string(b"abc")),
        MALFORMED,
    ),
    *both(
        "UNSUBSCRIBE with a filter beyond its end",
        LENGTH,
        lambda version: packet(0xA2, b"\x00\x01" + (b"" if version == V311 else b"\x00") + b"\x00\x09abc"),
        MALFORMED,
    ),
    v311("DISCONNECT with a body, 3.1.1", "3.1.1 section 3.14.1", b"\xe0\x01\x00"),
    # Not MQTT at all, and not CONNECT first [MQTT-3.1.0-1].
    opening("TLS hello on the plain port", V5, "MQTT-3.1.0-1", bytes.fromhex("1603010200010001fc0303") + b"\x5a" * 200),
    opening("HTTP request on the plain port", V5, "MQTT-3.1.0-1", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    opening("PROXY header on the plain port", V5, "MQTT-3.1.0-1", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"),
    opening("zeros", V5, "MQTT-3.1.0-1", b"\x00" * 512),
    opening("ones", V5, "MQTT-3.1.0-1", b"\xff" * 512),
    opening("PUBLISH before CONNECT", V311, "MQTT-3.1.0-1", publish(V311)),
    opening("SUBSCRIBE before CONNECT", V311, "MQTT-3.1.0-1", subscribe(V311)),
    opening("PINGREQ before CONNECT", V311, "MQTT-3.1.0-1", PINGREQ),
    opening("PUBREL before CONNECT", V311, "MQTT-3.1.0-1", acknowledge(PUBREL, 1)),
    opening("DISCONNECT before CONNECT", V5, "MQTT-3.1.0-1", b"\xe0\x00"),
    opening("AUTH before CONNECT", V5, "MQTT-3.1.0-1", b"\xf0\x00"),
    opening("CONNACK before CONNECT", V5, "MQTT-3.1.0-1", b"\x20\x03\x00\x00\x00"),
    # Left in the middle of a packet.
    *(
        opening(
            f"{what} in the middle of {where}",
            V311,
            "MQTT-4.13.1-1",
            left_in_the_middle(content, how),
            Unseen() if how is reset else SilentClose(),
            *([Alive(CONNACK)] if how is half_close else []),
        )
        for what, how in (("end", half_close), ("reset", reset))
        for where, content in (("a fixed header", b"\x10"), ("CONNECT", connect(V311)[:9]), ("nothing", b""))
    ),
    *(
        v311(
            f"{what} in the middle of {where}, 3.1.1",
            "MQTT-4.8.0-1",
            left_in_the_middle(content, how),
            Unseen() if how is reset else SilentClose(),
        )
        for what, how in (("end", half_close), ("reset", reset))
        for where, content in (
            ("a PUBLISH header", b"\x34\x80"),
            ("a PUBLISH topic", publish(V311, qos=2, packet_id=1)[:6]),
            ("a PUBLISH payload", publish(V311, qos=2, packet_id=1, payload=b"x" * 5_000)[:3_000]),
            ("a PUBREL", acknowledge(PUBREL, 1)[:3]),
            ("a SUBSCRIBE", subscribe(V311)[:8]),
        )
    ),
    # Legal, however it is cut.
    opening("one byte at a time, 3.1.1", V311, "3.1.1 section 4.2", byte_by_byte(V311), Alive(SUBACK)),
    opening("one byte at a time, 5.0", V5, "5.0 section 4.2", byte_by_byte(V5), Alive(SUBACK)),
    opening("half-closed after its requests, 3.1.1", V311, "3.1.1 section 4.2", answered_after_half_close(V311), Alive(SUBACK)),
    opening("half-closed after its requests, 5.0", V5, "5.0 section 4.2", answered_after_half_close(V5), Alive(SUBACK)),
]
