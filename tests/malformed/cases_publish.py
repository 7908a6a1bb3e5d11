"""PUBLISH: QoS, DUP, packet ids and topics."""

from malformed.case import (
    EITHER_ERROR,
    MALFORMED,
    NOT_AUTHORIZED,
    PROTOCOL_ERROR,
    TOPIC_NAME_INVALID,
    Alive,
    both,
    v5,
    v311,
)
from malformed.wire import PUBACK, PUBREC, V5, V311, packet, publish, string

UTF8 = ("MQTT-3.3.2-1", "MQTT-3.3.2-1")
SURROGATES = ("MQTT-1.5.3-1", "MQTT-1.5.4-1")
NULL = ("MQTT-1.5.3-2", "MQTT-1.5.4-2")
WILDCARD = ("MQTT-3.3.2-2", "MQTT-3.3.2-2")
# A success, for a message that nobody wanted.
NO_MATCHING_SUBSCRIBERS = 0x10

PACKET_ID = ("MQTT-2.3.1-1", "MQTT-2.2.1-3")

ILL_FORMED_TOPICS = (
    ("U+0000", NULL, b"a\x00b"),
    ("a high surrogate", SURROGATES, b"a\xed\xa0\x80"),
    ("a pair of surrogates", SURROGATES, b"\xed\xa0\x80\xed\xb0\x80"),
    ("an overlong slash", UTF8, b"a\xc0\xafb"),
    ("an overlong U+0000", UTF8, b"a\xc0\x80b"),
    ("an overlong three-byte form", UTF8, b"\xe0\x80\xaf"),
    ("a code point above U+10FFFF", UTF8, b"\xf4\x90\x80\x80"),
    ("a lone continuation byte", UTF8, b"a\x80"),
    ("a sequence cut short", UTF8, b"abc\xe2\x82"),
    ("a byte that UTF-8 never has", UTF8, b"\xff"),
)

CASES = [
    *both(
        "PUBLISH with QoS 3",
        ("MQTT-3.3.1-4", "MQTT-3.3.1-4"),
        lambda version: publish(version, qos=3, packet_id=1),
        MALFORMED,
    ),
    *both(
        "PUBLISH with QoS 0 and DUP",
        ("MQTT-3.3.1-2", "MQTT-3.3.1-2"),
        lambda version: publish(version, flags=0x08),
        *EITHER_ERROR,
    ),
    *both("PUBLISH QoS 1 with id 0", PACKET_ID, lambda version: publish(version, qos=1, packet_id=0), *EITHER_ERROR),
    *both("PUBLISH QoS 2 with id 0", PACKET_ID, lambda version: publish(version, qos=2, packet_id=0), *EITHER_ERROR),
    *(
        case
        for name, statements, topic in ILL_FORMED_TOPICS
        for case in both(
            f"topic with {name}", statements, lambda version, topic=topic: publish(version, topic), MALFORMED
        )
    ),
    *(
        case
        for topic in (b"#", b"+", b"a/#", b"a/+/b", b"a#", b"a+b")
        for case in both(
            f"PUBLISH to {topic.decode().replace('#', 'hash').replace('+', 'plus').replace('/', ' ')}",
            WILDCARD,
            lambda version, topic=topic: publish(version, topic, qos=2, packet_id=1),
            *EITHER_ERROR,
            TOPIC_NAME_INVALID,
        )
    ),
    *both(
        "PUBLISH to an empty topic",
        ("MQTT-4.7.3-1", "5.0 section 3.3.2.1"),
        lambda version: publish(version, b"", qos=1, packet_id=1),
        PROTOCOL_ERROR,
    ),
    *both(
        "PUBLISH to a topic of 2,000 levels",
        ("3.1.1 section 4.8", "5.0 section 4.13"),
        lambda version: publish(version, b"/" * 1999),
        TOPIC_NAME_INVALID,
    ),
    # The broker's own topic: nobody gets the message, and the connection goes on.
    v5(
        "PUBLISH to $SYS, 5.0",
        "MQTT-4.7.2-1",
        publish(V5, b"$SYS/broker/uptime", qos=1, packet_id=1),
        Alive(PUBACK, (NOT_AUTHORIZED,)),
    ),
    v311(
        "PUBLISH to $SYS, 3.1.1",
        "MQTT-4.7.2-1",
        publish(V311, b"$SYS/broker/uptime", qos=1, packet_id=1),
        Alive(PUBACK),
    ),
    v5("PUBLISH without its property length", "5.0 section 3.3.2.3.1", packet(0x30, string(b"topic")), MALFORMED),
]
CASES += [
    # Legal.
    build(f"{name}, {suffix}", statement, publish(version, **parts), Alive(answer, (0, NO_MATCHING_SUBSCRIBERS)))
    for name, statement, answer, parts in (
        ("topic with U+FEFF", "MQTT-1.5.4-3", PUBACK, {"topic": b"\xef\xbb\xbfa", "qos": 1, "packet_id": 1}),
        ("topic of one slash", "5.0 section 4.7.3", PUBREC, {"topic": b"/", "qos": 2, "packet_id": 2}),
        ("topic of 65,535 bytes", "MQTT-4.7.3-3", PUBREC, {"topic": b"t" * 65_535, "qos": 2, "packet_id": 3}),
        ("empty payload", "5.0 section 3.3.3", PUBACK, {"payload": b"", "qos": 1, "packet_id": 4}),
        ("largest packet id", "MQTT-2.2.1-3", PUBREC, {"qos": 2, "packet_id": 65_535}),
        ("DUP on a message not seen before", "MQTT-4.3.3-9", PUBREC, {"flags": 8, "qos": 2, "packet_id": 5}),
    )
    for build, version, suffix in ((v311, V311, "3.1.1"), (v5, V5, "5.0"))
]
