//! The opening of a bridge's connection: CONNECT goes out, CONNACK is judged.
//!
//! A machine without a socket: it says which bytes to send on a new connection and what those that come back mean. With
//! 3.1.1 it may take more than one connection, because there a clean session ends with its connection:
//!
//! | dialect  | our session is known to the remote | connection | CONNECT           | CONNACK              | next           |
//! |----------|------------------------------------|------------|-------------------|----------------------|----------------|
//! | 5.0      | yes                                | 1          | clean start 0     | success              | opened         |
//! | 5.0      | no                                 | 1          | clean start 1     | success              | opened         |
//! | 3.1.1    | yes                                | 1          | clean session 0   | success              | opened         |
//! | 3.1.1    | no                                 | 1          | clean session 1   | success              | DISCONNECT, 2  |
//! | 3.1.1    | no                                 | 2          | clean session 0   | success              | opened         |
//! | 3.1.1    |                                    | any        | as a bridge       | 0x01                 | as a client, 1 |
//! | any      | no                                 | last       |                   | session present      | refused        |
//! | any      |                                    | any        |                   | an error             | refused        |
//!
//! That 3.1.1 remotes are told that we are a bridge, in the way of mosquitto, keeps them from sending back what we publish
//! ([`connects_as_bridge`](crate::proto::connects_as_bridge)). Remotes that do not know that sign are spoken to as by any client.

use std::fmt;

use crate::proto::{
    Connack, Connect, Packet, PacketType, Property, PropertyWriter, QoS, ReasonCode, Version, decode, frame_length,
    mark_as_bridge,
};

use super::settings::Bridge;

/// The largest CONNACK that is read: a few strings of 65,535 bytes fit.
const CONNACK_BYTES_MAX: u32 = 256 * 1024;

/// The session at a 5.0 remote never ends by time.
const NEVER: u32 = u32::MAX;

/// How the remote is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// MQTT 5.0.
    V5,
    /// MQTT 3.1.1, with the sign of a bridge in the protocol level.
    V311AsBridge,
    /// MQTT 3.1.1, as any client speaks it.
    V311AsClient,
}

/// One connection of an opening.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opening {
    dialect: Dialect,
    step: Step,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// To go on with the session that the remote keeps for us.
    Resume,
    /// To begin a session, with what there was before thrown away.
    Begin,
    /// To throw away what there is, by a clean session of 3.1.1 that ends at once.
    Clear,
    /// To begin a session behind that.
    BeginCleared,
}

/// How far CONNACK has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// More has to come.
    Incomplete,
    /// It is the first `total` bytes, and the connection may be used.
    Opened {
        /// Its length.
        total: usize,
    },
    /// The remote has thrown away what it had. End this connection with DISCONNECT, and go on with that opening.
    Cleared(Opening),
    /// The connection is of no use.
    Refused(Refusal),
}

/// Why the connection is of no use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The remote has said so.
    ByRemote {
        /// Its reason.
        reason: ReasonCode,
        /// What it has said about it.
        text: Option<Box<str>>,
    },
    /// Not a legal CONNACK.
    Foreign(&'static str),
    /// The remote serves no such QoS as topics are to be sent with.
    MaximumQos(QoS),
    /// The remote has a session for us that is not ours.
    SessionNotOurs,
}

impl Dialect {
    /// The first that is tried with a remote of this version.
    pub fn first(version: Version) -> Self {
        match version {
            Version::V5 => Self::V5,
            Version::V311 => Self::V311AsBridge,
        }
    }

    /// Its protocol version.
    pub fn version(self) -> Version {
        match self {
            Self::V5 => Version::V5,
            Self::V311AsBridge | Self::V311AsClient => Version::V311,
        }
    }

    /// What to try next with a remote that refused this one. No answer is no refusal: any connection can break, and a
    /// remote that does know bridges would send back what it gets from one that did not say it is one.
    pub fn fallback(self, refusal: &Refusal) -> Option<Self> {
        let is_about_the_version = match refusal {
            Refusal::ByRemote { reason, .. } => *reason == ReasonCode::UnsupportedProtocolVersion,
            Refusal::Foreign(_) | Refusal::MaximumQos(_) | Refusal::SessionNotOurs => false,
        };
        (self == Self::V311AsBridge && is_about_the_version).then_some(Self::V311AsClient)
    }
}

