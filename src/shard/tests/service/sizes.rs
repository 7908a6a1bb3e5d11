//! The client's Maximum Packet Size and its wish for problem information, for every packet but PUBLISH.

use super::*;

/// A client that asks for response information and accepts packets so large.
fn small(max_packet_bytes: u32) -> PropertyWriter {
    properties([Property::MaximumPacketSize(max_packet_bytes), Property::RequestResponseInformation(true)])
}

/// [MQTT-3.1.2-24] [MQTT-3.2.2-19]: offers are left out of a CONNACK that would be too large, bounds are not; and who has no
/// room for these is refused, with its session as it was.
#[test]
fn connack_is_as_large_as_the_client_accepts() {
    let service = || Service { response_information: notice("replies/"), ..Service::default() };
    let mut fleet = serving(service());
    let client = fleet.connect_v5("client", 10);
    fleet.drop_connection(client);
    // 5 bytes, 8 for the bounds, 2 of shared subscriptions that are switched off, 3 for aliases, 11 for the information.
    fleet.shards[0].clients.service.shared_subscriptions = false;
    for (max_packet_bytes, offers) in [(29, 2), (28, 1), (18, 1), (17, 0), (15, 0)] {
        let properties = small(max_packet_bytes);
        let client = fleet.connect_with(Connect { clean_start: false, ..connect(V5, "other", &properties) });
        with_packets(&mut fleet, client, |packet, length| {
            let Packet::Connack(connack) = packet else { panic!("CONNACK only") };
            assert_eq!(connack.reason, ReasonCode::Success);
            assert!(length <= max_packet_bytes as usize);
            let offered = [PropertyIdentifier::TopicAliasMaximum, PropertyIdentifier::ResponseInformation];
            let count = offered.iter().filter(|offer| connack.properties.contains(**offer)).count();
            assert_eq!((count, connack.properties.iter().count()), (offers, 3 + offers), "{max_packet_bytes}");
        });
        fleet.drop_connection(client);
    }
    for (max_packet_bytes, reason) in
        [(14, Some(ReasonCode::PacketTooLarge)), (5, Some(ReasonCode::PacketTooLarge)), (4, None)]
    {
        let properties = small(max_packet_bytes);
        let refused = fleet.connect_with(connect(V5, "client", &properties));
        let said = reason.map(|reason| Got::Connack { session_present: false, reason });
        assert_eq!(fleet.got(refused), Vec::from_iter(said));
        assert_eq!(fleet.commands(refused), ["finish"]);
    }
    let client = fleet.connect_v5("client", 10);
    assert_eq!(fleet.got(client), [Got::Connack { session_present: true, reason: ReasonCode::Success }]);
}

/// [MQTT-3.1.2-24]: a SUBSCRIBE or UNSUBSCRIBE whose answer is too large changes nothing, and ends the connection with 0x95.
#[test]
fn an_answer_too_large_for_the_client_ends_its_connection() {
    let mut fleet = Fleet::new(1);
    let other = fleet.connect_v5("other", 10);
    fleet.subscribe(other, "t", ExactlyOnce);
    fleet.got(other);
    let filters: Vec<String> = (0..21).map(|number| format!("t/{number}")).collect();
    for (count, is_accepted) in [(20, true), (21, false)] {
        for unsubscribes in [false, true] {
            let mut properties = small(25);
            properties.push(Property::SessionExpiryInterval(60));
            let client = fleet.connect_with(Connect { clean_start: false, ..connect(V5, "client", &properties) });
            fleet.got(client);
            let before = fleet.count(|counters| counters.subscriptions);
            let mut bytes = Vec::new();
            let filters = filters[..count].iter().map(String::as_str);
            if unsubscribes {
                encode_unsubscribe(&mut bytes, V5, id(1), Properties::EMPTY, filters);
            } else {
                let filters = filters.map(|filter| (filter, SubscriptionOptions::from_qos(ExactlyOnce)));
                encode_subscribe(&mut bytes, V5, id(1), Properties::EMPTY, filters);
            }
            fleet.send_bytes(client, &bytes);
            let answer = match (is_accepted, unsubscribes) {
                (false, _) => Got::Disconnect(ReasonCode::PacketTooLarge),
                (true, false) => Got::Suback(vec![2; count]),
                (true, true) => Got::Unsuback(vec![0; count]),
            };
            assert_eq!(fleet.got(client), [answer]);
            let after = fleet.count(|counters| counters.subscriptions);
            let expected = match (is_accepted, unsubscribes) {
                (false, _) => before,
                (true, false) => before + count as u64,
                (true, true) => before - count as u64,
            };
            assert_eq!(after, expected);
            fleet.end_of_stream(client);
        }
    }
    fleet.publish(other, "t", "x", AtMostOnce, 0);
    assert_eq!(fleet.got(other).len(), 1, "nobody else is touched");
}

/// [MQTT-3.1.2-29] [MQTT-3.4.2-2] [MQTT-3.5.2-2] [MQTT-3.9.2-1] [MQTT-3.11.2-1], traps 31 and 32: what is refused is explained
/// to who wants to know and has room for it; what is not refused, to nobody.
#[test]
fn refusals_are_explained_to_who_wants_to_know() {
    for (wish, max_packet_bytes, is_explained) in
        [(None, 1000, true), (Some(true), 1000, true), (Some(false), 1000, false), (None, 25, false)]
    {
        let mut fleet = serving(Service { validates_payload_format: true, ..Service::default() });
        let mut connecting = small(max_packet_bytes);
        if let Some(wish) = wish {
            connecting.push(Property::RequestProblemInformation(wish));
        }
        let client = fleet.connect_with(connect(V5, "client", &connecting));
        fleet.received(client);
        fleet.subscribe(client, "a#", ExactlyOnce);
        fleet.unsubscribe(client, "a#");
        fleet.publish(client, "$SYS/x", "x", AtLeastOnce, 1);
        fleet.publish(client, "$SYS/x", "x", ExactlyOnce, 2);
        let mut explained = 0;
        with_packets(&mut fleet, client, |packet, length| {
            assert!(length <= max_packet_bytes as usize);
            let (reason, properties) = match packet {
                Packet::Puback(ack) | Packet::Pubrec(ack) => (ack.reason.value(), ack.properties),
                Packet::Suback(answer) | Packet::Unsuback(answer) => (answer.codes[0], answer.properties),
                other => panic!("{other:?}"),
            };
            assert!(reason >= 0x80);
            explained += usize::from(properties.reason_string().is_some());
        });
        assert_eq!(explained, if is_explained { 4 } else { 0 }, "{wish:?} {max_packet_bytes}");
        fleet.subscribe(client, "a", ExactlyOnce);
        fleet.unsubscribe(client, "a");
        fleet.publish(client, "a", "x", AtLeastOnce, 1);
        fleet.ack(client, Pubrel, 2);
        with_packets(&mut fleet, client, |packet, _| match packet {
            Packet::Puback(ack) | Packet::Pubcomp(ack) => assert!(ack.properties.is_empty()),
            Packet::Suback(answer) | Packet::Unsuback(answer) => assert!(answer.properties.is_empty()),
            other => panic!("{other:?}"),
        });
    }
}
