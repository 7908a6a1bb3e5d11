//! An application message on its way through the broker.

use bytes::Bytes;

use super::message_bytes::{CHUNK_BYTES, MessageBytes};
use crate::proto::{Frame, PropertyIdentifier, Publish, QoS, Will};
use crate::time::{CoarseTime, Timestamp};
use std::time::Duration;

/// A message: topic, forwarded properties and payload as views of one shared allocation, so a clone is one reference
/// count, whatever the number of subscribers and shards.
#[derive(Clone, Debug)]
pub struct Message {
    body: Bytes,
    topic_start: u32,
    topic_bytes: u16,
    properties_start: u32,
    properties_bytes: u32,
    payload_start: u32,
    /// The QoS it was published with.
    pub qos: QoS,
    /// Whether it was published with RETAIN.
    pub retain: bool,
    /// When it stops being worth delivering (5.0 Message Expiry Interval).
    pub expires_at: Option<Timestamp>,
    /// When it was read, if its way is measured. It says nothing of the message, and ends with this process.
    pub read_at: Option<CoarseTime>,
}

impl Message {
    /// The message in a PUBLISH packet. `publish` was decoded from `frame`; behind a topic alias its topic may lie elsewhere.
    /// Its bytes are copied to `bytes`, but for a long one that has an allocation of its own already.
    ///
    /// The topic alias and the expiry interval belong to the hop and not to the message: they are left out of the
    /// forwarded properties, the latter as a deadline.
    pub fn from_publish(now: Timestamp, publish: &Publish<'_>, frame: &Frame<'_>, bytes: &mut MessageBytes) -> Self {
        let Publish { qos, retain, topic, properties, payload, .. } = *publish;
        let expires_at = properties.message_expiry_interval().map(|seconds| now + Duration::from_secs(seconds.into()));
        let is_forwarded_whole = expires_at.is_none() && properties.topic_alias().is_none();
        if let Frame::Collected(frame) = frame
            && frame.len() > CHUNK_BYTES
            && is_forwarded_whole
        {
            return Self {
                topic_start: offset_in(frame, topic.as_bytes()),
                topic_bytes: topic.len() as u16,
                properties_start: offset_in(frame, properties.raw()),
                properties_bytes: properties.raw().len() as u32,
                payload_start: offset_in(frame, payload),
                body: frame.clone(),
                qos,
                retain,
                expires_at,
                read_at: None,
            };
        }
        let mut payload_start = 0;
        let body = bytes.write(topic.len() + properties.raw().len() + payload.len(), |body| {
            body.extend_from_slice(topic.as_bytes());
            if is_forwarded_whole {
                body.extend_from_slice(properties.raw());
            } else {
                let hop = [PropertyIdentifier::TopicAlias, PropertyIdentifier::MessageExpiryInterval];
                properties.copy_where(body, |identifier| !hop.contains(&identifier));
            }
            payload_start = body.len() as u32;
            body.extend_from_slice(payload);
        });
        let properties_start = topic.len() as u32;
        Self {
            body,
            topic_start: 0,
            topic_bytes: topic.len() as u16,
            properties_start,
            properties_bytes: payload_start - properties_start,
            payload_start,
            qos,
            retain,
            expires_at,
            read_at: None,
        }
    }

    /// A message from its parts, copied. `properties` is a raw property block without its length.
    pub fn new(
        topic: &str,
        properties: &[u8],
        payload: &[u8],
        qos: QoS,
        retain: bool,
        expires_at: Option<Timestamp>,
    ) -> Self {
        let mut body = Vec::with_capacity(topic.len() + properties.len() + payload.len());
        body.extend_from_slice(topic.as_bytes());
        body.extend_from_slice(properties);
        body.extend_from_slice(payload);
        let properties_start = topic.len() as u32;
        Self {
            body: Bytes::from(body),
            topic_start: 0,
            topic_bytes: topic.len() as u16,
            properties_start,
            properties_bytes: properties.len() as u32,
            payload_start: properties_start + properties.len() as u32,
            qos,
            retain,
            expires_at,
            read_at: None,
        }
    }

