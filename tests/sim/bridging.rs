//! The bridge of a run: what it carries, in the plainest words, to check the broker's, and how far its connection is.
//!
//! Its remote is played by one of the clients (`client::serving`), and not by a second broker of the same code, for that would
//! be wrong in the same way at both ends.

use std::sync::Arc;

use oncemq::bridge::{Bridge, BridgedTopic, Direction, Opening};
use oncemq::proto::{QoS, Version};

use crate::ledger::Step;
use crate::random::Random;
use crate::scenario::{MILLISECOND, matches};

/// The name of the client that plays the remote: the id of the bridge's session, so that it belongs to the same shard.
pub(crate) const SESSION: &str = "$bridge/hub";

const NAME: &str = "hub";

/// What a seed decides of the bridge.
#[derive(Clone, Debug)]
pub(crate) struct BridgePlan {
    /// The client that plays the remote.
    pub(crate) remote: usize,
    pub(crate) version: Version,
    /// Whether the remote accepts the sign of a bridge in 3.1.1.
    pub(crate) remote_knows_bridges: bool,
    /// What a 5.0 remote is told that it may have unacknowledged.
    pub(crate) receive_maximum: u16,
    pub(crate) max_inflight: u16,
    pub(crate) keep_alive_seconds: u16,
    /// What a 5.0 remote sets instead.
    pub(crate) server_keep_alive_seconds: Option<u16>,
    /// What is carried at some time.
    patterns: Vec<Pattern>,
    /// Chance in percent that a crash is a change of the configuration, too.
    change_percent: u64,
    /// Chance in percent that a remote that breaks the connection has lost the session.
    pub(crate) loss_percent: u64,
    /// Chance in percent that a remote grants less than it is asked for.
    pub(crate) refusal_percent: u64,
    /// Longest pause of the broker before it tries again, in nanoseconds: much shorter than a real one.
    pub(crate) pause_ns_max: u64,
}

/// A pattern that a bridge carries.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Pattern {
    pattern: &'static str,
    direction: Direction,
    pub(crate) qos: QoS,
    local_prefix: String,
    remote_prefix: &'static str,
}

/// The bridge as it is now.
#[derive(Debug)]
pub(crate) struct Bridging {
    pub(crate) plan: BridgePlan,
    /// What is configured, each pattern since when; nothing if the bridge is not.
    configured: Vec<(Pattern, Step)>,
    /// Subscriptions that some shards have perhaps not heard of: entries in the ledger.
    pub(crate) unheard: Vec<usize>,
    /// The connection that is being opened, with how far that is.
    pub(crate) opening: Option<Opening>,
    /// The connection that is there, open or being opened.
    pub(crate) connection: Option<usize>,
    /// It is not opened any more.
    pub(crate) is_stopped: bool,
    pub(crate) visits: BridgeVisits,
}

/// How often it came to what.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BridgeVisits {
    /// Connections that served.
    pub(crate) opened: u64,
    /// Connections that found the session.
    pub(crate) resumed: u64,
    /// Connections whose remote had lost the session.
    pub(crate) lost: u64,
    pub(crate) fallbacks: u64,
    /// Messages in flight to a remote that has lost the session.
    pub(crate) in_flight_at_loss: u64,
    pub(crate) changed: u64,
    pub(crate) removed: u64,
}

impl BridgePlan {
    pub(crate) fn new(random: &mut Random, remote: usize, has_time_limits: bool) -> Self {
        use Direction::{Both, In, Out};
        // Where patterns overlap, the subscriptions here do too, so they have one QoS.
        let (out, back) = (choose_qos(random), choose_qos(random));
        let rows = [
            ("+/x", Out, out, "p0/".to_owned(), "first/"),
            ("#", Out, out, "p0/".to_owned(), "second/"),
            ("p1/+/+", Out, out, String::new(), "third/"),
            ("w/+", Out, out, String::new(), "wills/"),
            ("#", In, back, format!("p{remote}/"), "down/"),
            ("$g/+", In, back, String::new(), "groups/"),
            ("s/#", Both, choose_qos(random), String::new(), "both/"),
        ];
        let patterns = rows.map(|(pattern, direction, qos, local_prefix, remote_prefix)| Pattern {
            pattern,
            direction,
            qos,
            local_prefix,
            remote_prefix,
        });
        Self {
            remote,
            version: random.pick(&[Version::V5, Version::V5, Version::V311]),
            remote_knows_bridges: random.percent(80),
            receive_maximum: random.between(1, 20) as u16,
            max_inflight: random.between(1, 20) as u16,
            keep_alive_seconds: if has_time_limits { random.between(1, 4) as u16 } else { 60 },
            server_keep_alive_seconds: (has_time_limits && random.percent(30)).then(|| random.between(1, 4) as u16),
            patterns: patterns.to_vec(),
            change_percent: random.pick(&[0, 0, 40]),
            loss_percent: random.pick(&[0, 0, 10, 50]),
            refusal_percent: random.pick(&[0, 0, 10]),
            pause_ns_max: random.pick(&[MILLISECOND / 10, 5 * MILLISECOND, 50 * MILLISECOND]),
        }
    }

    /// Whether exchanges in flight may have to be given up, because their message is not carried any more.
    pub(crate) fn gives_up(&self) -> bool {
        self.change_percent > 0
    }

    /// What a topic that comes in is called at the remote, whether it is carried now or not.
    pub(crate) fn name_at_remote(&self, topic: &str) -> Option<String> {
        self.patterns.iter().filter(|pattern| pattern.is_in()).find_map(|pattern| pattern.to_remote(topic))
    }
}

fn choose_qos(random: &mut Random) -> QoS {
    random.pick(&[QoS::ExactlyOnce, QoS::ExactlyOnce, QoS::ExactlyOnce, QoS::AtLeastOnce, QoS::AtMostOnce])
}

