//! The floor: the packets of QoS 2 over the sockets of a broker, and no broker. What a message costs here is what the kernel takes
//! for it; what it costs a broker beyond that is the broker's.
//!
//! `benches/versus` drives it with the loads that it drives brokers with, through the same io_uring loop that a shard of OnceMQ
//! has (one thread; `src/io/floor.rs`). Of a PUBLISH it looks at where its packet id stands, of all other packets of an
//! exchange at the first four bytes, and it answers them from templates. A message goes to those who are subscribed to the
//! topic of its publisher's first one; no session, no wildcard, no state of an exchange, no duplicate is known here. The one thing
//! that it counts is how many messages a subscriber has not finished, so that it does not bury one that is slow: beyond
//! 1,000, as many as OnceMQ by default has on their way to a client, each PUBREC waits for one of its PUBCOMPs.
//!
//!     cargo bench --bench floor -- --listen 127.0.0.1:1883
//!
//! Without `--listen`, as under `cargo test`, a message of each version passes once through it.

mod check;

use std::collections::VecDeque;
use std::env;
use std::error::Error;
use std::net::TcpListener;

use mimalloc::MiMalloc;
use oncemq::config::{MAX_INFLIGHT_DEFAULT, RingSizes};
use oncemq::io::floor::{Entrance, Outputs, Relay, start};
use oncemq::proto::{
    Connack, Framer, Packet, PacketType, Properties, ReasonCode, Received, Suback, Version, decode, decode_connect,
};

// As in the broker.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What the load generator publishes at most.
const PACKET_BYTES_MAX: u32 = 2 << 20;

/// First byte of a PUBLISH with QoS 2, neither repeated nor retained.
const PUBLISH: u8 = 0x34;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let entrance = start(RingSizes::default(), Floor::default())?;
    match &arguments[..] {
        [flag, address, ..] if flag == "--listen" => {
            oncemq::io::raise_open_file_limit();
            accept(&oncemq::io::listen("--listen", address.parse()?)?, &entrance)
        }
        _ => check::messages_pass(entrance),
    }
}

fn accept(listener: &TcpListener, entrance: &Entrance) -> Result<(), Box<dyn Error>> {
    loop {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        entrance.admit(socket.into());
    }
}

/// All connections, by their number.
#[derive(Default)]
struct Floor {
    clients: Vec<Client>,
}

#[derive(Default)]
struct Client {
    framer: Framer,
    /// `None` before CONNECT.
    version: Option<Version>,
    /// What it is subscribed to.
    filters: Vec<String>,
    /// Who gets what it publishes, once it has.
    listeners: Option<Vec<usize>>,
    /// Messages that went to it and are without PUBCOMP.
    unfinished: usize,
    last_id: u16,
    /// PUBRECs, each with its publisher, that wait for PUBCOMPs.
    held: VecDeque<(usize, [u8; 2])>,
}

impl Relay for Floor {
    fn handle_received(&mut self, connection: usize, bytes: &[u8], outputs: &mut Outputs) {
        if self.clients.len() <= connection {
            self.clients.resize_with(connection + 1, Client::default);
        }
        let mut framer = std::mem::take(&mut self.clients[connection].framer);
        let mut received = Received::new(bytes);
        // The rest of a stream that is no MQTT is not answered.
        while let Ok(Some(frame)) = framer.next_frame(&mut received, PACKET_BYTES_MAX) {
            self.answer(connection, frame.bytes(), outputs);
        }
        self.clients[connection].framer = framer;
    }

    fn handle_ended(&mut self, connection: usize) {
        for client in &mut self.clients {
            client.listeners = None;
            client.held.retain(|&(publisher, _)| publisher != connection);
        }
        if let Some(client) = self.clients.get_mut(connection) {
            *client = Client::default();
        }
    }
}

impl Floor {
    #[inline]
    fn answer(&mut self, from: usize, frame: &[u8], outputs: &mut Outputs) {
        match (PacketType::from_first_byte(frame[0]), frame) {
            (Some(PacketType::Publish), &[PUBLISH, ..]) => self.forward(from, frame, outputs),
            (Some(PacketType::Pubrec), &[_, _, high, low, ..]) => {
                acknowledge(outputs, from, PacketType::Pubrel, [high, low])
            }
            (Some(PacketType::Pubrel), &[_, _, high, low, ..]) => {
                acknowledge(outputs, from, PacketType::Pubcomp, [high, low])
            }
            (Some(PacketType::Pubcomp), _) => self.finish(from, outputs),
            (_of_no_exchange, _) => self.prepare(from, frame, outputs),
        }
    }

