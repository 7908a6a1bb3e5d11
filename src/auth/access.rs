//! Who may connect: what a client claims in CONNECT, against what the operator has set up.
//!
//! | claim                     | no accounts                                | accounts                               |
//! |---------------------------|--------------------------------------------|----------------------------------------|
//! | no user name, no password | admitted if local, or anonymous is allowed | refused, unless anonymous is allowed   |
//! | user name, or password    | the same: nobody asks                      | admitted if the password is the user's |
//! | SCRAM-SHA-256             | refused: no such method                    | admitted if the exchange succeeds      |
//! | another method            | refused: no such method                    | refused: no such method                |
//!
//! Local is who comes from this machine. Where others reach a listener by themselves, the command line has asked for accounts or
//! permission; behind a proxy it is known only of each client whether it is local.
//!
//! What takes long is not done here but handed out, as a [`PasswordCheck`], for a thread that may be slow.
//!
//! Who is named by a certificate makes no claim (`certificate`). Further ways to decide, by token or by asking somebody else, become further kinds of [`Step`].

use std::sync::Arc;

use crate::proto::{Connect, ReasonCode};

use super::accounts::Accounts;
use super::identity::Identity;
use super::opening::ScramOpening;
use super::scram::{self, ClientFirst};

/// Who may connect.
#[derive(Debug)]
pub struct Access {
    accounts: Option<Accounts>,
    allows_anonymous: bool,
}

/// What a client says of itself in CONNECT.
#[derive(PartialEq, Eq)]
pub enum Claim {
    /// Nothing.
    Anonymous,
    /// That it is this user, since it knows the password. 5.0 lets a client leave out the name.
    Password {
        /// The user.
        user_name: Option<Box<str>>,
        /// The password; empty if there is none.
        password: Box<[u8]>,
    },
    /// That it will show who it is by an exchange of AUTH packets.
    Enhanced {
        /// The authentication method.
        method: Box<str>,
        /// The first message of the exchange.
        data: Option<Box<[u8]>>,
        /// The user of CONNECT, which is optional and has to be the same.
        user_name: Option<Box<str>>,
    },
}

/// How to go on with a claim.
#[derive(Debug)]
pub enum Step {
    /// It is decided; without an identity the client is anonymous.
    Admitted(Option<Box<Identity>>),
    /// It is decided.
    Denied(Denial),
    /// A password has to be checked, which takes long.
    Check(PasswordCheck),
    /// An exchange of AUTH packets begins.
    Converse(Box<ScramOpening>),
}

/// Why a client may not connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denial {
    /// It says nothing of itself.
    Anonymous,
    /// There is no such user, or it is another password: nobody is told which.
    WrongPassword,
    /// It wants an authentication method that there is not.
    UnknownMethod,
    /// Its part of the exchange is not what the method wants.
    BadExchange(&'static str),
    /// It is to be named by its certificate, which has no such name in it.
    Nameless,
}

/// A password that has to be checked.
#[derive(Debug)]
pub struct PasswordCheck {
    access: Arc<Access>,
    user_name: Box<str>,
    password: Secret,
}

/// Bytes that are not shown.
struct Secret(Box<[u8]>);

impl Access {
    /// Asks for these accounts, or for none; with permission for those who do not say who they are, wherever they come from.
    #[must_use]
    pub fn new(accounts: Option<Accounts>, allows_anonymous: bool) -> Self {
        Self { accounts, allows_anonymous }
    }

    /// The accounts, if clients have to have one.
    #[must_use]
    pub fn accounts(&self) -> Option<&Accounts> {
        self.accounts.as_ref()
    }

    /// What becomes of the claim of a client, which may be local.
    #[must_use]
    pub fn judge(self: &Arc<Self>, claim: Claim, is_local: bool) -> Step {
        match (&self.accounts, claim) {
            (Some(accounts), Claim::Enhanced { method, data, user_name }) if *method == *scram::METHOD => {
                let data = data.ok_or(Denial::BadExchange("SCRAM-SHA-256 begins with data in CONNECT"));
                match data.and_then(|data| open_scram(accounts, &data, user_name.as_deref())) {
                    Ok(opening) => Step::Converse(Box::new(opening)),
                    Err(denial) => Step::Denied(denial),
                }
            }
            // [MQTT-4.12.0-1]
            (_, Claim::Enhanced { .. }) => Step::Denied(Denial::UnknownMethod),
            (None, Claim::Anonymous | Claim::Password { .. }) if self.allows_anonymous || is_local => {
                Step::Admitted(None)
            }
            (Some(_), Claim::Anonymous) if self.allows_anonymous => Step::Admitted(None),
            (None, Claim::Anonymous | Claim::Password { .. }) | (Some(_), Claim::Anonymous) => {
                Step::Denied(Denial::Anonymous)
            }
            (Some(_), Claim::Password { user_name: None, .. }) => Step::Denied(Denial::WrongPassword),
            (Some(_), Claim::Password { user_name: Some(user_name), password }) => {
                Step::Check(PasswordCheck { access: Arc::clone(self), user_name, password: Secret(password) })
            }
        }
    }
}

