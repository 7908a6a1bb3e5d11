"""CONNECT: protocol name and level, flags, identifiers, wills, credentials, and what follows it."""

from malformed.case import (
    BAD_AUTHENTICATION_METHOD,
    BAD_USER_NAME_OR_PASSWORD,
    EITHER_ERROR,
    IDENTIFIER_NOT_VALID,
    MALFORMED,
    NOT_AUTHORIZED,
    PACKET_TOO_LARGE,
    PROTOCOL_ERROR,
    TOPIC_NAME_INVALID,
    UNSUPPORTED_VERSION,
    Alive,
    Refused,
    SilentClose,
    both,
    opening,
    openings,
    v5,
)
from malformed.wire import CONNACK, V5, V311, connect, packet, string, will

NAME = ("MQTT-3.1.2-1", "MQTT-3.1.2-1")
PAYLOAD = ("MQTT-3.1.3-1", "MQTT-3.1.3-1")
WILL_TOPIC_REFUSED = (*EITHER_ERROR, TOPIC_NAME_INVALID)
UNACCEPTABLE_LEVEL_311, IDENTIFIER_REJECTED_311 = 1, 2

# An unknown level: the answer is in the form of whichever version the broker finds nearest [MQTT-3.1.2-2].
UNKNOWN_LEVEL = (Refused((UNACCEPTABLE_LEVEL_311, UNSUPPORTED_VERSION)),)

