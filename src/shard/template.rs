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
struct Form {
    version: Version,
    qos: QoS,
    retain: bool,
}

impl Template {
    /// The packet for this connection, and where its packet id belongs; if there is a template of this form.
    #[inline]
    pub(super) fn packet_of(&self, copies: &Copies, form: PacketForm) -> Option<(&[u8], usize)> {
        let is_it = copies.serial == self.serial && self.form.is_some() && self.form == form.0;
        is_it.then_some((&self.packet[..], self.id_at))
    }

    /// Takes a packet that was written, if there is some use for it.
    #[inline]
    pub(super) fn note(&mut self, copies: &mut Copies, form: PacketForm, packet: &[u8], message: &Message) {
        if !std::mem::replace(&mut copies.has_gone, true) || form.0.is_none() {
            return;
        }
        self.serial += 1;
        copies.serial = self.serial;
        self.form = form.0;
        self.packet.clear();
        self.packet.extend_from_slice(packet);
        let length_bytes = packet[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
        self.id_at = 1 + length_bytes + 2 + message.topic().len();
    }
}

/// The form of the packet that a connection gets, if others may get the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct PacketForm(Option<Form>);

impl PacketForm {
    #[inline]
    pub(super) fn of(connection: &Connection, message: &Message, packet: OutgoingPublish<'_>) -> Self {
        let is_plain = connection.outbound_aliases.is_none()
            && connection.role.link().is_none()
            && matches!(packet.identifiers, Identifiers::None)
            && message.expires_at.is_none()
            && !packet.dup;
        let OutgoingPublish { qos, retain, .. } = packet;
        Self(is_plain.then_some(Form { version: connection.version, qos, retain }))
    }
}
