//! The client's side of a WebSocket that carries MQTT, behind the handshake: frames of the server become packets, and packets
//! become masked frames.
//!
//! The frames of a server are read as those of a client are, but for the mask, which it must not have. What is sent is masked
//! [RFC 6455, section 5.3] by masks that the caller draws: no random numbers are made here. A ping is answered by what is
//! sent next, and of several the last one.

use std::fmt;

use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::incoming::{Incoming, apply_mask};
use super::{Close, Ended, push_header};

/// The state of one WebSocket at its client, in both directions.
#[derive(Debug)]
pub struct WebSocketClient {
    incoming: Incoming,
    /// What the server has said in the last ping that is not answered.
    pong: Option<Box<[u8]>>,
}

/// Why nothing more comes from a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerEnded {
    /// It has sent a close frame, maybe with a code (RFC 6455, section 7.4).
    Closed(Option<u16>),
    /// It has sent what is no WebSocket that carries MQTT.
    Violation(&'static str),
}

impl Default for WebSocketClient {
    fn default() -> Self {
        Self { incoming: Incoming::of_server(), pong: None }
    }
}

impl WebSocketClient {
    /// Takes the bytes of packets out of received ones and appends them to `packets`.
    ///
    /// # Errors
    /// Says once that nothing more comes; what is received behind that is dropped.
    pub fn open(&mut self, mut received: &[u8], packets: &mut Vec<u8>) -> Result<(), ServerEnded> {
        while !received.is_empty() {
            match self.incoming.take(&mut received, packets, usize::MAX) {
                Ok(None) => {}
                Ok(Some(ping)) => self.pong = Some(ping),
                Err(ended) => return Err(self.ended(ended)),
            }
        }
        Ok(())
    }

    /// Whether there is something to send beside packets.
    pub fn has_pong(&self) -> bool {
        self.pong.is_some()
    }

    /// Appends one binary frame for all of `packets`, of which there may be none, the pong that is due, and, if `is_last`, the
    /// close frame behind which nothing may follow. `mask` draws the mask of each frame.
    pub fn push_frames(
        &mut self,
        packets: &[u8],
        is_last: bool,
        mut mask: impl FnMut() -> [u8; 4],
        into: &mut Vec<u8>,
    ) {
        if !packets.is_empty() {
            push_masked(OpCode::Data(Data::Binary), packets, mask(), into);
        }
        if let Some(pong) = self.pong.take() {
            push_masked(OpCode::Control(Control::Pong), &pong, mask(), into);
        }
        if is_last {
            push_masked(OpCode::Control(Control::Close), &Close::NORMAL.payload(), mask(), into);
        }
    }

    fn ended(&self, ended: Ended) -> ServerEnded {
        match ended {
            Ended::ByClient => ServerEnded::Closed(self.incoming.answer().and_then(Close::code)),
            Ended::ByViolation(close) => ServerEnded::Violation(close.text()),
            Ended::ByBrokenRecord => unreachable!("there are no records below frames that are read by themselves"),
        }
    }
}

impl fmt::Display for ServerEnded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerEnded::Closed(None) => formatter.write_str("the server has closed the WebSocket"),
            ServerEnded::Closed(Some(code)) => {
                write!(formatter, "the server has closed the WebSocket with code {code}")
            }
            ServerEnded::Violation(text) => {
                write!(formatter, "what the server has sent is no WebSocket for MQTT: {text}")
            }
        }
    }
}

