//! The flags that say what lies between the socket and MQTT, the same for all commands.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use oncemq::config::WEBSOCKET_PATH_DEFAULT;
use rustls::pki_types::ServerName;

/// What lies between the socket and MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TransportKind {
    /// Nothing (mqtt).
    Tcp,
    /// TLS (mqtts).
    Tls,
    /// A WebSocket.
    Ws,
    /// A WebSocket in TLS.
    Wss,
}

impl TransportKind {
    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// The port unless one is given: those registered for MQTT and, for WebSockets, for HTTP.
    pub(super) fn default_port(self) -> u16 {
        match self {
            Self::Tcp => 1883,
            Self::Tls => 8883,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }

    /// Of a URL.
    pub(super) fn of_scheme(scheme: &str) -> Option<Self> {
        match scheme {
            "mqtt" => Some(Self::Tcp),
            "mqtts" => Some(Self::Tls),
            "ws" => Some(Self::Ws),
            "wss" => Some(Self::Wss),
            _ => None,
        }
    }

    pub(super) fn has_tls(self) -> bool {
        match self {
            Self::Tls | Self::Wss => true,
            Self::Tcp | Self::Ws => false,
        }
    }

    pub(super) fn has_web_socket(self) -> bool {
        match self {
            Self::Ws | Self::Wss => true,
            Self::Tcp | Self::Tls => false,
        }
    }
}

impl fmt::Display for TransportKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// How to speak to the broker below MQTT.
#[derive(Clone, Debug, Args)]
pub(crate) struct TransportArguments {
    /// What lies between the socket and MQTT; --url says it by its scheme.
    #[arg(long, value_enum, default_value_t = TransportKind::Tcp)]
    pub(super) transport: TransportKind,

    /// File with the authorities (PEM) one of which has to have signed the broker's certificate; needed with tls and wss.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// File with the certificate (PEM) that every client shows, and those between it and the authority [default: none].
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,

    /// File with the key of that certificate (PEM, not encrypted).
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,

    /// Host name or IP address that the broker's certificate has to be for [default: that of --host or --url].
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    tls_server_name: Option<ServerName<'static>>,

    /// Path to ask for a WebSocket at [default: /mqtt, or that of --url].
    #[arg(long, value_name = "PATH", value_parser = websocket_path)]
    websocket_path: Option<Box<str>>,
}

/// What was said about the transport, with no contradiction in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layers {
    pub(crate) tls: Option<TlsLayer>,
    /// The path of the WebSocket, if there is one.
    pub(crate) web_socket_path: Option<Box<str>>,
}

/// What TLS needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsLayer {
    pub(crate) authorities: PathBuf,
    /// The certificate that is shown, and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Unless it is the broker's address.
    pub(crate) server_name: Option<ServerName<'static>>,
}

impl TransportArguments {
    /// What lies between the socket and MQTT. What a URL says comes first.
    ///
    /// # Errors
    /// If flags do not fit together; the text names them.
    pub(super) fn layers(&self, kind: TransportKind, path_of_url: Option<&str>) -> Result<Layers, String> {
        let tls = match (kind.has_tls(), &self.tls_ca) {
            (true, Some(authorities)) => Some(TlsLayer {
                authorities: authorities.clone(),
                identity: self.tls_certificate.clone().zip(self.tls_key.clone()),
                server_name: self.tls_server_name.clone(),
            }),
            (true, None) => {
                return Err(format!("--tls-ca is missing: {kind} needs the authority of the broker's certificate"));
            }
            (false, _) => match self.flag_of_tls() {
                Some(flag) => {
                    return Err(format!("{flag} is of no use with {kind}; allowed with --transport tls and wss"));
                }
                None => None,
            },
        };
        let web_socket_path = match (kind.has_web_socket(), path_of_url.or(self.websocket_path.as_deref())) {
            (true, path) => Some(path.unwrap_or(WEBSOCKET_PATH_DEFAULT).into()),
            (false, None) => None,
            (false, Some(_)) => {
                return Err(format!("--websocket-path is of no use with {kind}; allowed with --transport ws and wss"));
            }
        };
        Ok(Layers { tls, web_socket_path })
    }

