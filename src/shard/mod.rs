//! stub
use crate::config::{Durability, Limits};
use crate::route::{Letter, ShardId};
use crate::time::Timestamp;
use bytes::Bytes;
/// Key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnectionKey(u32);
impl ConnectionKey {
    /// Dense index.
    pub fn index(self) -> usize { self.0 as usize }
}
/// Config.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct ShardConfig { pub id: ShardId, pub shards: u16, pub seed: u64, pub limits: Limits, pub durability: Durability }
/// Admission.
#[allow(missing_docs)]
pub struct Admission { pub connect_frame: Bytes, pub client_id: Box<str>, pub client_id_assigned: bool, pub early_bytes: Bytes }
/// Transmit.
#[derive(Debug)]
pub struct Transmit { bytes: Vec<u8> }
#[allow(missing_docs)]
impl Transmit {
    pub fn len(&self) -> usize { self.bytes.len() }
    pub fn is_empty(&self) -> bool { self.bytes.is_empty() }
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> { std::iter::once(&self.bytes[..]) }
    pub fn is_single(&self) -> Option<&[u8]> { Some(&self.bytes) }
}
/// Command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Command { PauseReceiving(ConnectionKey), ResumeReceiving(ConnectionKey), FinishSending(ConnectionKey), Close(ConnectionKey) }
/// Counters.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Counters { pub connections: u64 }
impl std::fmt::Display for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "connections={}", self.connections) }
}
/// Shard.
pub struct Shard;
#[allow(missing_docs, unused_variables)]
impl Shard {
    pub fn new(config: ShardConfig) -> Self { Self }
    pub fn handle_admission(&mut self, now: Timestamp, admission: Admission) -> ConnectionKey { ConnectionKey(0) }
    pub fn handle_received(&mut self, now: Timestamp, key: ConnectionKey, bytes: &[u8]) {}
    pub fn handle_end_of_stream(&mut self, now: Timestamp, key: ConnectionKey) {}
    pub fn handle_connection_failed(&mut self, now: Timestamp, key: ConnectionKey) {}
    pub fn handle_sent(&mut self, now: Timestamp, key: ConnectionKey, transmit: Transmit) {}
    pub fn handle_closed(&mut self, key: ConnectionKey) {}
    pub fn handle_letter(&mut self, now: Timestamp, from: ShardId, letter: Letter) {}
    pub fn handle_timeout(&mut self, now: Timestamp) {}
    pub fn handle_shutdown(&mut self, now: Timestamp) {}
    pub fn poll_letters(&mut self, to: ShardId, max: usize) -> Option<Vec<Letter>> { None }
    pub fn poll_transmit(&mut self) -> Option<(ConnectionKey, Transmit)> { None }
    pub fn poll_command(&mut self) -> Option<Command> { None }
    pub fn next_timeout(&self) -> Option<Timestamp> { None }
    pub fn recycle_letters(&mut self, batch: Vec<Letter>) {}
    pub fn counters(&self) -> Counters { Counters::default() }
    pub fn is_drained(&self) -> bool { true }
}
/// Placement.
pub fn shard_of(client_id: &str, shards: u16) -> ShardId { let _ = client_id; ShardId(0 % shards) }
