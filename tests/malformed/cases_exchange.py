"""Acknowledgements, ids and flow control; packets that only a server sends; DISCONNECT and AUTH."""

import struct

from malformed.case import (
    BAD_AUTHENTICATION_METHOD,
    EITHER_ERROR,
    PACKET_IDENTIFIER_NOT_FOUND,
    PROTOCOL_ERROR,
    RECEIVE_MAXIMUM_EXCEEDED,
    Alive,
    Disconnected,
    SilentClose,
    both,
    v5,
    v311,
)
from malformed.wire import (
    AUTH,
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    RECEIVE_MAXIMUM,
    SUBACK,
    V5,
    V311,
    acknowledge,
    packet,
    publish,
    string,
    subscribe,
)

PACKET_ID = ("MQTT-2.3.1-1", "MQTT-2.2.1-3")
DIRECTION = ("3.1.1 section 2.2.1", "5.0 section 2.1.2")

# An acknowledgement that does not fit the exchange: ignored or a protocol error, never a crash.
IGNORED_OR_REFUSED = (Alive(), SilentClose(), Disconnected(EITHER_ERROR))


def one_more_than_the_receive_maximum(connection):
    """A PUBLISH too many: QoS 2 exchanges hold their slots until the PUBREL that never comes."""
    maximum = connection.announced(RECEIVE_MAXIMUM, 65_535)
    assert maximum < 65_535, "the broker announces no Receive Maximum, so nothing can exceed it"
    for packet_id in range(1, maximum + 2):
        connection.send(publish(V5, qos=2, packet_id=packet_id))


def quota_comes_back(connection):
    """As many exchanges as twice the Receive Maximum, never more than that at once: legal."""
    maximum = connection.announced(RECEIVE_MAXIMUM, 65_535)
    for _ in range(2):
        for packet_id in range(1, min(maximum, 500) + 1):
            connection.send(publish(V5, qos=2, packet_id=packet_id))
            connection.await_frame(PUBREC)
            connection.send(acknowledge(PUBREL, packet_id))
            connection.await_frame(PUBCOMP)
    connection.send(PINGREQ)


def same_id_again(version):
    """[MQTT-4.3.3-10]: before its PUBREL an id is the same message, sent again."""

    def script(connection):
        connection.send(publish(version, qos=2, packet_id=9))
        connection.await_frame(PUBREC)
        connection.send(publish(version, qos=2, packet_id=9, flags=8) + acknowledge(PUBREL, 9) + PINGREQ)

    return script


def wrong_answer(version, granted, answer):
    """Answers an own message with a packet that its QoS does not have."""

    def script(connection):
        topic = f"hostile/own/{version}/{granted}/{answer:x}".encode()
        connection.send(subscribe(version, topic, options=granted))
        connection.await_frame(SUBACK)
        connection.send(publish(version, topic, qos=1, packet_id=3) if granted == 1 else own_qos2(version, topic))
        body = connection.await_frame(PUBLISH)
        (packet_id,) = struct.unpack_from(">H", body, 2 + len(topic))
        connection.send(acknowledge(answer, packet_id) * 2 + PINGREQ)

    return script


def own_qos2(version, topic):
    return publish(version, topic, qos=2, packet_id=3) + acknowledge(PUBREL, 3)


def refused_delivery(connection):
    """PUBREC with an error ends the exchange: no PUBREL follows, and the connection goes on."""
    topic = b"hostile/refused"
    connection.send(subscribe(V5, topic, options=2))
    connection.await_frame(SUBACK)
    connection.send(own_qos2(V5, topic))
    body = connection.await_frame(PUBLISH)
    (packet_id,) = struct.unpack_from(">H", body, 2 + len(topic))
    connection.send(acknowledge(PUBREC, packet_id, b"\x83") + PINGREQ)


