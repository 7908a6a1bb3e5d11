//! The flags of what the broker serves and tells of itself.

use std::num::NonZeroU16;

use clap::{ArgAction, Args};

use crate::config::{NOTICE_BYTES_MAX, Notice, Service};
use crate::proto::QoS;
use crate::route::TopicName;

use super::values::number;

/// What of MQTT is served. 5.0 clients are told at CONNACK; see tuning.md for what becomes of those who do it all the same.
#[derive(Debug, Args)]
pub(super) struct ServiceArguments {
    /// Highest QoS that clients may publish with; they may subscribe with any.
    #[arg(long, value_name = "0|1|2", env = "ONCEMQ_MAX_QOS", default_value = "2", value_parser = qos)]
    max_qos: QoS,

    /// Whether retained messages are kept and given to subscribers.
    #[arg(long, value_name = "true|false", env = "ONCEMQ_RETAIN_AVAILABLE", default_value_t = true,
          action = ArgAction::Set)]
    retain_available: bool,

    /// Whether filters may have wildcards.
    #[arg(long, value_name = "true|false", env = "ONCEMQ_WILDCARD_SUBSCRIPTION_AVAILABLE", default_value_t = true,
          action = ArgAction::Set)]
    wildcard_subscription_available: bool,

    /// Whether subscriptions may have identifiers.
    #[arg(long, value_name = "true|false", env = "ONCEMQ_SUBSCRIPTION_IDENTIFIERS_AVAILABLE", default_value_t = true,
          action = ArgAction::Set)]
    subscription_identifiers_available: bool,

    /// Whether subscriptions may be shared.
    #[arg(long, value_name = "true|false", env = "ONCEMQ_SHARED_SUBSCRIPTION_AVAILABLE", default_value_t = true,
          action = ArgAction::Set)]
    shared_subscription_available: bool,

    /// Longest keep-alive of a 5.0 client, which also gets it if it asks for none; 0 leaves it to the clients [0..=65535].
    #[arg(long, value_name = "SECONDS", env = "ONCEMQ_MAX_KEEP_ALIVE", default_value_t = 0,
          value_parser = number(0..=u16::MAX))]
    max_keep_alive: u16,

    /// Topic prefix for responses, told to 5.0 clients that ask for Response Information.
    #[arg(long, value_name = "PREFIX", env = "ONCEMQ_RESPONSE_INFORMATION", value_parser = topic_prefix)]
    response_information: Option<Notice>,

    /// Server that 5.0 clients are sent to when this one shuts down or is full.
    #[arg(long, value_name = "TEXT", env = "ONCEMQ_SERVER_REFERENCE", value_parser = notice)]
    server_reference: Option<Notice>,

    /// Refuse messages whose payload is not UTF-8 although their Payload Format Indicator says so.
    #[arg(long, env = "ONCEMQ_VALIDATE_PAYLOAD_FORMAT")]
    validate_payload_format: bool,
}

impl ServiceArguments {
    pub(super) fn into_service(self) -> Service {
        Service {
            max_qos: self.max_qos,
            retain: self.retain_available,
            wildcard_subscriptions: self.wildcard_subscription_available,
            subscription_identifiers: self.subscription_identifiers_available,
            shared_subscriptions: self.shared_subscription_available,
            max_keep_alive_seconds: NonZeroU16::new(self.max_keep_alive),
            response_information: self.response_information,
            server_reference: self.server_reference,
            validates_payload_format: self.validate_payload_format,
        }
    }
}

fn qos(text: &str) -> Result<QoS, &'static str> {
    match text {
        "0" => Ok(QoS::AtMostOnce),
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Ok(QoS::ExactlyOnce),
        _ => Err("allowed is 0, 1 or 2"),
    }
}

fn notice(text: &str) -> Result<Notice, String> {
    Notice::new(text).ok_or_else(|| format!("allowed is a text of 1 to {NOTICE_BYTES_MAX} bytes"))
}

/// What a response topic begins with has to be a topic.
fn topic_prefix(text: &str) -> Result<Notice, String> {
    let topic = TopicName::parse(text).ok().and_then(|topic| Notice::new(topic.as_str()));
    topic.ok_or_else(|| format!("allowed is a topic of 1 to {NOTICE_BYTES_MAX} bytes, without wildcards"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        service: ServiceArguments,
    }

    fn parse(arguments: &[&str]) -> Result<Service, String> {
        let parsed = Flags::try_parse_from([&["oncemq"], arguments].concat());
        parsed.map(|flags| flags.service.into_service()).map_err(|error| error.to_string())
    }

    #[test]
    fn all_is_served_unless_told_otherwise() {
        assert_eq!(parse(&[]), Ok(Service::default()));
    }

    #[test]
    fn each_flag_has_its_effect() {
        let all = Service::default;
        let notice = |text| Some(Notice::new(text).expect("a notice"));
        for (flags, expected) in [
            (&["--max-qos", "0"][..], Service { max_qos: QoS::AtMostOnce, ..all() }),
            (&["--max-qos", "1"], Service { max_qos: QoS::AtLeastOnce, ..all() }),
            (&["--retain-available", "false"], Service { retain: false, ..all() }),
            (&["--wildcard-subscription-available", "false"], Service { wildcard_subscriptions: false, ..all() }),
            (&["--subscription-identifiers-available=false"], Service { subscription_identifiers: false, ..all() }),
            (&["--shared-subscription-available", "false"], Service { shared_subscriptions: false, ..all() }),
            (&["--max-keep-alive", "60"], Service { max_keep_alive_seconds: NonZeroU16::new(60), ..all() }),
            (&["--max-keep-alive", "0"], all()),
            (&["--response-information", "replies/"], Service { response_information: notice("replies/"), ..all() }),
            (&["--server-reference", "other:1883"], Service { server_reference: notice("other:1883"), ..all() }),
            (&["--validate-payload-format"], Service { validates_payload_format: true, ..all() }),
        ] {
            assert_eq!(parse(flags), Ok(expected), "{flags:?}");
        }
    }

    #[test]
    fn a_bad_value_is_told_by_flag_value_and_what_is_allowed() {
        for (flag, value, allowed) in [
            ("--max-qos", "3", "allowed is 0, 1 or 2"),
            ("--retain-available", "maybe", "true, false"),
            ("--max-keep-alive", "65536", "from 0 to 65535"),
            ("--response-information", "replies/#", "without wildcards"),
            ("--server-reference", "", "1 to 1024 bytes"),
        ] {
            let text = parse(&[flag, value]).expect_err("refused");
            for part in [flag, value, allowed] {
                assert!(text.contains(part), "{flag} {value}: {text}");
            }
        }
    }
}
