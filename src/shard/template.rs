//! A PUBLISH that goes to many: written once, and then copied for each of them with its packet id in its place.
//!
//! Only where the packets differ in nothing else: same version, QoS and RETAIN, no property that belongs to one hop, no topic
//! of a bridge. The last one written is kept, and each message knows whether that is its own; so a template is never
//! taken for that of another message.

use crate::proto::{QoS, Version};
use crate::route::{Identifiers, Message};

use super::connection::Connection;
use super::encoder::OutgoingPublish;

/// The packet that was written last to be copied.
#[derive(Debug, Default)]
pub(super) struct Template {
    /// Without a payload that goes out by reference.
    packet: Vec<u8>,
    /// Where its packet id stands, if it has one.
    id_at: usize,
    /// Changes with each packet.
    serial: u64,
    form: Option<Form>,
}

/// What a message knows of its template, while it goes to its subscribers.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// It has gone to one: from the second on a template is worth its making.
    has_gone: bool,
    /// The serial of its template, which there may be another one of by now. None has 0.
    serial: u64,
}

/// What packets of one message have to have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Form {
    version: Version,
    qos: QoS,
    retain: bool,
}

impl Template {
    /// The packet of this form, and where its packet id belongs; if there is such a template of the message.
    #[inline]
    pub(super) fn packet_of(&self, copies: &Copies, form: Option<Form>) -> Option<(&[u8], usize)> {
        let is_it = form.is_some() && self.form == form && copies.serial == self.serial;
        is_it.then_some((&self.packet[..], self.id_at))
    }

    /// Takes a packet of the message, as it was written.
    pub(super) fn keep(&mut self, copies: &mut Copies, form: Form, packet: &[u8], message: &Message) {
        self.serial += 1;
        copies.serial = self.serial;
        self.form = Some(form);
        self.packet.clear();
        self.packet.extend_from_slice(packet);
        let length_bytes = packet[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
        self.id_at = 1 + length_bytes + 2 + message.topic().len();
    }
}

impl Copies {
    /// Notes that the message has gone to one more, and says whether it had gone to others before.
    #[inline]
    pub(super) fn have_gone(&mut self) -> bool {
        std::mem::replace(&mut self.has_gone, true)
    }
}

impl Form {
    /// That of the packet for a connection, if others may get the same.
    #[inline]
    pub(super) fn of(connection: &Connection, message: &Message, packet: OutgoingPublish<'_>) -> Option<Self> {
        let is_plain = connection.outbound_aliases.is_none()
            && connection.role.link().is_none()
            && matches!(packet.identifiers, Identifiers::None)
            && message.expires_at.is_none()
            && !packet.dup;
        let OutgoingPublish { qos, retain, .. } = packet;
        is_plain.then_some(Self { version: connection.version, qos, retain })
    }
}
