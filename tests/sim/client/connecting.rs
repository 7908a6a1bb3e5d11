//! How a client opens a connection, and on what terms.

use std::collections::{BTreeMap, VecDeque};

use oncemq::proto::{Connect, Framer, Packet, Properties, Property, PropertyWriter, Version, Will};

use crate::aliases::Aliases;
use crate::ledger::Ledger;
use crate::random::Random;

use super::{Client, ConnectTerms, LeftWill, Link, Meaning, Surroundings};

impl Client {
    /// Opens a connection in place of the one it may have. With `to_end`, the session is thrown away and will end with
    /// the connection.
    pub(crate) fn connect(&mut self, around: &mut Surroundings<'_>, connection: usize, to_end: bool) {
        let random = &mut *around.random;
        let clean_start = to_end || self.must_start_clean || random.percent(self.profile.clean_percent);
        if clean_start {
            self.version = random.pick(&self.profile.versions);
            self.must_start_clean = true;
            self.start_session(around.ledger);
        }
        let terms = self.choose_terms(around, clean_start, to_end);
        self.unanswered = Some(connection);
        self.link = Some(Link {
            connection,
            clean_start,
            expiry_seconds: terms.expiry_seconds,
            is_accepted: false,
            is_finished: false,
            framer: Framer::default(),
            answers: VecDeque::new(),
            requests: BTreeMap::new(),
            quota: usize::from(around.scenario.limits.receive_maximum),
            told: Aliases::default(),
            heard: Aliases::new(terms.topic_alias_maximum),
            patterns: Vec::new(),
        });
        self.write_connect(around, terms);
        // The client may go on without waiting for CONNACK.
        if clean_start && !to_end && around.random.percent(30) {
            if around.random.percent(50) {
                self.subscribe(around);
            }
            self.publish(around);
        }
    }

    fn choose_terms(&mut self, around: &mut Surroundings<'_>, clean_start: bool, to_end: bool) -> ConnectTerms {
        let random = &mut *around.random;
        let expiry_seconds = match self.version {
            Version::V311 => {
                if clean_start {
                    0
                } else {
                    u32::MAX
                }
            }
            Version::V5 if to_end => 0,
            Version::V5 => random.pick(&self.profile.expiry_seconds),
        };
        let (receive_maximum, topic_alias_maximum) = match self.version {
            Version::V311 => (None, 0),
            Version::V5 => (self.profile.receive_maximum, self.profile.topic_alias_maximum),
        };
        let will =
            (!to_end && random.percent(self.profile.will_percent)).then(|| self.choose_will(random, around.ledger));
        ConnectTerms {
            clean_start,
            expiry_seconds,
            receive_maximum: receive_maximum.unwrap_or(u16::MAX),
            max_packet_bytes: self.max_packet_bytes(),
            topic_alias_maximum,
            keep_alive_seconds: self.profile.keep_alive_seconds,
            will,
        }
    }

    fn choose_will(&self, random: &mut Random, ledger: &mut Ledger) -> LeftWill {
        let is_v5 = self.version == Version::V5;
        let may_expire = is_v5 && random.percent(self.profile.expiry_percent);
        let expiry_seconds = may_expire.then(|| random.between(1, 5) as u32);
        let qos = random.pick(&self.profile.publishes);
        let topic = format!("w/{}", self.index);
        let number = ledger.leave_will(self.index, topic, qos, random.percent(30), expiry_seconds);
        let delay_seconds = if is_v5 { random.pick(&self.profile.will_delay_seconds) } else { 0 };
        LeftWill { number, delay_seconds }
    }

    fn write_connect(&mut self, around: &mut Surroundings<'_>, terms: ConnectTerms) {
        let mut properties = PropertyWriter::new();
        if terms.expiry_seconds > 0 {
            properties.push(Property::SessionExpiryInterval(terms.expiry_seconds));
        }
        if terms.receive_maximum < u16::MAX {
            properties.push(Property::ReceiveMaximum(terms.receive_maximum));
        }
        if let Some(bytes) = terms.max_packet_bytes {
            properties.push(Property::MaximumPacketSize(bytes));
        }
        if terms.topic_alias_maximum > 0 {
            properties.push(Property::TopicAliasMaximum(terms.topic_alias_maximum));
        }
        let will = terms.will.map(|will| around.ledger.message(will.number));
        let mut will_properties = PropertyWriter::new();
        if let Some(LeftWill { delay_seconds: seconds @ 1.., .. }) = terms.will {
            will_properties.push(Property::WillDelayInterval(seconds));
        }
        if let Some(seconds) = will.and_then(|message| message.expiry_seconds) {
            will_properties.push(Property::MessageExpiryInterval(seconds));
        }
        let connect = Connect {
            version: self.version,
            clean_start: terms.clean_start,
            keep_alive_seconds: terms.keep_alive_seconds,
            client_id: &self.profile.name,
            will: will.map(|message| Will {
                topic: &message.topic,
                payload: &message.payload,
                qos: message.qos,
                retain: message.retain,
                properties: match self.version {
                    Version::V311 => Properties::EMPTY,
                    Version::V5 => will_properties.properties(),
                },
            }),
            username: None,
            password: None,
            properties: match self.version {
                Version::V311 => Properties::EMPTY,
                Version::V5 => properties.properties(),
            },
        };
        self.write(around.written, &Packet::Connect(connect), Meaning::Connect(terms));
    }
}
