//! What the broker says of itself on `$SYS/broker/…`, under the names that mosquitto's users know.
//!
//! [`Tally`] is what one shard counts for it; tallies add up to those of the broker. [`SystemTopics`] turns them into topics and
//! payloads, and knows what it said before: only what has changed is said again, but the uptime always.
//!
//! Load averages are those of mosquitto: what happens per minute, averaged over about 1, 5 and 15 minutes with weights that
//! fall off exponentially.
//!
//! Not here, though mosquitto has it: `heap/…`, for the core knows nothing of its allocator, and `load/sockets/…`, for a shard
//! sees a client only behind its CONNECT.

use std::ops::AddAssign;

use crate::time::Timestamp;

macro_rules! tally {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What a shard counts for `$SYS`, or all shards together.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Tally {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl AddAssign for Tally {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

tally! {
    /// Clients that are connected.
    connected,
    /// Sessions, connected or not.
    sessions,
    /// Sessions that have ended because their clients stayed away too long.
    sessions_expired,
    /// CONNECT packets.
    connects,
    /// Packets of any kind from clients.
    packets_received,
    /// Packets of any kind to clients.
    packets_sent,
    /// Bytes of them, as they were received.
    bytes_received,
    /// Bytes of them, as they were sent.
    bytes_sent,
    /// PUBLISH packets from clients.
    publishes_received,
    /// PUBLISH packets to clients.
    publishes_sent,
    /// Messages that did not get to a client, because of a limit or their expiry.
    publishes_dropped,
    /// Payload bytes of PUBLISH packets from clients.
    payload_bytes_received,
    /// Payload bytes of PUBLISH packets to clients.
    payload_bytes_sent,
    /// Subscriptions.
    subscriptions,
    /// Topics with a retained message.
    retained,
    /// Messages that are queued, in flight or retained.
    stored,
    /// Bytes of them.
    stored_bytes,
}

/// What was said on `$SYS`, and what the averages are made of.
#[derive(Debug, Default)]
pub struct SystemTopics {
    /// The last report and its moment.
    last: Option<(Timestamp, Tally)>,
    /// The moment of the first one.
    started: Timestamp,
    /// Most clients that were connected at the time of a report.
    connected_max: u64,
    /// Per minute, in the order of the tables.
    averages: [[f64; WINDOWS.len()]; LOADS.len()],
    /// The payloads that were said last, in the order of [`SystemTopics::lines`].
    said: Vec<String>,
}

impl SystemTopics {
    /// Takes what is counted now; gives the topics and payloads that are to be published. The first report counts as the start
    /// of the broker.
    pub fn report(&mut self, now: Timestamp, tally: &Tally) -> Vec<(String, String)> {
        match self.last.replace((now, *tally)) {
            None => self.started = now,
            Some((before, last)) => self.average(now.since(before).as_secs_f64(), &last, tally),
        }
        self.connected_max = self.connected_max.max(tally.connected);
        let lines = self.lines(now, tally);
        let is_first = self.said.is_empty();
        self.said.resize(lines.len(), String::new());
        let is_news = |((topic, payload), said): &((String, String), &mut String)| {
            is_first || topic == UPTIME || payload != &**said
        };
        let news = lines.into_iter().zip(&mut self.said).filter(is_news);
        let say = |((topic, payload), said): ((String, String), &mut String)| {
            said.clone_from(&payload);
            (topic, payload)
        };
        news.map(say).collect()
    }

    /// Lets the averages follow what has happened in the last `seconds`.
    fn average(&mut self, seconds: f64, last: &Tally, tally: &Tally) {
        if seconds <= 0.0 {
            return;
        }
        for ((_, count), averages) in LOADS.iter().zip(&mut self.averages) {
            let per_minute = count(tally).saturating_sub(count(last)) as f64 * 60.0 / seconds;
            for ((_, window), average) in WINDOWS.iter().zip(averages) {
                *average = per_minute + (*average - per_minute) * (-seconds / window).exp();
            }
        }
    }

    /// All topics with what they say now, always the same ones in the same order.
    fn lines(&self, now: Timestamp, tally: &Tally) -> Vec<(String, String)> {
        let (topic, version) = VERSION;
        let mut lines = vec![
            (topic.to_owned(), version.to_owned()),
            (UPTIME.to_owned(), format!("{} seconds", now.since(self.started).as_secs())),
            (CLIENTS_MAXIMUM.to_owned(), self.connected_max.to_string()),
        ];
        let counts = COUNTS.iter().map(|(name, count)| (format!("$SYS/broker/{name}"), count(tally).to_string()));
        lines.extend(counts);
        for ((name, _), averages) in LOADS.iter().zip(&self.averages) {
            for ((window, _), average) in WINDOWS.iter().zip(averages) {
                lines.push((format!("$SYS/broker/load/{name}/{window}"), format!("{average:.2}")));
            }
        }
        lines
    }
}

/// The version, said once.
const VERSION: (&str, &str) = ("$SYS/broker/version", concat!("oncemq version ", env!("CARGO_PKG_VERSION")));

const UPTIME: &str = "$SYS/broker/uptime";
const CLIENTS_MAXIMUM: &str = "$SYS/broker/clients/maximum";

type Count = fn(&Tally) -> u64;

/// Each behind `$SYS/broker/`.
const COUNTS: [(&str, Count); 20] = [
    ("clients/connected", |tally| tally.connected),
    ("clients/active", |tally| tally.connected),
    ("clients/disconnected", |tally| tally.sessions - tally.connected),
    ("clients/inactive", |tally| tally.sessions - tally.connected),
    ("clients/total", |tally| tally.sessions),
    ("clients/expired", |tally| tally.sessions_expired),
    ("messages/received", |tally| tally.packets_received),
    ("messages/sent", |tally| tally.packets_sent),
    ("messages/stored", |tally| tally.stored),
    ("store/messages/count", |tally| tally.stored),
    ("store/messages/bytes", |tally| tally.stored_bytes),
    ("publish/messages/received", |tally| tally.publishes_received),
    ("publish/messages/sent", |tally| tally.publishes_sent),
    ("publish/messages/dropped", |tally| tally.publishes_dropped),
    ("publish/bytes/received", |tally| tally.payload_bytes_received),
    ("publish/bytes/sent", |tally| tally.payload_bytes_sent),
    ("bytes/received", |tally| tally.bytes_received),
    ("bytes/sent", |tally| tally.bytes_sent),
    ("subscriptions/count", |tally| tally.subscriptions),
    ("retained messages/count", |tally| tally.retained),
];

/// Each behind `$SYS/broker/load/` and before a window.
const LOADS: [(&str, Count); 8] = [
    ("messages/received", |tally| tally.packets_received),
    ("messages/sent", |tally| tally.packets_sent),
    ("bytes/received", |tally| tally.bytes_received),
    ("bytes/sent", |tally| tally.bytes_sent),
    ("publish/received", |tally| tally.publishes_received),
    ("publish/sent", |tally| tally.publishes_sent),
    ("publish/dropped", |tally| tally.publishes_dropped),
    ("connections", |tally| tally.connects),
];

/// How far an average looks back, with its length in seconds.
const WINDOWS: [(&str, f64); 3] = [("1min", 60.0), ("5min", 300.0), ("15min", 900.0)];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::route::TopicName;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default() + Duration::from_secs(1_000_000 + seconds)
    }

    fn report(topics: &mut SystemTopics, seconds: u64, tally: Tally) -> BTreeMap<String, String> {
        topics.report(at(seconds), &tally).into_iter().collect()
    }

    #[test]
    fn the_first_report_says_everything() {
        let mut topics = SystemTopics::default();
        let tally = Tally { connected: 2, sessions: 5, publishes_dropped: 7, ..Tally::default() };
        let said = report(&mut topics, 0, tally);
        assert_eq!(said.len(), 3 + COUNTS.len() + LOADS.len() * WINDOWS.len(), "no topic twice");
        assert!(said.keys().all(|topic| topic.starts_with("$SYS/broker/") && TopicName::parse(topic).is_ok()));
        for (topic, expected) in [
            ("uptime", "0 seconds"),
            ("clients/connected", "2"),
            ("clients/disconnected", "3"),
            ("clients/total", "5"),
            ("clients/maximum", "2"),
            ("publish/messages/dropped", "7"),
            ("retained messages/count", "0"),
            ("load/publish/sent/15min", "0.00"),
        ] {
            assert_eq!(said[&format!("$SYS/broker/{topic}")], expected, "{topic}");
        }
    }

    #[test]
    fn later_reports_say_what_is_new_and_the_uptime() {
        let mut topics = SystemTopics::default();
        report(&mut topics, 0, Tally { connected: 2, sessions: 2, ..Tally::default() });
        let said = report(&mut topics, 10, Tally { connected: 1, sessions: 2, ..Tally::default() });
        let expected = [
            ("$SYS/broker/clients/active", "1"),
            ("$SYS/broker/clients/connected", "1"),
            ("$SYS/broker/clients/disconnected", "1"),
            ("$SYS/broker/clients/inactive", "1"),
            ("$SYS/broker/uptime", "10 seconds"),
        ];
        let said: Vec<_> = said.iter().map(|(topic, payload)| (&topic[..], &payload[..])).collect();
        assert_eq!(said, expected);
    }

    #[test]
    fn averages_follow_the_load_and_forget_it() {
        let mut topics = SystemTopics::default();
        let tally = |messages| Tally { publishes_received: messages, ..Tally::default() };
        report(&mut topics, 0, tally(0));
        // Two messages a second, for an hour, then silence.
        for seconds in (10..=3600).step_by(10) {
            report(&mut topics, seconds, tally(2 * seconds));
        }
        let averages = |topics: &SystemTopics| {
            let row = LOADS.iter().position(|(name, _)| *name == "publish/received").expect("a row");
            topics.averages[row]
        };
        let near = |value: f64, expected: f64| (value - expected).abs() < expected / 50.0 + 0.01;
        assert!(averages(&topics).iter().all(|average| near(*average, 120.0)), "{:?}", averages(&topics));
        report(&mut topics, 3660, tally(7200));
        let [minute, five, fifteen] = averages(&topics);
        let left = |window: f64| 120.0 * (-60.0 / window).exp();
        assert!(near(minute, left(60.0)) && near(five, left(300.0)) && near(fifteen, left(900.0)), "{minute} {five}");
    }

    #[test]
    fn tallies_add_up() {
        let mut sum = Tally { connected: 1, stored_bytes: 5, ..Tally::default() };
        sum += Tally { connected: 2, sessions: 3, ..Tally::default() };
        assert_eq!(sum, Tally { connected: 3, sessions: 3, stored_bytes: 5, ..Tally::default() });
    }
}