    fn forward(&mut self, from: usize, frame: &[u8], outputs: &mut Outputs) {
        let Some((topic, id_at)) = topic_and_id(frame) else { return };
        let id = [frame[id_at], frame[id_at + 1]];
        let listeners = self.clients[from].listeners.take().unwrap_or_else(|| self.listeners(topic));
        let mut slow = None;
        for &to in &listeners {
            let client = &mut self.clients[to];
            client.unfinished += 1;
            client.last_id = client.last_id.checked_add(1).unwrap_or(1);
            if client.unfinished > usize::from(MAX_INFLIGHT_DEFAULT) {
                slow = Some(to);
            }
            let out = outputs.to(to);
            let start = out.len();
            out.extend_from_slice(frame);
            out[start + id_at..start + id_at + 2].copy_from_slice(&client.last_id.to_be_bytes());
        }
        self.clients[from].listeners = Some(listeners);
        match slow {
            None => acknowledge(outputs, from, PacketType::Pubrec, id),
            Some(to) => self.clients[to].held.push_back((from, id)),
        }
    }

    fn finish(&mut self, from: usize, outputs: &mut Outputs) {
        let client = &mut self.clients[from];
        client.unfinished = client.unfinished.saturating_sub(1);
        // One for one: never are more PUBRECs held than PUBCOMPs to come.
        if let Some((publisher, id)) = client.held.pop_front() {
            acknowledge(outputs, publisher, PacketType::Pubrec, id);
        }
    }

    fn listeners(&self, topic: &[u8]) -> Vec<usize> {
        let hears = |client: &Client| client.filters.iter().any(|filter| filter.as_bytes() == topic);
        (0..self.clients.len()).filter(|&client| hears(&self.clients[client])).collect()
    }

    /// What comes before and after the messages.
    fn prepare(&mut self, from: usize, frame: &[u8], outputs: &mut Outputs) {
        let client = &mut self.clients[from];
        let Some(version) = client.version else {
            let Ok(connect) = decode_connect(frame) else { return };
            client.version = Some(connect.version);
            let connack =
                Connack { session_present: false, reason: ReasonCode::Success, properties: Properties::EMPTY };
            Packet::Connack(connack).encode(connect.version, outputs.to(from));
            return;
        };
        match decode(version, frame) {
            Ok(Packet::Subscribe(subscribe)) => {
                let (filters, codes): (Vec<String>, Vec<u8>) =
                    subscribe.filters().map(|(filter, options)| (filter.to_owned(), options.qos.bits())).unzip();
                client.filters.extend(filters);
                let suback = Suback { packet_id: subscribe.packet_id, properties: Properties::EMPTY, codes: &codes };
                Packet::Suback(suback).encode(version, outputs.to(from));
                self.clients.iter_mut().for_each(|client| client.listeners = None);
            }
            Ok(Packet::Pingreq) => Packet::Pingresp.encode(version, outputs.to(from)),
            _not_of_the_load => {}
        }
    }
}

#[inline]
fn acknowledge(outputs: &mut Outputs, to: usize, kind: PacketType, [high, low]: [u8; 2]) {
    outputs.to(to).extend_from_slice(&[kind.first_byte(), 2, high, low]);
}

/// The topic of a PUBLISH with QoS 2, and where its packet id stands.
#[inline]
fn topic_and_id(frame: &[u8]) -> Option<(&[u8], usize)> {
    let length_bytes = frame[1..].iter().position(|byte| byte & 0x80 == 0)? + 1;
    let topic_at = 1 + length_bytes + 2;
    let topic_bytes = usize::from(u16::from_be_bytes([*frame.get(topic_at - 2)?, *frame.get(topic_at - 1)?]));
    let id_at = topic_at + topic_bytes;
    (frame.len() >= id_at + 2).then(|| (&frame[topic_at..id_at], id_at))
}
