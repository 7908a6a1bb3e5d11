//! The properties of 5.0: one table, and the blocks that hold them.
//!
//! A [`Properties`] block has been validated once, when it was made, and stays raw bytes: it is iterated, looked up and
//! forwarded without allocation. It may come from three places only: a decoded packet, [`Properties::parse`], and a
//! [`PropertyWriter`]; so its iteration cannot fail.

use core::fmt;

use bytes::BufMut;

use super::error::DecodeError;
use super::reason::ReasonCode;
use super::types::{PacketSet, PacketType, QoS};
use super::wire::{Reader, put_binary, put_four_byte_integer, put_two_byte_integer, put_variable_byte_integer};

/// One row per property: identifier, variant and value type, data type on the wire, name in the standard, the packets
/// (and the will) that may carry it.
macro_rules! properties {
    ($($identifier:literal $variant:ident($value:ty) $wire:ident $name:literal [$($place:ident)+];)+) => {
        /// A property and its value.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Property<'a> {
            $(#[doc = concat!($name, " (", stringify!($identifier), ").")] $variant($value),)+
        }

        /// The identifier of a property.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        pub enum PropertyIdentifier {
            $(#[doc = concat!($name, ".")] $variant = $identifier,)+
        }

        impl PropertyIdentifier {
            /// Every property identifier, in order of value.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name in the standard.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            const fn from_value(value: u32) -> Option<Self> {
                match value { $($identifier => Some(Self::$variant),)+ _ => None }
            }

            const fn places(self) -> PacketSet {
                match self { $(Self::$variant => PacketSet(0 $(| PacketSet::$place.0)+),)+ }
            }
        }

        impl<'a> Property<'a> {
            /// Its identifier.
            #[must_use]
            pub const fn identifier(&self) -> PropertyIdentifier {
                match self { $(Self::$variant(_) => PropertyIdentifier::$variant,)+ }
            }

            fn read_value(identifier: PropertyIdentifier, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                match identifier { $(PropertyIdentifier::$variant => $wire::read(reader).map(Self::$variant),)+ }
            }

            fn write_value(self, out: &mut Vec<u8>) {
                match self { $(Self::$variant(value) => $wire::write(out, value),)+ }
            }
        }
    };
}

