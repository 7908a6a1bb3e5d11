//! The flags of what stands between clients and listeners: proxies, and how many clients may come from where and how fast; and
//! those of Unix sockets.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;

use crate::config::{
    MAX_CONNECT_RATE, MAX_CONNECTIONS_PER_ADDRESS, Network, ProxiedListeners, ProxyRules, ProxySettings,
    UNIX_MODE_DEFAULT, UNIX_PATH_BYTES_MAX, UnixSettings,
};

use super::values::{address, number};

/// What stands between clients and listeners.
#[derive(Debug, Args)]
pub(super) struct ProxyArguments {
    /// Listeners behind a proxy that speaks the PROXY protocol (version 1 or 2): none (`off`), all (`on`), or those at these
    /// addresses, as their flags name them; repeat for more. Only clients from --proxy-from are served there.
    #[arg(long, value_name = "off|on|ADDRESS:PORT", env = "ONCEMQ_PROXY_PROTOCOL", value_delimiter = ',',
          default_value = "off", value_parser = proxied)]
    proxy_protocol: Vec<Proxied>,

    /// Address or network that proxies come from, such as 10.0.0.0/8; repeat for more. There is no default: whoever comes from
    /// there is believed where he says that he comes from.
    #[arg(long, value_name = "NETWORK", env = "ONCEMQ_PROXY_FROM", value_delimiter = ',', value_parser = Network::from_str)]
    proxy_from: Vec<Network>,

    /// Name in a client's certificate, as the proxy has verified it, that is its user name: none, or the common name (`cn`).
    /// Who has one needs no password; who has shown no certificate is asked for one as elsewhere.
    #[arg(long, value_name = "none|cn", env = "ONCEMQ_PROXY_IDENTITY", default_value = "none", value_parser = identity)]
    proxy_identity: Identity,

    /// Path of a Unix socket to accept clients of this machine on; repeat for more. None unless given.
    #[arg(long, value_name = "PATH", env = "ONCEMQ_UNIX_LISTEN", value_parser = socket_path)]
    unix_listen: Vec<PathBuf>,

    /// Permissions of the Unix sockets, in octal: who may write may connect.
    #[arg(long, value_name = "MODE", env = "ONCEMQ_UNIX_MODE", default_value_t = Mode(UNIX_MODE_DEFAULT), value_parser = mode)]
    unix_mode: Mode,

    /// Clients connected at once from one address (of IPv6: one /64), and as many again that are not admitted yet; behind a
    /// proxy, the address is the client's. Unix sockets do not count. 0 is no limit [0..=4000000].
    #[arg(long, value_name = "CLIENTS", env = "ONCEMQ_MAX_CONNECTIONS_PER_ADDRESS",
          default_value_t = *MAX_CONNECTIONS_PER_ADDRESS.start(), value_parser = number(MAX_CONNECTIONS_PER_ADDRESS))]
    max_connections_per_address: u32,

    /// Clients that are accepted in a second, a tenth of them at once; further ones wait to be accepted. 0 is no limit
    /// [0..=1000000].
    #[arg(long, value_name = "CLIENTS", env = "ONCEMQ_MAX_CONNECT_RATE", default_value_t = *MAX_CONNECT_RATE.start(),
          value_parser = number(MAX_CONNECT_RATE))]
    max_connect_rate: u32,
}

/// A value of `--proxy-protocol`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Proxied {
    Off,
    On,
    At(SocketAddr),
}

/// Whether a name in a certificate is a user name.
#[derive(Clone, Copy, Debug)]
struct Identity(bool);

/// Permissions of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mode(u32);

/// What these flags say.
#[derive(Debug)]
pub(super) struct ProxyConfig {
    pub(super) proxy: Option<ProxySettings>,
    pub(super) unix: UnixSettings,
    pub(super) max_connections_per_address: Option<NonZeroU32>,
    pub(super) max_connect_rate: Option<NonZeroU32>,
}