impl Claim {
    /// What a CONNECT claims.
    #[must_use]
    pub fn of(connect: &Connect<'_>) -> Self {
        let user_name = connect.username.map(Box::from);
        match (connect.properties.authentication_method(), connect.username, connect.password) {
            (Some(method), _, _) => {
                let data = connect.properties.authentication_data().map(Box::from);
                Self::Enhanced { method: method.into(), data, user_name }
            }
            (None, None, None) => Self::Anonymous,
            (None, _, password) => Self::Password { user_name, password: password.unwrap_or_default().into() },
        }
    }
}

impl PasswordCheck {
    /// Checks it. Slow on purpose, and as slow for a user that does not exist.
    ///
    /// # Errors
    /// If it is not the user's, or there is no such user.
    pub fn run(self) -> Result<Box<Identity>, Denial> {
        let accounts = self.access.accounts.as_ref().and_then(|accounts| accounts.entry_for(&self.user_name));
        // Both are looked at in any case.
        let is_right = accounts.is_some_and(|found| found.stored.matches(&self.password.0) & found.is_own);
        if is_right { Ok(Box::new(Identity::without_exchange(self.user_name))) } else { Err(Denial::WrongPassword) }
    }
}

impl Denial {
    /// The reason code that says so.
    #[must_use]
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::Anonymous | Self::BadExchange(_) | Self::Nameless => ReasonCode::NotAuthorized,
            Self::WrongPassword => ReasonCode::BadUserNameOrPassword,
            Self::UnknownMethod => ReasonCode::BadAuthenticationMethod,
        }
    }

    /// The same in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Anonymous => "clients have to say who they are",
            Self::WrongPassword => "user name or password is wrong",
            Self::UnknownMethod => "the authentication method is not served",
            Self::BadExchange(text) => text,
            Self::Nameless => "the client's certificate has no user name in it",
        }
    }

    /// Whether somebody may be trying passwords.
    #[must_use]
    pub const fn is_attempt(self) -> bool {
        match self {
            Self::WrongPassword | Self::BadExchange(_) => true,
            Self::Anonymous | Self::UnknownMethod | Self::Nameless => false,
        }
    }
}

fn open_scram(accounts: &Accounts, data: &[u8], user_name: Option<&str>) -> Result<ScramOpening, Denial> {
    let first = ClientFirst::parse(data).map_err(|error| Denial::BadExchange(error.text()))?;
    let is_same =
        user_name.is_none_or(|name| scram::prepared_name(name).is_some_and(|name| *name == *first.user_name()));
    if !is_same {
        return Err(Denial::BadExchange("the user of CONNECT is not the one of the exchange"));
    }
    let keys = accounts.scram_keys_for(first.user_name());
    Ok(ScramOpening::new(first, keys))
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("withheld")
    }
}