impl Opening {
    /// The first connection of an opening; `is_shared` says whether the remote keeps a session that belongs to ours.
    pub fn new(dialect: Dialect, is_shared: bool) -> Self {
        let step = match (dialect.version(), is_shared) {
            (Version::V5 | Version::V311, true) => Step::Resume,
            (Version::V5, false) => Step::Begin,
            (Version::V311, false) => Step::Clear,
        };
        Self { dialect, step }
    }

    /// How the remote is spoken to.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The bytes to begin with. `receive_maximum` and `max_packet_bytes` are what we accept.
    pub fn connect_frame(&self, bridge: &Bridge, receive_maximum: u16, max_packet_bytes: u32) -> Vec<u8> {
        let version = self.dialect.version();
        let mut properties = PropertyWriter::new();
        if version == Version::V5 {
            // No topic aliases: that is what the absence of their maximum means.
            properties.push(Property::SessionExpiryInterval(NEVER));
            properties.push(Property::ReceiveMaximum(receive_maximum));
            properties.push(Property::MaximumPacketSize(max_packet_bytes));
        }
        let mut frame = Vec::new();
        Packet::Connect(Connect {
            version,
            clean_start: self.is_clean(),
            keep_alive_seconds: bridge.keep_alive_seconds,
            client_id: &bridge.client_id,
            will: None,
            username: bridge.username.as_deref(),
            password: bridge.password.as_deref(),
            properties: properties.properties(),
        })
        .encode(version, &mut frame);
        if self.dialect == Dialect::V311AsBridge {
            mark_as_bridge(&mut frame);
        }
        frame
    }

    /// Judges what has been received on the connection so far.
    pub fn progress(&self, bridge: &Bridge, received: &[u8]) -> Progress {
        match received.first() {
            None => return Progress::Incomplete,
            Some(first) if PacketType::from_first_byte(*first) != Some(PacketType::Connack) => {
                return Progress::Refused(Refusal::Foreign("the first packet is not CONNACK"));
            }
            Some(_) => {}
        }
        let total = match frame_length(received, CONNACK_BYTES_MAX) {
            Ok(Some(total)) if total <= received.len() => total,
            Ok(_) => return Progress::Incomplete,
            Err(error) => return Progress::Refused(Refusal::Foreign(error.text)),
        };
        match decode(self.dialect.version(), &received[..total]) {
            Ok(Packet::Connack(connack)) => self.judge(bridge, &connack, total),
            Ok(_) => Progress::Refused(Refusal::Foreign("the first packet is not CONNACK")),
            Err(error) => Progress::Refused(Refusal::Foreign(error.text)),
        }
    }

    fn judge(&self, bridge: &Bridge, connack: &Connack<'_>, total: usize) -> Progress {
        if connack.reason != ReasonCode::Success {
            let text = connack.properties.reason_string().map(Into::into);
            return Progress::Refused(Refusal::ByRemote { reason: connack.reason, text });
        }
        // [MQTT-3.2.2-11]
        if let Some(maximum) = connack.properties.maximum_qos()
            && bridge.topics.highest_qos_out().is_some_and(|qos| qos > maximum)
        {
            return Progress::Refused(Refusal::MaximumQos(maximum));
        }
        match self.step {
            Step::Resume => Progress::Opened { total },
            // [MQTT-3.2.2-4], 3.1.1: section 3.2.2.2
            Step::Begin | Step::BeginCleared if connack.session_present => Progress::Refused(Refusal::SessionNotOurs),
            Step::Begin | Step::BeginCleared => Progress::Opened { total },
            Step::Clear => Progress::Cleared(Self { step: Step::BeginCleared, ..*self }),
        }
    }

