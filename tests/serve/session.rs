//! A 3.1.1 client with a session that outlives its connection, in raw packets.

use std::io::{Read, Write};

use crate::broker::Broker;

/// What a client's bytes go through.
pub(crate) trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// A client that is connected.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
}

impl Client {
    /// Connects with clean session 0; says whether the broker has a session.
    pub(crate) fn resume(broker: &Broker, client_id: &str) -> (Self, bool) {
        Self::resume_over(broker.connect(), client_id)
    }

    /// As [`resume`](Self::resume), over a stream of any kind.
    pub(crate) fn resume_over(stream: impl Stream + 'static, client_id: &str) -> (Self, bool) {
        let mut client = Self::connecting_over(stream, client_id, false);
        match client.receive() {
            (0x20, acknowledgement) if acknowledgement[1] == 0 => (client, acknowledgement[0] == 1),
            refused => panic!("refused: {refused:?}"),
        }
    }

    /// Connects with clean session 1.
    pub(crate) fn transient(broker: &Broker, client_id: &str) -> Self {
        let mut client = Self::connecting(broker, client_id, true);
        client.expect(0x20, &[0, 0]);
        client
    }

    /// Has sent its CONNECT.
    pub(crate) fn connecting(broker: &Broker, client_id: &str, clean: bool) -> Self {
        Self::connecting_over(broker.connect(), client_id, clean)
    }

    fn connecting_over(stream: impl Stream + 'static, client_id: &str, clean: bool) -> Self {
        let mut client = Self { stream: Box::new(stream) };
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, u8::from(clean) << 1, 0, 0];
        body.extend_from_slice(&string(client_id));
        client.send(0x10, &body);
        client
    }

    /// Subscribes with QoS 2.
    pub(crate) fn subscribe(&mut self, filter: &str) {
        self.send(0x82, &[&[0, 1], &string(filter)[..], &[2]].concat());
        self.expect(0x90, &[0, 1, 2]);
    }

    /// Sends a PUBLISH of QoS 2.
    pub(crate) fn publish(&mut self, id: u8, topic: &str, payload: &str) {
        self.send(0x34, &[&string(topic)[..], &[0, id], payload.as_bytes()].concat());
    }

    /// Sends it again.
    pub(crate) fn publish_again(&mut self, id: u8, topic: &str, payload: &str) {
        self.send(0x3C, &[&string(topic)[..], &[0, id], payload.as_bytes()].concat());
    }

    /// Publishes with QoS 1, retained.
    pub(crate) fn retain(&mut self, id: u8, topic: &str, payload: &str) {
        self.send(0x33, &[&string(topic)[..], &[0, id], payload.as_bytes()].concat());
        self.expect(0x40, &[0, id]);
    }

    /// Ends an exchange as its sender.
    pub(crate) fn release(&mut self, id: u8) {
        self.send(0x62, &[0, id]);
        self.expect(0x70, &[0, id]);
    }

    /// Publishes with QoS 2, all four packets.
    pub(crate) fn publish_whole(&mut self, id: u8, topic: &str, payload: &str) {
        self.publish(id, topic, payload);
        self.expect(0x50, &[0, id]);
        self.release(id);
    }

    /// As [`publish_whole`](Self::publish_whole); whether the broker has taken the message, and has not ended the connection.
    pub(crate) fn try_publish_whole(&mut self, id: u8, topic: &str, payload: &str) -> bool {
        self.publish(id, topic, payload);
        let mut acknowledgement = [0; 4];
        if self.stream.read_exact(&mut acknowledgement).is_err() {
            return false;
        }
        assert_eq!(acknowledgement, [0x50, 2, 0, id]);
        self.send(0x62, &[0, id]);
        // PUBCOMP, or the end.
        let _ = self.stream.read_exact(&mut acknowledgement);
        true
    }

    /// Receives so many messages of QoS 2 and acknowledges them to the end; their payloads.
    pub(crate) fn take_messages(&mut self, messages: usize) -> Vec<String> {
        let mut payloads = Vec::new();
        let mut completed = 0;
        while completed < messages {
            match self.receive() {
                (0x34 | 0x3C, body) => {
                    let topic = usize::from(body[1]);
                    payloads.push(String::from_utf8_lossy(&body[4 + topic..]).into_owned());
                    self.send(0x50, &body[2 + topic..4 + topic]);
                }
                (0x62, id) => {
                    completed += 1;
                    self.send(0x70, &id);
                }
                other => panic!("neither PUBLISH nor PUBREL: {other:?}"),
            }
        }
        payloads
    }

    /// A PING goes round: nothing else was on its way before.
    pub(crate) fn ping(&mut self) {
        self.send(0xC0, &[]);
        self.expect(0xD0, &[]);
    }

    /// Says goodbye.
    pub(crate) fn leave(mut self) {
        self.send(0xE0, &[]);
        assert!(self.remaining().is_empty());
    }

    /// All that comes until the broker ends the connection.
    pub(crate) fn remaining(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A connection that the broker resets has ended, too.
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// Receives this very packet.
    pub(crate) fn expect(&mut self, first: u8, body: &[u8]) {
        assert_eq!(self.receive(), (first, body.to_vec()));
    }

    fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 2];
        self.stream.read_exact(&mut header).expect("a packet");
        let mut body = vec![0; usize::from(header[1])];
        self.stream.read_exact(&mut body).expect("the rest of it");
        (header[0], body)
    }

    fn send(&mut self, first: u8, body: &[u8]) {
        assert!(body.len() < 128, "one byte of remaining length");
        let packet = [&[first, body.len() as u8], body].concat();
        self.stream.write_all(&packet).expect("sent");
    }
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}
