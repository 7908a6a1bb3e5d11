//! The accounts of a password file: its text read, looked up and changed. The file itself is `io`'s affair.
//!
//! The syntax is mosquitto's: a line `user:entry` for each account, see [`StoredPassword`] for what an entry may be. Empty lines,
//! and those that begin with `#`, say nothing.
//!
//! # Invariants
//! - Who asks for a user that does not exist gets an entry to check all the same, always the same one for a name, so that
//!   neither the time nor the messages of an exchange tell which names exist. For SCRAM it is made up from the name and all
//!   that the file holds: it stays the same until the file changes.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

use crate::config::{NEW_SALT_BYTES, NEW_SCRAM_ITERATIONS, USER_NAME_BYTES_MAX};

use super::scram::{ScramKeys, hmac};
use super::stored::{BadEntry, StoredPassword};

/// The accounts.
pub struct Accounts {
    /// In the order of their names.
    entries: Box<[(Box<str>, StoredPassword)]>,
    /// What made-up entries come from: nobody knows it who does not know the file.
    secret: [u8; 32],
}

/// What is wrong with a line of a password file or an ACL file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {text}")]
pub struct BadLine {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub text: &'static str,
}

/// What [`Accounts::entry_for`] has found.
pub(super) struct Found<'a> {
    pub(super) stored: &'a StoredPassword,
    /// Whether it is the account of that name.
    pub(super) is_own: bool,
}

impl Accounts {
    /// Reads the text of a password file.
    ///
    /// # Errors
    /// If a line is not an account, or two are of the same name.
    pub fn parse(text: &str) -> Result<Self, BadLine> {
        let mut entries = BTreeMap::new();
        for (line, content) in (1..).zip(text.lines()) {
            let bad = |text| BadLine { line, text };
            let Some((name, entry)) = account_of(content).map_err(bad)? else { continue };
            let stored = StoredPassword::parse(entry).map_err(|BadEntry(text)| bad(text))?;
            if entries.insert(Box::from(name), stored).is_some() {
                return Err(bad("this user has an entry already"));
            }
        }
        let secret = Sha256::new().chain_update("oncemq made-up entries").chain_update(text).finalize().into();
        Ok(Self { entries: entries.into_iter().collect(), secret })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry of a user; for one that does not exist any other, so that checking it takes as long. `None` if there are no
    /// accounts at all.
    pub(super) fn entry_for(&self, name: &str) -> Option<Found<'_>> {
        let other = self.made_up("entry", name);
        let other = u64::from_be_bytes(other[..8].try_into().expect("eight bytes")) % self.entries.len().max(1) as u64;
        let own = self.find(name);
        let index = own.unwrap_or(other as usize);
        self.entries.get(index).map(|(_, stored)| Found { stored, is_own: own.is_some() })
    }

    /// The keys to check a proof of this user against. Nobody can prove those of a user that does not exist, or whose entry is
    /// of another kind.
    pub(super) fn scram_keys_for(&self, name: &str) -> ScramKeys {
        let own = self.find(name).and_then(|index| self.entries[index].1.scram_keys());
        // Made in any case, so that it takes the same time.
        let made_up = ScramKeys {
            iterations: self.usual_iterations(),
            salt: self.made_up("salt", name)[..NEW_SALT_BYTES].into(),
            stored_key: self.made_up("stored key", name),
            server_key: self.made_up("server key", name),
        };
        own.cloned().unwrap_or(made_up)
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.entries.binary_search_by(|(other, _)| (**other).cmp(name)).ok()
    }

    /// Those of the first entry that has any.
    fn usual_iterations(&self) -> u32 {
        let first = self.entries.iter().find_map(|(_, stored)| stored.scram_keys());
        first.map_or(NEW_SCRAM_ITERATIONS, |keys| keys.iterations)
    }

    fn made_up(&self, what: &str, name: &str) -> [u8; 32] {
        hmac(&self.secret, format!("{what}\0{name}").as_bytes())
    }
}

/// How many, but not whose.
impl fmt::Debug for Accounts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Accounts").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Whether an account may have this name: none of MQTT's user names that a line can't hold.
///
/// # Errors
/// What is wrong with it.
pub fn check_user_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > USER_NAME_BYTES_MAX {
        Err("a user name has 1 to 65535 bytes")
    } else if name.starts_with('#') || name.contains(':') || name.chars().any(char::is_control) {
        Err("a user name has no colon and no control character in it, and does not begin with #")
    } else if name.trim() != name {
        Err("a user name neither begins nor ends with white space")
    } else {
        Ok(())
    }
}

/// The text of a password file in which a user has this entry: in place of the one before, or at the end.
#[must_use]
pub fn with_entry(text: &str, name: &str, stored: &StoredPassword) -> String {
    let line = format!("{name}:{stored}");
    let mut is_replaced = false;
    let mut changed = String::with_capacity(text.len() + line.len() + 1);
    for content in text.lines() {
        if is_line_of(content, name) {
            is_replaced = true;
            changed += &line;
        } else {
            changed += content;
        }
        changed.push('\n');
    }
    if !is_replaced {
        changed += &line;
        changed.push('\n');
    }
    changed
}

/// The text of a password file without this user; `None` if there is no such user in it.
#[must_use]
pub fn without_entry(text: &str, name: &str) -> Option<String> {
    let is_there = text.lines().any(|content| is_line_of(content, name));
    let others = text.lines().filter(|content| !is_line_of(content, name));
    is_there.then(|| others.flat_map(|content| [content, "\n"]).collect())
}

