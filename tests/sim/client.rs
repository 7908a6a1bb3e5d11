//! An honest MQTT client, publisher and subscriber in one, with the state that the standard asks of it.
//!
//! It keeps its session over connections: its own exchanges in their order, and the QoS 2 ids that it received and that
//! are not released. It hands a QoS 2 message on with the first PUBLISH of an id and not again before the PUBREL. It
//! answers in order, but as late as its profile likes. Bytes go in and packets come out; connections are not its affair.

mod connecting;
mod receiving;
mod serving;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use oncemq::proto::{
    Acknowledgement, Disconnect, Framer, Packet, PacketId, Properties, Property, PropertyWriter, Publish, QoS,
    ReasonCode, SubscriptionOptions, Version, encode_subscribe, encode_unsubscribe,
};

use crate::aliases::Aliases;
use crate::bridging::{Bridging, Pattern};
use crate::ledger::{Ledger, MessageNumber, Step};
use crate::random::Random;
use crate::scenario::{Profile, Scenario};

use serving::Serving;

/// What a packet that a client writes means to the broker, noted beside its bytes.
#[derive(Clone, Debug)]
pub(crate) enum Meaning {
    Connect(ConnectTerms),
    /// Of the bridge's remote, which accepts.
    Connack {
        terms: ConnectTerms,
        session_present: bool,
    },
    /// Of the bridge's remote.
    Suback,
    Publish {
        id: Option<u16>,
        qos: QoS,
        /// The alias alone names its topic.
        by_alias: bool,
    },
    Puback(u16),
    Pubrec(u16),
    Pubrel(u16),
    Pubcomp(u16),
    Disconnect {
        with_will: bool,
        expiry_seconds: Option<u32>,
    },
    Subscribe,
    /// UNSUBSCRIBE, PINGREQ; PINGRESP of the bridge's remote.
    Other,
    /// What a client may not send, and what it is told.
    Violation(ReasonCode),
}

/// What a CONNECT agrees on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectTerms {
    pub(crate) clean_start: bool,
    /// As in 5.0, also for 3.1.1.
    pub(crate) expiry_seconds: u32,
    pub(crate) receive_maximum: u16,
    pub(crate) max_packet_bytes: Option<u32>,
    pub(crate) topic_alias_maximum: u16,
    pub(crate) keep_alive_seconds: u16,
    pub(crate) will: Option<LeftWill>,
}

/// A will as its client leaves it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeftWill {
    pub(crate) number: MessageNumber,
    pub(crate) delay_seconds: u32,
}

/// A packet on its way to the broker.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) bytes: Vec<u8>,
    pub(crate) meaning: Meaning,
}

/// What a client needs of the world while it does something.
pub(crate) struct Surroundings<'a> {
    pub(crate) random: &'a mut Random,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) scenario: &'a Scenario,
    /// The broker's bridge.
    pub(crate) bridging: Option<&'a Bridging>,
    pub(crate) written: &'a mut Vec<Outgoing>,
}

#[derive(Debug)]
pub(crate) struct Client {
    index: usize,
    pub(crate) profile: Profile,
    version: Version,
    session: Session,
    pub(crate) link: Option<Link>,
    /// It threw its session away, and may resume none before the broker has done so too.
    must_start_clean: bool,
    /// The last connection, if no CONNACK arrived on it.
    pub(crate) unanswered: Option<usize>,
    identifiers: u32,
    /// What it has more if it plays the remote of the broker's bridge.
    serving: Option<Serving>,
}

#[derive(Debug, Default)]
struct Session {
    /// Own messages, in the order of their first sending.
    exchanges: VecDeque<Exchange>,
    /// QoS 2 ids of the broker that await PUBREL.
    received: BTreeSet<u16>,
    last_id: u16,
}

#[derive(Debug)]
struct Exchange {
    id: u16,
    message: MessageNumber,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    AwaitingPuback,
    AwaitingPubrec,
    /// The PUBREL waits among the answers.
    Releasing,
    AwaitingPubcomp,
}

/// The client's end of its present connection.
#[derive(Debug)]
pub(crate) struct Link {
    /// Index of the connection.
    pub(crate) connection: usize,
    clean_start: bool,
    pub(crate) expiry_seconds: u32,
    /// CONNACK has arrived.
    pub(crate) is_accepted: bool,
    /// It sends nothing more, but reads on.
    pub(crate) is_finished: bool,
    framer: Framer,
    answers: VecDeque<Answer>,
    requests: BTreeMap<u16, Request>,
    /// The broker's Receive Maximum.
    quota: usize,
    /// Topic aliases from the client; none before CONNACK allows them.
    told: Aliases,
    /// Topic aliases from the broker.
    heard: Aliases,
    /// What the bridge carries, if it is its connection.
    patterns: Vec<Pattern>,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Puback(u16),
    Pubrec(u16),
    Pubrel(u16),
    Pubcomp(u16),
}

