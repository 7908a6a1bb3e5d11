//! Shards driven by hand: each test names the statement or trap that it proves.

use std::collections::VecDeque;
use std::time::Duration;

use super::*;
use crate::config::{QueuePolicy, SharedBalance, SlowReaderPolicy};
use crate::proto::{
    Acknowledgement, AcknowledgementKind, Connack, Connect, Disconnect, Framer, Packet, PacketId, Properties, Property,
    PropertyWriter, Publish, QoS, ReasonCode, RetainHandling, SubscriptionOptions, Version, Will, decode,
    encode_subscribe, encode_unsubscribe,
};
use crate::store::{Image, LogConfig, LogEnd};
use bytes::Bytes;

mod aliases;
mod authenticating;
mod backlog;
mod bridging;
mod disk;
mod durable;
mod exchange;
mod fleet;
mod lifecycle;
mod limits;
mod log_limit;
mod overflow;
mod refusals;
mod reporting;
mod retained;
mod retained_pages;
mod service;
mod shared;
mod statements;
mod traps;

use fleet::{Client, Fleet, Got, limits};

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("a packet id is not zero")
}
