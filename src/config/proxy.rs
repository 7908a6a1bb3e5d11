//! Where the header of a proxy is demanded, and whose is believed.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use super::MAX_UPGRADE_REQUEST_BYTES;

/// What `oncemq serve` was told about proxies in front of its listeners.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProxySettings {
    /// The listeners that clients reach through a proxy.
    pub listeners: ProxiedListeners,
    /// What holds there, the same for all.
    pub rules: Arc<ProxyRules>,
}

/// The listeners that clients reach through a proxy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProxiedListeners {
    /// All that have an address.
    All,
    /// Those at these addresses.
    At(Vec<SocketAddr>),
}

/// What holds at a listener behind a proxy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProxyRules {
    /// Where proxies come from. From there a header is demanded and believed; nobody else is served.
    pub from: Vec<Network>,
    /// Whether the common name in a client's certificate, as the proxy has verified it, is the user name.
    pub names_clients: bool,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// One of them, with all that is not alike set to zero.
    first: IpAddr,
    prefix_bits: u8,
}

/// Bytes of a proxy's header, at most: sixteen, and what it says of the connection. That of version 1 has 107 at most; one of
/// version 2 a few hundred with the name of a certificate, and some two thousand with the certificate itself.
pub const PROXY_HEADER_BYTES_MAX: usize = 4096;

const _: () = {
    // What comes behind a header in one piece with it is taken for the beginning of such a request.
    assert!(PROXY_HEADER_BYTES_MAX <= MAX_UPGRADE_REQUEST_BYTES);
};

impl ProxySettings {
    /// What holds at the listener of this address, if clients reach it through a proxy.
    #[must_use]
    pub fn rules_at(&self, address: SocketAddr) -> Option<&Arc<ProxyRules>> {
        let is_proxied = match &self.listeners {
            ProxiedListeners::All => true,
            ProxiedListeners::At(addresses) => addresses.contains(&address),
        };
        is_proxied.then_some(&self.rules)
    }
}

impl ProxyRules {
    /// Whether a proxy may come from this address.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.from.iter().any(|network| network.contains(address))
    }
}

impl Network {
    /// Whether this address is one of them. An address of IPv4 is the same in its form for IPv6.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        first_of(address.to_canonical(), self.prefix_bits) == Some(self.first)
    }
}

/// `10.0.0.0/8`, `2001:db8::/32`, or a single address.
impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ALLOWED: &str = "allowed is an IP address, or a network such as 10.0.0.0/8 or 2001:db8::/32";
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| ALLOWED)?;
        let prefix_bits = match prefix {
            None => bits_of(address),
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().map_err(|_| ALLOWED)?,
            Some(_) => return Err(ALLOWED),
        };
        let first = first_of(address, prefix_bits).ok_or(ALLOWED)?;
        Ok(Self { first, prefix_bits })
    }
}

fn bits_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The first address that begins with so many bits of this one, which may not have as many.
fn first_of(address: IpAddr, prefix_bits: u8) -> Option<IpAddr> {
    let others = u32::from(bits_of(address).checked_sub(prefix_bits)?);
    Some(match address {
        IpAddr::V4(address) => IpAddr::V4((address.to_bits() & u32::MAX.checked_shl(others).unwrap_or(0)).into()),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & u128::MAX.checked_shl(others).unwrap_or(0)).into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_like_it() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("192.0.2.7", "::ffff:192.0.2.7", true),
            ("192.0.2.128/25", "192.0.2.127", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "203.0.113.9", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::1", "::1", true),
        ] {
            let found: Network = network.parse().expect("a network");
            assert_eq!(found.contains(address.parse().expect("an address")), expected, "{network} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in
            ["", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0/8", "::/129", "::/256", "proxy.example"]
        {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