fn push_masked(opcode: OpCode, payload: &[u8], mask: [u8; 4], into: &mut Vec<u8>) {
    push_header(into, opcode, payload.len(), Some(mask));
    let start = into.len();
    into.extend_from_slice(payload);
    apply_mask(&mut into[start..], mask);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transport::WebSocket;

    fn masks() -> impl FnMut() -> [u8; 4] {
        let mut next = 0x37FA_213D_u32;
        move || {
            next = next.wrapping_mul(0x9E37_79B1);
            next.to_ne_bytes()
        }
    }

    fn said(client: &mut WebSocketClient, packets: &[u8], is_last: bool) -> Vec<u8> {
        let mut frames = Vec::new();
        client.push_frames(packets, is_last, masks(), &mut frames);
        frames
    }

    /// What a client takes out of these bytes.
    fn opened(client: &mut WebSocketClient, received: &[u8]) -> (Vec<u8>, Result<(), ServerEnded>) {
        let mut packets = Vec::new();
        let ended = client.open(received, &mut packets);
        (packets, ended)
    }

    // RFC 6455, sections 5.1 and 5.3
    #[test]
    fn what_is_sent_is_masked_and_what_comes_must_not_be() {
        let mut client = WebSocketClient::default();
        let mut frame = Vec::new();
        client.push_frames(b"MQTT", false, || [1, 2, 3, 4], &mut frame);
        assert_eq!(frame, [0x82, 0x84, 1, 2, 3, 4, b'M' ^ 1, b'Q' ^ 2, b'T' ^ 3, b'T' ^ 4]);
        let (packets, ended) = opened(&mut client, &frame);
        assert_eq!((packets, ended), (Vec::new(), Err(ServerEnded::Violation("a frame of the server with a mask"))));
        assert_eq!(opened(&mut client, b"\x82\x01x"), (Vec::new(), Ok(())), "nothing comes behind it");
    }

    #[test]
    fn a_ping_is_answered_behind_the_packets() {
        let mut client = WebSocketClient::default();
        assert_eq!(opened(&mut client, b"\x89\x05first\x89\x04last\x82\x01x"), (b"x".to_vec(), Ok(())));
        assert!(client.has_pong());
        let mut server = WebSocket::default();
        let mut packets = Vec::new();
        let frames = said(&mut client, b"packets", false);
        assert_eq!(frames.len(), 2 + 4 + 7 + 2 + 4 + 4);
        assert_eq!(server.open(&mut &frames[..], &mut packets, usize::MAX), Ok(()));
        assert_eq!(packets, b"packets");
        assert!(!client.has_pong() && said(&mut client, b"", false).is_empty(), "once");
    }

    #[test]
    fn either_end_may_close() {
        let mut client = WebSocketClient::default();
        let mut packets = Vec::new();
        let frames = said(&mut client, b"DISCONNECT", true);
        assert_eq!(WebSocket::default().open(&mut &frames[..], &mut packets, usize::MAX), Err(Ended::ByClient));
        assert_eq!(packets, b"DISCONNECT");
        for (close, code) in [(Close::policy("why"), 1008), (Close::NORMAL, 1000)] {
            let frames = WebSocket::default().last_words(b"DISCONNECT", close);
            let expected = (b"DISCONNECT".to_vec(), Err(ServerEnded::Closed(Some(code))));
            assert_eq!(opened(&mut WebSocketClient::default(), &frames), expected);
        }
        let ended = opened(&mut WebSocketClient::default(), &[0x88, 0]).1.expect_err("it is the end");
        assert_eq!(ended.to_string(), "the server has closed the WebSocket");
    }

    proptest! {
        /// Both ends against each other, cut anywhere.
        #[test]
        fn what_one_end_says_the_other_one_hears(
            sizes in prop::collection::vec(prop_oneof![1usize..300, 65_000usize..66_000], 1..5),
            step in prop_oneof![1usize..9, 1_000usize..70_000],
        ) {
            let (mut client, mut server) = (WebSocketClient::default(), WebSocket::default());
            let (mut up, mut down, mut sent) = (Vec::new(), Vec::new(), Vec::new());
            let mut mask = masks();
            for size in sizes {
                let packets: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
                client.push_frames(&packets, false, &mut mask, &mut up);
                down.extend(server.frames(&packets, false));
                sent.extend(packets);
            }
            let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
            for mut piece in up.chunks(step) {
                prop_assert_eq!(server.open(&mut piece, &mut at_server, usize::MAX), Ok(()));
            }
            for piece in down.chunks(step) {
                prop_assert_eq!(client.open(piece, &mut at_client), Ok(()));
            }
            prop_assert!(at_server == sent && at_client == sent);
        }
    }
}