CASES = [
    # Ids that nobody uses are not an error: a resumed session may hold them on one side only.
    v311("PUBREL for an unknown id, 3.1.1", "MQTT-4.3.3-2", acknowledge(PUBREL, 777), Alive(PUBCOMP)),
    v5(
        "PUBREL for an unknown id, 5.0",
        "MQTT-4.3.3-11",
        acknowledge(PUBREL, 777),
        Alive(PUBCOMP, (PACKET_IDENTIFIER_NOT_FOUND,)),
    ),
    *(
        build(f"{name} for an unknown id, {suffix}", "5.0 section 4.3", acknowledge(first_byte, 777), Alive())
        for name, first_byte in (("PUBACK", PUBACK), ("PUBREC", PUBREC), ("PUBCOMP", PUBCOMP))
        for build, suffix in ((v311, "3.1.1"), (v5, "5.0"))
    ),
    *(
        v5(f"PUBREL for an unknown id {form}", "5.0 section 3.6.2", acknowledge(PUBREL, 777, tail), Alive(PUBCOMP, (0x92,)))
        for form, tail in (
            ("with a reason code", b"\x92"),
            ("with a code and no properties", b"\x00\x00"),
            ("with a code and a reason string", b"\x92\x04\x1f\x00\x01a"),
        )
    ),
    *(
        case
        for name, first_byte in (("PUBACK", PUBACK), ("PUBREC", PUBREC), ("PUBREL", PUBREL), ("PUBCOMP", PUBCOMP))
        for case in both(
            f"{name} with id 0", PACKET_ID, lambda _, first_byte=first_byte: acknowledge(first_byte, 0), *EITHER_ERROR
        )
    ),
    # Answers that do not fit the message, each sent twice.
    *(
        build(
            f"{name} for a QoS {granted} message, {suffix}",
            "MQTT-4.3.3-1" if granted == 2 else "MQTT-4.3.2-1",
            wrong_answer(version, granted, first_byte),
            *IGNORED_OR_REFUSED,
        )
        for granted, name, first_byte in (
            (2, "PUBACK", PUBACK),
            (2, "PUBCOMP", PUBCOMP),
            (1, "PUBREC", PUBREC),
            (1, "PUBCOMP", PUBCOMP),
        )
        for build, version, suffix in ((v311, V311, "3.1.1"), (v5, V5, "5.0"))
    ),
    v5("PUBREC that refuses a message", "MQTT-4.3.3-4", refused_delivery, Alive()),
    v311("PUBLISH again before its PUBREL, 3.1.1", "MQTT-4.3.3-2", same_id_again(V311), Alive(PUBCOMP)),
    v5("PUBLISH again before its PUBREL, 5.0", "MQTT-4.3.3-10", same_id_again(V5), Alive(PUBCOMP)),
    # Flow control.
    v5(
        "one PUBLISH more than the Receive Maximum",
        "MQTT-3.3.4-7",
        one_more_than_the_receive_maximum,
        RECEIVE_MAXIMUM_EXCEEDED,
    ),
    v5("twice the Receive Maximum, one after another", "MQTT-4.9.0-2", quota_comes_back, Alive()),
    # Packets that only a server sends.
    v311("CONNACK from a client, 3.1.1", DIRECTION[0], b"\x20\x02\x00\x00"),
    v5("CONNACK from a client, 5.0", DIRECTION[1], b"\x20\x03\x00\x00\x00", *EITHER_ERROR),
    v311("SUBACK from a client, 3.1.1", DIRECTION[0], b"\x90\x03\x00\x01\x00"),
    v5("SUBACK from a client, 5.0", DIRECTION[1], b"\x90\x04\x00\x01\x00\x00", *EITHER_ERROR),
    v311("UNSUBACK from a client, 3.1.1", DIRECTION[0], b"\xb0\x02\x00\x01"),
    v5("UNSUBACK from a client, 5.0", DIRECTION[1], b"\xb0\x04\x00\x01\x00\x00", *EITHER_ERROR),
    *both("PINGRESP from a client", DIRECTION, lambda _: b"\xd0\x00", *EITHER_ERROR),
    # AUTH belongs to an authentication that this connection did not begin.
    v5("AUTH without a method", "MQTT-4.12.0-7", b"\xf0\x00", PROTOCOL_ERROR),
    v5(
        "AUTH with a method nobody agreed on",
        "MQTT-4.12.1-1",
        packet(AUTH, b"\x19" + b"\x05\x15" + string(b"XX")),
        PROTOCOL_ERROR,
        BAD_AUTHENTICATION_METHOD,
    ),
    v5("AUTH with an undefined reason code", "MQTT-3.15.2-1", packet(AUTH, b"\x55\x00"), *EITHER_ERROR),
    # Whatever follows a DISCONNECT is not read [MQTT-3.14.4-2].
    v311("PUBLISH behind DISCONNECT, 3.1.1", "MQTT-3.14.4-2", packet(DISCONNECT) + publish(V311)),
    v5("PUBLISH behind DISCONNECT, 5.0", "MQTT-3.14.4-2", packet(DISCONNECT) + publish(V5, qos=3), SilentClose()),
]
