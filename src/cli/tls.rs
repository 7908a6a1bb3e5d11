//! The flags of MQTT over TLS.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::config::{CertificateName, ClientCertificates, TlsSettings, TlsVersion};

use super::values::address;

/// Where and with which certificates MQTT over TLS is served.
#[derive(Debug, Args)]
pub(super) struct TlsArguments {
    /// Address to accept MQTT over TLS on; repeat for more. None unless given. As --listen, others than loopback want
    /// --password-file, --allow-anonymous or --tls-identity.
    #[arg(long, value_name = "ADDRESS:PORT", env = "ONCEMQ_TLS_LISTEN", value_delimiter = ',', value_parser = address)]
    tls_listen: Vec<SocketAddr>,

    /// Address to accept MQTT over WebSocket over TLS (wss) on; repeat for more. None unless given. Path and origins are those of
    /// --websocket-listen.
    #[arg(long, value_name = "ADDRESS:PORT", env = "ONCEMQ_WEBSOCKET_TLS_LISTEN", value_delimiter = ',',
          value_parser = address)]
    websocket_tls_listen: Vec<SocketAddr>,

    /// File with the server's certificate and those between it and the authority (PEM); read again on SIGHUP, as all files of
    /// TLS.
    #[arg(long, value_name = "FILE", env = "ONCEMQ_TLS_CERTIFICATE")]
    tls_certificate: Option<PathBuf>,

    /// File with the key of that certificate (PEM, not encrypted).
    #[arg(long, value_name = "FILE", env = "ONCEMQ_TLS_KEY")]
    tls_key: Option<PathBuf>,

    /// File with the authorities (PEM) one of which has to have signed the certificate that every client then has to show.
    #[arg(long, value_name = "FILE", env = "ONCEMQ_TLS_CLIENT_CA")]
    tls_client_ca: Option<PathBuf>,

    /// File with what these authorities have revoked (PEM); there has to be a list of each that signs clients' certificates.
    #[arg(long, value_name = "FILE", env = "ONCEMQ_TLS_CRL")]
    tls_crl: Option<PathBuf>,

    /// Name in a client's certificate that is its user name: none, the subject's common name (`cn`), or the first DNS name or
    /// e-mail address of its alternative names (`san`). Who has one needs no password.
    #[arg(long, value_name = "none|cn|san", env = "ONCEMQ_TLS_IDENTITY", default_value = "none", value_parser = identity)]
    tls_identity: Identity,

    /// Oldest version of TLS that is spoken.
    #[arg(long, value_name = "1.2|1.3", env = "ONCEMQ_TLS_MIN_VERSION", default_value = "1.2", value_parser = version)]
    tls_min_version: TlsVersion,
}

/// Which name in a certificate is a user name, if one is.
#[derive(Clone, Copy, Debug)]
struct Identity(Option<CertificateName>);

impl TlsArguments {
    /// Where TLS is served and how, if it is.
    ///
    /// # Errors
    /// If flags do not fit together.
    pub(super) fn into_settings(self) -> Result<Option<TlsSettings>, String> {
        let is_served = !self.tls_listen.is_empty() || !self.websocket_tls_listen.is_empty();
        let (certificate, key) = match (is_served, self.tls_certificate, self.tls_key) {
            (true, Some(certificate), Some(key)) => (certificate, key),
            (false, None, None) if self.tls_client_ca.is_none() && self.tls_crl.is_none() => return Ok(None),
            (true, None, _) => return Err("--tls-certificate is missing: TLS is not served without one".to_owned()),
            (true, Some(_), None) => return Err("--tls-key is missing: it has the key of --tls-certificate".to_owned()),
            (false, _, _) => {
                return Err("certificates are of no use without --tls-listen or --websocket-tls-listen".to_owned());
            }
        };
        let user_name = self.tls_identity.0;
        if user_name.is_some() && self.tls_client_ca.is_none() {
            return Err("--tls-identity: clients show certificates only with --tls-client-ca".to_owned());
        }
        let revoked = self.tls_crl;
        if revoked.is_some() && self.tls_client_ca.is_none() {
            return Err("--tls-crl: clients show certificates only with --tls-client-ca".to_owned());
        }
        Ok(Some(TlsSettings {
            listen: self.tls_listen,
            web_socket_listen: self.websocket_tls_listen,
            certificate,
            key,
            clients: self.tls_client_ca.map(|authorities| ClientCertificates { authorities, revoked, user_name }),
            min_version: self.tls_min_version,
        }))
    }
}

/// The addresses that TLS is served on, each with the flag that names it.
pub(super) fn addresses(settings: &TlsSettings) -> impl Iterator<Item = (&'static str, SocketAddr)> {
    let plain = settings.listen.iter().map(|address| ("--tls-listen", *address));
    plain.chain(settings.web_socket_listen.iter().map(|address| ("--websocket-tls-listen", *address)))
}