impl ProxyArguments {
    /// What is told of a broker that listens on these addresses.
    ///
    /// # Errors
    /// If flags do not fit together.
    pub(super) fn into_config(self, listen: &[SocketAddr]) -> Result<ProxyConfig, String> {
        let listeners = listeners(&self.proxy_protocol, listen)?;
        let rules = ProxyRules { from: self.proxy_from, names_clients: self.proxy_identity.0 };
        let proxy = match listeners {
            Some(_) if rules.from.is_empty() => {
                let text = "--proxy-from is missing: it says from where a proxy is believed with --proxy-protocol";
                return Err(text.to_owned());
            }
            None if !rules.from.is_empty() => {
                return Err("--proxy-from: no listener is behind a proxy without --proxy-protocol".to_owned());
            }
            None if rules.names_clients => {
                return Err("--proxy-identity: no listener is behind a proxy without --proxy-protocol".to_owned());
            }
            listeners => listeners.map(|listeners| ProxySettings { listeners, rules: Arc::new(rules) }),
        };
        Ok(ProxyConfig {
            proxy,
            unix: UnixSettings { listen: self.unix_listen, mode: self.unix_mode.0 },
            max_connections_per_address: NonZeroU32::new(self.max_connections_per_address),
            max_connect_rate: NonZeroU32::new(self.max_connect_rate),
        })
    }
}

impl ProxyConfig {
    /// Whether certificates name who comes to this listener. Who shows none is not local there, as the listener is not, and does
    /// not come in unless he has an account, or anonymous clients are allowed.
    pub(super) fn names_clients_at(&self, address: SocketAddr) -> bool {
        self.proxy.as_ref().and_then(|proxy| proxy.rules_at(address)).is_some_and(|rules| rules.names_clients)
    }

    /// Whether there are listeners where certificates name clients.
    pub(super) fn names_clients(&self) -> bool {
        self.proxy.as_ref().is_some_and(|proxy| proxy.rules.names_clients)
    }
}

/// The listeners that `--proxy-protocol` says, of these.
fn listeners(said: &[Proxied], listen: &[SocketAddr]) -> Result<Option<ProxiedListeners>, String> {
    match said {
        [Proxied::Off] => return Ok(None),
        [Proxied::On] => return Ok(Some(ProxiedListeners::All)),
        _ => {}
    }
    let at = |said: &Proxied| match said {
        Proxied::At(address) if listen.contains(address) => Ok(*address),
        Proxied::At(address) => Err(format!(
            "--proxy-protocol {address}: no clients are accepted there; allowed are off, on, and addresses of --listen, \
             --websocket-listen, --tls-listen and --websocket-tls-listen"
        )),
        Proxied::Off | Proxied::On => Err("--proxy-protocol: off and on are allowed only alone".to_owned()),
    };
    said.iter().map(at).collect::<Result<_, _>>().map(|addresses| Some(ProxiedListeners::At(addresses)))
}

fn proxied(text: &str) -> Result<Proxied, &'static str> {
    match text {
        "off" => Ok(Proxied::Off),
        "on" => Ok(Proxied::On),
        text => address(text)
            .map(Proxied::At)
            .map_err(|_| "allowed is off, on, or an IP address and a port of a listener, such as 10.0.0.1:1883"),
    }
}

fn identity(text: &str) -> Result<Identity, &'static str> {
    match text {
        "none" => Ok(Identity(false)),
        "cn" => Ok(Identity(true)),
        _ => Err("allowed is none or cn"),
    }
}

fn socket_path(text: &str) -> Result<PathBuf, String> {
    let bytes = Path::new(text).as_os_str().as_bytes();
    if (1..=UNIX_PATH_BYTES_MAX).contains(&bytes.len()) && !bytes.contains(&0) {
        Ok(text.into())
    } else {
        Err(format!("allowed is a path of 1 to {UNIX_PATH_BYTES_MAX} bytes"))
    }
}

fn mode(text: &str) -> Result<Mode, &'static str> {
    let is_octal = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    mode.map(Mode).ok_or("allowed is three octal digits, such as 660 or 0600")
}