properties! {
    1 PayloadFormatIndicator(u8) Byte "Payload Format Indicator" [PUBLISH WILL];
    2 MessageExpiryInterval(u32) FourByteInteger "Message Expiry Interval" [PUBLISH WILL];
    3 ContentType(&'a str) Utf8String "Content Type" [PUBLISH WILL];
    8 ResponseTopic(&'a str) Utf8String "Response Topic" [PUBLISH WILL];
    9 CorrelationData(&'a [u8]) BinaryData "Correlation Data" [PUBLISH WILL];
    11 SubscriptionIdentifier(u32) VariableByteInteger "Subscription Identifier" [PUBLISH SUBSCRIBE];
    17 SessionExpiryInterval(u32) FourByteInteger "Session Expiry Interval" [CONNECT CONNACK DISCONNECT];
    18 AssignedClientIdentifier(&'a str) Utf8String "Assigned Client Identifier" [CONNACK];
    19 ServerKeepAlive(u16) TwoByteInteger "Server Keep Alive" [CONNACK];
    21 AuthenticationMethod(&'a str) Utf8String "Authentication Method" [CONNECT CONNACK AUTH];
    22 AuthenticationData(&'a [u8]) BinaryData "Authentication Data" [CONNECT CONNACK AUTH];
    23 RequestProblemInformation(bool) Flag "Request Problem Information" [CONNECT];
    24 WillDelayInterval(u32) FourByteInteger "Will Delay Interval" [WILL];
    25 RequestResponseInformation(bool) Flag "Request Response Information" [CONNECT];
    26 ResponseInformation(&'a str) Utf8String "Response Information" [CONNACK];
    28 ServerReference(&'a str) Utf8String "Server Reference" [CONNACK DISCONNECT];
    31 ReasonString(&'a str) Utf8String "Reason String"
        [CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH];
    33 ReceiveMaximum(u16) TwoByteInteger "Receive Maximum" [CONNECT CONNACK];
    34 TopicAliasMaximum(u16) TwoByteInteger "Topic Alias Maximum" [CONNECT CONNACK];
    35 TopicAlias(u16) TwoByteInteger "Topic Alias" [PUBLISH];
    36 MaximumQos(QoS) QosByte "Maximum QoS" [CONNACK];
    37 RetainAvailable(bool) Flag "Retain Available" [CONNACK];
    38 UserProperty(StringPair<'a>) Utf8StringPair "User Property"
        [CONNECT CONNACK PUBLISH WILL PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK DISCONNECT AUTH];
    39 MaximumPacketSize(u32) FourByteInteger "Maximum Packet Size" [CONNECT CONNACK];
    40 WildcardSubscriptionAvailable(bool) Flag "Wildcard Subscription Available" [CONNACK];
    41 SubscriptionIdentifiersAvailable(bool) Flag "Subscription Identifiers Available" [CONNACK];
    42 SharedSubscriptionAvailable(bool) Flag "Shared Subscription Available" [CONNACK];
}

/// A name and a value: the content of a User Property. Names may repeat, and their order counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct StringPair<'a> {
    /// The name.
    pub name: &'a str,
    /// The value.
    pub value: &'a str,
}

/// Where a block of properties stands: the will has one of its own inside CONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum PropertyPlace {
    /// The properties of a packet.
    Packet(PacketType),
    /// The will properties of a CONNECT.
    Will,
}

impl PropertyPlace {
    const fn set(self) -> PacketSet {
        match self {
            Self::Packet(packet_type) => PacketSet::only(packet_type),
            Self::Will => PacketSet::WILL,
        }
    }
}

impl PropertyIdentifier {
    /// Whether it may stand in this place.
    #[must_use]
    pub const fn is_allowed_in(self, place: PropertyPlace) -> bool {
        self.places().overlaps(place.set())
    }

    /// Whether it may stand there more than once: user properties anywhere, subscription identifiers in a PUBLISH that
    /// several subscriptions match.
    #[must_use]
    pub fn is_repeatable_in(self, place: PropertyPlace) -> bool {
        let is_publish = place == PropertyPlace::Packet(PacketType::Publish);
        self == Self::UserProperty || self == Self::SubscriptionIdentifier && is_publish
    }

    const fn bit(self) -> u64 {
        1 << self as u8
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_value(reader.variable_byte_integer()?).ok_or(DecodeError::malformed("unknown property identifier"))
    }
}

impl Property<'_> {
    /// Refuses values that the standard forbids and that the types leave possible.
    fn check_value(self) -> Result<Self, DecodeError> {
        let refusal = match self {
            Self::PayloadFormatIndicator(2..) => DecodeError::protocol("Payload Format Indicator above 1"),
            Self::SubscriptionIdentifier(0) => DecodeError::protocol("Subscription Identifier 0"),
            Self::ReceiveMaximum(0) => DecodeError::protocol("Receive Maximum 0"),
            Self::MaximumPacketSize(0) => DecodeError::protocol("Maximum Packet Size 0"),
            // [MQTT-3.3.2-8]
            Self::TopicAlias(0) => DecodeError::new(ReasonCode::TopicAliasInvalid, "Topic Alias 0"),
            other => return Ok(other),
        };
        Err(refusal)
    }
}

/// A validated block of properties, without its length. Order and repetition are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Properties<'a> {
    raw: &'a [u8],
    /// The bits of the identifiers that occur in `raw`.
    present: u64,
}

impl<'a> Properties<'a> {
    /// No properties; all that 3.1.1 has.
    pub const EMPTY: Properties<'static> = Properties { raw: &[], present: 0 };

    /// Validates a raw block, without its length, for this place.
    ///
    /// # Errors
    /// Malformed packet for unknown identifiers and truncated or ill-formed values; protocol error for a property that is
    /// not allowed there, stands twice, or has a forbidden value; topic alias invalid for the alias 0.
    #[inline]
    pub fn parse(raw: &'a [u8], place: PropertyPlace) -> Result<Self, DecodeError> {
        if raw.is_empty() { Ok(Self::EMPTY) } else { Self::parse_block(raw, place) }
    }

    fn parse_block(raw: &'a [u8], place: PropertyPlace) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(raw);
        let mut present = 0;
        while !reader.is_empty() {
            let identifier = PropertyIdentifier::read(&mut reader)?;
            if !identifier.is_allowed_in(place) {
                return Err(DecodeError::protocol("a property that this packet does not allow"));
            }
            if present & identifier.bit() != 0 && !identifier.is_repeatable_in(place) {
                return Err(DecodeError::protocol("a property stands twice"));
            }
            present |= identifier.bit();
            Property::read_value(identifier, &mut reader)?.check_value()?;
        }
        let properties = Self { raw, present };
        if properties.contains(PropertyIdentifier::AuthenticationData)
            && !properties.contains(PropertyIdentifier::AuthenticationMethod)
        {
            return Err(DecodeError::protocol("Authentication Data without Authentication Method"));
        }
        Ok(properties)
    }

    /// The bytes of the block, without its length.
    #[inline]
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Whether this property occurs.
    #[inline]
    #[must_use]
    pub const fn contains(&self, identifier: PropertyIdentifier) -> bool {
        self.present & identifier.bit() != 0
    }

    /// The properties in their order.
    #[inline]
    #[must_use]
    pub const fn iter(&self) -> PropertyIter<'a> {
        PropertyIter { reader: Reader::new(self.raw) }
    }

    /// The user properties in their order.
    pub fn user_properties(&self) -> impl Iterator<Item = StringPair<'a>> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::UserProperty(pair) => Some(pair),
            _ => None,
        })
    }

    /// All subscription identifiers; a PUBLISH may have several.
    pub fn subscription_identifiers(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::SubscriptionIdentifier(identifier) => Some(identifier),
            _ => None,
        })
    }

    /// Appends to `out`, unchanged and in order, the properties that `keep` chooses.
    pub fn copy_where(&self, out: &mut impl BufMut, mut keep: impl FnMut(PropertyIdentifier) -> bool) {
        let mut iter = self.iter();
        loop {
            let before = iter.reader.rest();
            let Some(property) = iter.next() else { return };
            if keep(property.identifier()) {
                out.put_slice(&before[..before.len() - iter.reader.rest().len()]);
            }
        }
    }
}

