//! What a seed decides before anything happens: shards, limits, clients, topics, and how rough the world is.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use oncemq::config::{Durability, Limits, QueuePolicy, SharedBalance, SlowReaderPolicy};
use oncemq::proto::{QoS, RetainHandling, SubscriptionOptions, Version};

use crate::bridging::{BridgePlan, SESSION};
use crate::random::Random;

/// A millisecond in the unit of the virtual clock.
pub(crate) const MILLISECOND: u64 = 1_000_000;

/// Topic Alias Maxima that clients announce in 5.0, in turn.
const TOPIC_ALIAS_MAXIMA: [u16; 3] = [0, 2, 20];
const TOPICS_PER_CLIENT: [&str; 4] = ["a/x", "a/y", "b/x", "b"];
const QUEUE_POLICIES: [QueuePolicy; 3] = [QueuePolicy::DropNewest, QueuePolicy::DropOldest, QueuePolicy::Disconnect];
const SHARED_TOPICS: [&str; 3] = ["s/0", "s/1", "$s/0"];
/// Topics that only shared subscriptions match, for no other filter begins with their first level.
const GROUP_TOPICS: [&str; 3] = ["$g/0", "$g/1", "$g/2"];
/// Filters of shared subscriptions; each topic belongs to one or two groups.
const GROUPS: [&str; 4] = ["$share/a/$g/0", "$share/a/$g/1", "$share/b/$g/1", "$share/c/$g/+"];

/// The setting of one run.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) shards: u16,
    pub(crate) limits: Limits,
    /// How often the broker reports on `$SYS`.
    pub(crate) report_interval: Option<Duration>,
    /// Memory gets short now and then.
    pub(crate) is_short_of_memory: bool,
    /// Queues are so small that messages may be dropped, counted.
    pub(crate) has_tiny_queues: bool,
    /// The last one plays the remote of the bridge, if there is one.
    pub(crate) clients: Vec<Profile>,
    pub(crate) bridge: Option<BridgePlan>,
    /// Times of activity, each followed by a rest in which everything has to be delivered.
    pub(crate) rounds: u32,
    /// Whether the broker is shut down at last, instead of all clients ending their sessions.
    pub(crate) ends_by_shutdown: bool,
    /// What clients do in one round, all together.
    pub(crate) actions_per_round: u32,
    /// Longest pause of a client between two actions, in nanoseconds.
    pub(crate) pause_ns_max: u64,
    /// Chance in percent that an action of a client is one that breaks its connection.
    pub(crate) drop_percent: u64,
    /// Largest piece in which bytes arrive.
    pub(crate) piece_bytes_max: u64,
    /// Longest usual delay of the network, in nanoseconds.
    pub(crate) delay_ns_max: u64,
    /// Longest usual delay of the rings, in nanoseconds.
    pub(crate) ring_delay_ns_max: u64,
    /// Letters that a ring holds.
    pub(crate) ring_letters: usize,
    /// Bytes that a socket takes before its client has to read.
    pub(crate) socket_bytes: usize,
    pub(crate) storage: Storage,
}

/// What the broker writes to, and how it crashes.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) durability: Durability,
    pub(crate) segment_bytes: u64,
    /// How long a batch waits for company.
    pub(crate) commit_delay: Duration,
    /// Longest usual time that a write takes, in nanoseconds.
    pub(crate) write_ns_max: u64,
    /// Crashes of the broker in the run, at most.
    pub(crate) crashes: u32,
    /// Most events between the start of the broker and its crash.
    pub(crate) crash_steps_max: u64,
    /// Longest time that the broker is gone, in nanoseconds.
    pub(crate) absence_ns_max: u64,
    /// Chance in percent that the crash is the consequence of a write that failed.
    pub(crate) failed_write_percent: u64,
    /// Chance in percent that the broker comes back with another number of shards.
    pub(crate) other_shards_percent: u64,
    /// Chance in percent that somebody tries to start it with damaged bytes first.
    pub(crate) damage_percent: u64,
}