fn is_line_of(content: &str, name: &str) -> bool {
    account_of(content).is_ok_and(|account| account.is_some_and(|(other, _)| other == name))
}

/// Name and entry of a line; `None` if it says nothing.
fn account_of(content: &str) -> Result<Option<(&str, &str)>, &'static str> {
    let content = content.trim();
    if content.is_empty() || content.starts_with('#') {
        return Ok(None);
    }
    let (name, entry) = content.split_once(':').ok_or("a line is user:entry")?;
    check_user_name(name)?;
    Ok(Some((name, entry)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // The passwords are `secret` and `hunter2`.
    const ALICE: &str = "alice:$7$101$rrHbpR4Du5UizrHg$HyN1OtzqSbxNx7qN2JQq528hyB2rksMjJV4VOxKodHD3UjrlJO+279NHuH0MNLP+WlW7NY/b91BPh7f3CeCLqA==";
    const BOB: &str = "bob:$6$cDBX6c5CG3S2isZ1$syfrmW92r3l0uob1kTmYc2qYmLi5qHrhB8tR1/fRl2g0MeD8mrYQNyMBL9O/yB5u9gxrjmV/ceD1aGH9EeEYew==";

    fn is_password_of(accounts: &Accounts, name: &str, password: &[u8]) -> bool {
        let found = accounts.entry_for(name).expect("some entry");
        found.stored.matches(password) && found.is_own
    }

    #[test]
    fn a_file_of_mosquitto_is_read_as_it_is() {
        let text = format!("# our people\n\n{BOB}\r\n  {ALICE}  \n");
        let accounts = Accounts::parse(&text).expect("two accounts");
        assert_eq!(accounts.len(), 2);
        for (name, password, expected) in [
            ("alice", &b"secret"[..], true),
            ("bob", b"hunter2", true),
            ("alice", b"hunter2", false),
            ("carol", b"secret", false),
            ("carol", b"hunter2", false),
        ] {
            assert_eq!(is_password_of(&accounts, name, password), expected, "{name}");
        }
    }

    #[test]
    fn each_bad_line_is_told_by_its_number() {
        let long = format!("{}:$6$", "x".repeat(USER_NAME_BYTES_MAX + 1));
        for (line, part) in [
            ("alice", "user:entry"),
            (":$6$", "1 to 65535"),
            (&long, "1 to 65535"),
            ("a\u{1}b:$6$", "control character"),
            ("carol :$6$", "white space"),
            ("carol:secret", "oncemq passwd"),
            (ALICE, "already"),
        ] {
            let BadLine { line: number, text } =
                Accounts::parse(&format!("{ALICE}\n#\n{line}\n")).expect_err("refused");
            assert!(number == 3 && text.contains(part), "{line}: {number}: {text}");
        }
    }

    #[test]
    fn without_accounts_there_is_nothing_to_check() {
        let accounts = Accounts::parse("# nobody\n").expect("no accounts");
        assert!(accounts.is_empty() && accounts.entry_for("alice").is_none());
    }

    /// Unknown users look like users: their entries don't change with the attempt.
    #[test]
    fn who_does_not_exist_can_not_be_told_from_who_does() {
        let salt = [1; NEW_SALT_BYTES];
        let keys = ScramKeys::of_password(b"pencil", &salt, 4096);
        let text = format!("{ALICE}\nuser:{}\n", StoredPassword::Scram(keys.clone()));
        let accounts = Accounts::parse(&text).expect("two accounts");
        assert!(accounts.scram_keys_for("user") == keys);
        for name in ["carol", "alice"] {
            let made_up = accounts.scram_keys_for(name);
            assert!(made_up == accounts.scram_keys_for(name), "the same each time");
            assert_eq!((made_up.iterations, made_up.salt.len()), (keys.iterations, keys.salt.len()));
        }
        assert!(accounts.scram_keys_for("carol").salt != accounts.scram_keys_for("dave").salt);
        let mut kinds: Vec<_> =
            (0..64).map(|number| accounts.entry_for(&number.to_string()).expect("an entry").stored).collect();
        kinds.dedup();
        assert!(kinds.len() > 2, "all kinds of entries are checked for who does not exist");
    }

    proptest! {
        /// Text of a disk, some of it near to what it should be; what is read can be checked.
        #[test]
        fn no_text_panics(
            text in ".{0,80}",
            entry in "a:(\\$argon2id\\$v=19\\$m=[0-9]{1,2},t=[0-9],p=[0-9]|SCRAM-SHA-256|\\$7|\\$6)\\$([0-9]{1,2}[:$])?[a-zA-Z]{4,24}[:$][a-zA-Z]{22,86}",
        ) {
            for text in [text, entry] {
                if let Ok(accounts) = Accounts::parse(&text)
                    && let Some(found) = accounts.entry_for("a")
                {
                    prop_assert!(!found.stored.matches(b"password"));
                }
            }
        }
    }

    #[test]
    fn a_file_is_changed_in_one_line() {
        let stored = StoredPassword::parse(BOB.split_once(':').expect("a line").1).expect("an entry");
        let text = format!("# people\n{ALICE}\n{BOB}");
        let alice_changed = with_entry(&text, "alice", &stored);
        assert_eq!(alice_changed, format!("# people\nalice:{stored}\n{BOB}\n"));
        assert_eq!(with_entry(&text, "carol", &stored), format!("{text}\ncarol:{stored}\n"));
        assert_eq!(with_entry("", "bob", &stored), format!("{BOB}\n"));
        assert_eq!(without_entry(&text, "alice"), Some(format!("# people\n{BOB}\n")));
        assert_eq!(without_entry(&text, "carol"), None);
    }
}
