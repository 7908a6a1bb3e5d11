//! stub
/// Limits.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest MQTT packet accepted, in bytes.
    pub max_packet_bytes: u32,
    /// Receive Maximum announced to 5.0 publishers (QoS 1 and 2 PUBLISHes not yet completed).
    pub receive_maximum: u16,
    /// Messages sent to one client and not yet completed, at most.
    pub max_inflight: u16,
    /// Messages waiting for one session, at most.
    pub max_queued_messages: u32,
    /// Payload bytes waiting for one session, at most.
    pub max_queued_bytes: u64,
    /// Bytes of one connection that wait for the kernel before messages to it stay in its queue.
    pub max_output_bytes: u32,
    /// Letters waiting for one shard before their sources are paused.
    pub max_waiting_letters: u32,
    /// Retained messages of one shard, at most.
    pub max_retained_messages: u32,
    /// How long a connection that the broker ends may linger.
    pub linger: std::time::Duration,
}
/// When an acknowledgement may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// At once; nothing is logged.
    None,
}
