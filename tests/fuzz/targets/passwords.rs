//! A password file: each line is refused by its number or read, and what was read is written as it means; an account that is
//! set or deleted changes no other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oncemq::auth::{Accounts, StoredPassword, check_user_name, with_entry, without_entry};
use oncemq_fuzz::text;

/// An entry that is quick to check; the password is `hunter2`.
const ENTRY: &str =
    "$6$cDBX6c5CG3S2isZ1$syfrmW92r3l0uob1kTmYc2qYmLi5qHrhB8tR1/fRl2g0MeD8mrYQNyMBL9O/yB5u9gxrjmV/ceD1aGH9EeEYew==";

fuzz_target!(|input: &[u8]| {
    let Some(text) = text(input) else { return };
    for entry in text.lines().filter_map(|line| line.split_once(':')).map(|(_, entry)| entry) {
        if let Ok(stored) = StoredPassword::parse(entry) {
            let written = stored.to_string();
            let again = StoredPassword::parse(&written).expect("what was written is read");
            assert_eq!(again.to_string(), written);
        }
    }
    let accounts = match Accounts::parse(text) {
        Ok(accounts) => accounts,
        Err(bad) => return assert!((1..=text.lines().count()).contains(&bad.line)),
    };
    let first = text.split(':').next().unwrap_or_default();
    let stored = StoredPassword::parse(ENTRY).expect("an entry");
    for name in [first, "somebody else"].into_iter().filter(|name| check_user_name(name).is_ok()) {
        let had_it = without_entry(text, name).is_some();
        let with = with_entry(text, name, &stored);
        let count = Accounts::parse(&with).expect("it is as good as before").len();
        assert_eq!(count, accounts.len() + usize::from(!had_it));
        let without = without_entry(&with, name).expect("it is there");
        assert_eq!(Accounts::parse(&without).expect("it is as good as before").len(), count - 1);
    }
});