/// What kind of client it is.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) name: String,
    /// Whether it plays the remote of the broker's bridge.
    pub(crate) is_remote: bool,
    /// The Receive Maximum it announces in 5.0.
    pub(crate) receive_maximum: Option<u16>,
    /// The Maximum Packet Size it announces in 5.0.
    pub(crate) max_packet_bytes: Option<u32>,
    /// The Topic Alias Maximum it announces in 5.0.
    pub(crate) topic_alias_maximum: u16,
    pub(crate) keep_alive_seconds: u16,
    /// Whether it keeps its promise to send something in time.
    pub(crate) pings: bool,
    /// Chance in percent that it starts clean.
    pub(crate) clean_percent: u64,
    /// Session expiry intervals that it chooses from, in seconds.
    pub(crate) expiry_seconds: Vec<u32>,
    pub(crate) versions: Vec<Version>,
    /// Own exchanges that it has open at once, at most.
    pub(crate) window: usize,
    /// Longest time that an answer waits, in nanoseconds.
    pub(crate) answer_delay_ns_max: u64,
    /// Longest time between two reads, in nanoseconds.
    pub(crate) read_delay_ns_max: u64,
    /// Packet ids that it uses: few, so that they come again soon.
    pub(crate) packet_ids: u16,
    pub(crate) will_percent: u64,
    /// Will Delay Intervals that it chooses from in 5.0, in seconds.
    pub(crate) will_delay_seconds: Vec<u32>,
    pub(crate) retain_percent: u64,
    /// Chance in percent that a message of a 5.0 client may expire.
    pub(crate) expiry_percent: u64,
    /// Chance in percent that a filter it subscribes to is one that it has.
    pub(crate) resubscribe_percent: u64,
    /// QoS levels that it publishes with.
    pub(crate) publishes: Vec<QoS>,
    /// QoS levels that it subscribes with.
    pub(crate) subscribes: Vec<QoS>,
}

impl Scenario {
    pub(crate) fn new(random: &mut Random) -> Self {
        let has_tiny_queues = random.percent(8);
        let is_roomy = random.percent(40);
        let clients = random.between(2, 7);
        let has_time_limits = random.percent(20);
        let has_bounded_log = random.percent(10);
        let mut profiles: Vec<_> = (0..clients).map(|index| Profile::new(random, index, has_time_limits)).collect();
        if has_bounded_log {
            // In 3.1.1 the broker would have to end the connections of honest clients.
            profiles.iter_mut().for_each(|profile| profile.versions = vec![Version::V5]);
        }
        // With a full log the broker would have to end the connections of an honest remote.
        let is_bridged = !has_bounded_log && random.percent(40);
        let bridge = is_bridged.then(|| BridgePlan::new(random, profiles.len(), has_time_limits));
        profiles.extend(bridge.as_ref().map(|plan| Profile::of_remote(random, plan, has_time_limits)));
        // Of its messages, or of its bytes, in one run of five each.
        let pace = random.below(10);
        Self {
            shards: random.pick(&[1, 2, 2, 3, 4]),
            limits: Limits {
                max_packet_bytes: 64 * 1024,
                receive_maximum: random.between(1, 20) as u16,
                max_inflight: if is_roomy { 100 } else { random.between(1, 8) as u16 },
                topic_alias_maximum: 10,
                max_outbound_topic_aliases: 16,
                max_sessions: None,
                max_subscriptions: 10_000,
                max_topic_levels: 128,
                shared_balance: random.pick(&[
                    SharedBalance::LeastInflight,
                    SharedBalance::LeastInflight,
                    SharedBalance::RoundRobin,
                    SharedBalance::Sticky,
                ]),
                max_publish_rate: (pace <= 1).then(|| NonZeroU32::new(random.pick(&[20, 200])).expect("some")),
                max_publish_bytes_rate: (1..=2)
                    .contains(&pace)
                    .then(|| NonZeroU64::new(random.pick(&[1000, 20_000])).expect("some")),
                max_queued_messages: if has_tiny_queues { random.between(1, 12) as u32 } else { 100_000 },
                max_queued_bytes: if has_tiny_queues { random.between(100, 4000) } else { 1 << 30 },
                queue_policy: random.pick(&QUEUE_POLICIES),
                durable_queue_policy: random.percent(50).then(|| random.pick(&QUEUE_POLICIES)),
                slow_reader_policy: if random.percent(5) {
                    SlowReaderPolicy::Disconnect
                } else {
                    SlowReaderPolicy::DropNewest
                },
                max_output_bytes: if is_roomy { 64 * 1024 } else { random.between(1, 2000) as u32 },
                congestion_messages: if is_roomy { 1000 } else { random.pick(&[1, 2, 5, 30]) },
                stall_timeout: Duration::from_millis(1 + random.up_to(5_000)),
                max_waiting_letters: if is_roomy { 1024 } else { random.between(1, 16) as u32 },
                max_log_backlog_bytes: 1 << 20,
                max_log_bytes: has_bounded_log.then_some(NonZeroU64::MIN),
                queue_memory_bytes: random.pick(&[0, 0, 5_000, 1 << 30]),
                queue_kept_messages: random.pick(&[1, 3, 10]),
                max_retained_messages: 10_000,
                retained_page: random.pick(&[1, 1, 2, 5, 512]),
                linger: Duration::from_millis(random.between(50, 5_000)),
            },
            is_short_of_memory: random.percent(15),
            report_interval: random.pick(&[None, None, Some(Duration::from_millis(50)), Some(Duration::from_secs(2))]),
            has_tiny_queues,
            clients: profiles,
            bridge,
            rounds: random.between(1, 3) as u32,
            ends_by_shutdown: random.percent(15),
            actions_per_round: 10 + random.up_to(400) as u32,
            pause_ns_max: if has_time_limits {
                random.between(100, 1500) * MILLISECOND
            } else {
                random.pick(&[MILLISECOND / 10, 5 * MILLISECOND, 50 * MILLISECOND])
            },
            drop_percent: random.pick(&[0, 5, 20, 40]),
            piece_bytes_max: random.pick(&[1, 7, 50, 400, 1 << 20]),
            delay_ns_max: random.pick(&[MILLISECOND / 100, MILLISECOND, 20 * MILLISECOND]),
            ring_delay_ns_max: random.pick(&[MILLISECOND / 100, MILLISECOND, 50 * MILLISECOND]),
            ring_letters: if is_roomy { 256 } else { random.between(1, 8) as usize },
            socket_bytes: if is_roomy { 1 << 20 } else { random.between(16, 4000) as usize },
            storage: Storage::new(random, has_time_limits),
        }
    }

