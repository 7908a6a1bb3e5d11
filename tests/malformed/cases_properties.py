"""5.0 properties of PUBLISH, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT and the acknowledgements (those of CONNECT stand with it)."""

from malformed.case import (
    EITHER_ERROR,
    MALFORMED,
    PROTOCOL_ERROR,
    TOPIC_ALIAS_INVALID,
    TOPIC_NAME_INVALID,
    Alive,
    SilentClose,
    v5,
)
from malformed.wire import (
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    SUBACK,
    TOPIC_ALIAS_MAXIMUM,
    V5,
    acknowledge,
    packet,
    publish,
    string,
    subscribe,
    unsubscribe,
    varint,
)


def alias_above_the_maximum(connection):
    maximum = connection.announced(TOPIC_ALIAS_MAXIMUM, 0)
    connection.send(publish(V5, block=b"\x23" + (maximum + 1).to_bytes(2, "big")))


def alias_of_an_earlier_topic_only(connection):
    connection.send(publish(V5, block=b"\x23\x00\x01"))
    connection.send(publish(V5, topic=b"", block=b"\x23\x00\x01", qos=1, packet_id=1) + b"\xc0\x00")


RESPONSE_TOPIC = "08"
PUBLISH_BLOCKS = (
    ("unknown property", "5.0 section 2.2.2.2", "7f00", (MALFORMED,)),
    ("property 0", "5.0 section 2.2.2.2", "00", (MALFORMED,)),
    ("property that belongs to CONNECT", "5.0 section 2.2.2.2", "1100000001", EITHER_ERROR),
    ("property that belongs to CONNACK", "5.0 section 2.2.2.2", "240001", EITHER_ERROR),
    ("reason string", "5.0 section 2.2.2.2", "1f000161", EITHER_ERROR),
    ("property id longer than it need be", "MQTT-1.5.5-1", "810001", (MALFORMED,)),
    ("property cut short", "5.0 section 2.2.2.1", "020000", (MALFORMED,)),
    ("property without its value", "5.0 section 2.2.2.1", "01", (MALFORMED,)),
    ("user property without its value", "MQTT-1.5.7-1", "26000161", (MALFORMED,)),
    ("user property beyond the properties", "MQTT-1.5.7-1", "2600016100ff61", (MALFORMED,)),
    ("user property with U+0000", "MQTT-1.5.4-2", "2600010000" + "0161", (MALFORMED,)),
    ("payload format indicator 2", "5.0 section 3.3.2.3.2", "0102", EITHER_ERROR),
    ("payload format indicator twice", "5.0 section 3.3.2.3.2", "0101" * 2, (PROTOCOL_ERROR,)),
    ("message expiry interval twice", "5.0 section 3.3.2.3.3", "0200000001" * 2, (PROTOCOL_ERROR,)),
    ("topic alias 0", "MQTT-3.3.2-8", "230000", (TOPIC_ALIAS_INVALID,)),
    ("topic alias twice", "5.0 section 3.3.2.3.4", "230001" * 2, (PROTOCOL_ERROR,)),
    ("response topic with a wildcard", "MQTT-3.3.2-14", RESPONSE_TOPIC + "0003612f23", (*EITHER_ERROR, TOPIC_NAME_INVALID)),
    ("empty response topic", "MQTT-4.7.3-1", RESPONSE_TOPIC + "0000", (*EITHER_ERROR, TOPIC_NAME_INVALID)),
    ("response topic that is not UTF-8", "MQTT-3.3.2-13", RESPONSE_TOPIC + "0001ff", (MALFORMED,)),
    ("response topic twice", "5.0 section 3.3.2.3.5", (RESPONSE_TOPIC + "000161") * 2, (PROTOCOL_ERROR,)),
    ("correlation data twice", "5.0 section 3.3.2.3.6", "090000" * 2, (PROTOCOL_ERROR,)),
    ("content type twice", "5.0 section 3.3.2.3.9", "03000161" * 2, (PROTOCOL_ERROR,)),
    ("content type that is not UTF-8", "MQTT-3.3.2-19", "030001ff", (MALFORMED,)),
    ("subscription identifier from a client", "MQTT-3.3.4-6", "0b01", (PROTOCOL_ERROR,)),
    ("subscription identifier 0 from a client", "5.0 section 3.3.2.3.8", "0b00", EITHER_ERROR),
)

LEGAL_PUBLISH_BLOCKS = (
    ("correlation data that is not UTF-8", "5.0 section 3.3.2.3.6", "090003ff00fe"),
    ("the same user property twice", "5.0 section 3.3.2.3.7", "26000161000162" * 2),
    ("message expiry interval 0", "5.0 section 3.3.2.3.3", "0200000000"),
    ("properties in any order", "5.0 section 2.2.2.2", "03000161" + "26000161000162" + "0100" + "0200000009"),
)

SUBSCRIBE_BLOCKS = (
    ("subscription identifier 0", "5.0 section 3.8.2.1.2", "0b00", (PROTOCOL_ERROR,)),
    ("subscription identifier twice", "5.0 section 3.8.2.1.2", "0b010b02", (PROTOCOL_ERROR,)),
    ("subscription identifier of five bytes", "MQTT-1.5.5-1", "0bffffffff01", (MALFORMED,)),
    ("subscription identifier longer than it need be", "MQTT-1.5.5-1", "0b8100", (MALFORMED,)),
    ("unknown property", "5.0 section 2.2.2.2", "7f00", (MALFORMED,)),
    ("property that belongs to PUBLISH", "5.0 section 2.2.2.2", "230001", EITHER_ERROR),
)