/// One row per accessor: its name, the property, the type of its value, and what that means.
macro_rules! accessors {
    ($($accessor:ident $variant:ident -> $value:ty, $doc:literal;)+) => {
        impl<'a> Properties<'a> {
            $(
                #[doc = $doc]
                #[must_use]
                pub fn $accessor(&self) -> Option<$value> {
                    if !self.contains(PropertyIdentifier::$variant) {
                        return None;
                    }
                    self.iter().find_map(|property| match property {
                        Property::$variant(value) => Some(value),
                        _ => None,
                    })
                }
            )+
        }
    };
}

accessors! {
    payload_format_indicator PayloadFormatIndicator -> u8, "0: unspecified bytes (also when absent); 1: UTF-8 text.";
    message_expiry_interval MessageExpiryInterval -> u32, "Lifetime of the message in seconds; absent: it never expires.";
    content_type ContentType -> &'a str, "What the payload is, in the application's words.";
    response_topic ResponseTopic -> &'a str, "The topic for a response.";
    correlation_data CorrelationData -> &'a [u8], "What ties a response to its request.";
    subscription_identifier SubscriptionIdentifier -> u32, "The (first) subscription identifier, never 0.";
    session_expiry_interval SessionExpiryInterval -> u32,
        "Lifetime of the session behind its connection in seconds; absent: 0; 0xFFFFFFFF: for ever.";
    assigned_client_identifier AssignedClientIdentifier -> &'a str, "The client identifier that the server chose.";
    server_keep_alive ServerKeepAlive -> u16, "The keep-alive in seconds that the client has to use instead of its own.";
    authentication_method AuthenticationMethod -> &'a str, "The name of the authentication method.";
    authentication_data AuthenticationData -> &'a [u8], "What the authentication method exchanges.";
    request_problem_information RequestProblemInformation -> bool,
        "Whether the client wants reason strings and user properties with acknowledgements; absent: yes.";
    will_delay_interval WillDelayInterval -> u32, "Delay of the will in seconds; absent: 0.";
    request_response_information RequestResponseInformation -> bool,
        "Whether the client wants Response Information; absent: no.";
    response_information ResponseInformation -> &'a str, "A basis for response topics.";
    server_reference ServerReference -> &'a str, "Another server to use.";
    reason_string ReasonString -> &'a str, "A diagnosis for humans.";
    receive_maximum ReceiveMaximum -> u16,
        "How many QoS 1 and QoS 2 messages the sender accepts unacknowledged, never 0; absent: 65,535.";
    topic_alias_maximum TopicAliasMaximum -> u16, "The highest topic alias that the sender accepts; absent: 0.";
    topic_alias TopicAlias -> u16, "The number that stands for the topic name on this connection, never 0.";
    maximum_qos MaximumQos -> QoS, "The highest QoS that the server serves, 0 or 1; absent: 2.";
    retain_available RetainAvailable -> bool, "Whether the server keeps retained messages; absent: yes.";
    maximum_packet_size MaximumPacketSize -> u32,
        "The largest packet in bytes that the sender accepts, never 0; absent: no limit.";
    wildcard_subscription_available WildcardSubscriptionAvailable -> bool,
        "Whether the server serves wildcard subscriptions; absent: yes.";
    subscription_identifiers_available SubscriptionIdentifiersAvailable -> bool,
        "Whether the server serves subscription identifiers; absent: yes.";
    shared_subscription_available SharedSubscriptionAvailable -> bool,
        "Whether the server serves shared subscriptions; absent: yes.";
}

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for Properties<'a> {
    type Item = Property<'a>;
    type IntoIter = PropertyIter<'a>;

    fn into_iter(self) -> PropertyIter<'a> {
        self.iter()
    }
}

