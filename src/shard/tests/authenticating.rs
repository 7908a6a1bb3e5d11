//! Clients that have authenticated by an exchange of AUTH packets, and that do so again.

use super::*;
use crate::auth::METHOD;
use crate::auth::testing::{ScramClient, authenticated};
use crate::proto::{Auth, frame_length};

const AGAIN: ReasonCode = ReasonCode::Reauthenticate;
const GO_ON: ReasonCode = ReasonCode::ContinueAuthentication;

/// A shard with a client that has authenticated as `alice`, and the CONNACK that it got.
fn connect(max_packet_bytes: Option<u32>) -> (Fleet, Client, ScramClient) {
    let mut fleet = Fleet::new(1);
    let mut scram = ScramClient::new("alice", "secret");
    let mut properties = PropertyWriter::new();
    properties.push(Property::AuthenticationMethod(METHOD)).push(Property::AuthenticationData(b"first"));
    if let Some(max) = max_packet_bytes {
        properties.push(Property::MaximumPacketSize(max));
    }
    let client = fleet.connect_as("client", properties.properties(), authenticated(&mut scram));
    (fleet, client, scram)
}

/// The packets that a client got since it was last asked.
fn frames(fleet: &mut Fleet, client: Client) -> Vec<Vec<u8>> {
    let bytes = fleet.received(client);
    let mut frames = Vec::new();
    let mut rest = &bytes[..];
    while let Some(length) = frame_length(rest, u32::MAX).expect("a packet") {
        frames.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    assert!(rest.is_empty());
    frames
}

/// The one packet that a client got.
fn only(fleet: &mut Fleet, client: Client) -> Vec<u8> {
    let mut frames = frames(fleet, client);
    assert_eq!(frames.len(), 1, "{frames:02x?}");
    frames.remove(0)
}

fn send_auth(fleet: &mut Fleet, client: Client, reason: ReasonCode, method: &str, data: Option<&[u8]>) {
    let mut properties = PropertyWriter::new();
    properties.push(Property::AuthenticationMethod(method));
    if let Some(data) = data {
        properties.push(Property::AuthenticationData(data));
    }
    fleet.send(client, &Packet::Auth(Auth { reason, properties: properties.properties() }));
}

/// The data of the AUTH packet that a client got, which has this reason, and nothing else but the method.
fn auth_data(frame: &[u8], expected: ReasonCode) -> Vec<u8> {
    let Ok(Packet::Auth(auth)) = decode(Version::V5, frame) else { panic!("AUTH, not {frame:02x?}") };
    assert_eq!(auth.reason, expected);
    let properties: Vec<Property<'_>> = auth.properties.iter().collect();
    let [Property::AuthenticationMethod(METHOD), Property::AuthenticationData(data)] = properties[..] else {
        panic!("method and data, not {properties:?}")
    };
    data.to_vec()
}

/// [MQTT-4.12.0-5]: CONNACK has the method, and the last message of the exchange.
#[test]
fn connack_ends_the_exchange_with_method_and_data() {
    let (mut fleet, client, scram) = connect(None);
    let frame = only(&mut fleet, client);
    let Ok(Packet::Connack(connack)) = decode(Version::V5, &frame) else { panic!("CONNACK") };
    assert_eq!(connack.reason, ReasonCode::Success);
    assert_eq!(connack.properties.authentication_method(), Some(METHOD));
    assert!(scram.trusts(connack.properties.authentication_data().expect("data")));
}

/// [MQTT-4.12.0-2] [MQTT-4.12.0-5] [MQTT-3.15.2-2] [MQTT-3.15.2-3]; messages go on meanwhile.
#[test]
fn a_client_authenticates_again_while_its_messages_go_on() {
    let (mut fleet, client, mut scram) = connect(None);
    fleet.subscribe(client, "t", QoS::AtMostOnce);
    frames(&mut fleet, client);
    for _ in 0..2 {
        send_auth(&mut fleet, client, AGAIN, METHOD, Some(&scram.first()));
        let challenge = auth_data(&only(&mut fleet, client), GO_ON);
        fleet.publish(client, "t", "meanwhile", QoS::AtLeastOnce, 1);
        assert_eq!(fleet.got(client).len(), 2, "the message, and PUBACK");
        let answer = scram.answer(&challenge);
        send_auth(&mut fleet, client, GO_ON, METHOD, Some(&answer));
        assert!(scram.trusts(&auth_data(&only(&mut fleet, client), ReasonCode::Success)));
    }
    assert_eq!(fleet.count(|counters| counters.reauthenticated), 2);
    assert_eq!(fleet.count(|counters| counters.connections), 1);
}

/// [MQTT-4.12.1-2]
#[test]
fn a_reauthentication_that_fails_ends_the_connection() {
    let disconnected = [Got::Disconnect(ReasonCode::NotAuthorized)];
    let (mut fleet, client, _) = connect(None);
    frames(&mut fleet, client);
    let mut mistaken = ScramClient::new("alice", "Secret");
    send_auth(&mut fleet, client, AGAIN, METHOD, Some(&mistaken.first()));
    let challenge = auth_data(&only(&mut fleet, client), GO_ON);
    send_auth(&mut fleet, client, GO_ON, METHOD, Some(&mistaken.answer(&challenge)));
    assert_eq!(fleet.got(client), disconnected);
    assert_eq!(fleet.count(|counters| counters.refused_reauthentication), 1);
    assert_eq!(fleet.commands(client), ["finish"]);
    // Its account can't be changed, and it has to say something.
    for data in [Some(&ScramClient::new("bob", "secret").first()[..]), None] {
        let (mut fleet, client, _) = connect(None);
        frames(&mut fleet, client);
        send_auth(&mut fleet, client, AGAIN, METHOD, data);
        assert_eq!(fleet.got(client), disconnected);
    }
}

/// [MQTT-4.12.0-7] [MQTT-4.12.1-1]: what is not due is a protocol error.
#[test]
fn auth_out_of_turn_is_a_protocol_error() {
    let disconnected = [Got::Disconnect(ReasonCode::ProtocolError)];
    let first = ScramClient::new("alice", "secret").first();
    for (reason, method) in [(GO_ON, METHOD), (ReasonCode::Success, METHOD), (AGAIN, "SCRAM-SHA-1")] {
        let (mut fleet, client, _) = connect(None);
        frames(&mut fleet, client);
        send_auth(&mut fleet, client, reason, method, Some(&first));
        assert_eq!(fleet.got(client), disconnected, "{reason:?} {method}");
    }
    for reason in [AGAIN, GO_ON, ReasonCode::Success] {
        let mut fleet = Fleet::new(1);
        let client = fleet.connect_v5_transient("anonymous");
        frames(&mut fleet, client);
        send_auth(&mut fleet, client, reason, METHOD, Some(&first));
        assert_eq!(fleet.got(client), disconnected, "{reason:?}");
    }
}

/// [MQTT-3.1.2-24] [MQTT-3.15.2-2] [MQTT-3.15.2-3]: a client with no room for an answer does not get a larger one.
#[test]
fn auth_is_no_larger_than_the_client_accepts() {
    let (mut fleet, client, scram) = connect(None);
    let connack = only(&mut fleet, client).len();
    send_auth(&mut fleet, client, AGAIN, METHOD, Some(&scram.first()));
    let challenge = only(&mut fleet, client).len();
    assert!(challenge > connack, "{challenge} {connack}");
    for (max, expected) in [(challenge, None), (challenge - 1, Some(ReasonCode::PacketTooLarge))] {
        let (mut fleet, client, scram) = connect(u32::try_from(max).ok());
        frames(&mut fleet, client);
        send_auth(&mut fleet, client, AGAIN, METHOD, Some(&scram.first()));
        match expected {
            None => drop(auth_data(&only(&mut fleet, client), GO_ON)),
            Some(reason) => assert_eq!(fleet.got(client), [Got::Disconnect(reason)]),
        }
    }
}
