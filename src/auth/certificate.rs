//! Who a client is by the certificate that it has shown, where the operator has said that a name in it is the user name.
//!
//! The transport has checked that the certificate is one of an authority that the operator trusts, and that the client has its
//! key. So nothing more is asked: a user name and a password in CONNECT are not looked at, and there is no exchange to
//! have [MQTT-4.12.0-1].

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::{CertificateName, USER_NAME_BYTES_MAX};

use super::access::{Claim, Denial};
use super::identity::Identity;

/// The name in a certificate (DER), if there is one that can be a user's. Of several the first counts.
#[must_use]
pub fn user_name_of(certificate: &[u8], which: CertificateName) -> Option<Box<str>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = match which {
        CertificateName::Common => certificate.subject().iter_common_name().next()?.as_str().ok()?,
        CertificateName::Alternative => {
            let names = &certificate.subject_alternative_name().ok()??.value.general_names;
            names.iter().find_map(|name| match name {
                GeneralName::DNSName(name) | GeneralName::RFC822Name(name) => Some(*name),
                _ => None,
            })?
        }
    };
    as_user_name(name)
}

/// A name of a certificate as that of a user, if it can be one.
#[must_use]
pub fn as_user_name(name: &str) -> Option<Box<str>> {
    let can_be_a_user = (1..=USER_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    can_be_a_user.then(|| name.into())
}

/// What becomes of a client whose certificate has this name in it, or none.
///
/// # Errors
/// If it may not connect.
pub fn judge_certified(user_name: Option<Box<str>>, claim: &Claim) -> Result<Box<Identity>, Denial> {
    match (user_name, claim) {
        (None, _) => Err(Denial::Nameless),
        // [MQTT-4.12.0-1]
        (Some(_), Claim::Enhanced { .. }) => Err(Denial::UnknownMethod),
        (Some(user_name), Claim::Anonymous | Claim::Password { .. }) => {
            Ok(Box::new(Identity::without_exchange(user_name)))
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_name: Option<&str>, alternative_names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = Default::default();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names = alternative_names;
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn the_first_name_of_the_kind_counts() {
        let dns = |name: &str| SanType::DnsName(name.try_into().expect("a name"));
        let mail = |name: &str| SanType::Rfc822Name(name.try_into().expect("a name"));
        let address = || SanType::IpAddress([127, 0, 0, 1].into());
        let names = vec![address(), mail("pump@plant.example"), dns("pump.plant.example")];
        let (common, alternative) = (CertificateName::Common, CertificateName::Alternative);
        for (certificate, which, expected) in [
            (certificate(Some("pump-7"), names.clone()), common, Some("pump-7")),
            (certificate(Some("pump-7"), names), alternative, Some("pump@plant.example")),
            (certificate(None, vec![dns("pump.plant.example")]), alternative, Some("pump.plant.example")),
            (certificate(None, vec![dns("pump.plant.example")]), common, None),
            (certificate(Some("Pumpe süd"), vec![address()]), common, Some("Pumpe süd")),
            (certificate(Some("pump-7"), vec![address()]), alternative, None),
            (certificate(Some("pump-7"), Vec::new()), alternative, None),
            (certificate(Some(""), Vec::new()), common, None),
            (certificate(Some("pump\n7"), Vec::new()), common, None),
            (certificate(Some("pump\u{0}7"), Vec::new()), common, None),
            (b"no certificate".to_vec(), common, None),
        ] {
            assert_eq!(user_name_of(&certificate, which).as_deref(), expected);
        }
    }

    /// [MQTT-4.12.0-1]
    #[test]
    fn a_named_client_is_let_in_without_a_password() {
        let password = || Claim::Password { user_name: Some("root".into()), password: b"guess".as_slice().into() };
        let enhanced = || Claim::Enhanced { method: "SCRAM-SHA-256".into(), data: None, user_name: None };
        let outcome =
            |name: Option<&str>, claim| judge_certified(name.map(Box::from), &claim).map(|identity| identity.user_name);
        for claim in [Claim::Anonymous, password()] {
            assert_eq!(outcome(Some("pump-7"), claim), Ok("pump-7".into()));
        }
        assert_eq!(outcome(Some("pump-7"), enhanced()), Err(Denial::UnknownMethod));
        for claim in [Claim::Anonymous, password(), enhanced()] {
            assert_eq!(outcome(None, claim), Err(Denial::Nameless));
        }
    }
}
