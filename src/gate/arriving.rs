//! Who has arrived, before he is heard: what a proxy says of him, and whether his address has a place for him.
//!
//! At a listener behind a proxy, nobody is served whose connection is not from one that the operator trusts, and from there a header
//! is demanded: where it may be missing, clients could write one themselves.
//!
//! A client's address is that of its connection, or the one that the header names. Failed attempts are counted by it, and
//! connections, and it is what the operator sees. Where the header names none, the proxy's own address stands for it; local
//! is such a client only if it is the proxy itself.

use tracing::warn;

use crate::config::ProxyRules;
use crate::io::{AddressPlace, Origin};

use super::client::{Arrived, Client, NoPacket};
use super::identifying::Certified;
use super::packets::Packets;
use super::proxy_header::{ClientTls, Introduction, Source};

impl Client {
    /// Finds out where the client comes from, and takes a place for its connection.
    pub(super) async fn arrive(&self, packets: &mut Packets<'_>) -> Result<Arrived, NoPacket> {
        let introduction = match &self.entrance.proxy {
            None => None,
            Some(rules) => Some(self.introduce(rules, packets).await?),
        };
        if let Some(Introduction { source: Source::Client(address), .. }) = &introduction {
            self.origin.set(Origin::Address(*address));
        }
        let is_local = self.is_local
            && match introduction.as_ref().map(|introduction| introduction.source) {
                None | Some(Source::Proxy) => true,
                Some(Source::Unknown) => false,
                Some(Source::Client(address)) => address.ip().to_canonical().is_loopback(),
            };
        Ok(Arrived { is_local, tls: introduction.and_then(|introduction| introduction.tls), place: self.take_place()? })
    }

    /// Reads what the proxy says, if it is one that is trusted.
    async fn introduce(&self, rules: &ProxyRules, packets: &mut Packets<'_>) -> Result<Introduction, NoPacket> {
        let proxy = self.origin.get();
        if !rules.trusts(proxy.ip()) {
            self.context.counters.refused_untrusted_proxy.add_one();
            if let Some(times) = self.context.untrusted_proxies.permit() {
                warn!("{proxy} is not served: the listener is for the proxies of --proxy-from alone ({times} times)");
            }
            return Err(NoPacket::Foreign("its address is not that of a proxy that is trusted"));
        }
        let introduction = packets.introduce().await;
        match &introduction {
            Ok(_) => self.context.counters.proxied.add_one(),
            Err(NoPacket::Foreign(text)) => {
                self.context.counters.refused_proxy_header.add_one();
                if let Some(times) = self.context.bad_proxy_headers.permit() {
                    warn!("the proxy {proxy} is not understood: {text} ({times} times)");
                }
            }
            // A look whether the port is open, or the end of one who is slow.
            Err(NoPacket::Closed | NoPacket::Failed(_) | NoPacket::Answered { .. } | NoPacket::Tls { .. }) => {}
        }
        introduction
    }

    /// A place among the connections of its address, where these are counted: who comes over a Unix socket is not.
    fn take_place(&self) -> Result<Option<AddressPlace>, NoPacket> {
        let (Some(places), Origin::Address(address)) = (&self.context.address_places, self.origin.get()) else {
            return Ok(None);
        };
        match places.borrow_mut().arrive(address.ip()) {
            Some(place) => Ok(Some(place)),
            None => {
                self.tell_address_is_full();
                Err(NoPacket::Foreign("its address has as many connections that are not admitted yet as it may have"))
            }
        }
    }

    /// Counts who is refused because of its address.
    pub(super) fn tell_address_is_full(&self) {
        self.context.counters.refused_address_full.add_one();
        if let Some(times) = self.context.full_addresses.permit() {
            let origin = self.origin.get();
            warn!("{origin} is refused: its address has --max-connections-per-address already ({times} times)");
        }
    }

    /// What counts of the client's certificate: what a proxy says of it, or what our own handshake has shown.
    pub(super) fn certified(&self, by_proxy: Option<ClientTls>, by_handshake: Certified) -> Certified {
        let is_named_by_proxy = self.entrance.proxy.as_ref().is_some_and(|rules| rules.names_clients);
        match by_proxy.filter(|_| is_named_by_proxy) {
            Some(ClientTls::Verified(user_name)) => Certified::As(user_name),
            // Where the proxy has done the handshake with the client, ours is with the proxy, and its certificate is the proxy's.
            Some(ClientTls::Unverified) => Certified::NotAsked,
            None => by_handshake,
        }
    }
}
