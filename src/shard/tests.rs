//! Shards driven by hand: each test names the statement or trap that it proves.

use std::collections::VecDeque;
use std::time::Duration;

use super::*;
use crate::config::{QueuePolicy, SharedBalance, SlowReaderPolicy};
use crate::proto::{
    Acknowledgement, AcknowledgementKind, Connack, Connect, Disconnect, Framer, Packet, PacketId, Properties, Property,
    PropertyWriter, Publish, QoS, ReasonCode, Received, RetainHandling, SubscriptionOptions, Version, Will, decode,
    encode_subscribe, encode_unsubscribe,
};
use crate::store::{Image, LogConfig, LogEnd};
use bytes::Bytes;

mod aliases;
mod authenticating;
mod backlog;
mod bridging;
mod directory;
mod disk;
mod durable;
mod exchange;
mod fleet;
mod latency;
mod lifecycle;
mod limits;
mod log_limit;
mod memory;
mod overflow;
mod pacing;
mod permitting;
mod refusals;
mod reporting;
mod retained;
mod retained_pages;
mod service;
mod shared;
mod statements;
mod tls;
mod traps;
mod web_socket;

use fleet::{Client, Fleet, Got, limits};

/// The CONNECT of a client with a clean start that asks for nothing beyond these properties.
fn connect<'a>(version: Version, client_id: &'a str, properties: Properties<'a>) -> Connect<'a> {
    Connect {
        version,
        clean_start: true,
        keep_alive_seconds: 0,
        client_id,
        will: None,
        username: None,
        password: None,
        properties,
    }
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("a packet id is not zero")
}