fn identity(text: &str) -> Result<Identity, &'static str> {
    match text {
        "none" => Ok(Identity(None)),
        "cn" => Ok(Identity(Some(CertificateName::Common))),
        "san" => Ok(Identity(Some(CertificateName::Alternative))),
        _ => Err("allowed is none, cn or san"),
    }
}

fn version(text: &str) -> Result<TlsVersion, &'static str> {
    match text {
        "1.2" => Ok(TlsVersion::V1_2),
        "1.3" => Ok(TlsVersion::V1_3),
        _ => Err("allowed is 1.2 or 1.3"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Action, Cli};

    fn parse(arguments: &[&str]) -> Result<Option<TlsSettings>, String> {
        let cli = Cli::try_parse_from([&["oncemq"], arguments].concat());
        match cli.and_then(Cli::into_action).map_err(|error| error.to_string())? {
            Action::Serve { config, .. } => Ok(config.tls),
            other => panic!("it serves: {other:?}"),
        }
    }

    const SERVED: [&str; 3] = ["--tls-listen=127.0.0.1:8883", "--tls-certificate=chain.pem", "--tls-key=key.pem"];

    #[test]
    fn nothing_is_served_unless_told_otherwise() {
        assert_eq!(parse(&[]), Ok(None));
    }

    #[test]
    fn each_flag_has_its_effect() {
        let plain = TlsSettings {
            listen: vec!["127.0.0.1:8883".parse().expect("an address")],
            web_socket_listen: Vec::new(),
            certificate: "chain.pem".into(),
            key: "key.pem".into(),
            clients: None,
            min_version: TlsVersion::V1_2,
        };
        let clients = ClientCertificates { authorities: "ca.pem".into(), revoked: None, user_name: None };
        let with = |changed: ClientCertificates| TlsSettings { clients: Some(changed), ..plain.clone() };
        let ca = "--tls-client-ca=ca.pem";
        for (flags, expected) in [
            (&[][..], plain.clone()),
            (
                &["--websocket-tls-listen=[::1]:8084"],
                TlsSettings { web_socket_listen: vec!["[::1]:8084".parse().expect("an address")], ..plain.clone() },
            ),
            (&["--tls-min-version=1.3"], TlsSettings { min_version: TlsVersion::V1_3, ..plain.clone() }),
            (&[ca], with(clients.clone())),
            (
                &[ca, "--tls-crl=crl.pem"],
                with(ClientCertificates { revoked: Some("crl.pem".into()), ..clients.clone() }),
            ),
            (
                &[ca, "--tls-identity=cn"],
                with(ClientCertificates { user_name: Some(CertificateName::Common), ..clients.clone() }),
            ),
            (
                &[ca, "--tls-identity=san"],
                with(ClientCertificates { user_name: Some(CertificateName::Alternative), ..clients.clone() }),
            ),
        ] {
            assert_eq!(parse(&[&SERVED, flags].concat()), Ok(Some(expected)), "{flags:?}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_told() {
        for (flags, part) in [
            (&["--tls-listen=127.0.0.1:8883", "--tls-key=key.pem"][..], "--tls-certificate is missing"),
            (&["--tls-listen=127.0.0.1:8883", "--tls-certificate=chain.pem"], "--tls-key is missing"),
            (&["--tls-certificate=chain.pem", "--tls-key=key.pem"], "without --tls-listen"),
            (&["--tls-client-ca=ca.pem"], "without --tls-listen"),
            (&[SERVED[0], SERVED[1], SERVED[2], "--tls-crl=crl.pem"], "--tls-client-ca"),
            (&[SERVED[0], SERVED[1], SERVED[2], "--tls-identity=cn"], "only with --tls-client-ca"),
            (&[SERVED[0], SERVED[1], SERVED[2], "--tls-identity=dn"], "allowed is none, cn or san"),
            (&[SERVED[0], SERVED[1], SERVED[2], "--tls-min-version=1.1"], "allowed is 1.2 or 1.3"),
            (&["--tls-listen=localhost"], "127.0.0.1:1883"),
        ] {
            let refused = parse(flags).expect_err("refused");
            assert!(refused.contains(part), "{flags:?}: {refused}");
        }
    }

    /// Where certificates name their owners, nobody else comes in; elsewhere others than this machine need a decision.
    #[test]
    fn an_address_that_others_reach_needs_accounts_or_names_in_certificates() {
        let open = ["--tls-certificate=chain.pem", "--tls-key=key.pem", "--tls-client-ca=ca.pem"];
        for flag in ["--tls-listen", "--websocket-tls-listen"] {
            let listen = format!("{flag}=0.0.0.0:8883");
            let flags = |last: &'static str| [&[&listen[..]], &open[..], &[last]].concat();
            let refused = parse(&flags("--tls-identity=none")).expect_err("refused");
            assert!(refused.contains(&format!("{flag} 0.0.0.0:8883: anyone")), "{refused}");
            for last in ["--tls-identity=san", "--allow-anonymous", "--password-file=people"] {
                assert!(parse(&flags(last)).is_ok(), "{last}");
            }
        }
    }
}
