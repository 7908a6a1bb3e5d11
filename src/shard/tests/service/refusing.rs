//! What is switched off, what is not what it claims to be, and what a refusal leaves behind.

use super::*;

fn message<'a>(
    topic: &'a str,
    payload: &'a [u8],
    qos: QoS,
    packet_id: u16,
    properties: &'a PropertyWriter,
) -> Packet<'a> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: PacketId::new(packet_id),
        properties: properties.properties(),
        payload,
    })
}

/// What 5.0 says and 3.1.1 does not.
fn said(version: Version, reason: ReasonCode) -> Vec<Got> {
    match version {
        V311 => vec![],
        V5 => vec![Got::Disconnect(reason)],
    }
}

/// A PUBLISH that is not served ends the connection [MQTT-4.13.1-1]; one that is, does not.
#[test]
fn publishes_that_are_not_served_end_the_connection() {
    for version in [V311, V5] {
        for (service, qos, retain, refused) in [
            (Service { max_qos: AtMostOnce, ..Service::default() }, AtLeastOnce, false, ReasonCode::QosNotSupported),
            (Service { max_qos: AtLeastOnce, ..Service::default() }, ExactlyOnce, false, ReasonCode::QosNotSupported),
            (Service { retain: false, ..Service::default() }, AtMostOnce, true, ReasonCode::RetainNotSupported),
        ] {
            let mut fleet = serving(service.clone());
            let watcher = fleet.connect(V5, "watcher", true);
            fleet.subscribe(watcher, "t", ExactlyOnce);
            fleet.got(watcher);
            let client = fleet.connect(version, "client", true);
            fleet.got(client);
            let served = service.max_qos.min(AtLeastOnce);
            fleet.publish(client, "t", "served", served, u16::from(served.bits()));
            assert_eq!(fleet.got(client).len(), usize::from(served.bits()));
            fleet.publish_with(client, "t", "not", qos, u16::from(qos > AtMostOnce), false, retain);
            assert_eq!(fleet.got(client), said(version, refused));
            assert_eq!(fleet.commands(client), ["finish"]);
            assert_eq!(fleet.got(watcher).len(), 1);
            assert_eq!(fleet.count(|counters| counters.refused_not_served), 1);
        }
    }
}

/// [MQTT-3.2.2-12] [MQTT-3.2.2-13]; 3.1.1 has no return code for it.
#[test]
fn wills_that_are_not_served_are_refused() {
    for version in [V311, V5] {
        for (service, qos, retain, reason) in [
            (Service { max_qos: AtMostOnce, ..Service::default() }, AtLeastOnce, false, ReasonCode::QosNotSupported),
            (Service { max_qos: AtLeastOnce, ..Service::default() }, ExactlyOnce, false, ReasonCode::QosNotSupported),
            (Service { retain: false, ..Service::default() }, AtMostOnce, true, ReasonCode::RetainNotSupported),
        ] {
            let mut fleet = serving(service);
            let none = PropertyWriter::new();
            let will =
                |qos, retain| Some(Will { topic: "w", payload: b"", qos, retain, properties: none.properties() });
            let client = fleet.connect_with(Connect { will: will(qos, retain), ..connect(version, "client", &none) });
            let expected = match version {
                V311 => vec![],
                V5 => vec![Got::Connack { session_present: false, reason }],
            };
            assert_eq!(fleet.got(client), expected);
            assert_eq!(fleet.commands(client), ["finish"]);
            let served = Connect { will: will(AtMostOnce, false), ..connect(version, "client", &none) };
            let client = fleet.connect_with(served);
            let reason = ReasonCode::Success;
            assert_eq!(fleet.got(client), [Got::Connack { session_present: false, reason }]);
        }
    }
}

/// [MQTT-3.2.2-10]: subscriptions of any QoS are granted, whatever the Maximum QoS.
#[test]
fn subscriptions_of_any_qos_are_granted() {
    for version in [V311, V5] {
        for max_qos in [AtMostOnce, AtLeastOnce] {
            let mut fleet = serving(Service { max_qos, ..Service::default() });
            let client = fleet.connect(version, "client", true);
            fleet.got(client);
            for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
                fleet.subscribe(client, "t", qos);
                assert_eq!(fleet.got(client), [Got::Suback(vec![qos.bits()])]);
            }
            fleet.publish(client, "t", "x", max_qos, u16::from(max_qos.bits()));
            let got = fleet.got(client);
            assert!(got.iter().any(|got| matches!(got, Got::Publish { qos, .. } if *qos == max_qos)), "{got:?}");
        }
    }
}