    /// Whether the broker may send clients away that do not keep up.
    pub(crate) fn may_disconnect(&self) -> bool {
        let Limits { queue_policy, durable_queue_policy, slow_reader_policy, .. } = self.limits;
        slow_reader_policy == SlowReaderPolicy::Disconnect
            || self.has_tiny_queues
                && (queue_policy == QueuePolicy::Disconnect || durable_queue_policy == Some(QueuePolicy::Disconnect))
    }

    /// A topic for a client to publish to. Only its owner publishes to most topics, so that they have an order.
    pub(crate) fn topic(&self, random: &mut Random, client: usize) -> String {
        if random.percent(15) { random.pick(&GROUP_TOPICS).to_owned() } else { ordinary_topic(random, client) }
    }

    /// A filter that matches some of the topics.
    pub(crate) fn filter(&self, random: &mut Random) -> String {
        if random.percent(20) {
            return random.pick(&GROUPS).to_owned();
        }
        let client = random.below(self.clients.len() as u64) as usize;
        let topic = if random.percent(12) { format!("w/{client}") } else { ordinary_topic(random, client) };
        let mut levels: Vec<&str> = topic.split('/').collect();
        if random.percent(50) {
            for level in &mut levels {
                if random.percent(35) {
                    *level = "+";
                }
            }
        }
        if random.percent(25) {
            let kept = random.between(0, levels.len() as u64) as usize;
            levels.truncate(kept);
            levels.push("#");
        }
        levels.join("/")
    }
}

impl Storage {
    fn new(random: &mut Random, has_time_limits: bool) -> Self {
        Self {
            durability: random.pick(&[Durability::None, Durability::Write, Durability::Sync, Durability::Sync]),
            segment_bytes: random.pick(&[8, 8, 16, 64, 1024]) * 1024,
            write_ns_max: random.pick(&[MILLISECOND / 100, MILLISECOND, 20 * MILLISECOND]),
            crashes: random.pick(&[0, 0, 1, 2, 8]),
            crash_steps_max: random.pick(&[100, 1_000, 5_000]),
            absence_ns_max: if has_time_limits { 3_000 * MILLISECOND } else { 20 * MILLISECOND },
            failed_write_percent: 5,
            other_shards_percent: random.pick(&[0, 0, 20]),
            damage_percent: 30,
            commit_delay: Duration::from_micros(random.pick(&[0, 0, 0, 100, 5_000])),
        }
    }
}

