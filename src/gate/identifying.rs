//! Finding out who a client is, between its CONNECT and its admission.
//!
//! [`Access`](crate::auth::Access) decides; here it gets what it needs for that: a thread for what is slow, and the further
//! packets of an exchange. All of it counts against the time that the client has for its CONNECT.

use std::net::IpAddr;
use std::rc::Rc;

use tokio::time::sleep;

use crate::auth::{Authenticated, Claim, Denial, Identity, ScramOpening, Step, judge_certified};
use crate::config::MAX_AUTH_BYTES;
use crate::proto::ReasonCode;

use super::Context;
use super::client::{Client, Dismissal, random};
use super::conversation::{self, Answer};
use super::greeting::Welcome;
use super::packets::Packets;

/// Who has come, and what the shard has to tell him.
#[derive(Default)]
pub(super) struct Identified {
    /// `None` for an anonymous client.
    pub(super) identity: Option<Box<Identity>>,
    /// The last message of an exchange, for CONNACK.
    pub(super) authentication_data: Option<Box<str>>,
}

/// What the certificate of a client says about who it is.
pub(super) enum Certified {
    /// Nothing that counts.
    NotAsked,
    /// It is this user; `None` if there is no name where one should be.
    As(Option<Box<str>>),
}

/// An attempt of an address to show who somebody is; over when dropped.
pub(super) struct Attempt {
    context: Rc<Context>,
    address: IpAddr,
}

impl Client {
    /// Finds out who the client is.
    pub(super) async fn identify(
        &self,
        welcome: &mut Welcome,
        certified: Certified,
        is_local: bool,
        packets: &mut Packets<'_>,
    ) -> Result<Identified, Dismissal> {
        let access = self.context.access();
        let claim = std::mem::replace(&mut welcome.claim, Claim::Anonymous);
        if let Certified::As(user_name) = certified {
            let judged = judge_certified(user_name, &claim);
            let identified = judged.map(|identity| Identified { identity: Some(identity), authentication_data: None });
            return self.settle(identified, welcome, None);
        }
        let attempt = match claim {
            Claim::Password { .. } | Claim::Enhanced { .. } if access.accounts().is_some() => {
                Some(Attempt::begin(&self.context, self.origin.get().ip()).ok_or_else(|| {
                    self.context.counters.refused_busy.add_one();
                    let text = "too many attempts have failed that came from the same address";
                    welcome.refusal(ReasonCode::ServerBusy, text)
                })?)
            }
            Claim::Password { .. } | Claim::Enhanced { .. } | Claim::Anonymous => None,
        };
        let identified = match access.judge(claim, is_local) {
            Step::Admitted(identity) => Ok(Identified { identity, authentication_data: None }),
            Step::Denied(denial) => Err(denial),
            Step::Check(check) => {
                let checked = self.context.passwords.run(|| check.run()).await;
                checked.map(|identity| Identified { identity: Some(identity), authentication_data: None })
            }
            Step::Converse(opening) => self.converse(*opening, welcome, packets).await?,
        };
        self.settle(identified, welcome, attempt)
    }

    /// Counts what has come out, and says it to who is refused.
    fn settle(
        &self,
        identified: Result<Identified, Denial>,
        welcome: &Welcome,
        attempt: Option<Attempt>,
    ) -> Result<Identified, Dismissal> {
        let counters = &self.context.counters;
        match identified {
            Ok(identified) => {
                if identified.identity.is_some() {
                    counters.identified.add_one();
                }
                Ok(identified)
            }
            Err(denial) => {
                match denial {
                    Denial::Anonymous => counters.refused_anonymous.add_one(),
                    Denial::WrongPassword | Denial::BadExchange(_) => counters.refused_credentials.add_one(),
                    Denial::UnknownMethod => counters.refused_method.add_one(),
                    Denial::Nameless => counters.refused_nameless.add_one(),
                }
                // [MQTT-4.12.0-4]
                let refusal = welcome.refusal(denial.reason(), denial.text());
                Err(match attempt.filter(|_| denial.is_attempt()) {
                    Some(attempt) => Dismissal::Failed(refusal, attempt),
                    None => Dismissal::Refused(refusal),
                })
            }
        }
    }

    /// Whether the client may have its id, as who it is. Also one that was assigned has to be: it can't, with any rule.
    pub(super) fn check_client_id(&self, welcome: &Welcome, identified: &Identified) -> Result<(), Dismissal> {
        let user_name = identified.identity.as_ref().map(|identity| &*identity.user_name);
        if self.context.client_id_rule.admits(user_name, &welcome.client_id) {
            return Ok(());
        }
        self.context.counters.refused_client_id.add_one();
        let text = "the client id is not one that this user may have";
        Err(welcome.refusal(ReasonCode::ClientIdentifierNotValid, text).into())
    }

    /// The exchange of AUTH packets: one to the client, and one back.
    async fn converse(
        &self,
        opening: ScramOpening,
        welcome: &Welcome,
        packets: &mut Packets<'_>,
    ) -> Result<Result<Identified, Denial>, Dismissal> {
        let no_random =
            || welcome.refusal(ReasonCode::ServerUnavailable, "the machine gave no random bytes for a nonce");
        let conversation = opening.challenge(&random::<24>().ok_or_else(no_random)?);
        let challenge = conversation::challenge(conversation.data(), welcome.max_packet_bytes).ok_or_else(|| {
            welcome.refusal(ReasonCode::PacketTooLarge, "AUTH is larger than the client's Maximum Packet Size")
        })?;
        packets.write(challenge).await?;
        let max_bytes = self.context.limits.max_connect_bytes.min(MAX_AUTH_BYTES);
        let answer = packets.read(|bytes| conversation::progress(bytes, max_bytes)).await?;
        match conversation::answer(&answer) {
            Answer::Data(data) => {
                let finished = conversation.finish(data, random::<32>().ok_or_else(no_random)?);
                Ok(finished.map(|Authenticated { identity, data }| Identified {
                    identity: Some(identity),
                    authentication_data: Some(data),
                }))
            }
            Answer::Gone => Err(Dismissal::Gone),
            Answer::Wrong(reason, text) => Err(welcome.refusal(reason, text).into()),
        }
    }
}

impl Attempt {
    /// Begins one, unless too many from the same address have failed.
    fn begin(context: &Rc<Context>, address: IpAddr) -> Option<Self> {
        let is_admitted = context.failures.borrow_mut().begin(context.clock.now(), address);
        is_admitted.then(|| Self { context: Rc::clone(context), address })
    }

    /// It has failed: waits as long as the answer has to.
    pub(super) async fn hold_back(self) {
        let delay = self.context.failures.borrow_mut().fail(self.context.clock.now(), self.address);
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.context.failures.borrow_mut().end(self.address);
    }
}