/// 5.0 clients, who were told, are sent away before anything is subscribed to [MQTT-4.13.1-1]; 3.1.1 clients are refused
/// the filter [3.1.1: MQTT-3.8.3-2].
#[test]
fn subscriptions_that_are_not_served() {
    for (service, filter, reason) in [
        (
            Service { wildcard_subscriptions: false, ..Service::default() },
            "a/+",
            ReasonCode::WildcardSubscriptionsNotSupported,
        ),
        (
            Service { wildcard_subscriptions: false, ..Service::default() },
            "#",
            ReasonCode::WildcardSubscriptionsNotSupported,
        ),
        (
            Service { shared_subscriptions: false, ..Service::default() },
            "$share/g/t",
            ReasonCode::SharedSubscriptionsNotSupported,
        ),
    ] {
        let mut fleet = serving(service);
        let options = SubscriptionOptions::from_qos(AtMostOnce);
        let filters = [("t", options), (filter, options)];
        for version in [V5, V311] {
            let mut subscribe = Vec::new();
            encode_subscribe(&mut subscribe, version, id(1), Properties::EMPTY, filters.into_iter());
            let client = fleet.connect(version, "client", true);
            fleet.got(client);
            fleet.send_bytes(client, &subscribe);
            let (answer, subscriptions) = match version {
                V5 => (Got::Disconnect(reason), 0),
                V311 => (Got::Suback(vec![0, 0x80]), 1),
            };
            assert_eq!(fleet.got(client), [answer], "{filter}");
            assert_eq!(fleet.count(|counters| counters.subscriptions), subscriptions);
        }
        assert_eq!(fleet.count(|counters| counters.refused_not_served), 2);
    }
}

#[test]
fn subscription_identifiers_that_are_not_served() {
    let mut fleet = serving(Service { subscription_identifiers: false, ..Service::default() });
    let client = fleet.connect(V5, "client", true);
    fleet.subscribe(client, "t", AtMostOnce);
    assert_eq!(fleet.got(client)[1..], [Got::Suback(vec![0])], "without one it is served");
    let identifier = properties([Property::SubscriptionIdentifier(1)]);
    let filters = [("t", SubscriptionOptions::from_qos(AtMostOnce))].into_iter();
    let mut subscribe = Vec::new();
    encode_subscribe(&mut subscribe, V5, id(1), identifier.properties(), filters);
    fleet.send_bytes(client, &subscribe);
    assert_eq!(fleet.got(client), [Got::Disconnect(ReasonCode::SubscriptionIdentifiersNotSupported)]);
}

/// With retaining switched off, nothing that was retained before is given to anybody.
#[test]
fn without_retaining_nothing_retained_is_sent() {
    for (retain, messages) in [(true, 1), (false, 0)] {
        let mut fleet = serving(Service { retain: true, ..Service::default() });
        let client = fleet.connect(V5, "client", true);
        fleet.publish_with(client, "t", "kept", AtMostOnce, 0, false, true);
        fleet.shards[0].clients.service.retain = retain;
        fleet.got(client);
        fleet.subscribe(client, "t", AtMostOnce);
        assert_eq!(fleet.got(client)[1..].len(), messages);
    }
}

/// A payload that is not the UTF-8 that it claims to be is refused by the acknowledgement, or where there is none by the end
/// of the connection; a will by CONNACK. Nobody gets it, and nothing is looked at unless the operator asked for it.
#[test]
fn a_payload_that_is_not_what_it_claims_is_refused() {
    let (text, bytes) =
        (properties([Property::PayloadFormatIndicator(1)]), properties([Property::PayloadFormatIndicator(0)]));
    let invalid = ReasonCode::PayloadFormatInvalid;
    for validates_payload_format in [false, true] {
        let mut fleet = serving(Service { validates_payload_format, ..Service::default() });
        let watcher = fleet.connect(V5, "watcher", true);
        fleet.subscribe(watcher, "t", AtMostOnce);
        fleet.received(watcher);
        let client = fleet.connect(V5, "client", true);
        fleet.got(client);
        let refused = if validates_payload_format { invalid } else { ReasonCode::Success };
        for (kind, qos) in [(Puback, AtLeastOnce), (Pubrec, ExactlyOnce)] {
            fleet.send(client, &message("t", b"\xFF", qos, 1, &text));
            assert_eq!(fleet.got(client), [Got::Ack(kind, 1, refused)]);
            fleet.send(client, &message("t", "\u{FC}".as_bytes(), qos, 2, &text));
            fleet.send(client, &message("t", b"\xFF", qos, 3, &bytes));
            let accepted = |id| Got::Ack(kind, id, ReasonCode::Success);
            assert_eq!(fleet.got(client), [accepted(2), accepted(3)]);
        }
        let mut payloads = Vec::new();
        with_packets(&mut fleet, watcher, |packet, _| {
            let Packet::Publish(publish) = packet else { panic!("PUBLISH only") };
            payloads.push((publish.payload.to_vec(), publish.properties.payload_format_indicator()));
        });
        let claimed = |indicator| payloads.iter().filter(|message| **message == (vec![0xFF], Some(indicator))).count();
        assert_eq!((claimed(0), claimed(1)), (2, if validates_payload_format { 0 } else { 2 }));
        fleet.send(client, &message("t", b"\xFF", AtMostOnce, 0, &text));
        let ended = if validates_payload_format { vec![Got::Disconnect(invalid)] } else { vec![] };
        assert_eq!(fleet.got(client), ended);
        let none = PropertyWriter::new();
        let properties = text.properties();
        let will = Some(Will { topic: "w", payload: b"\xFF", qos: AtMostOnce, retain: false, properties });
        let client = fleet.connect_with(Connect { will, ..connect(V5, "with-will", &none) });
        assert_eq!(fleet.got(client), [Got::Connack { session_present: false, reason: refused }]);
        let count = fleet.count(|counters| counters.refused_payload_format);
        assert_eq!(count, if validates_payload_format { 4 } else { 0 });
    }
}