impl Profile {
    fn new(random: &mut Random, index: u64, has_time_limits: bool) -> Self {
        let any_qos = vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce];
        let versions = vec![vec![Version::V311], vec![Version::V5], vec![Version::V5, Version::V311]];
        Self {
            name: format!("client-{}-{index}", random.below(1000)),
            is_remote: false,
            receive_maximum: random.percent(60).then(|| random.between(1, 6) as u16),
            max_packet_bytes: random.percent(15).then(|| random.between(500, 9_500) as u32),
            topic_alias_maximum: TOPIC_ALIAS_MAXIMA[index as usize % TOPIC_ALIAS_MAXIMA.len()],
            keep_alive_seconds: if has_time_limits { random.below(4) as u16 } else { 0 },
            pings: random.percent(70),
            clean_percent: random.pick(&[0, 10, 50]),
            expiry_seconds: match random.below(100) {
                _ if has_time_limits => vec![0, 1, 2, 5, u32::MAX],
                0..15 => vec![0],
                _ => vec![u32::MAX, 3600, 3600],
            },
            versions: random.pick(&versions),
            window: random.between(1, 12) as usize,
            answer_delay_ns_max: random.pick(&[1, MILLISECOND, 30 * MILLISECOND]),
            read_delay_ns_max: random.pick(&[1, MILLISECOND, 30 * MILLISECOND]),
            packet_ids: random.pick(&[30, 300, u16::MAX]),
            will_percent: random.pick(&[0, 50]),
            will_delay_seconds: if has_time_limits { vec![0, 1, 2, 5, u32::MAX] } else { vec![0, 0, 3600] },
            retain_percent: random.pick(&[0, 10, 60]),
            expiry_percent: if has_time_limits { 20 } else { 0 },
            resubscribe_percent: random.pick(&[0, 30]),
            publishes: if random.percent(50) { vec![QoS::ExactlyOnce] } else { any_qos.clone() },
            subscribes: if random.percent(50) { vec![QoS::ExactlyOnce] } else { any_qos },
        }
    }

    fn of_remote(random: &mut Random, plan: &BridgePlan, has_time_limits: bool) -> Self {
        Self {
            name: SESSION.to_owned(),
            is_remote: true,
            versions: vec![plan.version],
            ..Self::new(random, plan.remote as u64, has_time_limits)
        }
    }

    /// Options of a subscription.
    pub(crate) fn subscription(&self, random: &mut Random, version: Version, filter: &str) -> SubscriptionOptions {
        let qos = random.pick(&self.subscribes);
        match version {
            Version::V311 => SubscriptionOptions::from_qos(qos),
            Version::V5 => SubscriptionOptions {
                qos,
                // [MQTT-3.8.3-4]
                no_local: group_filter(filter).is_none() && random.percent(15),
                retain_as_published: random.percent(25),
                retain_handling: random.pick(&[
                    RetainHandling::SendAlways,
                    RetainHandling::SendAlways,
                    RetainHandling::SendIfNew,
                    RetainHandling::SendNever,
                ]),
            },
        }
    }
}

/// A topic that filters of any kind may match.
fn ordinary_topic(random: &mut Random, client: usize) -> String {
    if random.percent(80) {
        format!("p{client}/{}", random.pick(&TOPICS_PER_CLIENT))
    } else {
        random.pick(&SHARED_TOPICS).to_owned()
    }
}

/// What a shared subscription compares topics with; none if the filter is not one.
pub(crate) fn group_filter(filter: &str) -> Option<&str> {
    filter.strip_prefix("$share/")?.split_once('/').map(|(_, filter)| filter)
}

/// Whether a topic is one that only shared subscriptions match.
pub(crate) fn is_group_topic(topic: &str) -> bool {
    topic.starts_with("$g/")
}

/// Whether a filter matches a topic: the standard's section 4.7 once more, in the plainest words, to check the broker's.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    // [MQTT-4.7.2-1]
    if topic.starts_with('$') && (filter.starts_with('#') || filter.starts_with('+')) {
        return false;
    }
    let mut topic = topic.split('/');
    for level in filter.split('/') {
        match (level, topic.next()) {
            // [MQTT-4.7.1-2]: also the parent level.
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(name)) if level == name => {}
            (_, Some(_) | None) => return false,
        }
    }
    topic.next().is_none()
}

#[test]
fn the_model_of_matching() {
    for (filter, topic) in
        [("a/#", "a"), ("a/#", "a/b/c"), ("+/+", "/x"), ("#", "a/b"), ("a/+", "a/"), ("$s/#", "$s/0")]
    {
        assert!(matches(filter, topic), "{filter} {topic}");
    }
    for (filter, topic) in [("a/+", "a"), ("+", "a/b"), ("#", "$s/0"), ("+/0", "$s/0"), ("a/b", "a/c"), ("a", "a/b")] {
        assert!(!matches(filter, topic), "{filter} {topic}");
    }
}