#[derive(Debug)]
enum Request {
    /// The entries in the ledger, and what has to be granted.
    Subscribe(Vec<(usize, QoS)>),
    Unsubscribe(Vec<(String, Step)>),
    /// A message that has to be refused.
    Refusal,
}

impl Client {
    pub(crate) fn new(index: usize, profile: Profile) -> Self {
        Self {
            index,
            version: profile.versions[0],
            serving: profile.is_remote.then(Serving::default),
            profile,
            session: Session::default(),
            link: None,
            must_start_clean: false,
            unanswered: None,
            identifiers: 0,
        }
    }

    /// The version of the present connection, or the last one.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// As a server, says that the connection ends, and turns away.
    pub(crate) fn send_away(&mut self, around: &mut Surroundings<'_>) {
        let disconnect = Disconnect { reason: ReasonCode::ServerShuttingDown, properties: Properties::EMPTY };
        let meaning = Meaning::Disconnect { with_will: false, expiry_seconds: None };
        self.write(around.written, &Packet::Disconnect(disconnect), meaning);
        self.lose_connection();
    }

    /// The next connection starts clean.
    pub(crate) fn throw_session_away(&mut self) {
        self.must_start_clean = true;
    }

    /// The connection is gone, or the client turns away from it.
    pub(crate) fn lose_connection(&mut self) {
        self.link = None;
        for exchange in &mut self.session.exchanges {
            if exchange.stage == Stage::Releasing {
                exchange.stage = Stage::AwaitingPubcomp;
            }
        }
    }

    /// Sends something illegal and turns away.
    pub(crate) fn misbehave(&mut self, around: &mut Surroundings<'_>) {
        // Packet type 0; a packet that only servers send; a topic name with a wildcard.
        let (bytes, reason): (&[u8], _) = around.random.pick(&[
            (&[0x00][..], ReasonCode::MalformedPacket),
            (&[0xD0, 0][..], ReasonCode::ProtocolError),
            match self.version {
                Version::V311 => (&[0x30, 5, 0, 3, b'a', b'/', b'#'][..], ReasonCode::TopicNameInvalid),
                Version::V5 => (&[0x30, 6, 0, 3, b'a', b'/', b'#', 0][..], ReasonCode::TopicNameInvalid),
            },
        ]);
        around.written.push(Outgoing { bytes: bytes.to_vec(), meaning: Meaning::Violation(reason) });
        self.lose_connection();
    }

    /// Closes the sending side only.
    pub(crate) fn finish(&mut self) {
        let link = self.link_mut();
        link.is_finished = true;
        link.answers.clear();
    }

    /// Says good-bye and turns away.
    pub(crate) fn disconnect(&mut self, around: &mut Surroundings<'_>) {
        let link = self.link.as_ref().expect("a connected client disconnects");
        let is_v5 = self.version == Version::V5;
        let with_will = is_v5 && around.random.percent(20);
        let expiry_seconds = (is_v5 && link.expiry_seconds > 0 && around.random.percent(30))
            .then(|| around.random.pick(&self.profile.expiry_seconds));
        let mut properties = PropertyWriter::new();
        if let Some(seconds) = expiry_seconds {
            properties.push(Property::SessionExpiryInterval(seconds));
        }
        let reason = if with_will { ReasonCode::DisconnectWithWill } else { ReasonCode::Success };
        let disconnect = Disconnect { reason, properties: properties.properties() };
        let meaning = Meaning::Disconnect { with_will, expiry_seconds };
        self.write(around.written, &Packet::Disconnect(disconnect), meaning);
        self.lose_connection();
    }

    pub(crate) fn ping(&mut self, around: &mut Surroundings<'_>) {
        self.write(around.written, &Packet::Pingreq, Meaning::Other);
    }

