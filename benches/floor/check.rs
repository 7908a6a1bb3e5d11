//! The floor at a tiny size: each packet of both hops comes as from a broker.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use oncemq::io::floor::Entrance;
use oncemq::proto::{
    AcknowledgementKind, Connect, Packet, PacketId, Properties, Publish, QoS, ReasonCode, SubscriptionOptions, Version,
    decode, encode_acknowledgement, encode_subscribe, frame_length,
};

/// A publisher and two subscribers of each version. Panics where something else comes than should.
pub(super) fn messages_pass(entrance: Entrance) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || super::accept(&listener, &entrance).expect("connections are accepted"));
    for version in [Version::V311, Version::V5] {
        let mut publisher = Client::connect(address, version, "publisher")?;
        let mut subscribers =
            [Client::connect(address, version, "first")?, Client::connect(address, version, "second")?];
        for subscriber in &mut subscribers {
            subscriber.subscribe("topic")?;
        }
        for payload in ["one", "two"] {
            publisher.publish("topic", id(7), payload)?;
            publisher.expect(AcknowledgementKind::Pubrec, id(7))?;
            publisher.acknowledge(AcknowledgementKind::Pubrel, id(7))?;
            publisher.expect(AcknowledgementKind::Pubcomp, id(7))?;
            for subscriber in &mut subscribers {
                let id = subscriber.take("topic", payload)?;
                subscriber.acknowledge(AcknowledgementKind::Pubrec, id)?;
                subscriber.expect(AcknowledgementKind::Pubrel, id)?;
                subscriber.acknowledge(AcknowledgementKind::Pubcomp, id)?;
            }
        }
    }
    Ok(())
}

struct Client {
    version: Version,
    stream: TcpStream,
}

impl Client {
    fn connect(address: SocketAddr, version: Version, client_id: &str) -> Result<Self, Box<dyn Error>> {
        let mut client = Self { version, stream: TcpStream::connect(address)? };
        let connect = Connect {
            version,
            clean_start: true,
            keep_alive_seconds: 0,
            client_id,
            will: None,
            username: None,
            password: None,
            properties: Properties::EMPTY,
        };
        client.send(|version, out| Packet::Connect(connect).encode(version, out))?;
        let frame = client.receive()?;
        assert!(matches!(decode(version, &frame)?, Packet::Connack(connack) if connack.reason == ReasonCode::Success));
        Ok(client)
    }

    fn subscribe(&mut self, filter: &str) -> Result<(), Box<dyn Error>> {
        let filters = std::iter::once((filter, SubscriptionOptions::from_qos(QoS::ExactlyOnce)));
        self.send(|version, out| encode_subscribe(out, version, id(3), Properties::EMPTY, filters.clone()))?;
        let frame = self.receive()?;
        assert!(matches!(decode(self.version, &frame)?, Packet::Suback(suback) if suback.codes == [2]));
        Ok(())
    }

    fn publish(&mut self, topic: &str, packet_id: PacketId, payload: &str) -> Result<(), Box<dyn Error>> {
        let publish = Publish {
            dup: false,
            qos: QoS::ExactlyOnce,
            retain: false,
            topic,
            packet_id: Some(packet_id),
            properties: Properties::EMPTY,
            payload: payload.as_bytes(),
        };
        self.send(|version, out| Packet::Publish(publish).encode(version, out))
    }

    fn take(&mut self, topic: &str, payload: &str) -> Result<PacketId, Box<dyn Error>> {
        let frame = self.receive()?;
        let Packet::Publish(publish) = decode(self.version, &frame)? else { panic!("PUBLISH was due") };
        assert_eq!((publish.topic, publish.payload), (topic, payload.as_bytes()));
        Ok(publish.packet_id.expect("QoS 2 has an id"))
    }

    fn acknowledge(&mut self, kind: AcknowledgementKind, id: PacketId) -> Result<(), Box<dyn Error>> {
        self.send(|version, out| encode_acknowledgement(out, version, kind, id, ReasonCode::Success))
    }

    fn expect(&mut self, kind: AcknowledgementKind, id: PacketId) -> Result<(), Box<dyn Error>> {
        let frame = self.receive()?;
        let mut due = Vec::new();
        encode_acknowledgement(&mut due, self.version, kind, id, ReasonCode::Success);
        assert_eq!(frame, due);
        Ok(())
    }

    fn send(&mut self, encode: impl Fn(Version, &mut Vec<u8>)) -> Result<(), Box<dyn Error>> {
        let mut bytes = Vec::new();
        encode(self.version, &mut bytes);
        Ok(self.stream.write_all(&bytes)?)
    }

    fn receive(&mut self) -> Result<Vec<u8>, Box<dyn Error>> {
        let mut frame = vec![0; 2];
        self.stream.read_exact(&mut frame)?;
        let length = frame_length(&frame, 1000)?.expect("a short packet");
        frame.resize(length, 0);
        self.stream.read_exact(&mut frame[2..])?;
        Ok(frame)
    }
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not 0")
}
