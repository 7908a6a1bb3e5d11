//! What lies between a socket and the codec: a pure transform of bytes, chosen by the gate for each connection.
//!
//! The gate does the handshake of a transport (there is none for plain TCP) and hands its state over with the client;
//! from then on the shard passes every received and every outgoing byte through it. No I/O happens here.

use crate::shard::Transmit;

/// The transport of one connection.
#[derive(Debug, Default)]
pub enum Transport {
    /// Plain TCP: the bytes of the socket are the bytes of the packets.
    #[default]
    Plain,
}

impl Transport {
    /// Turns received bytes into bytes of packets, which `take` gets, in as many pieces as they come in.
    #[inline]
    pub fn open(&mut self, received: &[u8], take: impl FnOnce(&[u8])) {
        match self {
            Transport::Plain => take(received),
        }
    }

    /// Turns bytes of packets into bytes to send.
    #[inline]
    pub fn seal(&mut self, transmit: Transmit) -> Transmit {
        match self {
            Transport::Plain => transmit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_changes_nothing() {
        let mut opened = Vec::new();
        Transport::Plain.open(b"packet", |bytes| opened.extend_from_slice(bytes));
        assert_eq!(opened, b"packet");
    }
}