    fn is_clean(&self) -> bool {
        match self.step {
            Step::Resume | Step::BeginCleared => false,
            Step::Begin | Step::Clear => true,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByRemote { reason, text: None } => write!(formatter, "it refuses: {}", reason.name()),
            Self::ByRemote { reason, text: Some(text) } => {
                write!(formatter, "it refuses: {} ({})", reason.name(), text.escape_debug())
            }
            Self::Foreign(text) => write!(formatter, "it does not speak MQTT as expected: {text}"),
            Self::MaximumQos(qos) => {
                write!(formatter, "it serves QoS {} at most; give the topics that go out `qos={0}`", qos.bits())
            }
            Self::SessionNotOurs => {
                formatter.write_str("it has a session of that client id that is not ours; is somebody else using it?")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::{BridgedTopic, Direction, Topics};
    use crate::proto::{Properties, connects_as_bridge, decode_connect};

    fn bridge(qos: QoS) -> Bridge {
        let topic = BridgedTopic::new("#", Direction::Out, qos, "", "").expect("a filter");
        Bridge {
            name: "up".into(),
            host: "localhost".into(),
            port: 1883,
            version: Version::V5,
            client_id: "edge.up".into(),
            keep_alive_seconds: 60,
            username: Some("user".into()),
            password: Some((*b"secret").into()),
            receive_maximum: None,
            max_inflight: 20,
            topics: Topics::from(vec![topic]),
        }
    }

    fn connack(version: Version, session_present: bool, reason: ReasonCode, properties: Properties<'_>) -> Vec<u8> {
        let mut frame = Vec::new();
        Packet::Connack(Connack { session_present, reason, properties }).encode(version, &mut frame);
        frame
    }

    /// Every row of the table above but the last two.
    /// [MQTT-3.1.0-1] [MQTT-3.1.2-4] [MQTT-3.2.2-4], and 3.1.1: [MQTT-3.1.2-6].
    #[test]
    fn an_opening_takes_the_connections_that_it_needs() {
        use Dialect::{V5, V311AsBridge, V311AsClient};
        for (dialect, is_shared, clean_starts) in [
            (V5, true, &[false][..]),
            (V5, false, &[true]),
            (V311AsBridge, true, &[false]),
            (V311AsBridge, false, &[true, false]),
            (V311AsClient, true, &[false]),
            (V311AsClient, false, &[true, false]),
        ] {
            let bridge = bridge(QoS::ExactlyOnce);
            let mut opening = Opening::new(dialect, is_shared);
            for (index, clean_start) in clean_starts.iter().enumerate() {
                let frame = opening.connect_frame(&bridge, 7, 1000);
                let connect = decode_connect(&frame).expect("a legal CONNECT");
                assert_eq!(connect.version, dialect.version());
                assert_eq!(connects_as_bridge(&frame), dialect == V311AsBridge);
                assert_eq!((connect.clean_start, connect.client_id), (*clean_start, "edge.up"));
                assert_eq!((connect.username, connect.password), (Some("user"), Some(&b"secret"[..])));
                let properties = connect.properties;
                let told = (properties.session_expiry_interval(), properties.receive_maximum());
                let (told_size, aliases) = (properties.maximum_packet_size(), properties.topic_alias_maximum());
                let is_v5 = dialect == V5;
                assert_eq!((told, told_size), (is_v5.then_some((NEVER, 7)).unzip(), is_v5.then_some(1000)));
                assert_eq!(aliases, None);
                let answer = connack(dialect.version(), false, ReasonCode::Success, Properties::EMPTY);
                match opening.progress(&bridge, &answer) {
                    Progress::Opened { total } => {
                        assert_eq!((total, index + 1), (answer.len(), clean_starts.len()));
                    }
                    Progress::Cleared(next) => opening = next,
                    other => panic!("{dialect:?} {is_shared}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_session_that_is_not_ours_is_refused() {
        let bridge = bridge(QoS::ExactlyOnce);
        for (dialect, is_shared, is_opened) in [
            (Dialect::V5, true, true),
            (Dialect::V5, false, false),
            (Dialect::V311AsBridge, true, true),
            (Dialect::V311AsClient, false, false),
        ] {
            let mut opening = Opening::new(dialect, is_shared);
            let present = connack(dialect.version(), true, ReasonCode::Success, Properties::EMPTY);
            if let Progress::Cleared(next) = opening.progress(&bridge, &present) {
                opening = next;
            }
            match opening.progress(&bridge, &present) {
                Progress::Opened { .. } => assert!(is_opened, "{dialect:?}"),
                progress => {
                    assert_eq!(progress, Progress::Refused(Refusal::SessionNotOurs));
                    assert!(!is_opened, "{dialect:?}");
                }
            }
        }
    }

    #[test]
    fn a_connack_is_complete_with_its_last_byte() {
        let bridge = bridge(QoS::ExactlyOnce);
        let opening = Opening::new(Dialect::V5, true);
        let mut bytes = connack(Version::V5, false, ReasonCode::Success, Properties::EMPTY);
        let total = bytes.len();
        for length in 0..total {
            assert_eq!(opening.progress(&bridge, &bytes[..length]), Progress::Incomplete, "{length} bytes");
        }
        bytes.push(0x30); // the first byte of a message sent at once
        assert_eq!(opening.progress(&bridge, &bytes), Progress::Opened { total });
    }

    #[test]
    fn what_is_no_connack_is_refused() {
        let bridge = bridge(QoS::ExactlyOnce);
        let opening = Opening::new(Dialect::V5, true);
        for bytes in [&b"HTTP/1.1"[..], &[0x20, 0xFF, 0xFF, 0xFF, 0x7F], &[0x20, 2, 0, 0], &[0xE0, 0], &[0x21]] {
            let progress = opening.progress(&bridge, bytes);
            assert!(matches!(progress, Progress::Refused(Refusal::Foreign(_))), "{bytes:?}: {progress:?}");
        }
    }

    #[test]
    fn a_refusal_is_told() {
        let bridge = bridge(QoS::ExactlyOnce);
        let mut properties = PropertyWriter::new();
        properties.push(Property::ReasonString("no\nbridges"));
        let answer = connack(Version::V5, false, ReasonCode::NotAuthorized, properties.properties());
        let Progress::Refused(refusal) = Opening::new(Dialect::V5, true).progress(&bridge, &answer) else {
            panic!("refused");
        };
        assert_eq!(refusal.to_string(), "it refuses: Not authorized (no\\nbridges)");
        assert_eq!(Dialect::V5.fallback(&refusal), None);
    }

    /// [MQTT-3.2.2-11]
    #[test]
    fn a_remote_with_a_lower_qos_is_refused_where_more_is_asked_for() {
        let mut properties = PropertyWriter::new();
        properties.push(Property::MaximumQos(QoS::AtLeastOnce));
        let answer = connack(Version::V5, false, ReasonCode::Success, properties.properties());
        let opening = Opening::new(Dialect::V5, true);
        let refused = opening.progress(&bridge(QoS::ExactlyOnce), &answer);
        assert_eq!(refused, Progress::Refused(Refusal::MaximumQos(QoS::AtLeastOnce)));
        assert!(matches!(opening.progress(&bridge(QoS::AtLeastOnce), &answer), Progress::Opened { .. }));
    }

    #[test]
    fn a_remote_that_does_not_know_bridges_is_spoken_to_as_by_a_client() {
        let refused = |reason| Refusal::ByRemote { reason, text: None };
        let [version, other] = [ReasonCode::UnsupportedProtocolVersion, ReasonCode::NotAuthorized].map(refused);
        for (dialect, refusal, expected) in [
            (Dialect::V311AsBridge, &version, Some(Dialect::V311AsClient)),
            (Dialect::V311AsBridge, &other, None),
            (Dialect::V311AsBridge, &Refusal::SessionNotOurs, None),
            (Dialect::V311AsClient, &version, None),
            (Dialect::V5, &version, None),
        ] {
            assert_eq!(dialect.fallback(refusal), expected, "{dialect:?} {refusal:?}");
        }
    }
}
