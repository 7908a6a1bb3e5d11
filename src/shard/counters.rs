//! What a shard counts, for its operator and for tests that look for leaks.

use std::fmt;

use super::encoder::Unsent;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A snapshot of a shard's gauges (what is there now) and totals (since its start).
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counters {
            /// Each with its name and what it is.
            pub fn rows(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + use<> {
                [$((stringify!($name), concat!($($doc),+).trim_ascii(), self.$name)),+].into_iter()
            }
        }

        /// `name=value` pairs on one line.
        impl fmt::Display for Counters {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut separator = "";
                $(
                    write!(formatter, "{separator}{}={}", stringify!($name), self.$name)?;
                    separator = " ";
                )+
                let _ = separator;
                Ok(())
            }
        }
    };
}

counters! {
    /// How short memory is: 0 not at all, 1 clients without a session are refused, 2 publishers wait, 3 QoS 0 messages are dropped.
    memory_stage,
    /// Connections that have not been closed by the driver.
    connections,
    /// Sessions, connected or not.
    sessions,
    /// Subscriptions of these sessions.
    subscriptions,
    /// Groups of shared subscriptions of which this shard is the home.
    shared_groups,
    /// Messages held for delivery.
    messages,
    /// QoS 2 exchanges of publishers that await PUBREL.
    inbound_inflight,
    /// QoS 1 and 2 exchanges with subscribers that are open.
    outbound_inflight,
    /// Messages that wait for a slot, or for their subscriber to come back.
    queued,
    /// Retained messages of which this shard is the home.
    retained,
    /// SUBSCRIBEs that wait for other shards, or for their clients to take retained messages.
    pending_subscribes,
    /// Lookups of retained messages of which this shard is the home.
    lookups,
    /// Letters that wait for room in a ring.
    waiting_letters,
    /// Publishers that do not get their acknowledgements because a subscriber has fallen behind, each time.
    held_publishers,
    /// Publishers that are not read from for a while because they are faster than they may be, each time.
    paced_publishers,
    /// Subscribers that had fallen behind and acknowledged nothing for the stall timeout.
    stalled_subscribers,
    /// CONNECT packets received.
    connects,
    /// Packets received.
    packets_received,
    /// Packets sent.
    packets_sent,
    /// Bytes received.
    bytes_received,
    /// Bytes sent.
    bytes_sent,
    /// Payload bytes of PUBLISH packets received.
    payload_bytes_received,
    /// Payload bytes of PUBLISH packets sent.
    payload_bytes_sent,
    /// PUBLISH packets received, repeats included.
    publishes_received,
    /// QoS 2 PUBLISHes that repeated a message already owned, and were not routed again.
    duplicates_suppressed,
    /// PUBLISH packets sent, resends included.
    publishes_sent,
    /// PUBLISH packets sent again after a resume.
    publishes_resent,
    /// QoS 0 messages dropped because the subscriber does not read fast enough.
    dropped_slow_subscriber,
    /// QoS 0 messages dropped because the ring to another shard is full.
    dropped_ring_full,
    /// QoS 0 messages dropped because memory is short.
    dropped_memory,
    /// QoS 1 and 2 messages dropped because the queue of the session is full.
    dropped_queue_full,
    /// Messages for a shared subscription of whose group nobody could have them.
    dropped_no_member,
    /// Messages that a member of a group could not have any more, and that went to another one.
    shared_returned,
    /// Clients disconnected because they do not take their messages fast enough.
    disconnected_queue_full,
    /// Messages dropped because they exceed the client's Maximum Packet Size [MQTT-3.1.2-25].
    dropped_too_large,
    /// Messages dropped because no topic of their bridge matches them, in either direction.
    dropped_not_bridged,
    /// Messages of bridges that their remotes have refused.
    refused_by_remote,
    /// Messages not delivered because the client may not read their topic.
    dropped_acl,
    /// Messages dropped because they expired in the queue.
    dropped_expired,
    /// Retained messages removed because they expired.
    expired_retained,
    /// Retained messages not kept because there are too many.
    dropped_retained_full,
    /// Pages of retained messages that clients had to wait for until they had taken others.
    further_pages,
    /// Messages refused because a log has failed that would have to keep them.
    refused_log_failed,
    /// Messages refused because a log is as long as it may be that would have to keep them.
    refused_log_full,
    /// Clients refused because there are as many sessions as there may be.
    refused_max_sessions,
    /// Clients refused because memory is short.
    refused_memory,
    /// Subscriptions refused because the session has as many as it may.
    refused_max_subscriptions,
    /// Subscriptions refused because too many SUBSCRIBEs of the session wait for it to take retained messages.
    refused_waiting_subscribes,
    /// Messages and subscriptions refused because their topic has too many levels.
    refused_max_topic_levels,
    /// Messages and wills refused because their topic is the broker's own.
    refused_reserved_topic,
    /// Messages refused because the client may not publish to their topic.
    refused_acl_publish,
    /// Subscriptions refused because the client may read no topic that they match.
    refused_acl_subscribe,
    /// Wills refused, or not published, because the client may not publish to their topic.
    refused_acl_will,
    /// Messages, wills and subscriptions refused because the operator has switched off what they ask for.
    refused_not_served,
    /// Messages and wills refused because their payload is not the UTF-8 that its indicator claims.
    refused_payload_format,
    /// Letters to other shards that these have not acknowledged.
    unacknowledged_letters,
    /// Passes that clean the log, begun.
    cleanings_begun,
    /// Passes that clean the log, through.
    cleanings_done,
    /// Clients that have authenticated again.
    reauthenticated,
    /// Clients disconnected because they could not authenticate again.
    refused_reauthentication,
    /// Connections ended because of what the client sent.
    protocol_violations,
    /// Sessions that have ended because their clients stayed away too long.
    sessions_expired,
    /// Sessions taken over by a second connection.
    takeovers,
}

impl Counters {
    /// Messages that did not get to a client, because of a limit or their expiry.
    pub fn dropped(&self) -> u64 {
        self.dropped_slow_subscriber
            + self.dropped_ring_full
            + self.dropped_memory
            + self.dropped_queue_full
            + self.dropped_too_large
            + self.dropped_expired
    }

    /// Counts a message that can't be sent.
    pub(super) fn count_unsent(&mut self, reason: Unsent) {
        match reason {
            Unsent::TooLarge => self.dropped_too_large += 1,
            Unsent::NotBridged => self.dropped_not_bridged += 1,
            Unsent::NotReadable => self.dropped_acl += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_names_every_value() {
        let line = Counters { connections: 3, takeovers: 4, ..Counters::default() }.to_string();
        assert!(line.starts_with("memory_stage=0 connections=3 "), "{line}");
        assert!(line.ends_with(" takeovers=4"), "{line}");
    }
}
