//! The flags of who may connect and what clients may do, and the command that changes passwords.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::auth::{Scheme, check_user_name};
use crate::config::{AccessSettings, ClientIdRule};

use super::Action;
use super::words::client_id_rule;

/// Who may connect.
#[derive(Debug, Args)]
pub(super) struct AccessArguments {
    /// File with the accounts of clients, in mosquitto's syntax (`oncemq passwd` edits it); read again on SIGHUP. Without it
    /// nobody has to say who he is.
    #[arg(long, value_name = "FILE", env = "ONCEMQ_PASSWORD_FILE")]
    password_file: Option<PathBuf>,

    /// Serve clients without a user name, although there is a password file, or an address that others can reach.
    #[arg(long, env = "ONCEMQ_ALLOW_ANONYMOUS")]
    allow_anonymous: bool,

    /// File with what clients may publish and subscribe, in mosquitto's syntax; read again on SIGHUP. Without it everybody may do
    /// everything.
    #[arg(long, value_name = "FILE", env = "ONCEMQ_ACL_FILE")]
    acl_file: Option<PathBuf>,

    /// Client ids that a user may have: any, his name (user), or also what begins with it and one of - _ / . : (user-prefix).
    #[arg(long, value_name = "any|user|user-prefix", env = "ONCEMQ_CLIENT_ID_RULE", default_value = "any",
          value_parser = client_id_rule)]
    client_id_rule: ClientIdRule,
}

/// What `oncemq passwd` is told.
#[derive(Debug, Args)]
pub(super) struct PasswordArguments {
    /// Keep it with Argon2id (what is done unless told otherwise): hardest to guess for who steals the file.
    #[arg(long, conflicts_with_all = ["scram", "delete"])]
    argon2id: bool,

    /// Keep it for SCRAM-SHA-256, so that 5.0 clients can authenticate without sending it; plain passwords work, too.
    #[arg(long, conflicts_with = "delete")]
    scram: bool,

    /// Delete the user.
    #[arg(short = 'D', long)]
    delete: bool,

    /// The password file; made if it is missing.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The user.
    #[arg(value_name = "USER", value_parser = user_name)]
    user: Box<str>,
}

impl AccessArguments {
    /// Who may connect to a broker that listens on these addresses, each with the flag that names it; `names_certified` where
    /// certificates name their owners.
    pub(super) fn into_settings(
        self,
        mut listen: impl Iterator<Item = (&'static str, SocketAddr)>,
        names_certified: bool,
    ) -> Result<AccessSettings, String> {
        let Self { password_file, allow_anonymous, acl_file, client_id_rule } = self;
        if client_id_rule != ClientIdRule::Any && password_file.is_none() && !names_certified {
            let text = "--client-id-rule: nobody has a user name; give accounts with --password-file, or names with --tls-identity";
            return Err(text.to_owned());
        }
        let is_open = password_file.is_none() && !allow_anonymous;
        match listen.find(|(_, address)| is_open && !address.ip().to_canonical().is_loopback()) {
            Some((flag, address)) => Err(format!(
                "{flag} {address}: anyone who reaches this address could connect; give accounts with --password-file, or \
                 say --allow-anonymous if that is what you want"
            )),
            None => Ok(AccessSettings { password_file, allow_anonymous, acl_file, client_id_rule }),
        }
    }
}

impl PasswordArguments {
    pub(super) fn into_action(self) -> Action {
        let scheme = if self.scram { Scheme::Scram } else { Scheme::Argon2id };
        Action::ChangePassword { file: self.file, user: self.user, scheme: (!self.delete).then_some(scheme) }
    }
}

fn user_name(text: &str) -> Result<Box<str>, &'static str> {
    check_user_name(text).map(|()| text.into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn action(arguments: &[&str]) -> Result<Action, String> {
        let cli = Cli::try_parse_from([&["oncemq"], arguments].concat());
        cli.and_then(Cli::into_action).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_that_others_reach_needs_a_decision() {
        let settings = |flags: &[&str]| match action(flags) {
            Ok(Action::Serve { config, .. }) => Ok((config.access.allow_anonymous, config.access.password_file)),
            other => Err(other.expect_err("it serves")),
        };
        let file = Some(PathBuf::from("people"));
        for (flags, expected) in [
            (&["--listen", "127.0.0.1:1883"][..], (false, None)),
            (&["--listen", "[::1]:1883", "--password-file", "people"], (false, file.clone())),
            (&["--listen", "0.0.0.0:1883", "--password-file", "people"], (false, file.clone())),
            (&["--listen", "0.0.0.0:1883", "--password-file", "people", "--allow-anonymous"], (true, file)),
            (&["--listen", "[::]:1883", "--allow-anonymous"], (true, None)),
        ] {
            assert_eq!(settings(flags), Ok(expected), "{flags:?}");
        }
        let refused = settings(&["--listen", "127.0.0.1:1883", "--listen", "192.0.2.1:1883"]).expect_err("refused");
        assert!(refused.contains("--listen 192.0.2.1:1883: anyone"), "{refused}");
    }

    #[test]
    fn a_rule_for_client_ids_wants_user_names() {
        let rule = |flags: &[&str]| match action(flags) {
            Ok(Action::Serve { config, .. }) => Ok((config.access.client_id_rule, config.access.acl_file)),
            other => Err(other.expect_err("it serves")),
        };
        for (flags, expected) in [
            (&[][..], (ClientIdRule::Any, None)),
            (&["--acl-file", "rules", "--client-id-rule", "any"], (ClientIdRule::Any, Some("rules".into()))),
            (&["--client-id-rule", "user", "--password-file", "people"], (ClientIdRule::User, None)),
            (&["--client-id-rule", "user-prefix", "--password-file", "people"], (ClientIdRule::UserPrefix, None)),
        ] {
            assert_eq!(rule(flags), Ok(expected), "{flags:?}");
        }
        for (flags, part) in [
            (&["--client-id-rule", "user"][..], "--client-id-rule: nobody has a user name"),
            (&["--client-id-rule", "name", "--password-file", "people"], "allowed is any, user or user-prefix"),
        ] {
            let refused = rule(flags).expect_err("refused");
            assert!(refused.contains(part), "{flags:?}: {refused}");
        }
    }

    #[test]
    fn passwords_are_changed_on_request() {
        for (flags, expected) in [
            (&[][..], Some(Scheme::Argon2id)),
            (&["--argon2id"], Some(Scheme::Argon2id)),
            (&["--scram"], Some(Scheme::Scram)),
            (&["-D"], None),
        ] {
            match action(&[&["passwd"], flags, &["people", "alice"]].concat()) {
                Ok(Action::ChangePassword { file, user, scheme }) => {
                    assert_eq!((file, &*user, scheme), (PathBuf::from("people"), "alice", expected));
                }
                other => panic!("{flags:?}: {other:?}"),
            }
        }
        for (arguments, part) in [
            (&["--scram", "-D", "people", "alice"][..], "cannot be used with"),
            (&["people", "a:b"], "no colon"),
            (&["people", ""], "1 to 65535"),
            (&["people"], "<USER>"),
        ] {
            let refused = action(&[&["passwd"], arguments].concat()).expect_err("refused");
            assert!(refused.contains(part), "{arguments:?}: {refused}");
        }
    }
}
