//! Who may connect: accounts and their passwords, the AUTH exchange of 5.0, and who has failed too often. And who may publish
//! and subscribe what: the rules of an ACL file.
//!
//! All of it is pure: the gate reads files and clocks, draws nonces, runs what is slow ([`PasswordCheck`]) where that holds
//! nobody up, and speaks to clients. A shard gets the [`Identity`] of its client, and with it all that a re-authentication
//! needs, and gets what it may do from the [`AccessRules`] that the shard has.
//!
//! # Invariants
//! - What is told to a client, and after how much work, does not depend on whether a user exists.
//! - Secrets are compared in constant time, and no `Debug` output shows one.
//! - What a password file or an ACL file may make us do or allocate is bounded when it is read.

mod access;
mod accounts;
mod certificate;
mod failures;
mod identity;
mod opening;
mod permissions;
mod rules;
mod scram;
mod stored;
#[cfg(test)]
pub(crate) mod testing;

pub use access::{Access, Claim, Denial, PasswordCheck, Step};
pub use accounts::{Accounts, BadLine, check_user_name, with_entry, without_entry};
pub use certificate::{as_user_name, judge_certified, user_name_of};
pub use failures::{Failures, block_of};
pub use identity::{Identity, ReauthenticationSecret, Reply, Unproven};
pub use opening::{Authenticated, ScramConversation, ScramOpening};
pub use permissions::Permissions;
pub use rules::AccessRules;
pub use scram::{ClientFirst, Exchange, METHOD, ScramError, ScramKeys, prepared_name};
pub use stored::{BadEntry, Scheme, StoredPassword};