CASES = [
    *(
        opening(
            f"protocol name {name.decode(errors='replace') or 'empty'}",
            V5,
            "MQTT-3.1.2-1",
            connect(V5, name=name),
            *UNKNOWN_LEVEL,
            SilentClose(),
        )
        for name in (b"", b"MQT", b"mqtt", b"MQTTT", b"AMQP", b"MQ\x00T", b"MQIsdp")
    ),
    *(
        opening(f"protocol level {level}", V5, "MQTT-3.1.2-2", connect(V5, level=level), *UNKNOWN_LEVEL)
        for level in (0, 1, 3, 6, 255)
    ),
    opening("3.1.1 CONNECT with level 3", V311, "MQTT-3.1.2-2", connect(V311, level=3), *UNKNOWN_LEVEL),
    opening("the name of 3.1 with level 4", V311, "MQTT-3.1.2-2", connect(V311, name=b"MQIsdp"), *UNKNOWN_LEVEL),
    # Flags.
    *openings(
        "reserved connect flag",
        ("MQTT-3.1.2-3", "MQTT-3.1.2-3"),
        lambda version: connect(version, flags=0x01),
        MALFORMED,
    ),
    *openings(
        "will with QoS 3",
        ("MQTT-3.1.2-14", "MQTT-3.1.2-12"),
        lambda version: connect(version, will=will(), flags=0x18),
        MALFORMED,
    ),
    *openings(
        "will QoS without a will",
        ("MQTT-3.1.2-13", "MQTT-3.1.2-11"),
        lambda version: connect(version, flags=0x08),
        *EITHER_ERROR,
    ),
    *openings(
        "will retain without a will",
        ("MQTT-3.1.2-15", "MQTT-3.1.2-13"),
        lambda version: connect(version, flags=0x20),
        *EITHER_ERROR,
    ),
    opening("password without user name, 3.1.1", V311, "MQTT-3.1.2-22", connect(V311, password=b"secret")),
    # Legal in 5.0; a broker with access rules may refuse it.
    opening(
        "password without user name, 5.0",
        V5,
        "5.0 section 3.1.2.9",
        connect(V5, password=b"secret"),
        Alive(CONNACK),
        BAD_USER_NAME_OR_PASSWORD,
        NOT_AUTHORIZED,
    ),
    # Payload against flags and length.
    *openings("CONNECT without a body", PAYLOAD, lambda _: b"\x10\x00", MALFORMED, SilentClose()),
    *openings(
        "CONNECT that ends after its keep-alive",
        PAYLOAD,
        lambda version: packet(0x10, string(b"MQTT") + bytes([version, 2, 0, 60])),
        MALFORMED,
    ),
    *openings(
        "CONNECT that ends before its client id",
        PAYLOAD,
        lambda version: packet(0x10, string(b"MQTT") + bytes([version, 2, 0, 60]) + (b"\0" if version == V5 else b"")),
        MALFORMED,
    ),
    *openings(
        "client id beyond the end",
        PAYLOAD,
        lambda version: packet(
            0x10, string(b"MQTT") + bytes([version, 2, 0, 60]) + (b"\0" if version == V5 else b"") + b"\x00\x20short"
        ),
        MALFORMED,
    ),
    *openings("will flag without a will", PAYLOAD, lambda version: connect(version, flags=0x04), MALFORMED),
    *openings("user name flag without a user name", PAYLOAD, lambda version: connect(version, flags=0x80), MALFORMED),
    *openings(
        "password flag without a password",
        PAYLOAD,
        lambda version: connect(version, username=b"user", flags=0x40),
        MALFORMED,
    ),
    *openings(
        "bytes after the last field", PAYLOAD, lambda version: connect(version, tail=b"\x00"), *EITHER_ERROR
    ),
    *openings(
        "user name without its flag", PAYLOAD, lambda version: connect(version, tail=string(b"user")), *EITHER_ERROR
    ),
    # Strings.
    *openings(
        "client id with U+0000",
        ("MQTT-1.5.3-2", "MQTT-1.5.4-2"),
        lambda version: connect(version, client_id=b"a\x00b"),
        MALFORMED,
        IDENTIFIER_NOT_VALID,
    ),
    *openings(
        "client id that is not UTF-8",
        ("MQTT-3.1.3-4", "MQTT-3.1.3-4"),
        lambda version: connect(version, client_id=b"\xff\xfe"),
        MALFORMED,
        IDENTIFIER_NOT_VALID,
    ),
    *openings(
        "user name with a surrogate",
        ("MQTT-3.1.3-11", "MQTT-3.1.3-12"),
        lambda version: connect(version, username=b"\xed\xa0\x80"),
        MALFORMED,
    ),
    opening(
        "empty client id with clean session 0",
        V311,
        "MQTT-3.1.3-8",
        connect(V311, client_id=b"", clean=False),
        IDENTIFIER_REJECTED_311,
    ),
    opening(
        "empty client id with clean start 0 gets one, 5.0",
        V5,
        "MQTT-3.1.3-6",
        connect(V5, client_id=b"", clean=False),
        Alive(CONNACK),
    ),
    # Wills.
    *openings(
        "will topic that is not UTF-8",
        ("MQTT-3.1.3-10", "MQTT-3.1.3-11"),
        lambda version: connect(version, will=will(b"\xc0\xaf")),
        MALFORMED,
    ),
    *openings(
        "will topic with a wildcard",
        ("MQTT-4.7.1-1", "MQTT-4.7.0-1"),
        lambda version: connect(version, will=will(b"a/#")),
        *WILL_TOPIC_REFUSED,
    ),
    *openings(
        "empty will topic",
        ("MQTT-4.7.3-1", "MQTT-4.7.3-1"),
        lambda version: connect(version, will=will(b"")),
        *WILL_TOPIC_REFUSED,
    ),
    # Properties.
    opening(
        "CONNECT without its property length",
        V5,
        "5.0 section 3.1.2.11.1",
        packet(0x10, string(b"MQTT") + bytes([V5, 2, 0, 60])),
        MALFORMED,
    ),
    *(
        opening(f"CONNECT: {name}", V5, statement, connect(V5, block=bytes.fromhex(block)), *codes)
        for name, statement, block, codes in (
            ("unknown property", "5.0 section 2.2.2.2", "7f00", (MALFORMED,)),
            ("property that belongs to PUBLISH", "5.0 section 2.2.2.2", "230001", EITHER_ERROR),
            ("property that belongs to CONNACK", "5.0 section 2.2.2.2", "130001", EITHER_ERROR),
            ("property that belongs to the will", "5.0 section 2.2.2.2", "1800000001", EITHER_ERROR),
            ("property cut short", "5.0 section 2.2.2.1", "110000", (MALFORMED,)),
            ("user property cut short", "MQTT-1.5.7-1", "2600016100", (MALFORMED,)),
            ("user property that is not UTF-8", "MQTT-1.5.7-1", "26000161" + "0001ff", (MALFORMED,)),
            ("session expiry interval twice", "5.0 section 3.1.2.11.2", "1100000001" * 2, (PROTOCOL_ERROR,)),
            ("receive maximum 0", "5.0 section 3.1.2.11.3", "210000", (PROTOCOL_ERROR,)),
            ("receive maximum twice", "5.0 section 3.1.2.11.3", "210005" * 2, (PROTOCOL_ERROR,)),
            ("maximum packet size 0", "5.0 section 3.1.2.11.4", "2700000000", (PROTOCOL_ERROR,)),
            ("maximum packet size below any CONNACK", "MQTT-3.1.2-24", "2700000005", (PACKET_TOO_LARGE,)),
            ("maximum packet size twice", "5.0 section 3.1.2.11.4", "2700001000" * 2, (PROTOCOL_ERROR,)),
            ("topic alias maximum twice", "5.0 section 3.1.2.11.5", "220005" * 2, (PROTOCOL_ERROR,)),
            ("request response information 2", "5.0 section 3.1.2.11.6", "1902", (PROTOCOL_ERROR,)),
            ("request problem information 2", "5.0 section 3.1.2.11.7", "1702", (PROTOCOL_ERROR,)),
            ("request problem information twice", "5.0 section 3.1.2.11.7", "1701" * 2, (PROTOCOL_ERROR,)),
            ("authentication data without a method", "5.0 section 3.1.2.11.10", "16000161", (PROTOCOL_ERROR,)),
            (
                "unsupported authentication method",
                "MQTT-4.12.0-1",
                "15" + string(b"NO-SUCH-METHOD").hex(),
                (BAD_AUTHENTICATION_METHOD, NOT_AUTHORIZED),
            ),
        )
    ),
    opening(
        "CONNECT: properties beyond the end",
        V5,
        "5.0 section 2.2.2.1",
        packet(0x10, string(b"MQTT") + bytes([V5, 2, 0, 60]) + b"\x40" + string(b"id")),
        MALFORMED,
    ),
    opening(
        "CONNECT: property length of five bytes",
        V5,
        "MQTT-1.5.5-1",
        packet(0x10, string(b"MQTT") + bytes([V5, 2, 0, 60]) + b"\x80\x80\x80\x80\x00" + string(b"id")),
        MALFORMED,
    ),
    *(
        opening(f"will: {name}", V5, statement, connect(V5, will=will(block=bytes.fromhex(block))), *codes)
        for name, statement, block, codes in (
            ("unknown property", "5.0 section 2.2.2.2", "7f00", (MALFORMED,)),
            ("property that belongs to CONNECT", "5.0 section 2.2.2.2", "210005", EITHER_ERROR),
            ("delay interval twice", "5.0 section 3.1.3.2.2", "1800000001" * 2, (PROTOCOL_ERROR,)),
            ("payload format indicator 2", "5.0 section 3.1.3.2.3", "0102", EITHER_ERROR),
            ("payload format indicator twice", "5.0 section 3.1.3.2.3", "0101" * 2, (PROTOCOL_ERROR,)),
            ("message expiry interval twice", "5.0 section 3.1.3.2.4", "0200000001" * 2, (PROTOCOL_ERROR,)),
            ("response topic with a wildcard", "5.0 section 3.1.3.2.6", "080003612f23", WILL_TOPIC_REFUSED),
            ("content type that is not UTF-8", "5.0 section 3.1.3.2.5", "030001ff", (MALFORMED,)),
        )
    ),
    # A second one.
    *both("second CONNECT", ("MQTT-3.1.0-2", "MQTT-3.1.0-2"), connect, PROTOCOL_ERROR),
    v5("second CONNECT, of the other version", "MQTT-3.1.0-2", connect(V311), *EITHER_ERROR),
]
