//! Where a connection is dropped: every point of both handshakes, and the cutter that drops it there.
//!
//! A point names a role, a packet of its handshake, a place (before, in the middle of, after that packet) and whether
//! the client, before it closes, still reads what the broker has sent.
//!
//! What a point means depends on who sends the packet:
//!
//! |        | the client sends it                        | the client receives it                                   |
//! |--------|--------------------------------------------|----------------------------------------------------------|
//! | before | its state says sent, but no byte goes out  | it has arrived but is ignored, and all that follows it   |
//! | middle | only a first part of its bytes goes out    | a first part was read; it and all that follows is ignored|
//! | after  | it goes out whole                          | it is taken, but its answer does not go out              |
//!
//! A client never ignores one packet and takes a later one: TCP can't lose from the middle.
//!
//! What goes out in part is cut on the wire: below a WebSocket a frame ends too early, and below TLS a record is torn, with all
//! packets that are in it.

use std::fmt;

use oncemq::proto::{Packet, PacketType, QoS};

use crate::connection::Flow;
use crate::random::Random;

/// Bytes that one read takes while a drop in the middle of a received packet is wanted.
const SMALL_READ_BYTES: usize = 3;

/// Packets of the wanted kind that may pass before the drop.
const PASSING_END: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Publisher,
    Subscriber,
}

/// A packet of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Publish,
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Before,
    Middle,
    After,
}

/// A point at which a connection is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub(super) role: Role,
    pub(super) step: Step,
    pub(super) place: Place,
    pub(super) reads_first: bool,
}

impl Point {
    /// All points of a role.
    pub(super) fn all(role: Role, qos: QoS) -> Vec<Self> {
        let steps: &[Step] = match qos {
            QoS::AtMostOnce => &[Step::Publish],
            QoS::AtLeastOnce => &[Step::Publish, Step::Puback],
            QoS::ExactlyOnce => &[Step::Publish, Step::Pubrec, Step::Pubrel, Step::Pubcomp],
        };
        let mut points = Vec::new();
        for &step in steps {
            for place in [Place::Before, Place::Middle, Place::After] {
                for reads_first in [false, true] {
                    points.push(Self { role, step, place, reads_first });
                }
            }
        }
        points
    }

    /// Whether the client is the one who sends the packet.
    fn is_sent(&self) -> bool {
        match self.step {
            Step::Publish | Step::Pubrel => self.role == Role::Publisher,
            Step::Puback | Step::Pubrec | Step::Pubcomp => self.role == Role::Subscriber,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Publisher => "publisher",
            Role::Subscriber => "subscriber",
        };
        let place = match self.place {
            Place::Before => "before",
            Place::Middle => "inside",
            Place::After => "after",
        };
        let verb = match self.is_sent() {
            true => "sends",
            false => "receives",
        };
        let step = match self.step {
            Step::Publish => "PUBLISH",
            Step::Puback => "PUBACK",
            Step::Pubrec => "PUBREC",
            Step::Pubrel => "PUBREL",
            Step::Pubcomp => "PUBCOMP",
        };
        let reading = match self.reads_first {
            true => "reads first",
            false => "closes unread",
        };
        write!(formatter, "{role:<10} {verb:<8} {step:<7} {place:<6} {reading}")
    }
}

/// Drops one connection at one point.
///
/// | state    | event                                  | next       | packets out | packets in      |
/// |----------|----------------------------------------|------------|-------------|-----------------|
/// | off      | `arm`                                  | armed      | pass        | taken           |
/// | armed    | the point is met, some still may pass  | armed      | pass        | taken           |
/// | armed    | the point is met                       | mute, deaf | see the table of the module   |
/// | armed    | `disarm`                               | off        | pass        | taken           |
/// | mute     |                                        | mute       | swallowed   | taken           |
/// | deaf     |                                        | deaf       | swallowed   | ignored         |
#[derive(Debug)]
pub(super) struct Cutter {
    state: State,
    random: Random,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Off,
    Armed {
        point: Point,
        passing: usize,
    },
    /// Of the packet that went out last, so many bytes did not.
    Mute {
        point: Point,
        cut_bytes: usize,
        told: bool,
    },
    Deaf {
        point: Point,
        told: bool,
    },
}

/// What becomes of a packet that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Taken,
    Ignored,
}

impl Cutter {
    pub(super) fn new(random: Random) -> Self {
        Self { state: State::Off, random }
    }

    /// Wants a drop at `point`, at one of the next few packets of that kind.
    pub(super) fn arm(&mut self, point: Point) {
        let passing = match (point.place, point.is_sent()) {
            // Every small read of the packet meets the point; the first one is as good as any.
            (Place::Middle, false) => 0,
            (Place::Before | Place::Middle | Place::After, _) => self.random.below(PASSING_END),
        };
        self.state = State::Armed { point, passing };
    }