impl std::fmt::Display for Mode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:04o}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Action, Cli};
    use crate::config::ServeConfig;

    fn parse(arguments: &[&str]) -> Result<Box<ServeConfig>, String> {
        let cli = Cli::try_parse_from([&["oncemq"], arguments].concat());
        match cli.and_then(Cli::into_action).map_err(|error| error.to_string())? {
            Action::Serve { config, .. } => Ok(config),
            other => panic!("it serves: {other:?}"),
        }
    }

    #[test]
    fn nothing_is_demanded_unless_told_otherwise() {
        let config = parse(&[]).expect("no flags");
        assert_eq!(config.proxy, None);
        assert_eq!(config.unix, UnixSettings { listen: Vec::new(), mode: 0o660 });
        assert_eq!((config.gate.max_connections_per_address, config.gate.max_connect_rate), (None, None));
    }

    #[test]
    fn each_flag_has_its_effect() {
        let from = "--proxy-from=10.0.0.0/8,::1";
        let [plain, secure]: [SocketAddr; 2] =
            ["127.0.0.1:1883", "127.0.0.1:1884"].map(|text| text.parse().expect("an address"));
        let listen = ["--listen=127.0.0.1:1883", "--listen=127.0.0.1:1884"];
        let settings = |flags: &[&str]| parse(&[&listen, flags].concat()).expect("good values").proxy.expect("a proxy");
        let all = settings(&["--proxy-protocol=on", from]);
        assert!(all.rules_at(plain).is_some() && all.rules_at(secure).is_some());
        assert_eq!((all.rules.from.len(), all.rules.names_clients), (2, false));
        let one = settings(&["--proxy-protocol=127.0.0.1:1884", from, "--proxy-identity=cn"]);
        assert!(one.rules_at(plain).is_none() && one.rules_at(secure).is_some_and(|rules| rules.names_clients));
        let flags = ["--unix-listen=/run/a", "--unix-listen=b", "--unix-mode=0600", "--max-connect-rate=7"];
        let config = parse(&[&flags[..], &["--max-connections-per-address=9"]].concat()).expect("good values");
        assert_eq!(config.unix, UnixSettings { listen: vec!["/run/a".into(), "b".into()], mode: 0o600 });
        assert_eq!(config.gate.max_connections_per_address, NonZeroU32::new(9));
        assert_eq!(config.gate.max_connect_rate, NonZeroU32::new(7));
        assert!(parse(&["--listen=none", "--unix-listen=/run/a"]).is_ok(), "a Unix socket is enough");
    }

    #[test]
    fn what_does_not_fit_together_is_told() {
        for (flags, part) in [
            (&["--proxy-protocol=on"][..], "--proxy-from is missing"),
            (&["--proxy-from=10.0.0.0/8"], "--proxy-from: no listener is behind a proxy"),
            (&["--proxy-identity=cn"], "--proxy-identity: no listener is behind a proxy"),
            (&["--proxy-protocol=off,on", "--proxy-from=::1"], "only alone"),
            (
                &["--proxy-protocol=10.0.0.1:7", "--proxy-from=::1"],
                "--proxy-protocol 10.0.0.1:7: no clients are accepted",
            ),
            (&["--proxy-protocol=maybe"], "allowed is off, on, or an IP address"),
            (&["--proxy-from=proxy.example"], "allowed is an IP address, or a network"),
            (&["--proxy-identity=san"], "allowed is none or cn"),
            (&["--unix-mode=rw"], "three octal digits"),
            (&["--unix-mode=+660"], "three octal digits"),
            (&["--unix-mode=7777"], "three octal digits"),
            (&["--unix-listen="], "1 to 107 bytes"),
            (&["--max-connections-per-address=-1"], "from 0 to 4000000"),
            (&["--max-connect-rate=1000001"], "from 0 to 1000000"),
        ] {
            let refused = parse(flags).expect_err("refused");
            assert!(refused.contains(part), "{flags:?}: {refused}");
        }
    }

    /// Who comes through a proxy from elsewhere is judged when he comes; who can come without one needs a decision before.
    #[test]
    fn an_address_that_others_reach_needs_a_decision_behind_a_proxy_too() {
        let proxied = ["--listen=0.0.0.0:1883", "--proxy-protocol=on", "--proxy-from=10.0.0.0/8"];
        let refused = parse(&proxied).expect_err("refused");
        assert!(refused.contains("--listen 0.0.0.0:1883: anyone"), "{refused}");
        for last in ["--proxy-identity=cn", "--allow-anonymous", "--password-file=people"] {
            assert!(parse(&[&proxied[..], &[last]].concat()).is_ok(), "{last}");
        }
        let open = [&proxied[..], &["--proxy-identity=cn", "--client-id-rule=user"]].concat();
        assert!(parse(&open).is_ok(), "user names come from the proxy");
    }
}
