//! What the operator lets the broker serve and tell, and how that fits into what a client accepts.

use std::num::NonZeroU16;

use super::*;
use crate::config::Notice;
use crate::proto::{PropertyIdentifier, frame_length};
use AcknowledgementKind::{Puback, Pubrec, Pubrel};
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use Version::{V5, V311};

mod refusing;
mod sizes;

fn serving(service: Service) -> Fleet {
    Fleet::with_service(1, limits(), service)
}

fn notice(text: &str) -> Option<Notice> {
    Some(Notice::new(text).expect("a notice"))
}

fn connect<'a>(version: Version, client_id: &'a str, properties: &'a PropertyWriter) -> Connect<'a> {
    super::connect(version, client_id, properties.properties())
}

fn properties<'a>(properties: impl IntoIterator<Item = Property<'a>>) -> PropertyWriter {
    let mut writer = PropertyWriter::new();
    for property in properties {
        writer.push(property);
    }
    writer
}

/// The packets that a 5.0 client has got since it was last asked.
fn with_packets(fleet: &mut Fleet, client: Client, mut look: impl FnMut(&Packet<'_>, usize)) {
    let received = fleet.received(client);
    let mut rest = &received[..];
    while let Some(length) = frame_length(rest, u32::MAX).expect("the broker sends legal packets") {
        let (frame, behind) = rest.split_at(length);
        look(&decode(V5, frame).expect("the broker sends legal packets"), length);
        rest = behind;
    }
}

/// What a 5.0 client with these properties and keep-alive is told in CONNACK: identifiers, reason and keep-alive.
fn told(fleet: &mut Fleet, connect: Connect<'_>) -> Vec<(PropertyIdentifier, String)> {
    let client = fleet.connect_with(connect);
    let mut told = Vec::new();
    with_packets(fleet, client, |packet, _| {
        let Packet::Connack(connack) = packet else { panic!("CONNACK only") };
        assert_eq!(connack.reason, ReasonCode::Success);
        told.extend(connack.properties.iter().map(|property| (property.identifier(), format!("{property:?}"))));
    });
    told
}

/// [MQTT-3.2.2-9]: each switch that is off is told, and nothing is told of what is on.
#[test]
fn connack_tells_what_is_not_served() {
    let all = Service::default;
    let none = PropertyWriter::new();
    let always = told(&mut serving(all()), connect(V5, "client", &none));
    for (service, expected) in [
        (Service { max_qos: AtMostOnce, ..all() }, Property::MaximumQos(AtMostOnce)),
        (Service { max_qos: AtLeastOnce, ..all() }, Property::MaximumQos(AtLeastOnce)),
        (Service { retain: false, ..all() }, Property::RetainAvailable(false)),
        (Service { wildcard_subscriptions: false, ..all() }, Property::WildcardSubscriptionAvailable(false)),
        (Service { subscription_identifiers: false, ..all() }, Property::SubscriptionIdentifiersAvailable(false)),
        (Service { shared_subscriptions: false, ..all() }, Property::SharedSubscriptionAvailable(false)),
    ] {
        let told = told(&mut serving(service), connect(V5, "client", &none));
        let expected = (expected.identifier(), format!("{expected:?}"));
        assert!(told.contains(&expected), "{told:?}");
        assert!(told.iter().all(|property| *property == expected || always.contains(property)), "{told:?}");
    }
}

/// [MQTT-3.1.2-21] [MQTT-3.1.2-22] [MQTT-3.2.2-21] [MQTT-3.2.2-22], trap 34: the bound is told and kept, and where it says
/// nothing the client's value is. 3.1.1 clients cannot be told.
#[test]
fn a_keep_alive_beyond_the_bound_is_replaced() {
    let id = PropertyIdentifier::ServerKeepAlive;
    for (version, max, asked, expected) in [
        (V5, 20, 0, Some(20)),
        (V5, 20, 21, Some(20)),
        (V5, 20, 20, None),
        (V5, 20, 10, None),
        (V5, 0, 100, None),
        (V311, 20, 100, None),
    ] {
        let max_keep_alive_seconds = NonZeroU16::new(max);
        let mut fleet = serving(Service { max_keep_alive_seconds, ..Service::default() });
        let none = PropertyWriter::new();
        let connect = Connect { keep_alive_seconds: asked, ..connect(version, "client", &none) };
        if version == V5 {
            let told = told(&mut fleet, connect);
            let told = told.into_iter().find_map(|(property, value)| (property == id).then_some(value));
            assert_eq!(told, expected.map(|seconds| format!("ServerKeepAlive({seconds})")));
        }
        let client = fleet.connect_with(connect);
        fleet.got(client);
        let kept = Duration::from_millis(u64::from(expected.unwrap_or(asked)) * 1500);
        fleet.pass(kept - Duration::from_secs(1));
        assert_eq!(fleet.commands(client), [""; 0], "{version:?} {max} {asked}");
        fleet.pass(Duration::from_secs(2));
        assert_eq!(fleet.commands(client), ["finish"], "{version:?} {max} {asked}");
    }
}

/// [MQTT-3.1.2-28], trap 34.
#[test]
fn response_information_is_told_on_request() {
    let id = PropertyIdentifier::ResponseInformation;
    for (request, information, is_told) in [
        (None, notice("replies/"), false),
        (Some(false), notice("replies/"), false),
        (Some(true), None, false),
        (Some(true), notice("replies/"), true),
    ] {
        let mut fleet = serving(Service { response_information: information, ..Service::default() });
        let asks = properties(request.map(Property::RequestResponseInformation));
        let told = told(&mut fleet, connect(V5, "client", &asks));
        let told = told.into_iter().find_map(|(property, value)| (property == id).then_some(value));
        assert_eq!(told, is_told.then(|| r#"ResponseInformation("replies/")"#.to_owned()), "{request:?}");
    }
}

/// Who can be served elsewhere is told where, when the operator has said so; 3.1.1 has no words for it.
#[test]
fn clients_are_sent_to_the_other_server() {
    for (server_reference, full, stopping) in [
        (None, ReasonCode::QuotaExceeded, ReasonCode::ServerShuttingDown),
        (notice("other:1883"), ReasonCode::UseAnotherServer, ReasonCode::UseAnotherServer),
    ] {
        let service = Service { server_reference: server_reference.clone(), ..Service::default() };
        let limits = Limits { max_sessions: std::num::NonZeroU32::new(2), ..limits() };
        let mut fleet = Fleet::with_service(1, limits, service);
        let new = fleet.connect(V5, "new", true);
        let old = fleet.connect(V311, "old", true);
        fleet.got(new);
        fleet.got(old);
        let third = fleet.connect(V311, "third", true);
        let reason = ReasonCode::ServerUnavailable;
        assert_eq!(fleet.got(third), [Got::Connack { session_present: false, reason }]);
        let expected = server_reference.as_ref().map(Notice::as_str);
        let third = fleet.connect(V5, "third", true);
        with_packets(&mut fleet, third, |packet, _| {
            let Packet::Connack(connack) = packet else { panic!("CONNACK only") };
            assert_eq!((connack.reason, connack.properties.server_reference()), (full, expected));
        });
        assert_eq!(fleet.count(|counters| counters.refused_max_sessions), 2);
        let now = fleet.now;
        fleet.shards[0].handle_shutdown(now);
        fleet.run();
        with_packets(&mut fleet, new, |packet, _| {
            let Packet::Disconnect(disconnect) = packet else { panic!("DISCONNECT only") };
            assert_eq!((disconnect.reason, disconnect.properties.server_reference()), (stopping, expected));
        });
        assert_eq!(fleet.got(old), []);
    }
}