    /// Wants no drop any more, unless it has happened.
    pub(super) fn disarm(&mut self) {
        if let State::Armed { .. } = self.state {
            self.state = State::Off;
        }
    }

    /// Whether nothing more goes out.
    pub(super) fn has_struck(&self) -> bool {
        self.struck_at().is_some()
    }

    pub(super) fn struck_at(&self) -> Option<Point> {
        match self.state {
            State::Off | State::Armed { .. } => None,
            State::Mute { point, .. } | State::Deaf { point, .. } => Some(point),
        }
    }

    /// What the connection is to do, once when the drop happens; then what is read on the way out goes on as usual.
    pub(super) fn flow(&mut self) -> Flow {
        match &mut self.state {
            State::Off | State::Armed { .. } => Flow::Continue,
            State::Mute { point, told, .. } | State::Deaf { point, told } => {
                match (std::mem::replace(told, true), point.reads_first) {
                    (true, _) => Flow::Continue,
                    (false, true) => Flow::CloseAfterReading,
                    (false, false) => Flow::Close,
                }
            }
        }
    }

    /// How much of the last packet that was sent is to be cut off where it lies on the wire.
    pub(super) fn cut_bytes(&self) -> usize {
        match self.state {
            State::Mute { cut_bytes, .. } => cut_bytes,
            State::Off | State::Armed { .. } | State::Deaf { .. } => 0,
        }
    }

    /// Bytes that the next read may take at most.
    pub(super) fn read_bytes_max(&self) -> Option<usize> {
        match self.state {
            State::Armed { point, .. } if point.place == Place::Middle && !point.is_sent() => Some(SMALL_READ_BYTES),
            State::Off | State::Armed { .. } | State::Mute { .. } | State::Deaf { .. } => None,
        }
    }

    /// Sends a packet as far as the drop lets it.
    pub(super) fn send(&mut self, step: Step, out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.has_struck() {
            return;
        }
        let start = out.len();
        encode(out);
        let Some(point) = self.meets(step, true) else {
            return;
        };
        let length = out.len() - start;
        let cut_bytes = match point.place {
            Place::Before => {
                out.truncate(start);
                0
            }
            Place::Middle => 1 + self.random.below(length - 1),
            Place::After => 0,
        };
        self.state = State::Mute { point, cut_bytes, told: false };
    }

    /// Decides about a packet that has arrived whole.
    pub(super) fn receive(&mut self, packet: &Packet<'_>) -> Arrival {
        if let State::Deaf { .. } = self.state {
            return Arrival::Ignored;
        }
        let Some(step) = step_of(packet.packet_type()) else {
            return Arrival::Taken;
        };
        if let State::Armed { point, .. } = self.state
            && point.place == Place::Middle
        {
            // It came in one piece after all; the next one may not.
            return Arrival::Taken;
        }
        match self.meets(step, false) {
            None => Arrival::Taken,
            Some(point) if point.place == Place::After => {
                self.state = State::Mute { point, cut_bytes: 0, told: false };
                Arrival::Taken
            }
            Some(point) => {
                self.state = State::Deaf { point, told: false };
                Arrival::Ignored
            }
        }
    }

    /// Learns that a packet has arrived in part.
    pub(super) fn receive_part(&mut self, first_byte: u8) {
        if let State::Armed { point, .. } = self.state
            && point.place == Place::Middle
            && let Some(step) = PacketType::from_first_byte(first_byte).and_then(step_of)
            && let Some(point) = self.meets(step, false)
        {
            self.state = State::Deaf { point, told: false };
        }
    }

    /// The armed point, if it is at this packet and enough of them have passed.
    fn meets(&mut self, step: Step, sent: bool) -> Option<Point> {
        match &mut self.state {
            State::Armed { point, passing } if point.step == step && point.is_sent() == sent => {
                if *passing == 0 {
                    return Some(*point);
                }
                *passing -= 1;
                None
            }
            State::Off | State::Armed { .. } | State::Mute { .. } | State::Deaf { .. } => None,
        }
    }
}