    /// The same message in an allocation of its own, so that keeping it for long does not keep the bytes of those that it
    /// came with. Its way is not measured any more.
    pub fn compacted(&self) -> Self {
        Self::new(self.topic_name(), self.properties(), self.payload(), self.qos, self.retain, self.expires_at)
    }

    /// The topic name.
    #[inline]
    pub fn topic(&self) -> &[u8] {
        &self.body[self.topic_start as usize..self.topic_start as usize + usize::from(self.topic_bytes)]
    }

    /// The topic name as text.
    pub fn topic_name(&self) -> &str {
        std::str::from_utf8(self.topic()).expect("a topic was decoded as UTF-8")
    }

    /// The forwarded properties: a raw block, in the publisher's order [MQTT-3.3.2-15..20].
    #[inline]
    pub fn properties(&self) -> &[u8] {
        let start = self.properties_start as usize;
        &self.body[start..start + self.properties_bytes as usize]
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.body[self.payload_start as usize..]
    }

    /// The payload, shared.
    pub fn payload_shared(&self) -> Bytes {
        self.body.slice(self.payload_start as usize..)
    }

    /// Topic, properties and payload together, in bytes.
    pub fn bytes(&self) -> usize {
        usize::from(self.topic_bytes) + self.properties_bytes as usize + self.payload().len()
    }

    /// Where its bytes lie: equal for clones of one message while one of them lives.
    pub fn body_address(&self) -> *const u8 {
        self.body.as_ptr()
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|deadline| deadline <= now)
    }
}

/// Equal in what it says, wherever its bytes lie.
impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        let said = |message: &Self| (message.qos, message.retain, message.expires_at);
        let lengths = |message: &Self| (message.topic_bytes, message.properties_bytes);
        said(self) == said(other)
            && lengths(self) == lengths(other)
            && self.topic() == other.topic()
            && self.properties() == other.properties()
            && self.payload() == other.payload()
    }
}

/// The message that a client leaves for the case that its connection breaks.
#[derive(Clone, PartialEq, Debug)]
pub struct WillMessage {
    message: Message,
    expires_after: Option<Duration>,
    delay: Duration,
}

impl WillMessage {
    /// What it is published to.
    pub fn topic_name(&self) -> &str {
        self.message.topic_name()
    }

    /// Keeps the will of a CONNECT. The delay and the lifetime are the broker's affair; the other properties are forwarded.
    pub fn new(will: &Will<'_>) -> Self {
        let mut forwarded = Vec::new();
        let hop = [PropertyIdentifier::WillDelayInterval, PropertyIdentifier::MessageExpiryInterval];
        will.properties.copy_where(&mut forwarded, |identifier| !hop.contains(&identifier));
        Self {
            message: Message::new(will.topic, &forwarded, will.payload, will.qos, will.retain, None),
            expires_after: will.properties.message_expiry_interval().map(|seconds| Duration::from_secs(seconds.into())),
            delay: Duration::from_secs(will.properties.will_delay_interval().unwrap_or(0).into()),
        }
    }

    /// The will that has these parts.
    pub fn from_parts(message: Message, expires_after: Option<Duration>, delay: Duration) -> Self {
        Self { message, expires_after, delay }
    }

    /// The message; it has no expiry before it is published.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// How long the message is worth delivering once it is published (5.0 Message Expiry Interval).
    pub fn expires_after(&self) -> Option<Duration> {
        self.expires_after
    }

    /// How long after the end of the connection it is published (5.0 Will Delay Interval).
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// The message as published now: its lifetime begins.
    pub fn publish(&self, now: Timestamp) -> Message {
        Message { expires_at: self.expires_after.map(|lifetime| now + lifetime), ..self.message.clone() }
    }
}

/// Where `part` starts in `whole`, of which it is a sub-slice. An empty part may lie anywhere, so it counts as the end.
fn offset_in(whole: &[u8], part: &[u8]) -> u32 {
    if part.is_empty() {
        return whole.len() as u32;
    }
    let offset = part.as_ptr() as usize - whole.as_ptr() as usize;
    assert!(offset + part.len() <= whole.len(), "the packet was decoded from this frame");
    offset as u32
}