    fn flag_of_tls(&self) -> Option<&'static str> {
        let Self { transport: _, tls_ca, tls_certificate, tls_key, tls_server_name, websocket_path: _ } = self;
        let given = [
            ("--tls-ca", tls_ca.is_some()),
            ("--tls-certificate", tls_certificate.is_some()),
            ("--tls-key", tls_key.is_some()),
            ("--tls-server-name", tls_server_name.is_some()),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(flag, _)| flag)
    }
}

fn server_name(given: &str) -> Result<ServerName<'static>, &'static str> {
    ServerName::try_from(given.to_owned()).map_err(|_| "expected a host name or an IP address")
}

/// What can be the path of a request, as the broker's flag takes it.
pub(super) fn websocket_path(given: &str) -> Result<Box<str>, &'static str> {
    match given.starts_with('/') && given.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        true => Ok(given.into()),
        false => Err("expected a path that begins with a slash, such as /mqtt"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Arguments, BrokerArguments, Command, Endpoint};

    fn broker(flags: &str) -> Result<BrokerArguments, String> {
        let words = ["loadgen", "run"].into_iter().chain(flags.split_whitespace());
        match Arguments::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Command::Run(arguments) => Ok(arguments.broker),
            _other => panic!("not run"),
        }
    }

    fn endpoint(flags: &str) -> Result<Endpoint, String> {
        broker(flags)?.endpoint()
    }

    #[test]
    fn each_transport_has_its_flag_its_scheme_and_its_port() {
        for (flags, kind, port, path) in [
            ("", TransportKind::Tcp, 1883, None),
            ("--url mqtt://h", TransportKind::Tcp, 1883, None),
            ("--transport tls --tls-ca ca", TransportKind::Tls, 8883, None),
            ("--url mqtts://h --tls-ca ca", TransportKind::Tls, 8883, None),
            ("--transport ws", TransportKind::Ws, 80, Some("/mqtt")),
            ("--transport ws --port 8083 --websocket-path /", TransportKind::Ws, 8083, Some("/")),
            ("--url ws://h", TransportKind::Ws, 80, Some("/mqtt")),
            ("--url ws://h:8083/broker?token=x", TransportKind::Ws, 8083, Some("/broker?token=x")),
            ("--url wss://h/ --tls-ca ca", TransportKind::Wss, 443, Some("/")),
            ("--transport tcp --url wss://[::1]:1 --tls-ca ca", TransportKind::Wss, 1, Some("/mqtt")),
        ] {
            let endpoint = endpoint(flags).expect(flags);
            assert_eq!((endpoint.kind, endpoint.port), (kind, port), "{flags}");
            assert_eq!(endpoint.layers.web_socket_path.as_deref(), path, "{flags}");
            assert_eq!(endpoint.layers.tls.is_some(), kind.has_tls(), "{flags}");
        }
    }

    #[test]
    fn what_tls_needs_is_taken_over() {
        let flags =
            "--transport tls --tls-ca ca --tls-certificate me --tls-key secret --tls-server-name broker.example";
        let tls = endpoint(flags).expect("valid").layers.tls.expect("TLS");
        assert_eq!(tls.authorities, PathBuf::from("ca"));
        assert_eq!(tls.identity, Some(("me".into(), "secret".into())));
        assert_eq!(tls.server_name, ServerName::try_from("broker.example").ok());
    }

    #[test]
    fn what_does_not_fit_together_is_told() {
        for (flags, named) in [
            ("--transport tls", "--tls-ca"),
            ("--url wss://h", "--tls-ca"),
            ("--tls-ca ca", "--tls-ca"),
            ("--transport ws --tls-server-name h", "--tls-server-name"),
            ("--tls-certificate c --tls-key k", "--tls-certificate"),
            ("--transport tls --tls-ca ca --tls-key k", "--tls-certificate"),
            ("--transport tls --tls-ca ca --tls-certificate c", "--tls-key"),
            ("--websocket-path /mqtt", "--websocket-path"),
            ("--transport ws --websocket-path mqtt", "--websocket-path"),
            ("--transport tls --tls-ca ca --tls-server-name a/b", "--tls-server-name"),
            ("--transport quic", "--transport"),
        ] {
            let text = endpoint(flags).expect_err(flags);
            assert!(text.contains(named), "{flags}: {text}");
        }
    }
}
