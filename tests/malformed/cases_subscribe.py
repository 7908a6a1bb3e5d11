"""SUBSCRIBE and UNSUBSCRIBE: filters, options, packet ids."""

from malformed.case import (
    EITHER_ERROR,
    MALFORMED,
    PROTOCOL_ERROR,
    TOPIC_FILTER_INVALID,
    Alive,
    Disconnected,
    SilentClose,
    both,
    v5,
    v311,
)
from malformed.wire import SUBACK, UNSUBACK, V5, V311, packet, properties, string, subscribe, unsubscribe

PACKET_ID = ("MQTT-2.3.1-1", "MQTT-2.2.1-3")
FAILURE_311 = 0x80

# A filter that breaks the rules may fail alone, by its code in SUBACK, or end the connection.
FILTER_REFUSED_311 = (SilentClose(), Alive(SUBACK, (FAILURE_311,)))
FILTER_REFUSED = (Disconnected((*EITHER_ERROR, TOPIC_FILTER_INVALID)), Alive(SUBACK, (TOPIC_FILTER_INVALID,)))

BROKEN_FILTERS = (
    ("empty", "MQTT-4.7.3-1", b""),
    ("levels after a hash", "MQTT-4.7.1-1", b"a/#/b"),
    ("hash behind a letter", "MQTT-4.7.1-1", b"a#"),
    ("hash before a letter", "MQTT-4.7.1-1", b"#a"),
    ("two hashes", "MQTT-4.7.1-1", b"##"),
    ("hash behind a plus", "MQTT-4.7.1-1", b"+#"),
    ("hash inside a level", "MQTT-4.7.1-1", b"a/b#/c"),
    ("plus behind a letter", "MQTT-4.7.1-2", b"a+"),
    ("plus before a letter", "MQTT-4.7.1-2", b"+a/b"),
    ("two pluses in a level", "MQTT-4.7.1-2", b"a/++"),
)

BROKEN_SHARES = (
    ("without group and filter", b"$share/"),
    ("without filter", b"$share/group"),
    ("with an empty filter", b"$share/group/"),
    ("with an empty group", b"$share//a"),
    ("with a plus in its group", b"$share/a+b/c"),
    ("with a hash as its group", b"$share/#"),
    ("with a broken filter", b"$share/group/a#"),
)

ILL_FORMED_FILTERS = (
    ("U+0000", ("MQTT-1.5.3-2", "MQTT-1.5.4-2"), b"a/\x00"),
    ("a surrogate", ("MQTT-1.5.3-1", "MQTT-1.5.4-1"), b"a/\xed\xbf\xbf"),
    ("an overlong form", ("MQTT-3.8.3-1", "MQTT-3.8.3-1"), b"\xc1\x81"),
    ("a sequence cut short", ("MQTT-3.8.3-1", "MQTT-3.8.3-1"), b"a/\xe2\x82"),
)

CASES = [
    *(
        case
        for name, statement, broken in BROKEN_FILTERS
        for case in (
            v311(f"filter {name}, 3.1.1", statement, subscribe(V311, broken), *FILTER_REFUSED_311),
            v5(f"filter {name}, 5.0", statement, subscribe(V5, broken), *FILTER_REFUSED),
        )
    ),
    *(v5(f"share {name}", "MQTT-4.8.2-1", subscribe(V5, broken), *FILTER_REFUSED) for name, broken in BROKEN_SHARES),
    v5("share with no local", "MQTT-3.8.3-4", subscribe(V5, b"$share/group/a", options=0x04), *EITHER_ERROR),
    *(
        case
        for name, statements, broken in ILL_FORMED_FILTERS
        for case in (
            *both(
                f"SUBSCRIBE with {name}", statements, lambda version, broken=broken: subscribe(version, broken), MALFORMED
            ),
            *both(
                f"UNSUBSCRIBE with {name}",
                statements,
                lambda version, broken=broken: unsubscribe(version, broken),
                MALFORMED,
            ),
        )
    ),
    v311(
        "UNSUBSCRIBE with a broken filter, 3.1.1",
        "MQTT-4.7.1-2",
        unsubscribe(V311, b"a/#/b"),
        SilentClose(),
        Alive(UNSUBACK),
    ),
    v5(
        "UNSUBSCRIBE with a broken filter, 5.0",
        "MQTT-4.7.1-1",
        unsubscribe(V5, b"a/#/b"),
        *EITHER_ERROR,
        TOPIC_FILTER_INVALID,
        Alive(UNSUBACK, (TOPIC_FILTER_INVALID, 0x11)),
    ),
    *both(
        "SUBSCRIBE without a filter",
        ("MQTT-3.8.3-3", "MQTT-3.8.3-2"),
        lambda version: packet(0x82, b"\x00\x01" + properties(version)),
        PROTOCOL_ERROR,
    ),
    *both(
        "UNSUBSCRIBE without a filter",
        ("MQTT-3.10.3-2", "MQTT-3.10.3-2"),
        lambda version: packet(0xA2, b"\x00\x01" + properties(version)),
        PROTOCOL_ERROR,
    ),
    *both("SUBSCRIBE with id 0", PACKET_ID, lambda version: subscribe(version, packet_id=0), *EITHER_ERROR),
    *both("UNSUBSCRIBE with id 0", PACKET_ID, lambda version: unsubscribe(version, packet_id=0), *EITHER_ERROR),
    # Options.
    v311("SUBSCRIBE with QoS 3, 3.1.1", "MQTT-3.8.3-4", subscribe(V311, options=0x03)),
    v5("SUBSCRIBE with QoS 3, 5.0", "5.0 section 3.8.3.1", subscribe(V5, options=0x03), PROTOCOL_ERROR),
    *(
        v311(f"SUBSCRIBE with reserved option {bit:#04x}, 3.1.1", "MQTT-3.8.3-4", subscribe(V311, options=bit))
        for bit in (0x04, 0x10, 0x80)
    ),
    *(
        v5(f"SUBSCRIBE with reserved option {bit:#04x}, 5.0", "MQTT-3.8.3-5", subscribe(V5, options=bit), MALFORMED)
        for bit in (0x40, 0x80)
    ),
    v5("SUBSCRIBE with retain handling 3", "5.0 section 3.8.3.1", subscribe(V5, options=0x30), PROTOCOL_ERROR),
    *both(
        "SUBSCRIBE whose second filter is broken off",
        ("MQTT-3.8.3-3", "5.0 section 3.8.3"),
        lambda version: packet(0x82, b"\x00\x01" + properties(version) + string(b"a") + b"\x00" + b"\x00"),
        MALFORMED,
    ),
    # Legal.
    *(
        build(f"filter {name}, {suffix}", "5.0 section 4.7", subscribe(version, topic_filter), Alive(SUBACK))
        for name, topic_filter in (("of empty levels", b"a//+"), ("of one slash", b"/"), ("of 65,535 bytes", b"f" * 65_535))
        for build, version, suffix in ((v311, V311, "3.1.1"), (v5, V5, "5.0"))
    ),
    v5("UNSUBSCRIBE from nothing, 5.0", "5.0 section 3.11.3", unsubscribe(V5, b"never"), Alive(UNSUBACK, (0x11,))),
    v311("UNSUBSCRIBE from nothing, 3.1.1", "MQTT-3.10.4-5", unsubscribe(V311, b"never"), Alive(UNSUBACK)),
]
