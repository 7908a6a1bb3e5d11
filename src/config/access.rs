//! Who may connect and what clients may do, and the bounds of finding that out.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Who may connect.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AccessSettings {
    /// The accounts; without them nobody has to say who he is.
    pub password_file: Option<PathBuf>,
    /// Whether clients without a user name may connect although there are accounts, or although others than this machine
    /// can reach a listener.
    pub allow_anonymous: bool,
    /// What clients may publish and subscribe; without it everything.
    pub acl_file: Option<PathBuf>,
    /// Which client ids a user may have.
    pub client_id_rule: ClientIdRule,
}

/// Which client ids a user may have.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ClientIdRule {
    /// Any.
    #[default]
    Any,
    /// His name.
    User,
    /// His name, or what begins with it and one of [`Self::SEPARATORS`].
    UserPrefix,
}

impl ClientIdRule {
    /// What may follow a user's name in a client id.
    pub const SEPARATORS: [char; 5] = ['-', '_', '/', '.', ':'];

    /// Whether a client of this user may have this id; without a user it has none that could be its own.
    #[must_use]
    pub fn admits(self, user_name: Option<&str>, client_id: &str) -> bool {
        let rest = user_name.and_then(|user_name| client_id.strip_prefix(user_name));
        match self {
            Self::Any => true,
            Self::User => rest == Some(""),
            Self::UserPrefix => rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(Self::SEPARATORS)),
        }
    }
}

/// Bytes of a password file, at most: a million accounts.
pub const PASSWORD_FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes of an ACL file, at most.
pub const ACL_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Lines about topics that a user may have in an ACL file, and who has no name.
pub const ACL_TOPICS_OF_USER_MAX: usize = 10_000;

/// Patterns of an ACL file, at most: each client that uses them has them all.
pub const ACL_PATTERNS_MAX: usize = 1000;

/// Topics of which a client's connection knows what it may do with them, without looking at the rules again.
pub const ACL_VERDICTS_KEPT: usize = 8;

/// Bytes of such a topic, at most.
pub const ACL_VERDICT_TOPIC_BYTES_MAX: usize = 256;

/// Bytes of a user name, at most: what a string of MQTT may have.
pub const USER_NAME_BYTES_MAX: usize = 65_535;

/// Bytes of a password, at most: what MQTT can carry.
pub const PASSWORD_BYTES_MAX: usize = 65_535;

/// Bytes of a salt that is read.
pub const SALT_BYTES: RangeInclusive<usize> = 1..=64;

/// Bytes of the salt of a new entry.
pub const NEW_SALT_BYTES: usize = 16;

/// Iterations of PBKDF2 that an entry may ask for. Ten million take seconds of one CPU for every attempt.
pub const PASSWORD_ITERATIONS: RangeInclusive<u32> = 1..=10_000_000;

/// Iterations of a new SCRAM entry: the client has to do them, too, and a small device takes a tenth of a second for them.
pub const NEW_SCRAM_ITERATIONS: u32 = 15_000;

/// Memory that Argon2 may take for one password, in KiB, as an entry may ask for it.
pub const ARGON2_KIB_MAX: u32 = 256 * 1024;

/// Passes over that memory, at most.
pub const ARGON2_PASSES_MAX: u32 = 64;

/// Lanes of that memory, at most.
pub const ARGON2_LANES_MAX: u32 = 64;

/// Memory, passes and lanes of a new Argon2id entry: some ten milliseconds, and too much memory to try many at once.
pub const NEW_ARGON2: (u32, u32, u32) = (19 * 1024, 2, 1);

/// Passwords that are checked at the same time; further clients wait.
pub const PASSWORD_THREADS: usize = 2;

/// Bytes of an AUTH packet before CONNACK, at most. SCRAM needs a few hundred; a client may add properties.
pub const MAX_AUTH_BYTES: u32 = 8 * 1024;

/// Failed attempts of one address whose answers do not wait: who mistypes is not punished.
pub const FREE_FAILURES: u32 = 3;

/// What the answer to the next failed attempt waits; it doubles with each further one.
pub const FIRST_FAILURE_DELAY: Duration = Duration::from_millis(250);

/// What the answer to a failed attempt waits at most.
pub const FAILURE_DELAY_MAX: Duration = Duration::from_secs(4);

/// Attempts that an address with more than [`FREE_FAILURES`] has open at a time, those included whose answers wait; who comes
/// beyond that is told that the server is busy, and his password is not looked at.
pub const OPEN_ATTEMPTS_MAX: u32 = 8;

/// Time without a failed attempt after which an address is forgotten.
pub const FAILURES_FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// Addresses of failed attempts that are remembered at a time; the one that was quiet for longest makes way.
pub const FAILED_ADDRESSES_MAX: usize = 4096;

const _: () = {
    assert!(FREE_FAILURES > 0 && FIRST_FAILURE_DELAY.as_millis() <= FAILURE_DELAY_MAX.as_millis());
    assert!(*SALT_BYTES.start() <= NEW_SALT_BYTES && NEW_SALT_BYTES <= *SALT_BYTES.end());
    assert!(*PASSWORD_ITERATIONS.start() <= NEW_SCRAM_ITERATIONS && NEW_SCRAM_ITERATIONS <= *PASSWORD_ITERATIONS.end());
    assert!(NEW_ARGON2.0 <= ARGON2_KIB_MAX && NEW_ARGON2.1 <= ARGON2_PASSES_MAX && NEW_ARGON2.2 <= ARGON2_LANES_MAX);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_is_the_users_or_begins_with_it() {
        for (user_name, client_id, user, prefix) in [
            (Some("pump"), "pump", true, true),
            (Some("pump"), "pump-7", false, true),
            (Some("pump"), "pump/7", false, true),
            (Some("pump"), "pump.7:a_b", false, true),
            (Some("pump"), "pumps", false, false),
            (Some("pump"), "Pump", false, false),
            (Some("pump"), "other", false, false),
            (Some("pump"), "once-0123", false, false),
            (None, "pump", false, false),
            (None, "", false, false),
        ] {
            let found = [ClientIdRule::Any, ClientIdRule::User, ClientIdRule::UserPrefix]
                .map(|rule| rule.admits(user_name, client_id));
            assert_eq!(found, [true, user, prefix], "{user_name:?} {client_id}");
        }
    }
}