/// The properties of a block, in their order.
#[derive(Clone, Debug)]
pub struct PropertyIter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for PropertyIter<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        if self.reader.is_empty() {
            return None;
        }
        let property = PropertyIdentifier::read(&mut self.reader)
            .and_then(|identifier| Property::read_value(identifier, &mut self.reader))
            .expect("a block of properties was validated when it was made");
        Some(property)
    }
}

/// Appends one property to a raw block.
///
/// # Panics
/// If a string or binary value has more than 65,535 bytes, or a value is one that the standard forbids: what comes from
/// a decoded packet never is.
pub fn encode_property(out: &mut Vec<u8>, property: Property<'_>) {
    assert!(property.check_value().is_ok(), "{property:?} has a forbidden value");
    out.push(property.identifier() as u8);
    property.write_value(out);
}

/// Collects properties for a packet. The caller keeps to the rules of the place they are for.
#[derive(Clone, Debug, Default)]
pub struct PropertyWriter {
    raw: Vec<u8>,
    present: u64,
}

impl PropertyWriter {
    /// A writer without properties.
    #[must_use]
    pub const fn new() -> Self {
        Self { raw: Vec::new(), present: 0 }
    }

    /// Appends a property.
    ///
    /// # Panics
    /// As [`encode_property`].
    pub fn push(&mut self, property: Property<'_>) -> &mut Self {
        encode_property(&mut self.raw, property);
        self.present |= property.identifier().bit();
        self
    }

    /// Forgets the properties and keeps the memory.
    pub fn clear(&mut self) {
        self.raw.clear();
        self.present = 0;
    }

    /// The block.
    #[must_use]
    pub fn properties(&self) -> Properties<'_> {
        Properties { raw: &self.raw, present: self.present }
    }
}

/// The data types on the wire (section 1.5 of the standard), each with its way in and out.
struct Byte;
struct Flag;
struct QosByte;
struct TwoByteInteger;
struct FourByteInteger;
struct VariableByteInteger;
struct BinaryData;
struct Utf8String;
struct Utf8StringPair;

impl Byte {
    fn read(reader: &mut Reader<'_>) -> Result<u8, DecodeError> {
        reader.byte()
    }

    fn write(out: &mut Vec<u8>, value: u8) {
        out.push(value);
    }
}

impl Flag {
    fn read(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
        match reader.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::protocol("a property that is 0 or 1 has another value")),
        }
    }

    fn write(out: &mut Vec<u8>, value: bool) {
        out.push(u8::from(value));
    }
}

impl QosByte {
    fn read(reader: &mut Reader<'_>) -> Result<QoS, DecodeError> {
        // Maximum QoS 2 is said by leaving the property out.
        QoS::from_bits(reader.byte()?)
            .filter(|qos| *qos < QoS::ExactlyOnce)
            .ok_or(DecodeError::protocol("Maximum QoS above 1"))
    }

    fn write(out: &mut Vec<u8>, value: QoS) {
        out.push(value.bits());
    }
}

impl TwoByteInteger {
    fn read(reader: &mut Reader<'_>) -> Result<u16, DecodeError> {
        reader.two_byte_integer()
    }

    fn write(out: &mut Vec<u8>, value: u16) {
        put_two_byte_integer(out, value);
    }
}

impl FourByteInteger {
    fn read(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
        reader.four_byte_integer()
    }

    fn write(out: &mut Vec<u8>, value: u32) {
        put_four_byte_integer(out, value);
    }
}

impl VariableByteInteger {
    fn read(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
        reader.variable_byte_integer()
    }

    fn write(out: &mut Vec<u8>, value: u32) {
        put_variable_byte_integer(out, value as usize);
    }
}

impl BinaryData {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
        reader.binary()
    }

    fn write(out: &mut Vec<u8>, value: &[u8]) {
        put_binary(out, value);
    }
}

impl Utf8String {
    fn read<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
        reader.string()
    }

    fn write(out: &mut Vec<u8>, value: &str) {
        put_binary(out, value.as_bytes());
    }
}

impl Utf8StringPair {
    /// [MQTT-1.5.7-1]: both halves keep to the rules of strings.
    fn read<'a>(reader: &mut Reader<'a>) -> Result<StringPair<'a>, DecodeError> {
        Ok(StringPair { name: reader.string()?, value: reader.string()? })
    }

    fn write(out: &mut Vec<u8>, pair: StringPair<'_>) {
        put_binary(out, pair.name.as_bytes());
        put_binary(out, pair.value.as_bytes());
    }
}