CASES = [
    *(
        v5(f"PUBLISH: {name}", statement, publish(V5, block=bytes.fromhex(block)), *codes)
        for name, statement, block, codes in PUBLISH_BLOCKS
    ),
    v5("PUBLISH: topic alias above the maximum", "MQTT-3.3.2-9", alias_above_the_maximum, TOPIC_ALIAS_INVALID),
    v5(
        "PUBLISH: topic alias never set",
        "5.0 section 3.3.2.3.4",
        publish(V5, topic=b"", block=b"\x23\x00\x01"),
        PROTOCOL_ERROR,
        TOPIC_ALIAS_INVALID,
    ),
    # Legal for a broker that takes aliases, invalid for one that announces none.
    v5(
        "PUBLISH: topic alias of an earlier topic",
        "5.0 section 3.3.2.3.4",
        alias_of_an_earlier_topic_only,
        Alive(PUBACK, (0, 0x10)),
        TOPIC_ALIAS_INVALID,
    ),
    v5(
        "PUBLISH: properties beyond the end",
        "5.0 section 2.2.2.1",
        packet(0x30, string(b"topic") + b"\x20\x01\x01"),
        MALFORMED,
    ),
    v5(
        "PUBLISH: property length longer than it need be",
        "MQTT-1.5.5-1",
        packet(0x30, string(b"topic") + b"\x80\x00"),
        MALFORMED,
    ),
    v5(
        "PUBLISH: property length of five bytes",
        "MQTT-1.5.5-1",
        packet(0x30, string(b"topic") + b"\xff\xff\xff\xff\x01"),
        MALFORMED,
    ),
    *(
        v5(
            f"PUBLISH: {name}",
            statement,
            publish(V5, qos=2, packet_id=1, block=bytes.fromhex(block)),
            Alive(PUBREC, (0, 0x10)),
        )
        for name, statement, block in LEGAL_PUBLISH_BLOCKS
    ),
    *(
        v5(f"SUBSCRIBE: {name}", statement, subscribe(V5, block=bytes.fromhex(block)), *codes)
        for name, statement, block, codes in SUBSCRIBE_BLOCKS
    ),
    v5(
        "SUBSCRIBE: largest subscription identifier",
        "5.0 section 3.8.2.1.2",
        subscribe(V5, block=b"\x0b" + varint(268_435_455)),
        Alive(SUBACK),
    ),
    v5("UNSUBSCRIBE: unknown property", "5.0 section 2.2.2.2", unsubscribe(V5, block=b"\x7f\x00"), MALFORMED),
    v5("UNSUBSCRIBE: subscription identifier", "5.0 section 2.2.2.2", unsubscribe(V5, block=b"\x0b\x01"), *EITHER_ERROR),
    # Acknowledgements. None of these ids is in use: the packet is refused before the id is looked up.
    *(
        v5(f"{name}: {fault}", statement, acknowledge(first_byte, 7, tail), *codes)
        for name, first_byte in (("PUBACK", PUBACK), ("PUBREC", PUBREC), ("PUBREL", PUBREL), ("PUBCOMP", PUBCOMP))
        for fault, statement, tail, codes in (
            ("undefined reason code", "MQTT-3.4.2-1 and its likes", b"\x55", EITHER_ERROR),
            ("property that is not allowed", "5.0 section 2.2.2.2", b"\x00\x03\x23\x00\x01", EITHER_ERROR),
            ("reason string twice", "5.0 section 3.4.2.2.2 and its likes", b"\x00\x08" + b"\x1f\x00\x01a" * 2, (PROTOCOL_ERROR,)),
            ("bytes after the properties", "5.0 section 2.1.4", b"\x00\x00\x00", (MALFORMED,)),
            ("properties beyond the end", "5.0 section 2.2.2.1", b"\x00\x09\x1f", (MALFORMED,)),
        )
    ),
    # DISCONNECT. The client leaves in any case: the broker may also just close.
    *(
        v5(f"DISCONNECT: {name}", statement, packet(DISCONNECT, body), *codes, SilentClose())
        for name, statement, body, codes in (
            ("undefined reason code", "MQTT-3.14.2-1", b"\x55", EITHER_ERROR),
            ("unknown property", "5.0 section 2.2.2.2", b"\x00\x02\x7f\x00", (MALFORMED,)),
            ("server reference from a client", "5.0 section 3.14.2.2.5", b"\x00\x04\x1c\x00\x01a", EITHER_ERROR),
            ("properties beyond the end", "5.0 section 2.2.2.1", b"\x00\x20\x11", (MALFORMED,)),
        )
    ),
    v5(
        "DISCONNECT: session expiry raised from 0",
        "5.0 section 3.14.2.2.2",
        packet(DISCONNECT, b"\x00\x05\x11\x00\x00\x00\x10"),
        PROTOCOL_ERROR,
    ),
]