/// [MQTT-4.3.3-9]: behind the refusal the identifier means a new message.
#[test]
fn behind_a_refusal_the_identifier_is_new() {
    let mut fleet = serving(Service { validates_payload_format: true, ..Service::default() });
    let client = fleet.connect(V5, "client", true);
    fleet.subscribe(client, "t", AtMostOnce);
    fleet.got(client);
    let text = properties([Property::PayloadFormatIndicator(1)]);
    fleet.send(client, &message("t", b"\xFF", ExactlyOnce, 1, &text));
    assert_eq!(fleet.got(client), [Got::Ack(Pubrec, 1, ReasonCode::PayloadFormatInvalid)]);
    assert_eq!(fleet.count(|counters| counters.inbound_inflight), 0);
    fleet.send(client, &message("t", b"new", ExactlyOnce, 1, &text));
    let got = fleet.got(client);
    assert!(got.contains(&Got::Ack(Pubrec, 1, ReasonCode::Success)), "{got:?}");
    assert!(got.iter().any(|got| matches!(got, Got::Publish { payload, .. } if payload == "new")), "{got:?}");
}

/// A message that was taken is not refused when it comes again, whatever it says now: its publisher would use the identifier
/// for the next message, and that would pass for a repetition.
#[test]
fn a_repeated_message_is_not_refused() {
    let mut fleet = serving(Service { validates_payload_format: true, ..Service::default() });
    let client = fleet.connect(V5, "client", true);
    fleet.got(client);
    let text = properties([Property::PayloadFormatIndicator(1)]);
    for (topic, payload) in [("t", &b"taken"[..]), ("t", b"\xFF"), ("$SYS/x", b"taken")] {
        fleet.send(client, &message(topic, payload, ExactlyOnce, 1, &text));
        assert_eq!(fleet.got(client), [Got::Ack(Pubrec, 1, ReasonCode::Success)]);
    }
    fleet.ack(client, Pubrel, 1);
    fleet.got(client);
    fleet.send(client, &message("$SYS/x", b"new", ExactlyOnce, 1, &text));
    assert_eq!(fleet.got(client), [Got::Ack(Pubrec, 1, ReasonCode::NotAuthorized)]);
}

/// [MQTT-3.3.2-14] for a will.
#[test]
fn a_will_with_a_wildcard_in_its_response_topic_is_refused() {
    let mut fleet = Fleet::new(1);
    let (none, wildcard) = (PropertyWriter::new(), properties([Property::ResponseTopic("a/#")]));
    let properties = wildcard.properties();
    let will = Some(Will { topic: "w", payload: b"", qos: AtMostOnce, retain: false, properties });
    let client = fleet.connect_with(Connect { will, ..connect(V5, "client", &none) });
    assert_eq!(fleet.got(client), [Got::Connack { session_present: false, reason: ReasonCode::ProtocolError }]);
}

/// [MQTT-4.3.3-9] where the log of another shard has failed, which would have to keep the message. What was taken before that
/// is not refused when it comes again: the publisher would give the identifier to the next message.
#[test]
fn behind_a_refusal_by_a_failed_log_the_identifier_is_new() {
    let mut fleet = Fleet::durable(2);
    let publisher = fleet.connect_v5("publisher", 10);
    let away = |name: &String| shard_of(name, 2) != shard_of("publisher", 2);
    let name = (0..).map(|number| format!("subscriber-{number}")).find(away).expect("half of all names do");
    let subscriber = fleet.connect_v5(&name, 10);
    fleet.subscribe(subscriber, "t", ExactlyOnce);
    fleet.publish(publisher, "t", "taken", ExactlyOnce, 1);
    let taken = |id| Got::Ack(Pubrec, id, ReasonCode::Success);
    assert_eq!(fleet.got(publisher)[1..], [taken(1)]);
    fleet.drop_connection(publisher);
    fleet.logs_flow = false;
    fleet.subscribe(subscriber, "u", ExactlyOnce);
    fleet.fail_log(shard_of(&name, 2).index(), LogFailure::Io);
    fleet.sync();
    let publisher = fleet.connect_v5("publisher", 10);
    fleet.got(publisher);
    fleet.publish_with(publisher, "t", "taken", ExactlyOnce, 1, true, false);
    fleet.publish(publisher, "t", "refused", ExactlyOnce, 2);
    fleet.publish(publisher, "elsewhere", "new", ExactlyOnce, 2);
    let refused = Got::Ack(Pubrec, 2, ReasonCode::ImplementationSpecificError);
    assert_eq!(fleet.got(publisher), [taken(1), refused, taken(2)]);
    let counted = |counters: &Counters| counters.inbound_inflight + 10 * counters.refused_log_failed;
    assert_eq!(fleet.count(counted), 12, "two identifiers await PUBREL, one message was refused");
}