    /// Publishes some messages, as many as the windows allow.
    pub(crate) fn publish(&mut self, around: &mut Surroundings<'_>) {
        for _ in 0..around.random.between(1, 8) {
            let mut qos = around.random.pick(&self.profile.publishes);
            let topic = around.scenario.topic(around.random, self.index);
            if self.is_remote() {
                match self.qos_to_bridge(around, &topic, qos) {
                    Some(granted) => qos = granted,
                    None => continue,
                }
            }
            let random = &mut *around.random;
            let id = match qos {
                QoS::AtMostOnce => None,
                QoS::AtLeastOnce | QoS::ExactlyOnce => match self.free_slot() {
                    Some(id) => Some(id),
                    None => return,
                },
            };
            if self.version == Version::V5
                && self.serving.is_none()
                && random.percent(2)
                && let Some(id) = id
            {
                self.claim_falsely(around, id, qos);
                continue;
            }
            let retain = random.percent(self.profile.retain_percent);
            let filling = match random.below(100) {
                0..5 if retain => None,
                // Large enough to go out by reference.
                5..7 => Some(random.between(8_000, 10_000) as usize),
                _ => Some(random.below(40) as usize),
            };
            let may_expire = self.version == Version::V5 && random.percent(self.profile.expiry_percent);
            let expiry_seconds = may_expire.then(|| random.between(1, 5) as u32);
            let number = around.ledger.publish(self.index, topic, qos, retain, filling, expiry_seconds);
            if self.is_remote() && !self.is_carried(around, number) || self.is_forbidden(around.ledger, number) {
                around.ledger.withhold(number);
            }
            if let Some(id) = id {
                let stage = if qos == QoS::AtLeastOnce { Stage::AwaitingPuback } else { Stage::AwaitingPubrec };
                self.session.exchanges.push_back(Exchange { id, message: number, stage });
            }
            self.write_publish(around, number, id, false);
        }
    }

    /// Publishes what is not the text that it claims to be: the broker refuses it, nobody gets it, and with the refusal or the
    /// end of the connection the id is free for another message [MQTT-4.3.3-9].
    fn claim_falsely(&mut self, around: &mut Surroundings<'_>, id: u16, qos: QoS) {
        let mut properties = PropertyWriter::new();
        properties.push(Property::PayloadFormatIndicator(1));
        let publish = Publish {
            dup: false,
            qos,
            retain: false,
            topic: &around.scenario.topic(around.random, self.index),
            packet_id: Some(packet_id(id)),
            properties: properties.properties(),
            payload: b"\xFF",
        };
        self.link_mut().requests.insert(id, Request::Refusal);
        self.write(around.written, &Packet::Publish(publish), Meaning::Publish { id: Some(id), qos, by_alias: false });
    }

    fn write_publish(&mut self, around: &mut Surroundings<'_>, number: MessageNumber, id: Option<u16>, dup: bool) {
        let message = around.ledger.message(number);
        let mut properties = PropertyWriter::new();
        if let Some(seconds) = message.expiry_seconds {
            properties.push(Property::MessageExpiryInterval(seconds));
        }
        let name = match around.bridging.filter(|_| self.is_remote()) {
            Some(bridging) => {
                bridging.plan.name_at_remote(&message.topic).expect("it was chosen because it has a name")
            }
            None => message.topic.clone(),
        };
        let (topic, alias) = self.link_mut().told.name(&name, number);
        if let Some(alias) = alias {
            properties.push(Property::TopicAlias(alias));
        }
        let publish = Publish {
            dup,
            qos: message.qos,
            retain: message.retain,
            topic,
            packet_id: id.map(packet_id),
            properties: properties.properties(),
            payload: &message.payload,
        };
        let meaning = Meaning::Publish { id, qos: message.qos, by_alias: topic.is_empty() };
        self.write(around.written, &Packet::Publish(publish), meaning);
    }

    /// Whether the client may not publish a message.
    fn is_forbidden(&self, ledger: &Ledger, number: MessageNumber) -> bool {
        !ledger.rules.permit(self.index, &ledger.message(number).topic)
    }

    /// Asks for one to three filters.
    pub(crate) fn subscribe(&mut self, around: &mut Surroundings<'_>) {
        let Some(id) = self.free_id() else { return };
        let random = &mut *around.random;
        let mut filters: Vec<(String, SubscriptionOptions)> = Vec::new();
        let present = around.ledger.filters(self.index);
        for _ in 0..random.between(1, 3) {
            let filter = if !present.is_empty() && random.percent(self.profile.resubscribe_percent) {
                random.pick(&present)
            } else {
                around.scenario.filter(random)
            };
            if filters.iter().all(|(other, _)| *other != filter) {
                let options = self.profile.subscription(random, self.version, &filter);
                filters.push((filter, options));
            }
        }
        let identifier = (self.version == Version::V5 && random.percent(50)).then(|| {
            self.identifiers += 1;
            self.identifiers
        });
        let mut properties = PropertyWriter::new();
        if let Some(identifier) = identifier {
            properties.push(Property::SubscriptionIdentifier(identifier));
        }
        let entries = filters
            .iter()
            .map(|(filter, options)| (around.ledger.subscribe(self.index, filter, *options, identifier), options.qos));
        let request = Request::Subscribe(entries.collect());
        let mut bytes = Vec::new();
        let filters = filters.iter().map(|(filter, options)| (&**filter, *options));
        encode_subscribe(&mut bytes, self.version, packet_id(id), properties.properties(), filters);
        around.written.push(Outgoing { bytes, meaning: Meaning::Subscribe });
        self.link_mut().requests.insert(id, request);
    }

