//! What clients may do in some runs: once as the broker reads it, and once in the words of the ledger.
//!
//! Each client is a user of its own. Of the topics that one client alone publishes to, some users may neither read nor write
//! any; so one may not get what others publish there, and another may not publish on its own. Subscriptions to everything
//! bring the rest.

use oncemq::auth::AccessRules;

use crate::random::Random;
use crate::scenario::Profile;

/// Chance in percent that a run has rules.
const RUNS_PERCENT: u64 = 25;

/// Chances in percent that a user may not have another client's topics, and its own.
const OTHERS_PERCENT: u64 = 25;
const OWN_PERCENT: u64 = 10;

/// Who may not do what; nothing is forbidden without rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// By client: the first levels of the topics that are not for it.
    forbidden: Vec<Vec<String>>,
}

impl Rules {
    /// Those of the run with this seed. They have a chance of their own, so that runs without them are what they always were.
    pub(crate) fn of_run(seed: u64, clients: &[Profile]) -> Self {
        let mut random = Random::new(!seed);
        if !random.percent(RUNS_PERCENT) {
            return Self::default();
        }
        let mut forbidden_to = |client: usize| {
            // Bridges are the operator's.
            let chance = |other| match clients[client].is_remote {
                true => 0,
                false if other == client => OWN_PERCENT,
                false => OTHERS_PERCENT,
            };
            let others = (0..clients.len()).filter(|other| random.percent(chance(*other)));
            others.map(|other| format!("p{other}")).collect()
        };
        Self { forbidden: (0..clients.len()).map(&mut forbidden_to).collect() }
    }

    /// Whether there are any.
    pub(crate) fn are_in_force(&self) -> bool {
        !self.forbidden.is_empty()
    }

    /// The same for the broker, if there are any.
    pub(crate) fn for_broker(&self, clients: &[Profile]) -> Option<AccessRules> {
        let mut text = String::new();
        for (profile, forbidden) in clients.iter().zip(&self.forbidden) {
            text += &format!("user {}\ntopic #\ntopic $g/#\ntopic $s/#\ntopic read $SYS/#\n", profile.name);
            text.extend(forbidden.iter().map(|level| format!("topic deny {level}/#\n")));
        }
        (!text.is_empty()).then(|| AccessRules::parse(&text).expect("they are well written"))
    }

    /// Whether a client may publish to a topic, and get what others publish there.
    pub(crate) fn permit(&self, client: usize, topic: &str) -> bool {
        let first = topic.split('/').next();
        self.forbidden.get(client).is_none_or(|forbidden| forbidden.iter().all(|level| first != Some(level)))
    }

    /// Whether a client may get some of what a filter matches.
    pub(crate) fn permit_subscription(&self, client: usize, filter: &str) -> bool {
        // All that is below one first level is forbidden, or nothing.
        self.permit(client, filter)
    }
}

#[test]
fn the_model_of_rules() {
    let rules = Rules { forbidden: vec![vec!["p1".to_owned()], Vec::new()] };
    for (client, topic, expected) in [(0, "p1/a", false), (0, "p0/a", true), (0, "p10/a", true), (1, "p1/a", true)] {
        assert_eq!(rules.permit(client, topic), expected, "{client} {topic}");
        assert!(Rules::default().permit(client, topic));
    }
    for (filter, expected) in [("#", true), ("+/a", true), ("p1/+", false), ("p1/#", false), ("$share/a/$g/0", true)] {
        assert_eq!(rules.permit_subscription(0, filter), expected, "{filter}");
    }
}
