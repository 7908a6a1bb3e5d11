//! The flags of the admin listener.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::config::AdminSettings;

use super::values::address;

/// Where the operator looks in.
#[derive(Debug, Args)]
pub(super) struct AdminArguments {
    /// Address to serve metrics, health and the API on, over HTTP. None unless given. Others than loopback want --admin-token-file.
    #[arg(long, value_name = "ADDRESS:PORT", env = "ONCEMQ_ADMIN_LISTEN", value_parser = address)]
    admin_listen: Option<SocketAddr>,

    /// File with one line, the token that requests have to carry (`Authorization: Bearer`), but for /healthz and /readyz; read
    /// again on SIGHUP.
    #[arg(long, value_name = "FILE", env = "ONCEMQ_ADMIN_TOKEN_FILE")]
    admin_token_file: Option<PathBuf>,
}

impl AdminArguments {
    /// Where the operator looks in, if anywhere.
    ///
    /// # Errors
    /// If anyone could, or nobody whom a token is for.
    pub(super) fn into_settings(self) -> Result<Option<AdminSettings>, String> {
        let Self { admin_listen, admin_token_file: token_file } = self;
        let Some(listen) = admin_listen else {
            return match token_file {
                Some(_) => Err("--admin-token-file: nobody shows a token without --admin-listen".to_owned()),
                None => Ok(None),
            };
        };
        if token_file.is_none() && !listen.ip().to_canonical().is_loopback() {
            return Err(format!(
                "--admin-listen {listen}: anyone who reaches this address could disconnect clients; give a token with \
                 --admin-token-file"
            ));
        }
        Ok(Some(AdminSettings { listen, token_file }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Action, Cli};

    fn parse(arguments: &[&str]) -> Result<Option<AdminSettings>, String> {
        let cli = Cli::try_parse_from([&["oncemq"], arguments].concat());
        match cli.and_then(Cli::into_action).map_err(|error| error.to_string())? {
            Action::Serve { config, .. } => Ok(config.admin),
            other => panic!("it serves: {other:?}"),
        }
    }

    #[test]
    fn nobody_looks_in_unless_that_is_asked_for() {
        assert_eq!(parse(&[]), Ok(None));
        let settings = parse(&["--admin-listen=[::1]:9883"]).expect("accepted").expect("there are some");
        assert_eq!((&settings.listen.to_string()[..], settings.token_file), ("[::1]:9883", None));
    }

    #[test]
    fn an_address_that_others_reach_wants_a_token() {
        let refused = parse(&["--admin-listen=0.0.0.0:9883"]).expect_err("refused");
        assert!(refused.contains("--admin-listen 0.0.0.0:9883: anyone") && refused.contains("--admin-token-file"));
        let settings = parse(&["--admin-listen=0.0.0.0:9883", "--admin-token-file=token"]).expect("accepted");
        assert_eq!(settings.expect("there are some").token_file, Some("token".into()));
        let refused = parse(&["--admin-token-file=token"]).expect_err("refused");
        assert!(refused.contains("--admin-listen"), "{refused}");
    }
}