    /// Leaves one or two of the filters.
    pub(crate) fn unsubscribe(&mut self, around: &mut Surroundings<'_>) {
        let present = around.ledger.filters(self.index);
        let Some(id) = self.free_id().filter(|_| !present.is_empty()) else { return };
        let chosen: BTreeSet<String> = (0..around.random.between(1, 2)).map(|_| around.random.pick(&present)).collect();
        let mut bytes = Vec::new();
        let filters = chosen.iter().map(String::as_str);
        encode_unsubscribe(&mut bytes, self.version, packet_id(id), Properties::EMPTY, filters);
        around.written.push(Outgoing { bytes, meaning: Meaning::Other });
        let entries = chosen.into_iter().map(|filter| {
            let step = around.ledger.unsubscribe(self.index, &filter);
            (filter, step)
        });
        let request = Request::Unsubscribe(entries.collect());
        self.link_mut().requests.insert(id, request);
    }

    /// Whether answers wait to be sent.
    pub(crate) fn has_answers(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !link.answers.is_empty())
    }

    /// Sends some of the answers that wait.
    pub(crate) fn answer(&mut self, around: &mut Surroundings<'_>) {
        let link = self.link.as_mut().expect("a connected client answers");
        let count = around.random.between(1, link.answers.len() as u64) as usize;
        let answers: Vec<_> = link.answers.drain(..count).collect();
        for answer in answers {
            self.write_answer(around.written, answer);
        }
    }

    fn write_answer(&mut self, written: &mut Vec<Outgoing>, answer: Answer) {
        let acknowledgement = |id| Acknowledgement {
            packet_id: packet_id(id),
            reason: ReasonCode::Success,
            properties: Properties::EMPTY,
        };
        let (packet, meaning) = match answer {
            Answer::Puback(id) => (Packet::Puback(acknowledgement(id)), Meaning::Puback(id)),
            Answer::Pubrec(id) => (Packet::Pubrec(acknowledgement(id)), Meaning::Pubrec(id)),
            Answer::Pubrel(id) => {
                let exchange = self.session.exchanges.iter_mut().find(|exchange| exchange.id == id);
                exchange.expect("its PUBREL waits").stage = Stage::AwaitingPubcomp;
                (Packet::Pubrel(acknowledgement(id)), Meaning::Pubrel(id))
            }
            Answer::Pubcomp(id) => (Packet::Pubcomp(acknowledgement(id)), Meaning::Pubcomp(id)),
        };
        self.write(written, &packet, meaning);
    }

    /// What the client still waits for, if it does.
    pub(crate) fn waits_for(&self) -> Option<String> {
        let Some(link) = self.link.as_ref().filter(|link| link.is_accepted) else {
            return Some("a connection".to_owned());
        };
        let Session { exchanges, received, .. } = &self.session;
        (!exchanges.is_empty() || !received.is_empty() || !link.requests.is_empty() || !link.answers.is_empty()).then(
            || format!("{exchanges:?}, PUBREL of {received:?}, {:?}, or has to send {:?}", link.requests, link.answers),
        )
    }

    fn start_session(&mut self, ledger: &mut Ledger) {
        let last_id = self.session.last_id;
        self.session = Session { last_id, ..Session::default() };
        ledger.start_session(self.index, self.max_packet_bytes());
    }

    pub(crate) fn max_packet_bytes(&self) -> Option<u32> {
        match self.version {
            Version::V311 => None,
            Version::V5 => self.profile.max_packet_bytes,
        }
    }

    fn queue_answer(&mut self, answer: Answer) {
        let link = self.link_mut();
        if !link.is_finished {
            link.answers.push_back(answer);
        }
    }

    fn free_slot(&mut self) -> Option<u16> {
        let requests = self.link_mut().requests.values();
        let refusals = requests.filter(|request| matches!(request, Request::Refusal)).count();
        let open = self.session.exchanges.len() + refusals;
        let is_free = open < self.profile.window && open < self.link_mut().quota;
        if is_free { self.free_id() } else { None }
    }

    fn free_id(&mut self) -> Option<u16> {
        let link = self.link.as_ref().expect("a connected client sends");
        let session = &self.session;
        let is_free =
            |id: &u16| session.exchanges.iter().all(|exchange| exchange.id != *id) && !link.requests.contains_key(id);
        let ids = u32::from(self.profile.packet_ids);
        let id = (0..ids.min(100)).map(|step| ((u32::from(session.last_id) + step) % ids + 1) as u16).find(is_free)?;
        self.session.last_id = id;
        Some(id)
    }

    fn link_mut(&mut self) -> &mut Link {
        self.link.as_mut().expect("a connected client")
    }

    fn write(&self, written: &mut Vec<Outgoing>, packet: &Packet<'_>, meaning: Meaning) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        written.push(Outgoing { bytes, meaning });
    }
}

fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).expect("ids count from 1")
}