fn step_of(packet: PacketType) -> Option<Step> {
    match packet {
        PacketType::Publish => Some(Step::Publish),
        PacketType::Puback => Some(Step::Puback),
        PacketType::Pubrec => Some(Step::Pubrec),
        PacketType::Pubrel => Some(Step::Pubrel),
        PacketType::Pubcomp => Some(Step::Pubcomp),
        PacketType::Connect
        | PacketType::Connack
        | PacketType::Subscribe
        | PacketType::Suback
        | PacketType::Unsubscribe
        | PacketType::Unsuback
        | PacketType::Pingreq
        | PacketType::Pingresp
        | PacketType::Disconnect
        | PacketType::Auth => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oncemq::proto::{AcknowledgementKind, PacketId, ReasonCode, Version, decode, encode_acknowledgement};

    const PACKET: &[u8] = &[0x62, 2, 0, 1];
    const NOTHING: &[u8] = &[];

    /// What goes out of a packet.
    fn send(cutter: &mut Cutter, step: Step) -> Vec<u8> {
        let had_struck = cutter.has_struck();
        let mut out = vec![0xFF];
        cutter.send(step, &mut out, |out| out.extend_from_slice(PACKET));
        if cutter.has_struck() && !had_struck {
            out.truncate(out.len() - cutter.cut_bytes());
        }
        out.split_off(1)
    }

    fn armed(role: Role, step: Step, place: Place, reads_first: bool) -> Cutter {
        let mut cutter = Cutter::new(Random::new(1, 1));
        cutter.arm(Point { role, step, place, reads_first });
        if let State::Armed { passing, .. } = &mut cutter.state {
            *passing = 0;
        }
        cutter
    }

    fn pubrec() -> Vec<u8> {
        let mut frame = Vec::new();
        encode_acknowledgement(
            &mut frame,
            Version::V311,
            AcknowledgementKind::Pubrec,
            PacketId::MIN,
            ReasonCode::Success,
        );
        frame
    }

    #[test]
    fn every_point_of_both_roles_exists_once() {
        let mut points = Point::all(Role::Publisher, QoS::ExactlyOnce);
        points.extend(Point::all(Role::Subscriber, QoS::ExactlyOnce));
        points.sort_unstable();
        points.dedup();
        // Four packets, two roles, three places, with and without reading.
        assert_eq!(points.len(), 4 * 2 * 3 * 2);
        assert_eq!(points.iter().filter(|point| point.is_sent()).count(), 24);
        assert_eq!(Point::all(Role::Publisher, QoS::AtLeastOnce).len(), 12);
    }

    #[test]
    fn a_sent_packet_is_cut_where_the_point_says() {
        let cut = |place| {
            let mut cutter = armed(Role::Publisher, Step::Pubrel, place, false);
            assert_eq!(send(&mut cutter, Step::Publish), PACKET, "another packet passes");
            let sent = send(&mut cutter, Step::Pubrel);
            assert_eq!(send(&mut cutter, Step::Pubrel), NOTHING, "nothing follows the drop");
            assert_eq!(cutter.flow(), Flow::Close);
            assert_eq!(cutter.flow(), Flow::Continue);
            sent
        };
        assert_eq!(cut(Place::Before), NOTHING);
        assert_eq!(cut(Place::After), PACKET);
        let part = cut(Place::Middle);
        assert!(!part.is_empty() && part.len() < PACKET.len());
        assert!(PACKET.starts_with(&part));
    }

    #[test]
    fn a_received_packet_is_ignored_before_and_unanswered_after() {
        let frame = pubrec();
        let packet = decode(Version::V311, &frame).expect("a packet");
        let mut before = armed(Role::Publisher, Step::Pubrec, Place::Before, true);
        assert_eq!(before.receive(&packet), Arrival::Ignored);
        assert_eq!(before.flow(), Flow::CloseAfterReading);
        assert_eq!(before.receive(&packet), Arrival::Ignored, "deaf from then on");
        let mut after = armed(Role::Publisher, Step::Pubrec, Place::After, true);
        assert_eq!(after.receive(&packet), Arrival::Taken);
        assert_eq!(send(&mut after, Step::Pubrel), NOTHING);
        assert_eq!(after.receive(&packet), Arrival::Taken, "mute, not deaf");
    }

    #[test]
    fn a_received_packet_is_cut_in_the_middle_by_small_reads() {
        let frame = pubrec();
        let mut cutter = armed(Role::Publisher, Step::Pubrec, Place::Middle, false);
        assert_eq!(cutter.read_bytes_max(), Some(SMALL_READ_BYTES));
        cutter.receive_part(0x70);
        assert!(!cutter.has_struck(), "another packet passes");
        cutter.receive_part(frame[0]);
        assert!(cutter.has_struck());
        assert_eq!(cutter.read_bytes_max(), None);
        let packet = decode(Version::V311, &frame).expect("a packet");
        assert_eq!(cutter.receive(&packet), Arrival::Ignored);
    }

    #[test]
    fn what_is_disarmed_never_drops() {
        let mut cutter = armed(Role::Publisher, Step::Pubrel, Place::Before, false);
        cutter.disarm();
        assert_eq!(send(&mut cutter, Step::Pubrel), PACKET);
        assert_eq!(cutter.flow(), Flow::Continue);
    }
}
