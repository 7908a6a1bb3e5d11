//! What is received, on its way through the connection's transport to the packets in it.
//!
//! A WebSocket has an end of its own, before that of the TCP connection under it: the client's close frame. It is the end of the
//! client's stream, as a FIN is elsewhere. Whoever of the two ends the connection, the other answers with a close frame, and
//! only then the socket is closed: if a close frame came to a socket that is closed, the connection would be reset, and the
//! client might lose what it was sent last. The same holds for TLS and its `close_notify`.

use crate::proto::Received;
use crate::transport::{Ended, Transport};

use super::Shard;
use super::connection::{ConnectionKey, Phase};
use super::ending::Will;

impl Shard {
    /// Takes all whole packets out of bytes that came from the socket.
    #[inline]
    pub(super) fn receive_bytes(&mut self, key: ConnectionKey, bytes: &[u8]) {
        match self.clients.connection(key).transport {
            Transport::Plain => self.receive(key, &mut Received::new(bytes)),
            Transport::Wrapped(_) => self.receive_frames(key, bytes),
        }
    }

    /// Also of a connection that is about to end, for the close frame, and where nothing was received, for what came out of
    /// records at the gate.
    fn receive_frames(&mut self, key: ConnectionKey, bytes: &[u8]) {
        let mut packets = std::mem::take(&mut self.clients.opened);
        packets.clear();
        let opened = match &mut self.clients.connection(key).transport {
            Transport::Plain => unreachable!("the caller has looked"),
            Transport::Wrapped(wrapping) => wrapping.open(bytes, &mut packets),
        };
        self.receive(key, &mut Received::new(&packets));
        self.clients.opened = packets;
        // A ping may want its pong, new keys their answer.
        self.clients.mark_dirty(key);
        if let Err(ended) = opened {
            self.end_of_frames(key, ended);
        }
    }

    fn end_of_frames(&mut self, key: ConnectionKey, ended: Ended) {
        match (self.clients.connection(key).phase, ended) {
            (Phase::Open, Ended::ByClient) => self.end_of_stream(key),
            // [MQTT-6.0.0-1]: a close frame tells the reason, which is not one of MQTT.
            (Phase::Open, Ended::ByViolation(_)) => {
                self.clients.counters.protocol_violations += 1;
                self.detach(key, Will::Publish);
                self.finish(key, false);
            }
            // An alert tells the reason, and nothing can be told beside it.
            (Phase::Open, Ended::ByBrokenRecord) => {
                self.clients.counters.protocol_violations += 1;
                self.detach(key, Will::Publish);
                self.clients.discard_output(key);
                self.finish(key, false);
            }
            (Phase::Flushing { .. }, Ended::ByClient | Ended::ByViolation(_)) => {
                self.clients.connection(key).phase = Phase::Flushing { client_ended: true };
            }
            (Phase::Flushing { .. }, Ended::ByBrokenRecord) | (Phase::Finished, _) => self.close(key),
            (Phase::Closing, _) => {}
        }
    }
}
