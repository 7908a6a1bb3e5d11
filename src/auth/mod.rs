//! Who may connect: accounts and their passwords, the AUTH exchange of 5.0, and who has failed too often.
//!
//! All of it is pure: the gate reads files and clocks, draws nonces, runs what is slow ([`PasswordCheck`]) where that holds
//! nobody up, and speaks to clients. A shard gets the [`Identity`] of its client, and with it all that a re-authentication
//! needs.
//!
//! # Invariants
//! - What is told to a client, and after how much work, does not depend on whether a user exists.
//! - Secrets are compared in constant time, and no `Debug` output shows one.
//! - What a password file may make us do or allocate is bounded when it is read.
//!
//! It does not say what a client may publish or subscribe to.

mod access;
mod accounts;
mod certificate;
mod failures;
mod identity;
mod opening;
mod scram;
mod stored;
#[cfg(test)]
pub(crate) mod testing;

pub use access::{Access, Claim, Denial, PasswordCheck, Step};
pub use accounts::{Accounts, BadLine, check_user_name, with_entry, without_entry};
pub use certificate::{judge_certified, user_name_of};
pub use failures::Failures;
pub use identity::{Identity, ReauthenticationSecret, Reply, Unproven};
pub use opening::{Authenticated, ScramConversation, ScramOpening};
pub use scram::{ClientFirst, Exchange, METHOD, ScramError, ScramKeys, prepared_name};
pub use stored::{BadEntry, Scheme, StoredPassword};