impl Pattern {
    fn is_out(&self) -> bool {
        match self.direction {
            Direction::Out | Direction::Both => true,
            Direction::In => false,
        }
    }

    pub(crate) fn is_in(&self) -> bool {
        match self.direction {
            Direction::In | Direction::Both => true,
            Direction::Out => false,
        }
    }

    fn local_filter(&self) -> String {
        format!("{}{}", self.local_prefix, self.pattern)
    }

    pub(crate) fn remote_filter(&self) -> String {
        format!("{}{}", self.remote_prefix, self.pattern)
    }

    fn to_remote(&self, topic: &str) -> Option<String> {
        let rest = topic.strip_prefix(&self.local_prefix).filter(|_| matches(&self.local_filter(), topic))?;
        Some(format!("{}{rest}", self.remote_prefix))
    }
}

/// What a message is called here that came to the remote under this name, over a bridge that carries these patterns; none if
/// it should not have come under this name.
pub(crate) fn name_here(patterns: &[Pattern], at_remote: &str) -> Option<String> {
    let outgoing = || patterns.iter().filter(|pattern| pattern.is_out());
    outgoing().find_map(|pattern| {
        let topic = format!("{}{}", pattern.local_prefix, at_remote.strip_prefix(pattern.remote_prefix)?);
        // The first pattern that matches gives the name.
        let first = outgoing().find_map(|pattern| pattern.to_remote(&topic))?;
        (first == at_remote).then_some(topic)
    })
}

impl Bridging {
    /// Most of what the plan has is configured at first.
    pub(crate) fn new(plan: BridgePlan, random: &mut Random) -> Self {
        let configured =
            plan.patterns.iter().filter(|_| random.percent(80)).map(|pattern| (pattern.clone(), 0)).collect();
        Self {
            plan,
            configured,
            unheard: Vec::new(),
            opening: None,
            connection: None,
            is_stopped: false,
            visits: BridgeVisits::default(),
        }
    }

    pub(crate) fn is_configured(&self) -> bool {
        !self.configured.is_empty()
    }

    /// What the broker is given; none if the bridge is not configured.
    pub(crate) fn bridge(&self) -> Option<Arc<Bridge>> {
        let topic = |pattern: &Pattern| {
            let Pattern { pattern, direction, qos, local_prefix, remote_prefix } = pattern;
            BridgedTopic::new(pattern, *direction, *qos, local_prefix, remote_prefix).expect("a good pattern")
        };
        let topics: Vec<BridgedTopic> = self.configured.iter().map(|(pattern, _)| topic(pattern)).collect();
        self.is_configured().then(|| {
            Arc::new(Bridge {
                name: NAME.into(),
                host: "remote".into(),
                port: 1883,
                version: self.plan.version,
                client_id: "edge".into(),
                keep_alive_seconds: self.plan.keep_alive_seconds,
                username: None,
                password: None,
                receive_maximum: Some(self.plan.receive_maximum),
                max_inflight: self.plan.max_inflight,
                topics: topics.into(),
            })
        })
    }

    pub(crate) fn patterns(&self) -> Vec<Pattern> {
        self.configured.iter().map(|(pattern, _)| pattern.clone()).collect()
    }

    /// What the bridge's session subscribes to here.
    pub(crate) fn local_filters(&self) -> Vec<(String, QoS)> {
        let outgoing = self.configured.iter().filter(|(pattern, _)| pattern.is_out());
        outgoing.map(|(pattern, _)| (pattern.local_filter(), pattern.qos)).collect()
    }

    /// Whether messages of the remote to this topic have been carried in all the time since a step.
    pub(crate) fn carries_since(&self, topic: &str, step: Step) -> bool {
        let mut incoming = self.configured.iter().filter(|(pattern, _)| pattern.is_in());
        incoming.any(|(pattern, since)| *since <= step && matches(&pattern.local_filter(), topic))
    }

    /// Perhaps somebody has changed the configuration while the broker was gone; not once the remote is gone for good, for a new
    /// pattern would bring retained messages that nobody comes for (seed 153003).
    pub(crate) fn change_perhaps(&mut self, random: &mut Random, step: Step) {
        if self.is_stopped || !random.percent(self.plan.change_percent) {
            return;
        }
        let is_removed = random.percent(20);
        let before = std::mem::take(&mut self.configured);
        for pattern in self.plan.patterns.iter().filter(|_| !is_removed) {
            let known = before.iter().find(|(known, _)| known == pattern);
            match (known, random.percent(70)) {
                (Some(known), true) => self.configured.push(known.clone()),
                (None, false) => self.configured.push((pattern.clone(), step)),
                (Some(_), false) | (None, true) => {}
            }
        }
        self.visits.changed += u64::from(self.is_configured());
        self.visits.removed += u64::from(!self.is_configured() && !before.is_empty());
    }
}

#[test]
fn the_model_of_mapping() {
    let plan = BridgePlan::new(&mut Random::new(1), 4, false);
    for (here, at_remote) in
        [("p0/a/x", "first/a/x"), ("p0/a/y", "second/a/y"), ("p1/a/x", "third/p1/a/x"), ("s/0", "both/s/0")]
    {
        assert_eq!(name_here(&plan.patterns, at_remote).as_deref(), Some(here));
    }
    for at_remote in ["second/a/x", "down/a/x", "p0/a/x", "groups/$g/0"] {
        assert_eq!(name_here(&plan.patterns, at_remote), None, "{at_remote}");
    }
    for (here, at_remote) in [("p4/b", Some("down/b")), ("$g/0", Some("groups/$g/0")), ("p0/b", None)] {
        assert_eq!(plan.name_at_remote(here).as_deref(), at_remote);
    }
}