/// Without the password.
impl std::fmt::Debug for Claim {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anonymous => formatter.write_str("Anonymous"),
            Self::Password { user_name, .. } => formatter.debug_tuple("Password").field(user_name).finish(),
            Self::Enhanced { method, .. } => formatter.debug_tuple("Enhanced").field(method).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Scheme, StoredPassword};

    fn accounts() -> Accounts {
        let stored = |scheme| StoredPassword::new(scheme, b"secret", [3; crate::config::NEW_SALT_BYTES]);
        let text = format!("alice:{}\nbob:{}\n", stored(Scheme::Argon2id), stored(Scheme::Scram));
        Accounts::parse(&text).expect("two accounts")
    }

    fn password(user_name: Option<&str>, password: &[u8]) -> Claim {
        Claim::Password { user_name: user_name.map(Box::from), password: password.into() }
    }

    fn enhanced(method: &str, data: Option<&[u8]>, user_name: Option<&str>) -> Claim {
        Claim::Enhanced { method: method.into(), data: data.map(Box::from), user_name: user_name.map(Box::from) }
    }

    /// The user that is admitted in the end, if one is.
    fn outcome(access: &Arc<Access>, claim: Claim) -> Result<Option<Box<str>>, Denial> {
        outcome_of(access, claim, false)
    }

    fn outcome_of(access: &Arc<Access>, claim: Claim, is_local: bool) -> Result<Option<Box<str>>, Denial> {
        match access.judge(claim, is_local) {
            Step::Admitted(identity) => Ok(identity.map(|identity| identity.user_name)),
            Step::Denied(denial) => Err(denial),
            Step::Check(check) => check.run().map(|identity| Some(identity.user_name)),
            Step::Converse(_) => panic!("it is not decided yet"),
        }
    }

    #[test]
    fn each_claim_is_decided_as_the_table_says() {
        let scram = || enhanced("SCRAM-SHA-256", Some(b"n,,n=bob,r=x"), None);
        for (claim, expected) in [
            (Claim::Anonymous, Ok(None)),
            (password(Some("alice"), b"anything"), Ok(None)),
            (password(None, b"anything"), Ok(None)),
            (scram(), Err(Denial::UnknownMethod)),
            (enhanced("GS2-KRB5", None, None), Err(Denial::UnknownMethod)),
        ] {
            assert_eq!(outcome(&Arc::new(Access::new(None, true)), claim), expected);
        }
        for admits_anonymous in [false, true] {
            let access = Arc::new(Access::new(Some(accounts()), admits_anonymous));
            let anonymous = if admits_anonymous { Ok(None) } else { Err(Denial::Anonymous) };
            for (claim, expected) in [
                (Claim::Anonymous, anonymous),
                (password(Some("alice"), b"secret"), Ok(Some("alice".into()))),
                (password(Some("bob"), b"secret"), Ok(Some("bob".into()))),
                (password(Some("alice"), b"Secret"), Err(Denial::WrongPassword)),
                (password(Some("alice"), b""), Err(Denial::WrongPassword)),
                (password(Some("carol"), b"secret"), Err(Denial::WrongPassword)),
                (password(Some(""), b"secret"), Err(Denial::WrongPassword)),
                (password(None, b"secret"), Err(Denial::WrongPassword)),
                (enhanced("GS2-KRB5", None, None), Err(Denial::UnknownMethod)),
                (enhanced("scram-sha-256", Some(b"n,,n=bob,r=x"), None), Err(Denial::UnknownMethod)),
            ] {
                assert_eq!(outcome(&access, claim), expected);
            }
            assert!(matches!(access.judge(scram(), false), Step::Converse(_)));
        }
    }

    #[test]
    fn where_nobody_has_an_account_only_who_is_local_needs_no_permission() {
        for (allows_anonymous, is_local, expected) in [
            (false, true, Ok(None)),
            (false, false, Err(Denial::Anonymous)),
            (true, true, Ok(None)),
            (true, false, Ok(None)),
        ] {
            let access = Arc::new(Access::new(None, allows_anonymous));
            for claim in [Claim::Anonymous, password(Some("alice"), b"anything"), password(None, b"")] {
                assert_eq!(outcome_of(&access, claim, is_local), expected, "{allows_anonymous} {is_local}");
            }
        }
        // With accounts it does not matter where a client is.
        let access = Arc::new(Access::new(Some(accounts()), false));
        assert_eq!(outcome_of(&access, Claim::Anonymous, true), Err(Denial::Anonymous));
    }

    #[test]
    fn without_accounts_in_the_file_nobody_comes_in() {
        let access = Arc::new(Access::new(Some(Accounts::parse("").expect("no accounts")), false));
        assert_eq!(outcome(&access, password(Some("alice"), b"")), Err(Denial::WrongPassword));
    }

    #[test]
    fn an_exchange_has_to_begin_well() {
        let access = Arc::new(Access::new(Some(accounts()), false));
        for (data, user_name) in [(None, None), (Some(&b"n,,n=bob"[..]), None), (Some(b"n,,n=bob,r=x"), Some("alice"))]
        {
            let denial = outcome(&access, enhanced("SCRAM-SHA-256", data, user_name)).expect_err("denied");
            assert!(matches!(denial, Denial::BadExchange(_)), "{data:?}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let claim = password(Some("alice"), b"secret");
        assert!(!format!("{claim:?}").contains("secret"));
        let step = Arc::new(Access::new(Some(accounts()), false)).judge(claim, false);
        assert!(!format!("{step:?}").contains("115, 101"), "{step:?}");
    }
}
